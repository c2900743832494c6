//! One item's conversation as a state machine: what happened goes in, what to do next comes out. Pure.
//!
//! ```text
//! Started ─► AskModel ─► Answered ─► CallTool… ─► ToolAnswered… ─► AskModel ─► … ─► Finish
//! ```
//!
//! Every way through it is bounded: [`MAX_STEPS`] questions, [`MAX_NONSENSE`] answers in a row that make no
//! sense, [`MAX_BUSY`] tries while the model is busy. It ends exactly once.

use std::time::Duration;

use clawstaff_cage_contract::{Ack, AckResult, ModelApi};
use serde_json::Value;

use super::{
    model::{self, Reply, Stop},
    tool::{ToolCall, ToolOutcome, ToolSpec, Verdict},
};
use crate::text::cut;

/// Questions to the model for one item.
pub(crate) const MAX_STEPS: u32 = 24;
/// Answers in a row that make no sense.
pub(crate) const MAX_NONSENSE: u32 = 3;
/// Tries of one question while the model is busy.
pub(crate) const MAX_BUSY: u32 = 3;
/// The longest wait for a busy model.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(20);
/// Calls that are made of one answer.
pub(crate) const MAX_CALLS: usize = 16;
/// The longest closing note, in bytes; the contract's bound.
const MAX_NOTE: usize = 16 * 1024;

/// What happened outside.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Happened {
    /// The item was taken up.
    Started,
    /// The model answered.
    Answered(Reply),
    /// The model answered something that is not an answer.
    Unreadable(String),
    /// The model's door answered with an error, or not at all.
    Failed(String),
    /// The model is busy (429, 503, 529), and says when to come back.
    Busy(Option<Duration>),
    /// The model's door refuses this Claw.
    Forbidden(String),
    /// A tool call came to something.
    ToolAnswered {
        /// Which one.
        place: usize,
        /// To what.
        outcome: ToolOutcome,
    },
}

/// What is to be done next, in this order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Request {
    /// Wait before the next one.
    Wait(Duration),
    /// Send this body to the model.
    AskModel(Value),
    /// Make this call.
    CallTool(ToolCall),
    /// The item is done.
    Finish(Ending),
}

/// How an item ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ending {
    /// Done or failed.
    pub(crate) result: AckResult,
    /// The closing words.
    pub(crate) note: String,
    /// How often the model was asked.
    pub(crate) steps: u32,
}

impl Ending {
    /// An item that failed for `why`, after `steps` questions.
    pub(crate) fn failed(why: &str, steps: u32) -> Self {
        Self {
            result: AckResult::Failed,
            note: cut(why, MAX_NOTE),
            steps,
        }
    }

    /// The acknowledgement that says so.
    pub(crate) fn ack(&self) -> Ack {
        Ack {
            result: self.result,
            note: self.note.clone(),
        }
    }
}

/// A call of the last answer, with what came of it.
#[derive(Debug)]
struct Pending {
    id: String,
    outcome: Option<ToolOutcome>,
}

/// The state of one item's conversation.
#[derive(Debug)]
pub(crate) struct Conversation {
    api: ModelApi,
    model: String,
    system: String,
    tools: Vec<ToolSpec>,
    messages: Vec<Value>,
    pending: Vec<Pending>,
    steps: u32,
    nonsense: u32,
    busy: u32,
    ended: bool,
}

impl Conversation {
    /// A conversation that will begin with `opening`.
    pub(crate) fn new(
        api: ModelApi,
        model: String,
        system: String,
        tools: Vec<ToolSpec>,
        opening: &str,
    ) -> Self {
        let mut messages = Vec::new();
        model::say(api, &mut messages, opening);
        Self {
            api,
            model,
            system,
            tools,
            messages,
            pending: Vec::new(),
            steps: 0,
            nonsense: 0,
            busy: 0,
            ended: false,
        }
    }

    /// How often the model has been asked.
    pub(crate) fn steps(&self) -> u32 {
        self.steps
    }

    /// Takes in what happened and says what to do.
    pub(crate) fn step(&mut self, happened: Happened) -> Vec<Request> {
        if self.ended {
            return Vec::new();
        }
        match happened {
            Happened::Started => self.ask(),
            Happened::Answered(reply) => self.answered(reply),
            Happened::Unreadable(why) => {
                self.senseless(&format!("Your last answer could not be used: {why}."), &why)
            }
            Happened::Failed(why) => self.count_nonsense(&why).unwrap_or_else(|| self.ask()),
            Happened::Busy(when) => self.busy(when),
            Happened::Forbidden(why) => self.fail(&format!("the model may not be used: {why}")),
            Happened::ToolAnswered { place, outcome } => self.tool_answered(place, outcome),
        }
    }

