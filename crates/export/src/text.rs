//! Text that cannot be mistaken for the end of a record.
//!
//! Readers differ in what ends a line: LF, CR, but also NEL, U+2028, U+2029, vertical tab and form feed (Python's
//! `splitlines` takes them all); a NUL ends a string in C; bidirectional controls turn what people see around. None
//! of these leaves this crate as itself, in any format.

use std::{borrow::Cow, fmt::Write as _};

use serde_json::Value;

/// Whether a character is never written as itself: C0 and C1 controls, DEL, separators of lines and paragraphs,
/// bidirectional controls and the byte order mark.
pub const fn is_unsafe(character: char) -> bool {
    matches!(character,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{61c}' | '\u{200e}' | '\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// The text with every [unsafe](is_unsafe) character as a visible `\uXXXX` and every backslash doubled, so that it
/// can be read back.
pub fn tame(text: &str) -> Cow<'_, str> {
    if !text.contains(|character| is_unsafe(character) || character == '\\') {
        return Cow::Borrowed(text);
    }
    let mut tamed = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\\' => tamed.push_str("\\\\"),
            other => push_visible(&mut tamed, other),
        }
    }
    Cow::Owned(tamed)
}

fn push_visible(text: &mut String, character: char) {
    if is_unsafe(character) {
        // Writing to a string cannot fail.
        let _written = write!(text, "\\u{:04x}", u32::from(character));
    } else {
        text.push(character);
    }
}

/// A value as JSON on one line, with every unsafe character escaped as JSON escapes it; without a line break.
pub fn json(value: &Value) -> String {
    let plain = value.to_string();
    if !plain.contains(is_unsafe) {
        return plain;
    }
    // Outside of strings JSON of ours is ASCII without controls, so what is found here is inside one.
    let mut safe = String::with_capacity(plain.len() + 16);
    for character in plain.chars() {
        push_visible(&mut safe, character);
    }
    safe
}

/// The longest beginning of `text` with at most `bytes` bytes.
pub fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    proptest! {
        #[test]
        fn json_reads_back_and_is_one_line_for_everybody(text in "\\PC*|[\\x00-\\x1f\\u{7f}-\\u{9f}\\u{2028}-\\u{202e}\\\\\"a]*") {
            let line = super::json(&json!({ "text": text, "n": 1 }));
            prop_assert!(!line.contains(is_unsafe));
            let read: Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(&read["text"], &json!(text));
        }

        #[test]
        fn a_cut_is_the_longest_beginning_that_fits(text in "\\PC*", bytes in 0usize..40) {
            let cut = cut(&text, bytes);
            prop_assert!(cut.len() <= bytes && text.starts_with(cut));
            prop_assert!(text.len() <= bytes || bytes - cut.len() < 4);
        }
    }

    #[test]
    fn tamed_text_shows_what_was_in_it() {
        assert_eq!(tame("plain ünïcode"), "plain ünïcode");
        assert_eq!(tame("a\nb\\c\u{2028}\0"), "a\\u000ab\\\\c\\u2028\\u0000");
    }
}
