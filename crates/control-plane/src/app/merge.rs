//! From entries of a log to records of the index: an intent and its outcome are one record. Pure.

use clawstaff_api::people::AuditRecord;
use clawstaff_audit::Entry;
use clawstaff_types::{Actor, Event, EventKind};
use jiff::Timestamp;

/// Which log an entry is of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    /// Its short name.
    pub(crate) name: &'a str,
    /// Its origin.
    pub(crate) origin: &'a str,
}

impl Source<'_> {
    /// An intent or a fact as a record of its own.
    pub(crate) fn record(self, index: u64, entry: Entry) -> AuditRecord {
        self.place(index, entry.time, entry.seq, entry.event)
    }

    /// Stands for an entry that cannot be read, so that nothing is ever silently left out of the index.
    pub(crate) fn unreadable(self, index: u64, now: Timestamp, why: &str) -> AuditRecord {
        let mut event = Event::new(EventKind::AuditGap, Actor::System(self.name.to_owned()));
        let text = format!("entry {index} cannot be read by this version: {why}");
        event.reason = Some(text.chars().take(300).collect());
        self.place(index, now, 0, event)
    }

    fn place(self, index: u64, time: Timestamp, seq: u64, event: Event) -> AuditRecord {
        AuditRecord {
            id: format!("{}:{index}", self.name),
            log: self.origin.to_owned(),
            index,
            outcome_index: None,
            time,
            seq,
            event,
        }
    }
}

/// Merges an outcome into its intent: what the outcome says wins, what it leaves open stays.
pub(crate) fn settle(record: &mut AuditRecord, outcome_index: u64, outcome: Event) {
    record.outcome_index = Some(outcome_index);
    let event = &mut record.event;
    event.outcome = outcome.outcome.or(event.outcome);
    event.reason = outcome.reason.or(event.reason.take());
    event.resource = outcome.resource.or(event.resource.take());
    event.decision = outcome.decision.or(event.decision);
    event.on_behalf_of = outcome.on_behalf_of.or(event.on_behalf_of.take());
    event.cause = outcome.cause.or(event.cause.take());
    if !outcome.grants.is_empty() {
        event.grants = outcome.grants;
    }
    if !outcome.guardrails.is_empty() {
        event.guardrails = outcome.guardrails;
    }
    event.digests.extend(outcome.digests);
    event.facts.extend(outcome.facts);
}

#[cfg(test)]
mod tests {
    use clawstaff_types::{Digest, Outcome};

    use super::*;

    #[test]
    fn an_outcome_adds_to_its_intent_and_takes_nothing_away() {
        let source = Source {
            name: "gateway",
            origin: "o",
        };
        let mut intent = Event::new(EventKind::ToolCall, Actor::Claw("a".parse().unwrap()));
        intent.resource = Some("channel:C1".parse().unwrap());
        intent.digests.insert("request".into(), Digest::of(b"q"));
        let mut record = source.place(7, Timestamp::UNIX_EPOCH, 3, intent);
        let mut outcome = Event::new(EventKind::ToolCall, Actor::Claw("a".parse().unwrap()));
        outcome.outcome = Some(Outcome::Succeeded);
        outcome.digests.insert("response".into(), Digest::of(b"r"));
        outcome.facts.insert("status".into(), "200".into());
        settle(&mut record, 8, outcome);
        assert_eq!(record.outcome_index, Some(8));
        assert_eq!(record.event.outcome, Some(Outcome::Succeeded));
        assert_eq!(record.event.resource.unwrap().to_string(), "channel:C1");
        assert_eq!(record.event.digests.len(), 2);
        assert_eq!(record.event.facts["status"], "200");
    }

    #[test]
    fn a_record_reads_back_from_its_json() {
        let source = Source {
            name: "gateway",
            origin: "o",
        };
        let record = source.unreadable(1, Timestamp::UNIX_EPOCH, "it is newer");
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<AuditRecord>(&text).unwrap(), record);
    }
}