    fn ask(&mut self) -> Vec<Request> {
        if self.steps >= MAX_STEPS {
            return self.fail(&format!("given up after {MAX_STEPS} steps without an end"));
        }
        self.steps += 1;
        self.busy = 0;
        vec![self.question()]
    }

    fn question(&self) -> Request {
        let body = model::request(self.api, &self.model, &self.system, &self.tools, &self.messages);
        Request::AskModel(body)
    }

    fn answered(&mut self, reply: Reply) -> Vec<Request> {
        match reply.stop {
            Stop::Declined => return self.fail(&format!("the model declined: {}", reply.text)),
            // A cut answer may end in half a call: none of its calls is made.
            Stop::Cut => {
                let told =
                    "Your last answer reached its length limit and was dropped: answer in fewer words.";
                return self.senseless(told, "answers longer than the limit");
            }
            Stop::Complete => {}
        }
        if reply.calls.is_empty() {
            return self.closing(&reply.text);
        }
        self.messages.extend(reply.message);
        self.take_calls(reply.calls)
    }

    fn closing(&mut self, text: &str) -> Vec<Request> {
        if text.trim().is_empty() {
            let told = "Your last answer was empty: call a tool, or close with a short text.";
            return self.senseless(told, "empty answers");
        }
        self.end(AckResult::Done, text)
    }

    /// Calls that can be made are asked for; the others are answered here.
    fn take_calls(&mut self, calls: Vec<model::Asked>) -> Vec<Request> {
        let mut requests = Vec::new();
        self.pending.clear();
        for (place, asked) in calls.into_iter().enumerate() {
            let outcome = match asked.arguments {
                _ if place >= MAX_CALLS => Some(ToolOutcome::refused(&format!(
                    "not made: more than {MAX_CALLS} calls in one answer"
                ))),
                None => Some(ToolOutcome::nonsense("the arguments are not a JSON object")),
                Some(arguments) => {
                    let name = asked.name;
                    requests.push(Request::CallTool(ToolCall {
                        place,
                        name,
                        arguments,
                    }));
                    None
                }
            };
            self.pending.push(Pending {
                id: asked.id,
                outcome,
            });
        }
        if requests.is_empty() {
            self.all_answered()
        } else {
            requests
        }
    }

    fn tool_answered(&mut self, place: usize, outcome: ToolOutcome) -> Vec<Request> {
        let Some(open) = self
            .pending
            .get_mut(place)
            .filter(|pending| pending.outcome.is_none())
        else {
            return Vec::new();
        };
        open.outcome = Some(outcome);
        if self.pending.iter().all(|pending| pending.outcome.is_some()) {
            self.all_answered()
        } else {
            Vec::new()
        }
    }

    fn all_answered(&mut self) -> Vec<Request> {
        let results: Vec<(String, ToolOutcome)> = self
            .pending
            .drain(..)
            .filter_map(|pending| Some((pending.id, pending.outcome?)))
            .collect();
        model::add_results(self.api, &mut self.messages, &results);
        let first_nonsense = results.first().map(|(_, outcome)| outcome.text.clone());
        if results
            .iter()
            .all(|(_, outcome)| outcome.verdict == Verdict::Nonsense)
        {
            let why = first_nonsense.unwrap_or_default();
            return self.count_nonsense(&why).unwrap_or_else(|| self.ask());
        }
        self.nonsense = 0;
        self.ask()
    }

    /// An answer that leaves nothing to keep: the model is told, and asked again.
    fn senseless(&mut self, told: &str, why: &str) -> Vec<Request> {
        if let Some(end) = self.count_nonsense(why) {
            return end;
        }
        model::say(self.api, &mut self.messages, told);
        self.ask()
    }

    /// Counts an answer that made no sense; the end when it was one too many.
    fn count_nonsense(&mut self, why: &str) -> Option<Vec<Request>> {
        self.nonsense += 1;
        (self.nonsense >= MAX_NONSENSE).then(|| {
            self.fail(&format!(
                "given up after {MAX_NONSENSE} answers in a row that could not be used; the last: {why}"
            ))
        })
    }

    fn busy(&mut self, when: Option<Duration>) -> Vec<Request> {
        self.busy += 1;
        if self.busy >= MAX_BUSY {
            return self.fail(&format!("the model was still busy after {MAX_BUSY} tries"));
        }
        let wait = when.unwrap_or(Duration::from_secs(2)).min(MAX_WAIT);
        vec![Request::Wait(wait), self.question()]
    }

    fn fail(&mut self, why: &str) -> Vec<Request> {
        self.end(AckResult::Failed, why)
    }

    fn end(&mut self, result: AckResult, note: &str) -> Vec<Request> {
        self.ended = true;
        let note = cut(note.trim(), MAX_NOTE);
        vec![Request::Finish(Ending {
            result,
            note,
            steps: self.steps,
        })]
    }
}

#[cfg(test)]
mod tests;
