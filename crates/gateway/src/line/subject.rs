//! Whose call it is, for commitments and for content: its keys, and what is kept of it under them.

use std::sync::Arc;

use crate::{
    commit::{CommitError, Commitment},
    content::{KeyringError, Label, PartsError, SubjectKey, Whose},
    map::{Call, Keys},
    record::{Intent, Who},
    shared::Gateway,
};

/// The keys of a call's Claw and of the member it is made for.
#[derive(Debug, Clone)]
pub(crate) struct CallKeys {
    placeholders: Commitment,
    pub(crate) subject: Arc<SubjectKey>,
    pub(crate) whose: Whose,
}

/// A key cannot be read or made; then nothing may happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoKey {
    #[error(transparent)]
    Claw(#[from] CommitError),
    #[error(transparent)]
    Subject(#[from] KeyringError),
}

/// The keys of a call made now.
pub(crate) fn keys(gateway: &Gateway, who: &Who) -> Result<CallKeys, NoKey> {
    let whose = Whose::new(who.claw.clone(), who.on_behalf_of.clone());
    Ok(CallKeys {
        placeholders: gateway.commitments.of(&who.claw)?,
        subject: gateway.subjects.of(&whose)?,
        whose,
    })
}

impl CallKeys {
    pub(crate) fn for_mapping(&self) -> Keys<'_> {
        Keys {
            placeholders: &self.placeholders,
            subject: &self.subject.commit,
        }
    }
}

/// Keeps what is about to be sent, if the operator asked for it: then it is not sent unless it is kept.
pub(crate) async fn keep_request(
    gateway: &Gateway,
    intent: &Intent,
    keys: &CallKeys,
    call: &Call,
) -> Result<(), PartsError> {
    if !gateway.content.keeps() {
        return Ok(());
    }
    let (index, request) = (intent.receipt.index(), call.framed());
    gateway
        .content
        .keep(index, Label::Request, (&keys.whose, &keys.subject), request)
        .await
}

/// Keeps what came back. It has happened: where it cannot be kept, the record says so and the answer is released.
pub(crate) async fn keep_response(gateway: &Gateway, index: u64, keys: &CallKeys, response: &[u8]) -> bool {
    if !gateway.content.keeps() {
        return true;
    }
    let whose = (&keys.whose, &keys.subject);
    let kept = gateway
        .content
        .keep(index, Label::Response, whose, response.to_vec())
        .await;
    if let Err(error) = &kept {
        tracing::error!(error = crate::settle::chain(error), "an answer could not be kept");
    }
    kept.is_ok()
}
