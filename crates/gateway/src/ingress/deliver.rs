//! From a message in a channel to the inboxes of the Claws that it concerns.
//!
//! A Claw receives a message if one of its triggers names the channel *and* policy lets it read messages
//! there. The record is durable before the item is in the inbox; if we crash in between, the sender tries
//! again and the record is there twice, the item once.

use std::collections::BTreeMap;

use clawstaff_audit::{AppendError, Stream};
use clawstaff_policy::{Call, Verdict};
use clawstaff_types::{
    Access, ActionId, Actor, Cause, ClawName, ConnectionName, Decision, Digest, Event, EventKind, NameError,
    Outcome,
    spec::{SlackEvent, Trigger},
};
use jiff::Timestamp;

use super::{
    recent::{Begin, Recent},
    slack::Message,
};
use crate::{
    content::{KeyringError, Label, PartsError, Whose, framed},
    inbox::{InboxError, NewItem},
    record,
    shared::Gateway,
    state::State,
};

const ACTION: &str = "slack:messages.read";

/// Why an event could not be taken in; the sender is to try again.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    /// The same event is being taken in right now.
    #[error("the same event is being taken in by another request")]
    Busy,
    /// The log cannot be written.
    #[error("cannot record the message")]
    Log(#[from] AppendError),
    /// The inbox cannot be written, or is full.
    #[error("cannot put the message into the inbox")]
    Inbox(#[from] InboxError),
    /// The subject's key cannot be read.
    #[error("cannot commit to the message")]
    Key(#[from] KeyringError),
    /// The message cannot be kept, although the operator wants that.
    #[error("cannot keep the message")]
    Keep(#[from] PartsError),
    /// Our own names are broken.
    #[error("cannot name the action")]
    Name(#[from] NameError),
}

/// Hands messages to Claws.
#[derive(Debug, Default)]
pub(super) struct Desk {
    recent: Recent,
}

impl Desk {
    /// Delivers `message`, which arrived over `connection`, to every Claw that waits for it and may read it.
    /// When this returns without error, all of that is durable.
    pub(super) async fn deliver(
        &self,
        gateway: &Gateway,
        connection: &ConnectionName,
        message: &Message,
        now: Timestamp,
    ) -> Result<(), DeliverError> {
        let state = gateway.state.load_full();
        for (claw, revision) in waiting(&state, connection, message) {
            let delivery = Delivery {
                gateway,
                state: &state,
                connection,
                message,
                claw,
                revision,
            };
            // One post that arrives both as `message` and as `app_mention` is delivered once.
            let post = format!("{claw}\n{connection}\n{}\n{}", message.channel, message.ts);
            match self.recent.begin(post) {
                Begin::Known => {}
                Begin::Busy => return Err(DeliverError::Busy),
                Begin::New(busy) => {
                    delivery.run(now).await?;
                    busy.done();
                }
            }
        }
        Ok(())
    }
}

/// The Claws with a trigger that speaks of this message, and their revisions.
fn waiting<'a>(
    state: &'a State,
    connection: &'a ConnectionName,
    message: &'a Message,
) -> impl Iterator<Item = (&'a ClawName, u32)> {
    state
        .raw()
        .claws
        .iter()
        .filter(|claw| {
            claw.spec
                .triggers
                .iter()
                .any(|trigger| speaks_of(trigger, connection, message))
        })
        .map(|claw| (&claw.spec.name, claw.revision))
}

fn speaks_of(trigger: &Trigger, connection: &ConnectionName, message: &Message) -> bool {
    match trigger {
        Trigger::Slack {
            connection: wanted,
            channel,
            on,
        } => {
            wanted == connection
                && channel == message.channel.id()
                && match on {
                    SlackEvent::Message => message.posted,
                    SlackEvent::Mention => message.mentions_app,
                }
        }
    }
}

/// One message on its way to one Claw.
struct Delivery<'a> {
    gateway: &'a Gateway,
    state: &'a State,
    connection: &'a ConnectionName,
    message: &'a Message,
    claw: &'a ClawName,
    revision: u32,
}

impl Delivery<'_> {
    async fn run(&self, now: Timestamp) -> Result<(), DeliverError> {
        let Self {
            gateway,
            claw,
            message,
            ..
        } = self;
        if gateway.inbox.knows(claw, &message.event_id).await? {
            return Ok(());
        }
        let key = gateway.subjects.of(&self.whose())?;
        let text = key.commit.to("message", &[message.text.as_bytes()]);
        let action: ActionId = ACTION.parse()?;
        let arguments = BTreeMap::from([("channel".to_owned(), message.channel.id().to_owned())]);
        let verdict = self.state.policy().decide(&Call {
            claw,
            connection: self.connection,
            action: &action,
            access: Access::Read,
            resources: std::slice::from_ref(&message.channel),
            arguments: &arguments,
            on_behalf_of: None,
            now,
            digest: text,
        });
        match verdict {
            Verdict::Allow(permit) => {
                let mut event = self.event(EventKind::MessageRead, &action, Decision::Allow, text);
                event.grants = permit.grants().to_vec();
                event.outcome = Some(Outcome::Succeeded);
                self.hand_over(event, text).await
            }
            Verdict::Ask(held) => {
                let why =
                    "a human must agree to each message read, and nobody can be asked about inbound messages";
                let mut event = self.refused(&action, Decision::Ask, why, text);
                event.grants = held.grants().to_vec();
                self.record(event, text).await.map(drop)
            }
            Verdict::Deny(denial) => {
                let mut event = self.refused(&action, Decision::Deny, &denial.text, text);
                event.grants = denial.grants;
                event.guardrails = denial.guardrails;
                self.record(event, text).await.map(drop)
            }
        }
    }

    /// Record, then inbox. An item that does not get in is on record as failed.
    async fn hand_over(&self, event: Event, text: Digest) -> Result<(), DeliverError> {
        let index = self.record(event.clone(), text).await?;
        self.keep(index).await?;
        let item = NewItem {
            id: self.message.event_id.clone(),
            source: "slack.message".to_owned(),
            event: self.message.for_inbox(),
            on_behalf_of: None,
        };
        match self.gateway.inbox.put(self.claw, item).await {
            Ok(_) => Ok(()),
            Err(error) => {
                let mut failed = event;
                failed.outcome = Some(Outcome::Failed);
                failed.reason = Some(format!("not delivered: {error}").chars().take(300).collect());
                self.record(failed, text).await?;
                Err(error.into())
            }
        }
    }

    /// The text itself, if the operator keeps content.
    async fn keep(&self, index: u64) -> Result<(), DeliverError> {
        let (whose, text) = (self.whose(), framed(&[self.message.text.as_bytes()]));
        let key = self.gateway.subjects.of(&whose)?;
        let content = &self.gateway.content;
        Ok(content.keep(index, Label::Message, (&whose, &key), text).await?)
    }

    fn whose(&self) -> Whose {
        Whose::new(self.claw.clone(), None)
    }

    async fn record(&self, event: Event, text: Digest) -> Result<u64, DeliverError> {
        let stream = Stream::Claw(self.claw.clone());
        Ok(record::fact(self.gateway, stream, text, event).await?)
    }

    fn refused(&self, action: &ActionId, decision: Decision, why: &str, text: Digest) -> Event {
        let mut event = self.event(EventKind::ToolDenied, action, decision, text);
        event.outcome = Some(Outcome::Refused);
        event.reason = Some(why.chars().take(300).collect());
        event
    }

    fn event(&self, kind: EventKind, action: &ActionId, decision: Decision, text: Digest) -> Event {
        let mut event = Event::new(kind, Actor::Claw(self.claw.clone()));
        event.claw = Some(self.claw.clone());
        event.cause = Some(Cause(self.message.event_id.clone()));
        event.claw_revision = Some(self.revision);
        event.policy_revision = Some(self.state.revision());
        event.connection = Some(self.connection.clone());
        event.action = Some(action.clone());
        event.resource = Some(self.message.channel.clone());
        event.decision = Some(decision);
        event.digests.insert("message".to_owned(), text);
        let facts = [
            ("event_id", self.message.event_id.to_string()),
            ("channel", self.message.channel.id().to_owned()),
            ("ts", self.message.ts.clone()),
            ("bytes", self.message.text.len().to_string()),
        ];
        event
            .facts
            .extend(facts.map(|(label, fact)| (label.to_owned(), fact)));
        event
    }
}
