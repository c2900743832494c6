//! A change of desired state before it is made: its steps and what will be recorded of it. Plain values.

use clawstaff_api::nodes::{Desired, MemberDecision, MemberMessage};
use clawstaff_store::GrantOrigin;
use clawstaff_types::{
    ClawName, ConnectionName, Event, Grant, GrantId, Guardrail, GuardrailName, MemberId, Sink, SinkName,
    spec::{ClawSpec, Connection},
};

/// One step. All steps of a plan are made in one transaction.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    PutConnection(Connection),
    RemoveConnection(ConnectionName),
    PutGuardrail(Guardrail),
    RemoveGuardrail(GuardrailName),
    PutSink(Sink),
    RemoveSink(SinkName),
    AddClaw {
        cage: String,
        spec: ClawSpec,
    },
    ReviseClaw {
        cage: String,
        spec: ClawSpec,
        revision: u32,
    },
    Wish {
        cage: String,
        desired: Desired,
        generation: u64,
    },
    DestroyClaw {
        name: ClawName,
        cage: String,
    },
    AddGrant {
        cage: String,
        grant: Grant,
        origin: GrantOrigin,
    },
    AdoptGrant(GrantId),
    RevokeGrant(GrantId),
    AddMessage(MemberMessage),
    Decide(MemberDecision),
}

/// Steps, and one event for each thing that a person would say has changed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub(crate) by: MemberId,
    pub(crate) steps: Vec<Step>,
    pub(crate) events: Vec<Event>,
}

impl Plan {
    pub(crate) const fn nothing(by: MemberId) -> Self {
        Self {
            by,
            steps: Vec::new(),
            events: Vec::new(),
        }
    }

    pub(crate) fn step(&mut self, step: Step, event: Event) {
        self.steps.push(step);
        self.events.push(event);
    }
}
