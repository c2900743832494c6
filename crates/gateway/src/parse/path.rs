//! The canonical form of a path: one spelling for one meaning, or a refusal.

use std::fmt::Write as _;

use super::ParseError;

const MAX_PATH: usize = 4096;

/// The canonical spelling of `path`: encoded unreserved characters are decoded, hex digits are upper case.
///
/// # Errors
/// When a dot segment, an empty segment, an encoded separator or anything else is in it that two readers could
/// take for two different paths.
pub(super) fn canonical(path: &str) -> Result<String, ParseError> {
    if !path.starts_with('/') {
        return Err(ParseError::Path("it does not start with `/`"));
    }
    if path.len() > MAX_PATH {
        return Err(ParseError::Path("it is longer than 4096 bytes"));
    }
    let mut out = String::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let decoded = hex_pair(rest.first().copied(), rest.get(1).copied())?;
            rest = rest.get(2..).unwrap_or_default();
            push_encoded(&mut out, decoded, rest)?;
        } else if byte.is_ascii_graphic() && byte != b'\\' {
            out.push(char::from(byte));
        } else {
            return Err(ParseError::Path(
                "it has a byte that must be encoded, or a backslash",
            ));
        }
    }
    segments(&out)?;
    Ok(out)
}

fn hex_pair(high: Option<u8>, low: Option<u8>) -> Result<u8, ParseError> {
    let digit = |byte: Option<u8>| byte.and_then(|b| char::from(b).to_digit(16));
    match (digit(high), digit(low)) {
        (Some(high), Some(low)) => {
            u8::try_from(high * 16 + low).map_err(|_| ParseError::Path("a broken percent-encoding"))
        }
        _ => Err(ParseError::Path("a broken percent-encoding")),
    }
}

fn push_encoded(out: &mut String, decoded: u8, rest: &[u8]) -> Result<(), ParseError> {
    let hex = |at: usize| rest.get(at).is_some_and(u8::is_ascii_hexdigit);
    match decoded {
        b'/' | b'\\' => Err(ParseError::Path("an encoded separator")),
        b'.' => Err(ParseError::Path("an encoded dot")),
        0..=0x1F | 0x7F => Err(ParseError::Path("an encoded control character")),
        b'%' if hex(0) && hex(1) => Err(ParseError::Path("a percent-encoding within another")),
        b'-' | b'_' | b'~' => {
            out.push(char::from(decoded));
            Ok(())
        }
        _ if decoded.is_ascii_alphanumeric() => {
            out.push(char::from(decoded));
            Ok(())
        }
        _ => write!(out, "%{decoded:02X}").map_err(|_| ParseError::Path("it cannot be written")),
    }
}

fn segments(path: &str) -> Result<(), ParseError> {
    let inner = path.strip_prefix('/').unwrap_or(path);
    let mut segments = inner.split('/').peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "" if segments.peek().is_some() => return Err(ParseError::Path("an empty segment")),
            "." | ".." => return Err(ParseError::Path("a dot segment")),
            _ if segment.starts_with("..;") || segment.starts_with(".;") => {
                return Err(ParseError::Path("a dot segment with parameters"));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::canonical;

    #[test]
    fn one_meaning_has_one_spelling() {
        for (sent, expected) in [
            ("/", "/"),
            ("/api/chat.postMessage", "/api/chat.postMessage"),
            ("/%61pi/%7ea", "/api/~a"),
            ("/a%c3%a4", "/a%C3%A4"),
            ("/a%20b/", "/a%20b/"),
        ] {
            assert_eq!(canonical(sent).unwrap(), expected, "{sent}");
        }
    }

    #[test]
    fn tricks_with_separators_and_dots_are_refused() {
        for sent in [
            "",
            "a",
            "//a",
            "/a//b",
            "/a/../b",
            "/a/./b",
            "/..",
            "/a%2fb",
            "/a%2Fb",
            "/%2e%2e/a",
            "/a\\b",
            "/a%5cb",
            "/a%00",
            "/a%",
            "/a%g0",
            "/%252e%252e/",
            "/a/..;/b",
            "/a b",
            "/ä",
        ] {
            assert!(canonical(sent).is_err(), "{sent:?}");
        }
    }

    proptest! {
        #[test]
        fn canonical_paths_stay_as_they_are(sent in "/[ -~]{0,60}") {
            if let Ok(once) = canonical(&sent) {
                prop_assert_eq!(canonical(&once).unwrap(), once.clone());
                prop_assert!(!once.split('/').any(|s| s == ".." || s == "."));
                prop_assert!(!once.contains("//"));
            }
        }
    }
}
