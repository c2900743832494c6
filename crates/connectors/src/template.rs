//! Texts with `{names}` in them: paths of requests, ids of resources.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Everything but RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Percent-encodes one path segment or one part of a query.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// Values by name.
pub(crate) type Values = BTreeMap<String, String>;

fn is_value_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// One segment of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Segment {
    /// Exactly this.
    Literal(String),
    /// Any one segment, as the value of this name.
    One(String),
    /// One or more segments up to the end, joined by `/`.
    Rest(String),
}

/// A path such as `/repos/{owner}/{repo}/contents/{path*}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathTemplate(Vec<Segment>);

impl PathTemplate {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let segments: Option<Vec<Segment>> = text.strip_prefix('/')?.split('/').map(segment).collect();
        let segments = segments?;
        let (last, others) = segments.split_last()?;
        let rest_inside = others.iter().any(|s| matches!(s, Segment::Rest(_)));
        let _ = last;
        (!rest_inside).then_some(Self(segments))
    }

    /// The names in it, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|segment| match segment {
            Segment::Literal(_) => None,
            Segment::One(name) | Segment::Rest(name) => Some(name.as_str()),
        })
    }

    /// The same path with every name left out, by which two templates that match the same can be told.
    pub(crate) fn outline(&self) -> String {
        let parts = self.0.iter().map(|segment| match segment {
            Segment::Literal(text) => text.as_str(),
            Segment::One(_) => "{}",
            Segment::Rest(_) => "{*}",
        });
        parts.collect::<Vec<_>>().join("/")
    }

    /// The values in a path of decoded segments, or `None` if it is another path.
    pub(crate) fn matches(&self, path: &[String]) -> Option<Values> {
        let mut values = Values::new();
        let mut at = path.iter();
        for segment in &self.0 {
            match segment {
                Segment::Literal(text) => {
                    at.next().filter(|have| *have == text)?;
                }
                Segment::One(name) => {
                    values.insert(name.clone(), at.next()?.clone());
                }
                Segment::Rest(name) => {
                    let rest: Vec<&str> = at.by_ref().map(String::as_str).collect();
                    if rest.is_empty() {
                        return None;
                    }
                    values.insert(name.clone(), rest.join("/"));
                }
            }
        }
        at.next().is_none().then_some(values)
    }

    /// The path for these values, percent-encoded; or the name that has none.
    pub(crate) fn fill<'a>(&'a self, values: &Values) -> Result<String, &'a str> {
        let mut path = String::new();
        for segment in &self.0 {
            path.push('/');
            match segment {
                Segment::Literal(text) => path.push_str(&encode(text)),
                Segment::One(name) => path.push_str(&encode(values.get(name).ok_or(name.as_str())?)),
                Segment::Rest(name) => {
                    let value = values.get(name).ok_or(name.as_str())?;
                    let parts: Vec<String> = value.split('/').map(encode).collect();
                    path.push_str(&parts.join("/"));
                }
            }
        }
        Ok(path)
    }
}

fn segment(text: &str) -> Option<Segment> {
    if let Some(inner) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
        return match inner.strip_suffix('*') {
            Some(name) => is_value_name(name).then(|| Segment::Rest(name.to_owned())),
            None => is_value_name(inner).then(|| Segment::One(inner.to_owned())),
        };
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let literal = !text.is_empty() && text != "." && text != ".." && text.bytes().all(plain);
    literal.then(|| Segment::Literal(text.to_owned()))
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Name(String),
}

/// A text such as `{owner}/{repo}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TextTemplate(Vec<Part>);

impl TextTemplate {
    /// Two names must have something between them, so that a text can be taken apart again.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts: Vec<Part> = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (literal, tail) = match rest.split_once('{') {
                Some((literal, tail)) => (literal, Some(tail)),
                None => (rest, None),
            };
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.to_owned()));
            }
            let Some(tail) = tail else { break };
            let (name, after) = tail.split_once('}')?;
            if !is_value_name(name) || matches!(parts.last(), Some(Part::Name(_))) {
                return None;
            }
            parts.push(Part::Name(name.to_owned()));
            rest = after;
        }
        let braces = |part: &Part| matches!(part, Part::Literal(text) if text.contains('}'));
        (!parts.is_empty() && !parts.iter().any(braces)).then_some(Self(parts))
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Literal(_) => None,
            Part::Name(name) => Some(name.as_str()),
        })
    }

    pub(crate) fn fill<'a>(&'a self, values: &Values) -> Result<String, &'a str> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Name(name) => text.push_str(values.get(name).ok_or(name.as_str())?),
            }
        }
        Ok(text)
    }

    /// The values in a text that this template could have made; each name takes as little as it can.
    pub(crate) fn take_apart(&self, text: &str) -> Option<Values> {
        let mut values = Values::new();
        let mut rest = text;
        let mut parts = self.0.iter().peekable();
        while let Some(part) = parts.next() {
            match part {
                Part::Literal(literal) => rest = rest.strip_prefix(literal.as_str())?,
                Part::Name(name) => {
                    let end = match parts.peek() {
                        Some(Part::Literal(next)) => rest.find(next.as_str())?,
                        Some(Part::Name(_)) | None => rest.len(),
                    };
                    let (value, after) = rest.split_at_checked(end)?;
                    values.insert(name.clone(), value.to_owned());
                    rest = after;
                }
            }
        }
        rest.is_empty().then_some(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_matches_its_template_and_fills_it_again() {
        let template = PathTemplate::parse("/repos/{owner}/{repo}/contents/{path*}").unwrap();
        let path: Vec<String> = ["repos", "acme", "site", "contents", "a b", "c"]
            .map(String::from)
            .into();
        let values = template.matches(&path).unwrap();
        assert_eq!(values.get("path").unwrap(), "a b/c");
        assert_eq!(
            template.fill(&values).unwrap(),
            "/repos/acme/site/contents/a%20b/c"
        );
        assert_eq!(template.matches(&path[..4]), None);
        assert_eq!(template.fill(&Values::new()), Err("owner"));
    }

    #[test]
    fn a_resource_id_is_taken_apart_as_it_was_put_together() {
        let template = TextTemplate::parse("{owner}/{repo}").unwrap();
        let values = template.take_apart("acme/site").unwrap();
        assert_eq!(template.fill(&values).unwrap(), "acme/site");
        assert_eq!(template.take_apart("acme"), None);
    }

    #[test]
    fn templates_that_cannot_be_matched_are_refused() {
        for text in [
            "", "repos", "/a//b", "/{a*}/b", "/{A}", "/../x", "/a b", "/{a}{b}",
        ] {
            assert_eq!(PathTemplate::parse(text), None, "{text}");
        }
        for text in ["", "{a}{b}", "{", "}", "{A}"] {
            assert_eq!(TextTemplate::parse(text), None, "{text}");
        }
    }
}
