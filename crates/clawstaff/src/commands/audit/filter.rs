//! The filters of an audit query, the same by name as in the API and on the dashboard.

use clawstaff_types::EventKind;
use jiff::{SignedDuration, Timestamp};

use crate::{client, failure::Failure, spec::parse_instant};

/// Which records; all given filters must hold
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Filters")]
pub(crate) struct Filter {
    /// Claw's name
    #[arg(long)]
    claw: Option<String>,
    /// Who acted: `member:uid-0`, `claw:support-triage`, `system:runner`
    #[arg(long)]
    actor: Option<String>,
    /// Action; `*` stands for anything
    #[arg(long)]
    action: Option<String>,
    /// Resource; `*` stands for anything
    #[arg(long)]
    resource: Option<String>,
    /// What policy said
    #[arg(long, value_parser = ["allow", "deny", "ask"])]
    decision: Option<String>,
    /// What came of it
    #[arg(long, value_parser = ["succeeded", "failed", "refused", "unknown"])]
    outcome: Option<String>,
    /// Kinds, separated by commas: `tool.call,tool.denied`
    #[arg(long, value_delimiter = ',')]
    kind: Vec<EventKind>,
    /// Not before: RFC 3339, a date, or how long ago (`90s`, `30m`, `24h`, `7d`)
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// Before: RFC 3339, a date, or how long ago
    #[arg(long, value_name = "WHEN")]
    until: Option<String>,
    /// The inbound event or message that led to it
    #[arg(long, value_name = "EVENT")]
    cause: Option<String>,
    /// Words in any of the record's texts
    #[arg(long)]
    text: Option<String>,
}

impl Filter {
    /// The query string for a page.
    pub(super) fn query(&self, limit: Option<u32>, cursor: Option<String>) -> Result<String, Failure> {
        let kinds: Vec<&str> = self.kind.iter().map(|kind| kind.as_str()).collect();
        Ok(client::query(&[
            ("claw", self.claw.clone()),
            ("actor", self.actor.clone()),
            ("action", self.action.clone()),
            ("resource", self.resource.clone()),
            ("decision", self.decision.clone()),
            ("outcome", self.outcome.clone()),
            ("kind", (!kinds.is_empty()).then(|| kinds.join(","))),
            (
                "since",
                self.since
                    .as_deref()
                    .map(|when| instant("since", when))
                    .transpose()?,
            ),
            (
                "until",
                self.until
                    .as_deref()
                    .map(|when| instant("until", when))
                    .transpose()?,
            ),
            ("cause", self.cause.clone()),
            ("text", self.text.clone()),
            ("limit", limit.map(|limit| limit.to_string())),
            ("cursor", cursor),
        ]))
    }
}

/// An instant, or how long ago, as RFC 3339.
fn instant(option: &str, text: &str) -> Result<String, Failure> {
    instant_of(option, text).map(|instant| instant.to_string())
}

/// An instant, or how long ago.
pub(super) fn instant_of(option: &str, text: &str) -> Result<Timestamp, Failure> {
    ago(text).or_else(|| parse_instant(text)).ok_or_else(|| {
        Failure::usage(format!("--{option} `{text}` is not an instant"))
            .hint("write 2027-01-31, 2027-01-31T12:00:00Z, or how long ago: 90s, 30m, 24h, 7d")
    })
}

fn ago(text: &str) -> Option<Timestamp> {
    let unit = text.chars().last()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return None,
    };
    let count: i64 = text
        .strip_suffix(unit)?
        .parse()
        .ok()
        .filter(|count| *count >= 0)?;
    let span = SignedDuration::from_secs(count.checked_mul(seconds)?);
    Timestamp::now().checked_sub(span).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_escapes_what_it_sends() {
        let filter = Filter {
            resource: Some("repo:acme/*&limit=1".into()),
            kind: vec![EventKind::ToolCall, EventKind::ToolDenied],
            ..Filter::default()
        };
        assert_eq!(
            filter.query(Some(5), None).unwrap(),
            "?resource=repo%3Aacme%2F%2A%26limit%3D1&kind=tool%2Ecall%2Ctool%2Edenied&limit=5"
        );
    }

    #[test]
    fn times_are_absolute_or_ago() {
        assert_eq!(instant("since", "2027-01-31").unwrap(), "2027-01-31T00:00:00Z");
        assert!(instant("since", "24h").is_ok());
        for bad in ["", "h", "-1h", "yesterday", "99999999999999999d"] {
            assert!(instant("since", bad).is_err(), "{bad}");
        }
    }
}
