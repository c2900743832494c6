//! An upstream that echoes the injected credential must not hand it to the cage: every occurrence is masked.
//!
//! Works on whole bodies, on header values and on streams; a stream is held back only by as many bytes as could
//! still become the secret.

use bytes::{Bytes, BytesMut};
use clawstaff_types::Secret;
use http::{HeaderMap, HeaderValue};

/// What stands in the secret's place.
const MASK: &[u8] = b"[masked]";
/// Shorter values are no secrets, and masking them would destroy ordinary text.
const SHORTEST: usize = 6;

/// Masks one secret.
#[derive(Debug)]
pub(crate) struct Mask {
    secret: Secret<String>,
    held: BytesMut,
}

impl Mask {
    pub(crate) fn new(secret: Secret<String>) -> Self {
        Self {
            secret,
            held: BytesMut::new(),
        }
    }

    fn needle(&self) -> Option<&[u8]> {
        let bytes = self.secret.expose_secret().as_bytes();
        (bytes.len() >= SHORTEST).then_some(bytes)
    }

    /// A whole body.
    pub(crate) fn body(&self, body: Bytes) -> Bytes {
        match self.needle() {
            Some(needle) => replace(body, needle),
            None => body,
        }
    }

    /// All header values.
    pub(crate) fn headers(&self, headers: &mut HeaderMap) {
        let Some(needle) = self.needle() else { return };
        for value in headers.values_mut() {
            if find(value.as_bytes(), needle).is_some() {
                *value = HeaderValue::from_static("[masked]");
            }
        }
    }

    /// The next piece of a stream; some bytes at its end may be held back for the next one.
    pub(crate) fn piece(&mut self, piece: Bytes) -> Bytes {
        let Some(needle) = self.needle() else { return piece };
        let needle = needle.to_vec();
        let needle = Secret::new(needle);
        let needle = needle.expose_secret().as_slice();
        let joined = if self.held.is_empty() {
            piece
        } else {
            self.held.extend_from_slice(&piece);
            self.held.split().freeze()
        };
        let mut clear = replace(joined, needle);
        let keep = overlap(&clear, needle);
        let tail = clear.split_off(clear.len() - keep);
        self.held.extend_from_slice(&tail);
        clear
    }

    /// What was held back, at the end of a stream.
    pub(crate) fn rest(&mut self) -> Bytes {
        self.held.split().freeze()
    }
}

fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    let first = needle.first()?;
    let mut from = 0;
    loop {
        let rest = text.get(from..)?;
        let at = from + rest.iter().position(|byte| byte == first)?;
        if text.get(at..)?.starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
}

fn replace(body: Bytes, needle: &[u8]) -> Bytes {
    if find(&body, needle).is_none() {
        return body;
    }
    let mut out = BytesMut::with_capacity(body.len());
    let mut rest: &[u8] = &body;
    while let Some(at) = find(rest, needle) {
        let (before, after) = rest.split_at(at);
        out.extend_from_slice(before);
        out.extend_from_slice(MASK);
        rest = after.get(needle.len()..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    out.freeze()
}

/// The length of the longest end of `text` that is a beginning of `needle`.
fn overlap(text: &[u8], needle: &[u8]) -> usize {
    let longest = needle.len().saturating_sub(1).min(text.len());
    (1..=longest)
        .rev()
        .find(|n| {
            let end = text.get(text.len() - n..);
            end.is_some_and(|end| needle.starts_with(end))
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask() -> Mask {
        Mask::new(Secret::new("xoxb-real".to_owned()))
    }

    #[test]
    fn every_echo_in_a_body_is_masked() {
        let body = Bytes::from("a xoxb-real b xoxb-realxoxb-real xoxb-rea");
        assert_eq!(mask().body(body), "a [masked] b [masked][masked] xoxb-rea");
    }

    #[test]
    fn an_echo_is_masked_wherever_a_stream_is_cut() {
        let text = "data: xoxb-real\n\ndata: xoxb-no\n\n";
        for cut in 0..text.len() {
            let mut mask = mask();
            let (a, b) = text.split_at(cut);
            let mut out = mask.piece(Bytes::from(a)).to_vec();
            out.extend_from_slice(&mask.piece(Bytes::from(b)));
            out.extend_from_slice(&mask.rest());
            assert_eq!(out, b"data: [masked]\n\ndata: xoxb-no\n\n", "{cut}");
        }
    }

    #[test]
    fn a_piece_without_the_secrets_beginning_at_its_end_is_not_held_back() {
        assert_eq!(mask().piece(Bytes::from("data: hello\n\n")), "data: hello\n\n");
    }
}
