//! Escapes undone: `%41`, `\u0041`, `\x41`, `\/` and the like, with the way back to where each byte came from.
//!
//! Pure and lenient: what is no escape stands for itself (RFC 3986 section 2.1, RFC 8259 section 7). One layer is
//! undone.

use std::ops::Range;

use memchr::memchr2;

use super::forms::Forms;

/// A text with its escapes undone.
#[derive(Debug)]
pub(super) struct Decoded {
    bytes: Vec<u8>,
    /// Where each byte came from; one more for the end.
    starts: Vec<usize>,
    /// The bytes before an escape that the end cuts off; what there is of it stands for itself.
    finished: usize,
}

enum Token {
    Literal,
    Escape { byte: u8, length: usize },
    Unfinished,
}

impl Decoded {
    /// `None` when there is nothing to undo.
    pub(super) fn of(text: &[u8]) -> Option<Self> {
        memchr2(b'%', b'\\', text)?;
        let mut decoded = Self {
            bytes: Vec::with_capacity(text.len()),
            starts: Vec::with_capacity(text.len() + 1),
            finished: usize::MAX,
        };
        let mut rest = text;
        while let Some(first) = rest.first() {
            let (byte, length) = match token(rest) {
                Token::Literal => (*first, 1),
                Token::Escape { byte, length } => (byte, length),
                Token::Unfinished => {
                    decoded.finished = decoded.finished.min(decoded.bytes.len());
                    (*first, 1)
                }
            };
            decoded.bytes.push(byte);
            decoded.starts.push(text.len() - rest.len());
            rest = rest.get(length..).unwrap_or_default();
        }
        decoded.starts.push(text.len());
        decoded.finished = decoded.finished.min(decoded.bytes.len());
        Some(decoded)
    }

    /// Where `forms` are, in the text as it was. What may still turn out to be an escape counts only at the `last`.
    pub(super) fn find(&self, forms: &Forms, last: bool, found: &mut impl FnMut(Range<usize>)) {
        let until = if last { self.bytes.len() } else { self.finished };
        let text = self.bytes.get(..until).unwrap_or_default();
        forms.find(text, &mut |span| {
            if let (Some(start), Some(end)) = (self.starts.get(span.start), self.starts.get(span.end)) {
                found(*start..*end);
            }
        });
    }

    /// Where the longest end of the text starts that may still become `form`.
    pub(super) fn begun(&self, form: &[u8]) -> Option<usize> {
        let text = self.bytes.get(..self.finished)?;
        self.starts.get(super::begun(text, form)?).copied()
    }

    /// The last place at or before `at` that is in the middle of no escape, not even of one that is cut off.
    pub(super) fn boundary(&self, at: usize) -> usize {
        let known = self.starts.get(..=self.finished).unwrap_or_default();
        let before = known.partition_point(|start| *start <= at);
        let start = before.checked_sub(1).and_then(|index| known.get(index));
        start.copied().unwrap_or(at)
    }
}

/// The bytes with their escapes undone, where that makes a difference.
pub(super) fn unescaped(text: &[u8]) -> Option<Vec<u8>> {
    let decoded = Decoded::of(text)?;
    (decoded.bytes != text).then_some(decoded.bytes)
}

fn token(rest: &[u8]) -> Token {
    match rest {
        [b'%', digits @ ..] => number(digits, 1, 2),
        [b'\\'] => Token::Unfinished,
        [b'\\', b'u', digits @ ..] => number(digits, 2, 4),
        [b'\\', b'x', digits @ ..] => number(digits, 2, 2),
        [b'\\', byte @ (b'"' | b'\'' | b'\\' | b'/'), ..] => Token::Escape {
            byte: *byte,
            length: 2,
        },
        [b'\\', b't', ..] => Token::Escape {
            byte: b'\t',
            length: 2,
        },
        _ => Token::Literal,
    }
}

/// An escape of `wanted` hexadecimal digits after `marker` bytes. A header's characters are ASCII, so no other
/// can be part of a credential.
fn number(digits: &[u8], marker: usize, wanted: usize) -> Token {
    let mut value: u32 = 0;
    for index in 0..wanted {
        let Some(digit) = digits.get(index) else {
            return Token::Unfinished;
        };
        let Some(digit) = char::from(*digit).to_digit(16) else {
            return Token::Literal;
        };
        value = value * 16 + digit;
    }
    match u8::try_from(value) {
        Ok(byte) if byte.is_ascii() => Token::Escape {
            byte,
            length: marker + wanted,
        },
        Ok(_) | Err(_) => Token::Literal,
    }
}
