//! The frame of every page, and the small parts that several pages share.

use clawstaff_api::nodes::Phase;
use clawstaff_types::{Decision, Outcome};
use jiff::Timestamp;
use maud::{DOCTYPE, Markup, html};

use crate::app::problem::Problem;

/// A whole page.
pub(crate) fn frame(title: &str, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="dark light";
                title { (title) " · ClawStaff" }
                link rel="stylesheet" href="/static/style.css";
                script src="/static/live.js" defer {}
            }
            body {
                a.skip href="#main" { "Skip to content" }
                header.top {
                    a.brand href="/" { span.mark aria-hidden="true" {} "ClawStaff" }
                    nav aria-label="Main" {
                        a href="/#fleet" { "Fleet" }
                        a href="/#log" { "Audit log" }
                        form method="post" action="/logout" { button type="submit" { "Log out" } }
                    }
                }
                main #main { (body) }
            }
        }
    }
}

/// A problem as a page.
pub(crate) fn problem(problem: &Problem) -> Markup {
    frame(
        "Not possible",
        html! {
            section.card.narrow {
                h1 { "Not possible" }
                p { (problem.0.detail) }
                @if let Some(hint) = &problem.0.hint { p.muted { (hint) } }
                @if problem.0.status == 401 {
                    p.muted { "Open the link that `clawstaff up` printed: it holds the token and logs this browser in." }
                }
            }
        },
    )
}

/// After logging out.
pub(crate) fn logged_out() -> Markup {
    frame(
        "Logged out",
        html! {
            section.card.narrow {
                h1 { "Logged out" }
                p { "This browser holds no token any more. The link that `clawstaff up` printed logs it in again." }
            }
        },
    )
}

pub(crate) fn phase_badge(phase: Phase) -> Markup {
    let (class, text) = match phase {
        Phase::Pending => ("wait", "pending"),
        Phase::Starting => ("wait", "starting"),
        Phase::Running => ("good", "running"),
        Phase::Paused => ("calm", "paused"),
        Phase::Quarantined => ("bad", "quarantined"),
        Phase::Stopping => ("wait", "stopping"),
        Phase::Stopped => ("calm", "stopped"),
        Phase::Failed => ("bad", "failed"),
        Phase::Destroyed => ("calm", "destroyed"),
    };
    badge(class, text)
}

pub(crate) fn decision_badge(decision: Decision) -> Markup {
    match decision {
        Decision::Allow => badge("good", "allow"),
        Decision::Deny => badge("bad", "deny"),
        Decision::Ask => badge("wait", "ask"),
    }
}

pub(crate) fn outcome_badge(outcome: Outcome) -> Markup {
    match outcome {
        Outcome::Succeeded => badge("good", "succeeded"),
        Outcome::Failed => badge("bad", "failed"),
        Outcome::Refused => badge("bad", "refused"),
        Outcome::Unknown => badge("wait", "unknown"),
    }
}

fn badge(class: &str, text: &str) -> Markup {
    html! { span.badge.(class) { (text) } }
}

/// An instant, to the second, with the exact one for machines.
pub(crate) fn instant(time: Timestamp) -> Markup {
    html! { time datetime=(time.to_string()) { (time.strftime("%Y-%m-%d %H:%M:%S").to_string()) } }
}

/// Bytes as people read them.
pub(crate) fn bytes(count: u64) -> String {
    let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let fitting = units.iter().find(|(_, size)| count >= *size);
    fitting.map_or_else(
        || format!("{count} B"),
        |(unit, size)| format!("{}.{} {unit}", count / size, count % size * 10 / size),
    )
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn bytes_are_shown_in_the_largest_unit_that_fits() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (256 << 20, "256.0 MiB"),
            (3 << 30, "3.0 GiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }
}
