//! The shapes that values may have, and their one canonical form.
//!
//! A resource is only as safe as its spelling: if a tool takes `General`, `#general` and `C0123` for the same
//! channel, a guardrail on one of them would be no guardrail. A format accepts one way of naming things and
//! maps every accepted spelling to one text.

use serde::Deserialize;

/// What a value must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    /// 1 to 1,024 bytes without control characters.
    #[default]
    Text,
    /// 1 to 256 printable ASCII characters without space and `*`.
    Id,
    /// 2 to 64 upper-case letters and digits: `C0SUPPORT`.
    Upper,
    /// A whole number without sign or leading zero, at most 19 digits.
    Digits,
    /// 1 to 100 letters, digits, `-`, `_` and `.`; not `.` or `..`, and not ending in `.git`.
    Name,
    /// 32 hex digits, or the same as 8-4-4-4-12; canonical without dashes and in lower case.
    Uuid,
}

/// How a value is checked and made canonical.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rule {
    pub(crate) format: Format,
    pub(crate) ignore_case: bool,
}

impl Rule {
    /// The canonical form, or `None` if the value does not have the format.
    pub(crate) fn canonical(self, value: &str) -> Option<String> {
        let text = self.format.canonical(value)?;
        Some(if self.ignore_case {
            text.to_ascii_lowercase()
        } else {
            text
        })
    }
}

impl Format {
    fn canonical(self, value: &str) -> Option<String> {
        let fits = match self {
            Self::Text => (1..=1024).contains(&value.len()) && !value.chars().any(char::is_control),
            Self::Id => (1..=256).contains(&value.len()) && value.bytes().all(is_id_byte),
            Self::Upper => {
                let byte = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit();
                (2..=64).contains(&value.len()) && value.bytes().all(byte)
            }
            Self::Digits => is_number(value),
            Self::Name => is_name(value),
            Self::Uuid => return uuid(value),
        };
        fits.then(|| value.to_owned())
    }

    /// The rule in words, for refusals.
    pub(crate) const fn rule(self) -> &'static str {
        match self {
            Self::Text => "must be 1 to 1,024 bytes without control characters",
            Self::Id => "must be 1 to 256 printable ASCII characters without space and `*`",
            Self::Upper => "must be the tool's own id, upper-case letters and digits; names are not accepted",
            Self::Digits => "must be a whole number without sign or leading zero",
            Self::Name => "must be a name of letters, digits, `-`, `_` and `.`",
            Self::Uuid => "must be 32 hex digits, with or without dashes",
        }
    }
}

const fn is_id_byte(b: u8) -> bool {
    b.is_ascii_graphic() && b != b'*'
}

fn is_number(value: &str) -> bool {
    (1..=19).contains(&value.len())
        && value.bytes().all(|b| b.is_ascii_digit())
        && (value == "0" || !value.starts_with('0'))
}

fn is_name(value: &str) -> bool {
    let byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=100).contains(&value.len())
        && value.bytes().all(byte)
        && value != "."
        && value != ".."
        && !value.to_ascii_lowercase().ends_with(".git")
}

fn uuid(value: &str) -> Option<String> {
    let groups: Vec<usize> = value.split('-').map(str::len).collect();
    if !matches!(groups.as_slice(), [32] | [8, 4, 4, 4, 12]) {
        return None;
    }
    let digits: String = value.chars().filter(|c| *c != '-').collect();
    let hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
    hex.then(|| digits.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(format: Format, value: &str, expected: Option<&str>) {
        let rule = Rule {
            format,
            ignore_case: false,
        };
        assert_eq!(rule.canonical(value).as_deref(), expected, "{format:?} {value:?}");
    }

    #[test]
    fn every_spelling_of_a_uuid_is_the_same_uuid() {
        let canonical = Some("2f26ee68df304251aad4ddddc456ba3b");
        check(Format::Uuid, "2f26ee68df304251aad4ddddc456ba3b", canonical);
        check(Format::Uuid, "2F26EE68-DF30-4251-AAD4-DDDDC456BA3B", canonical);
        check(Format::Uuid, "2f-26ee68df304251aad4ddddc456ba3b", None);
        check(Format::Uuid, "2f26ee68df304251aad4ddddc456ba3", None);
        check(Format::Uuid, "Page-2f26ee68df304251aad4ddddc456ba3b", None);
    }

    #[test]
    fn names_that_a_tool_would_look_up_are_not_ids() {
        check(Format::Upper, "C0SUPPORT", Some("C0SUPPORT"));
        check(Format::Upper, "#support", None);
        check(Format::Upper, "c0support", None);
        check(Format::Name, "site.git", None);
        check(Format::Name, "..", None);
        check(Format::Digits, "042", None);
        check(Format::Id, "a*", None);
        check(Format::Text, "a\nb", None);
    }
}
