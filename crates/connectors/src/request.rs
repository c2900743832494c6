//! A request taken apart strictly: path, query and body each have one reading, or there is no reading.

use http::Method;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::{
    json::{self, JsonError},
    manifest::BodyKind,
    recognise::Unmapped,
};

/// Names and values that a query or form may hold.
const MAX_PAIRS: usize = 1_000;

/// A request as the gateway received it, to be recognised.
#[derive(Debug, Clone, Copy)]
pub struct RequestView<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path as it goes on the wire, still percent-encoded, relative to the connector's base address: `/chat.postMessage`.
    pub path: &'a str,
    /// The query as it goes on the wire, without `?`.
    pub query: Option<&'a str>,
    /// The value of the `Content-Type` header.
    pub content_type: Option<&'a str>,
    /// The whole body, after any content coding has been undone.
    pub body: &'a [u8],
}

/// A body that has one reading.
#[derive(Debug)]
pub(crate) enum Body {
    None,
    Json(Value),
    Form(Vec<(String, String)>),
}

impl Body {
    pub(crate) const fn kind(&self) -> BodyKind {
        match self {
            Self::None => BodyKind::None,
            Self::Json(_) => BodyKind::Json,
            Self::Form(_) => BodyKind::Form,
        }
    }
}

/// The path's segments, each percent-decoded exactly once.
///
/// Refused is whatever a server might read as another path: empty and dot segments, separators and `%` that
/// appear by decoding, control characters, bytes that are not UTF-8.
pub(crate) fn segments(path: &str) -> Result<Vec<String>, Unmapped> {
    let rest = path
        .strip_prefix('/')
        .ok_or(Unmapped::Path("it does not start with `/`"))?;
    rest.split('/').map(segment).collect()
}

fn segment(raw: &str) -> Result<String, Unmapped> {
    let text = decode(raw).ok_or(Unmapped::Path("a percent-encoding is incomplete or not UTF-8"))?;
    match text.as_str() {
        "" => Err(Unmapped::Path("a segment is empty")),
        "." | ".." => Err(Unmapped::Path("a segment is `.` or `..`")),
        _ if text.contains(['/', '\\']) => Err(Unmapped::Path("a segment holds an encoded separator")),
        _ if text.contains('%') => Err(Unmapped::Path("a segment is percent-encoded twice")),
        _ if text.contains([';', '?', '#']) => Err(Unmapped::Path("a segment holds `;`, `?` or `#`")),
        _ if text.chars().any(char::is_control) => Err(Unmapped::Path("a segment holds a control character")),
        _ => Ok(text),
    }
}

/// The names and values of a query or form (WHATWG URL), percent-decoded exactly once.
pub(crate) fn pairs(text: &str) -> Result<Vec<(String, String)>, &'static str> {
    let mut pairs = Vec::new();
    for raw in text.split('&').filter(|raw| !raw.is_empty()) {
        if raw.contains(';') {
            return Err("it holds a bare `;`, which some servers read as `&`");
        }
        let (name, value) = raw.split_once('=').unwrap_or((raw, ""));
        let part = |raw: &str| decode(&raw.replace('+', " "));
        let (Some(name), Some(value)) = (part(name), part(value)) else {
            return Err("a percent-encoding in it is incomplete or not UTF-8");
        };
        if name.contains('\0') || value.contains('\0') {
            return Err("it holds a NUL");
        }
        if name.contains('%') {
            return Err("a name in it is percent-encoded twice");
        }
        pairs.push((name, value));
        if pairs.len() > MAX_PAIRS {
            return Err("it holds more than 1,000 names");
        }
    }
    Ok(pairs)
}

/// The body as its media type says.
pub(crate) fn body(view: &RequestView<'_>) -> Result<Body, Unmapped> {
    if view.body.is_empty() {
        return Ok(Body::None);
    }
    let media_type = view
        .content_type
        .ok_or(Unmapped::Body("it has no `Content-Type`"))?;
    match essence(media_type)?.as_str() {
        "application/json" => match json::parse(view.body) {
            Ok(value) => Ok(Body::Json(value)),
            Err(JsonError::Malformed) => Err(Unmapped::Body("it is not valid JSON")),
            Err(JsonError::Duplicate) => Err(Unmapped::Ambiguous("a JSON member occurs twice".to_owned())),
        },
        "application/x-www-form-urlencoded" => {
            let text = std::str::from_utf8(view.body).map_err(|_| Unmapped::Body("it is not UTF-8"))?;
            pairs(text).map(Body::Form).map_err(Unmapped::Body)
        }
        _ => Err(Unmapped::Body("its media type is neither JSON nor a form")),
    }
}

/// The media type without parameters. The only parameter let through is `charset=utf-8`.
fn essence(media_type: &str) -> Result<String, Unmapped> {
    let mut parts = media_type.split(';').map(|part| part.trim().to_ascii_lowercase());
    let essence = parts.next().unwrap_or_default();
    let utf8 = |part: String| matches!(part.as_str(), "" | "charset=utf-8" | "charset=\"utf-8\"");
    if parts.all(utf8) {
        Ok(essence)
    } else {
        Err(Unmapped::Body(
            "its media type has a parameter other than `charset=utf-8`",
        ))
    }
}

/// One percent-decoding; `None` if a `%` is not followed by two hex digits or the result is not UTF-8.
fn decode(raw: &str) -> Option<String> {
    let complete = raw.split('%').skip(1).all(|after| {
        let digits = after.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    if !complete {
        return None;
    }
    percent_decode_str(raw).decode_utf8().ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_reading_or_none() {
        assert_eq!(segments("/a/b%20c").unwrap(), ["a", "b c"]);
        for path in [
            "",
            "a",
            "/",
            "//a",
            "/a/",
            "/a//b",
            "/a/../b",
            "/a/%2e%2e/b",
            "/a/./b",
            "/a%2fb",
            "/a%5cb",
            "/a%252fb",
            "/a%",
            "/a%zz",
            "/a%ff",
            "/a%00",
            "/a;x=1/b",
            "/a%3fb",
        ] {
            assert!(segments(path).is_err(), "{path}");
        }
    }

    #[test]
    fn a_query_is_decoded_once() {
        assert_eq!(
            pairs("a=1&b=x+y%2B&c").unwrap(),
            [
                ("a".into(), "1".into()),
                ("b".into(), "x y+".into()),
                ("c".into(), String::new())
            ]
        );
        assert!(pairs("%2561=1").is_err() && pairs("a=%2561").is_ok());
        assert!(pairs("a=1;b=2").is_err() && pairs("a=%f").is_err() && pairs("a=%00").is_err());
    }

    #[test]
    fn a_media_type_that_changes_the_reading_of_the_bytes_is_refused() {
        assert_eq!(
            essence("application/json; charset=UTF-8").unwrap(),
            "application/json"
        );
        assert!(essence("application/json; charset=utf-16").is_err());
    }
}
