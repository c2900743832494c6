//! The decision point: may this Claw do this action to this resource, now?
//!
//! A [`Policy`] is compiled once from the grants and guardrails of an organization and never changes. A [`Call`]
//! is one question; [`Policy::decide`] answers it with a [`Verdict`]:
//!
//! ```text
//!   any guardrail forbids it ──────────► Deny(Guardrail)
//!   a grant with mode `allow` permits ─► Allow(Permit)
//!   a grant with mode `ask` permits ───► Ask(Held)
//!   nothing permits ───────────────────► Deny, with the most helpful reason there is
//! ```
//!
//! The rules are Cedar policies (see `docs/adr/0004-cedar-under-the-grants.md`), validated against
//! `policies/schema.cedarschema`; what this crate adds is the translation ([`cedar_text`] shows it), an index
//! that puts only the few policies to Cedar that can speak of a call, and the words of a denial.
//!
//! There is no clock, no IO and no HTTP in here: the same policy and the same call give the same verdict.

mod call;
mod check;
mod compile;
mod diagnose;
mod slice;
mod translate;
mod verdict;
mod words;

use std::collections::HashMap;

pub use call::Call;
pub use check::{Answer, Question};
use clawstaff_types::{ActionId, ClawName, Grant, GrantId, Guardrail, GuardrailName};
pub use compile::CompileError;
use compile::{ClawPolicies, Compiled};
use slice::{Findings, Slices};
pub use translate::cedar_text;
pub use verdict::{Denial, DenialReason, Held, Permit, Verdict};
use words::{Asked, scopes};

/// The grants and guardrails of an organization at one revision, ready to be asked.
///
/// Immutable. Share it between threads behind an `Arc` and swap the `Arc` when a newer revision is in force.
#[derive(Debug)]
pub struct Policy {
    version: u64,
    words: words::Words,
    grants: Vec<Grant>,
    claws: HashMap<ClawName, ClawPolicies>,
    guardrails: Slices,
    templates: Vec<cedar_policy::Template>,
}

impl Policy {
    /// Compiles grants and guardrails. `version` is the revision they are of; every verdict carries it.
    ///
    /// # Errors
    /// When a grant or guardrail is not one that could be enforced as it reads: see [`CompileError`]. Nothing
    /// is left out silently; the caller keeps its last good policy.
    pub fn compile(version: u64, grants: &[Grant], guardrails: &[Guardrail]) -> Result<Self, CompileError> {
        let Compiled {
            words,
            claws,
            guardrails,
            templates,
        } = compile::compile(grants, guardrails)?;
        Ok(Self {
            version,
            words,
            grants: grants.to_vec(),
            claws,
            guardrails,
            templates,
        })
    }

    /// The revision of the grants and guardrails.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Whether the policy holds any grant of `claw`.
    pub fn knows(&self, claw: &ClawName) -> bool {
        self.claws.contains_key(claw)
    }

    /// Decides one call. Pure; microseconds.
    pub fn decide(&self, call: &Call<'_>) -> Verdict {
        let scopes = scopes(call.resources);
        let connection = self
            .claws
            .get(call.claw)
            .and_then(|claw| claw.connections.get(call.connection));
        let names = connection.map(|connection| &connection.argument_names);
        let asked = match Asked::new(&self.words, call, &scopes, names) {
            Ok(asked) => asked,
            Err(text) => return Verdict::Deny(diagnose::not_evaluated(&text)),
        };
        let ask_in = |slices: &Slices| self.ask(slices, &asked, &scopes, call.action);

        let forbidding = ask_in(&self.guardrails);
        if forbidding.failed || !forbidding.ids.is_empty() {
            return Verdict::Deny(diagnose::guardrail(call, names_of(&forbidding)));
        }
        let Some(connection) = connection else {
            return Verdict::Deny(diagnose::why_not(call, self.claws.get(call.claw), &self.grants));
        };
        let allowing = grants_of(&ask_in(&connection.allow));
        if !allowing.is_empty() {
            return Verdict::Allow(Permit::new(call, allowing, self.version));
        }
        let asking = grants_of(&ask_in(&connection.ask));
        if !asking.is_empty() {
            return Verdict::Ask(Held::new(call, asking, self.version));
        }
        Verdict::Deny(diagnose::why_not(call, self.claws.get(call.claw), &self.grants))
    }

    fn ask(&self, slices: &Slices, asked: &Asked, scopes: &[String], action: &ActionId) -> Findings {
        slices.ask(&self.words, &self.templates, asked, scopes, action.name())
    }
}

/// The grants found, in the order of their ids. Ids were checked when the policy was compiled.
fn grants_of(findings: &Findings) -> Vec<GrantId> {
    findings.ids.iter().filter_map(|id| id.parse().ok()).collect()
}

/// The guardrails found, in the order of their names.
fn names_of(findings: &Findings) -> Vec<GuardrailName> {
    findings.ids.iter().filter_map(|name| name.parse().ok()).collect()
}
