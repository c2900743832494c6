//! Records of requests that were not believed: every one counts, few are written.
//!
//! A stranger can send as many wrong signatures as the network carries; the log must not grow with them.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use clawstaff_audit::Stream;
use clawstaff_types::{Actor, ConnectionName, Digest, Event, EventKind, Outcome};
use jiff::Timestamp;

use super::slack::Doubt;
use crate::{record, shared::Gateway};

/// Records per connection and minute.
const PER_MINUTE: u32 = 5;

#[derive(Debug, Default)]
struct Minute {
    began: i64,
    written: u32,
    /// Not written since the last record.
    suppressed: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Alarm(Mutex<HashMap<ConnectionName, Minute>>);

impl Alarm {
    /// Notes a request for `connection` that was not believed.
    pub(super) async fn raise(
        &self,
        gateway: &Gateway,
        connection: &ConnectionName,
        why: Doubt,
        now: Timestamp,
    ) {
        let Some(suppressed) = self.admit(connection, now) else {
            return;
        };
        let mut event = Event::new(EventKind::AuthFailed, Actor::System("ingress".to_owned()));
        event.connection = Some(connection.clone());
        event.policy_revision = Some(gateway.state.load().revision());
        event.outcome = Some(Outcome::Refused);
        event.reason = Some(why.as_str().to_owned());
        if suppressed > 0 {
            event
                .facts
                .insert("unrecorded_before".to_owned(), suppressed.to_string());
        }
        let call = Digest::of(b"");
        if let Err(error) = record::fact(gateway, Stream::System("gateway".into()), call, event).await {
            tracing::error!(%connection, %error, "a refused request cannot be recorded");
        }
    }

    /// `Some` with the number left out before, if this one is to be written.
    fn admit(&self, connection: &ConnectionName, now: Timestamp) -> Option<u64> {
        let mut minutes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = minutes.entry(connection.clone()).or_default();
        let current = now.as_second().div_euclid(60);
        if minute.began != current {
            minute.began = current;
            minute.written = 0;
        }
        if minute.written >= PER_MINUTE {
            minute.suppressed += 1;
            return None;
        }
        minute.written += 1;
        Some(std::mem::take(&mut minute.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_flood_few_are_written_and_the_rest_is_counted() {
        let (alarm, connection) = (Alarm::default(), "slack".parse().unwrap());
        let at = |second| Timestamp::from_second(second).unwrap();
        let written = (0..100)
            .filter(|_| alarm.admit(&connection, at(60)).is_some())
            .count();
        assert_eq!(written, 5);
        assert_eq!(alarm.admit(&connection, at(120)), Some(95));
    }
}
