//! Members' messages: opened, recorded, put into the Claw's inbox, and only then reported as taken.

use clawstaff_api::nodes::MemberMessage;
use clawstaff_audit::Stream;
use clawstaff_types::{Actor, Cause, Digest, Event, EventId, EventKind, MemberId, Outcome, Secret};
use serde_json::json;
use std::sync::PoisonError;

use super::Node;
use crate::{
    content::{Label, Whose, framed},
    inbox::{NewItem, Put},
    record,
};

/// The label under which messages are sealed.
const LABEL: &str = "message";

/// Why a message is not in the inbox.
#[derive(Debug, thiserror::Error)]
enum NotTaken {
    /// It never will be: worth one record.
    #[error("{0}")]
    Hopeless(String),
    /// It may be next time.
    #[error("{0}")]
    Later(String),
}

/// A message that could be read.
struct Opened {
    id: EventId,
    from: MemberId,
    text: Secret<String>,
}

impl Node {
    /// Takes every message of the state in force that is not taken yet. Gives whether some must be tried again.
    pub(super) async fn take_messages(&self) -> bool {
        let state = self.gateway.state.load_full();
        let messages = &state.raw().messages;
        self.forget_others(messages);
        let mut again = false;
        for message in messages {
            if self.is_settled(&message.id) {
                continue;
            }
            match self
                .take_message(message, state.claw(&message.claw).map(|claw| claw.revision))
                .await
            {
                Ok(()) => {
                    self.states
                        .taken
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(message.id.clone());
                    self.states.touch();
                }
                Err(NotTaken::Hopeless(why)) => self.give_up(message, why).await,
                Err(NotTaken::Later(why)) => {
                    tracing::warn!(claw = %message.claw, id = message.id, why, "a message waits");
                    again = true;
                }
            }
        }
        again
    }

    fn is_settled(&self, id: &str) -> bool {
        let has = |set: &std::sync::Mutex<std::collections::BTreeSet<String>>| {
            set.lock().unwrap_or_else(PoisonError::into_inner).contains(id)
        };
        has(&self.states.taken) || has(&self.states.hopeless)
    }

    /// Once the control plane no longer sends a message, nothing need be remembered about it.
    fn forget_others(&self, messages: &[MemberMessage]) {
        for set in [&self.states.taken, &self.states.hopeless] {
            let mut set = set.lock().unwrap_or_else(PoisonError::into_inner);
            set.retain(|id| messages.iter().any(|message| message.id == *id));
        }
    }

    async fn take_message(&self, message: &MemberMessage, revision: Option<u32>) -> Result<(), NotTaken> {
        let revision = revision.ok_or_else(|| NotTaken::Hopeless("there is no such Claw".to_owned()))?;
        let opened = self.open_message(message)?;
        let later = |why: String| NotTaken::Later(why);
        let inbox = &self.gateway.inbox;
        if inbox
            .knows(&message.claw, &opened.id)
            .await
            .map_err(|e| later(e.to_string()))?
        {
            return Ok(());
        }
        let text = opened.text.expose_secret();
        let whose = Whose::new(message.claw.clone(), Some(opened.from.clone()));
        let key = self
            .gateway
            .subjects
            .of(&whose)
            .map_err(|e| later(e.to_string()))?;
        let digest = key.commit.to("message", &[text.as_bytes()]);
        let mut event = self.event(message, &opened.from, opened.id.clone());
        event.claw_revision = Some(revision);
        event.outcome = Some(Outcome::Succeeded);
        event.digests.insert("message".to_owned(), digest);
        event.facts.insert("bytes".to_owned(), text.len().to_string());
        let index = self.record(message, digest, event).await.map_err(later)?;
        let kept = framed(&[text.as_bytes()]);
        let content = &self.gateway.content;
        content
            .keep(index, Label::Message, (&whose, &key), kept)
            .await
            .map_err(|e| later(e.to_string()))?;
        let item = NewItem {
            id: opened.id,
            source: "message".to_owned(),
            event: json!({ "type": "message", "id": message.id, "from": message.from, "text": text }),
            on_behalf_of: Some(opened.from),
        };
        match inbox.put(&message.claw, item).await {
            Ok(Put::Stored | Put::Duplicate) => Ok(()),
            Err(error @ crate::inbox::InboxError::TooLarge { .. }) => {
                Err(NotTaken::Hopeless(error.to_string()))
            }
            Err(error) => Err(later(error.to_string())),
        }
    }

    fn open_message(&self, message: &MemberMessage) -> Result<Opened, NotTaken> {
        let hopeless = |why: String| NotTaken::Hopeless(why);
        let id = message
            .id
            .parse()
            .map_err(|e: clawstaff_types::NameError| hopeless(e.to_string()))?;
        let from = message
            .from
            .parse()
            .map_err(|e: clawstaff_types::NameError| hopeless(e.to_string()))?;
        let text = self
            .gateway
            .seal_key
            .open(&message.sealed, LABEL)
            .map_err(|e| hopeless(e.to_string()))?;
        let text = std::str::from_utf8(text.expose_secret())
            .map(|text| Secret::new(text.to_owned()))
            .map_err(|_| hopeless("its text is not UTF-8".to_owned()))?;
        Ok(Opened { id, from, text })
    }

    /// Records, once, that a message can never be delivered. It stays unreported, so its sender sees it waiting.
    async fn give_up(&self, message: &MemberMessage, why: String) {
        tracing::error!(claw = %message.claw, id = message.id, why, "a message cannot be delivered");
        let ids = (message.from.parse::<MemberId>(), message.id.parse::<EventId>());
        if let (Ok(from), Ok(id)) = ids {
            let mut event = self.event(message, &from, id);
            event.outcome = Some(Outcome::Failed);
            event.reason = Some(why.chars().take(300).collect());
            if self.record(message, message.sealed.digest, event).await.is_err() {
                return;
            }
        }
        self.states
            .hopeless
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(message.id.clone());
    }

    fn event(&self, message: &MemberMessage, from: &MemberId, id: EventId) -> Event {
        let mut event = Event::new(EventKind::MessageRead, Actor::Claw(message.claw.clone()));
        event.claw = Some(message.claw.clone());
        event.on_behalf_of = Some(from.clone());
        event.facts.insert("event_id".to_owned(), id.to_string());
        event.cause = Some(Cause(id));
        event.policy_revision = Some(self.revision());
        event
    }

    async fn record(&self, message: &MemberMessage, call: Digest, event: Event) -> Result<u64, String> {
        let stream = Stream::Claw(message.claw.clone());
        record::fact(&self.gateway, stream, call, event)
            .await
            .map_err(|e| e.to_string())
    }
}
