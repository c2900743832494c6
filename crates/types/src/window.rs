//! Windows of the week: when a grant is good. Text form: `mon-fri 09:00-17:00 Europe/Berlin`.
//!
//! Days and zone may be left out: every day, UTC. Whether a zone of that name exists is for whoever knows the time
//! zones; here a window is only well-formed.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::name::NameError;

/// The days as they are written, from Monday.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// Minutes of a day.
const DAY: u16 = 24 * 60;
const RULE: &str = "days, hours and a time zone, as in `mon-fri 09:00-17:00 Europe/Berlin`; days and zone may be left \
                    out, and hours past midnight belong to the day on which they begin";

/// Hours on some days of every week, in a time zone (IANA).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Window {
    /// From Monday.
    days: [bool; 7],
    /// Minutes after midnight; never equal. `to` is the first minute that is not in it.
    from: u16,
    to: u16,
    zone: String,
}

impl Window {
    /// The name of its time zone: `UTC`, `Europe/Berlin`.
    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// Whether it is open on `day` (0 is Monday), `minute` minutes after midnight by the clock of its zone.
    pub fn is_open(&self, day: u8, minute: u16) -> bool {
        let on = |day: u8| self.days.get(usize::from(day % 7)).copied().unwrap_or(false);
        let yesterday = (day % 7) + 6;
        if self.from < self.to {
            on(day) && (self.from..self.to).contains(&minute)
        } else {
            (on(day) && minute >= self.from) || (on(yesterday) && minute < self.to)
        }
    }
}

impl FromStr for Window {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        parse(text).ok_or_else(|| NameError::new("window", text, RULE))
    }
}

fn parse(text: &str) -> Option<Window> {
    let words: Vec<&str> = text.split(' ').collect();
    let starts_with_days = words.first()?.starts_with(|c: char| c.is_ascii_alphabetic());
    let (days, rest) = if starts_with_days {
        let (first, rest) = words.split_first()?;
        (parse_days(first)?, rest)
    } else {
        ([true; 7], words.as_slice())
    };
    let (hours, zone) = match rest {
        [hours] => (hours, "UTC"),
        [hours, zone] => (hours, *zone),
        _ => return None,
    };
    let (from, to) = hours.split_once('-')?;
    let (from, to) = (minute(from)?, minute(to)?);
    let sound = from != to && from < DAY && to > 0 && is_zone(zone);
    sound.then(|| Window {
        days,
        from,
        to,
        zone: zone.to_owned(),
    })
}

/// `mon,wed,fri` or `mon-fri`, or both.
fn parse_days(text: &str) -> Option<[bool; 7]> {
    let place = |name: &str| DAYS.iter().position(|day| *day == name);
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (place(first)?, place(last)?);
        let last = if last < first { last + 7 } else { last };
        for day in first..=last {
            *days.get_mut(day % 7)? = true;
        }
    }
    Some(days)
}

/// `HH:MM` up to `24:00`, in minutes after midnight.
fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let digits = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(hours) || !digits(minutes) {
        return None;
    }
    let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
    let minute = hours * 60 + minutes;
    (minutes < 60 && minute <= DAY).then_some(minute)
}

fn is_zone(text: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-' | b'+');
    (1..=64).contains(&text.len()) && text.bytes().all(known)
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days != [true; 7] {
            let on = DAYS.iter().zip(self.days).filter(|(_, on)| *on);
            let names: Vec<&str> = on.map(|(day, _)| *day).collect();
            write!(f, "{} ", spans(&names))?;
        }
        let clock = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        write!(f, "{}-{} {}", clock(self.from), clock(self.to), self.zone)
    }
}

/// Three or more days in a row as a span.
fn spans(names: &[&str]) -> String {
    let place = |name: &&str| DAYS.iter().position(|day| day == name).unwrap_or_default();
    let in_a_row = |pair: &[&str]| matches!(pair, [one, next] if place(one) + 1 == place(next));
    match names {
        [first, .., last] if names.len() > 2 && names.windows(2).all(in_a_row) => format!("{first}-{last}"),
        _ => names.join(","),
    }
}

impl TryFrom<String> for Window {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Window> for String {
    fn from(window: Window) -> Self {
        window.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::Window;

    fn window(text: &str) -> Window {
        text.parse().unwrap()
    }

    #[test]
    fn a_window_reads_back_as_it_is_written() {
        for text in [
            "mon-fri 09:00-17:00 Europe/Berlin",
            "00:00-24:00 UTC",
            "mon,wed,fri 22:00-06:00 America/Argentina/Buenos_Aires",
            "sat,sun 08:30-12:00 Etc/GMT+5",
        ] {
            assert_eq!(window(text).to_string(), text);
        }
        assert_eq!(window("09:00-17:00").to_string(), "09:00-17:00 UTC");
        assert_eq!(
            window("fri-mon 09:00-10:00").to_string(),
            "mon,fri,sat,sun 09:00-10:00 UTC"
        );
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for text in [
            "",
            "mon",
            "mon 9:00-17:00",
            "mon 09:00-25:00",
            "mon 09:60-10:00",
            "mon 09:00-09:00",
            "24:00-01:00",
            "09:00-00:00",
            "mon  09:00-10:00",
            "Mon 09:00-10:00",
            "xyz 09:00-10:00",
            "mon- 09:00-10:00",
            "mon 09:00-10:00 Europe/Berlin x",
            "mon 09:00-10:00 ../../etc/passwd",
            "mon +9:00-10:00",
        ] {
            assert!(text.parse::<Window>().is_err(), "{text}");
        }
    }

    #[test]
    fn hours_past_midnight_belong_to_the_day_on_which_they_begin() {
        let night = window("fri 22:00-06:00");
        assert!(night.is_open(4, 22 * 60) && night.is_open(5, 359));
        assert!(!night.is_open(4, 359) && !night.is_open(5, 360) && !night.is_open(5, 22 * 60));
        let sunday = window("sun 23:00-01:00");
        assert!(sunday.is_open(6, 23 * 60) && sunday.is_open(0, 59) && !sunday.is_open(0, 60));
        let day = window("mon-fri 09:00-17:00");
        assert!(day.is_open(0, 540) && day.is_open(4, 1019) && !day.is_open(4, 1020) && !day.is_open(5, 600));
    }
}
