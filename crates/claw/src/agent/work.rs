//! Works on one item: runs the conversation's requests one after the other and tells it what happened.

use std::{collections::VecDeque, time::Duration};

use clawstaff_cage_contract::{InboxItem, ModelApi, ModelFile};
use clawstaff_types::ClawName;
use tokio::time::{sleep, timeout};

use super::{
    conversation::{Conversation, Ending, Happened, Request},
    doors::{DoorError, Doors},
    local::Local,
    prompt,
    tool::{ToolCall, ToolOutcome},
};
use crate::options::Options;

/// How long one item may take.
const MAX_TIME: Duration = Duration::from_mins(2);

/// The agent between two items: its doors, its tools, its model.
#[derive(Debug)]
pub(crate) struct Worker {
    doors: Doors,
    local: Local,
    model: Option<ModelFile>,
    system: String,
}

impl Worker {
    /// The agent of `claw`, with its instructions.
    pub(crate) fn new(
        options: &Options,
        claw: ClawName,
        model: Option<ModelFile>,
        instructions: &str,
    ) -> Self {
        Self {
            doors: Doors::new(options.doors),
            local: Local::new(options),
            model,
            system: prompt::system(&claw, instructions),
        }
    }

    /// Its doors.
    pub(crate) fn doors(&self) -> &Doors {
        &self.doors
    }

    /// Works on `item` until it ends, at most [`MAX_TIME`].
    ///
    /// # Errors
    /// When a door was lost amid the work: the item has not ended and comes again.
    pub(crate) async fn work(&self, item: &InboxItem) -> Result<Ending, DoorError> {
        let Some(model) = &self.model else {
            return Ok(Ending::failed("this Claw has no model to work with", 0));
        };
        let mut conversation = None;
        let working = async {
            let conversation = conversation.insert(self.conversation(item, model).await?);
            self.converse(model.api, conversation).await
        };
        match timeout(MAX_TIME, working).await {
            Ok(ending) => ending,
            Err(_late) => Ok(Ending::failed(
                &format!("given up after {} seconds", MAX_TIME.as_secs()),
                conversation.as_ref().map_or(0, Conversation::steps),
            )),
        }
    }

    async fn conversation(&self, item: &InboxItem, model: &ModelFile) -> Result<Conversation, DoorError> {
        let mut opening = prompt::item(item);
        let mut tools = Local::specs();
        match self.doors.tools().await {
            Ok(granted) => {
                tools.extend(granted.into_iter().filter(|tool| !Local::has(&tool.name)));
            }
            Err(error) if error.is_lost() => return Err(error),
            Err(error) => {
                eprintln!("claw agent: listing the granted tools: {error}");
                opening.push_str("\n\nThe tools of the business cannot be reached now: ");
                opening.push_str(&error.to_string());
            }
        }
        Ok(Conversation::new(
            model.api,
            model.name.clone(),
            self.system.clone(),
            tools,
            &opening,
        ))
    }

    async fn converse(&self, api: ModelApi, conversation: &mut Conversation) -> Result<Ending, DoorError> {
        let mut queue = VecDeque::from(conversation.step(Happened::Started));
        while let Some(request) = queue.pop_front() {
            let happened = match request {
                Request::Wait(time) => {
                    sleep(time).await;
                    continue;
                }
                Request::AskModel(body) => self.doors.ask(api, &body).await?,
                Request::CallTool(call) => Happened::ToolAnswered {
                    place: call.place,
                    outcome: self.call(call).await?,
                },
                Request::Finish(ending) => return Ok(ending),
            };
            queue.extend(conversation.step(happened));
        }
        Ok(Ending::failed(
            "the conversation came to a stop",
            conversation.steps(),
        ))
    }

    /// A name that is not local goes to the gateway, listed or not: what may be called is its to say and to record.
    async fn call(&self, call: ToolCall) -> Result<ToolOutcome, DoorError> {
        if !Local::has(&call.name) {
            return self.doors.call(&call.name, call.arguments).await;
        }
        let (outcome, acts) = self.local.call(&call.name, &call.arguments).await;
        for act in acts {
            if let Err(error) = self.doors.report(act).await {
                eprintln!("claw agent: reporting an act: {error}");
            }
        }
        Ok(outcome)
    }
}
