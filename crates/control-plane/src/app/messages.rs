//! Saying something to a Claw: the text is sealed to the gateway before it gets here, and stays so.

use std::sync::Arc;

use clawstaff_api::{
    nodes::MemberMessage,
    people::{MessageAccepted, MessageRequest},
};
use clawstaff_store::Snapshot;
use clawstaff_types::{ClawName, MemberId};

use super::{
    change::Planned,
    claws::required,
    context::App,
    event,
    mint::Mint,
    plan::{Plan, Step},
    problem::Problem,
};

/// 16 KiB of plaintext, its authentication tag, in base64.
const MAX_CIPHERTEXT: usize = (16 * 1024 + 16) * 4 / 3 + 8;
/// More messages than this waiting for one Claw means that nobody takes them.
const MAX_WAITING: usize = 100;

impl App {
    /// Accepts a message for a Claw.
    pub(crate) async fn message(
        self: &Arc<Self>,
        by: MemberId,
        name: ClawName,
        request: MessageRequest,
    ) -> Result<MessageAccepted, Problem> {
        let done = self
            .change(move |now, mint| plan_message(now, mint, by, &name, request))
            .await?;
        Ok(MessageAccepted { id: done.answer })
    }
}

fn plan_message(
    now: &Snapshot,
    mint: Mint,
    by: MemberId,
    name: &ClawName,
    request: MessageRequest,
) -> Result<Planned<String>, Problem> {
    let claw = required(now, name)?;
    let sealed = request.sealed;
    if sealed.ciphertext.len() > MAX_CIPHERTEXT || sealed.enc.len() > 128 {
        return Err(Problem::invalid("a message is at most 16 KiB of text"));
    }
    if now
        .messages
        .iter()
        .filter(|message| message.claw == *name)
        .count()
        >= MAX_WAITING
    {
        return Err(
            Problem::refused(format!("{MAX_WAITING} messages wait for claw `{name}` already"))
                .hint("see whether the gateway is connected: `clawstaff claw show`"),
        );
    }
    let id = mint.id("msg_")?;
    let mut plan = Plan::nothing(by);
    let event = event::message(&plan.by, claw, &id, sealed.digest);
    let message = MemberMessage {
        id: id.clone(),
        claw: name.clone(),
        from: plan.by.to_string(),
        sealed,
    };
    plan.step(Step::AddMessage(message), event);
    Ok(Planned { plan, answer: id })
}
