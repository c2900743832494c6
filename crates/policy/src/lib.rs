//! The decision point: may this Claw do this action to this resource, now?
//!
//! A [`Policy`] is compiled once from the grants and guardrails of an organization and never changes. A [`Call`]
//! is one question; [`Policy::decide`] answers it with a [`Verdict`]:
//!
//! ```text
//!   any guardrail forbids it ──────────► Deny(Guardrail)
//!   a grant with mode `allow` permits ─► Allow(Permit)
//!   a grant with mode `ask` permits ───► Ask(Held), which a human's Approval makes a Permit
//!   nothing permits ───────────────────► Deny, with the most helpful reason there is
//! ```
//!
//! The rules are Cedar policies (see `docs/adr/0004-cedar-under-the-grants.md`), validated against
//! `policies/schema.cedarschema`; what this crate adds is the translation ([`cedar_text`] shows it), an index
//! that puts only the few policies to Cedar that can speak of a call, a table that answers for the grants without
//! conditions in Cedar's stead, and the words of a denial.
//!
//! There is no clock, no IO and no HTTP in here: the same policy and the same call give the same verdict.

mod approval;
mod call;
mod check;
mod compile;
mod diagnose;
mod hours;
mod slice;
mod table;
mod translate;
mod verdict;
mod words;

use std::{cell::OnceCell, collections::HashMap, sync::Arc};

pub use approval::{Approval, Approved, NotApproved};
pub use call::Call;
pub use check::{Answer, Question};
use clawstaff_types::{ClawName, Grant, GrantId, Guardrail, GuardrailName};
pub use compile::CompileError;
use compile::{ClawPolicies, Compiled, ConnectionPolicies, Permitting, Plain, SpokenOf};
use slice::{Findings, Slices};
use table::ScopeHash;
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
    grants: Arc<[Grant]>,
    claws: HashMap<ClawName, ClawPolicies>,
    guardrails: Slices,
    rails: Vec<GuardrailName>,
    templates: Vec<cedar_policy::Template>,
}

impl Policy {
    /// Compiles grants and guardrails. `version` is the revision they are of; every verdict carries it.
    ///
    /// # Errors
    /// When a grant or guardrail is not one that could be enforced as it reads: see [`CompileError`]. Nothing
    /// is left out silently; the caller keeps its last good policy.
    pub fn compile(version: u64, grants: &[Grant], rails: &[Guardrail]) -> Result<Self, CompileError> {
        Self::of_shared(version, grants.into(), rails)
    }

    /// [`Policy::compile`] of grants that others hold as well: there may be a million of them.
    ///
    /// # Errors
    /// As [`Policy::compile`].
    pub fn of_shared(version: u64, grants: Arc<[Grant]>, rails: &[Guardrail]) -> Result<Self, CompileError> {
        Self::with(version, grants, rails, Plain::ByTable)
    }

    fn with(
        version: u64,
        grants: Arc<[Grant]>,
        rails: &[Guardrail],
        plain: Plain,
    ) -> Result<Self, CompileError> {
        let Compiled {
            words,
            claws,
            guardrails,
            templates,
        } = compile::compile(&grants, rails, plain)?;
        Ok(Self {
            version,
            words,
            grants,
            claws,
            guardrails,
            rails: rails.iter().map(|rail| rail.name.clone()).collect(),
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

    /// The grants that `claw` holds, in the order in which they were given.
    pub fn grants_of(&self, claw: &ClawName) -> impl Iterator<Item = &Grant> {
        let places = self.claws.get(claw).map(|claw| &*claw.grants);
        let places = places.unwrap_or_default().iter();
        places.filter_map(|place| self.grants.get(at(*place)))
    }

    /// Decides one call. Pure; microseconds.
    pub fn decide(&self, call: &Call<'_>) -> Verdict {
        let claw = self.claws.get(call.claw);
        let connection = claw.and_then(|claw| claw.connections.get(call.connection));
        let asking = Asking::new(self, call, connection.map(|one| &one.spoken_of));
        match asking.decide(connection) {
            Ok(Some(verdict)) => verdict,
            Ok(None) => Verdict::Deny(diagnose::why_not(call, claw, &self.grants)),
            Err(text) => Verdict::Deny(diagnose::not_evaluated(&text)),
        }
    }

    /// The grants at these places, in the order of their ids.
    fn grants_at(&self, findings: &Findings) -> Vec<GrantId> {
        let found = findings
            .places
            .iter()
            .filter_map(|place| self.grants.get(at(*place)));
        let mut ids: Vec<GrantId> = found.map(|grant| grant.id.clone()).collect();
        ids.sort();
        ids
    }

    /// The guardrails at these places, in the order of their names.
    fn names_at(&self, findings: &Findings) -> Vec<GuardrailName> {
        let found = findings
            .places
            .iter()
            .filter_map(|place| self.rails.get(at(*place)));
        let mut names: Vec<GuardrailName> = found.cloned().collect();
        names.sort();
        names
    }
}

fn at(place: u32) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}

/// One call on its way through the policy. It is said in Cedar's words once, and only if a policy can speak of it.
struct Asking<'a> {
    policy: &'a Policy,
    call: &'a Call<'a>,
    spoken_of: Option<&'a SpokenOf>,
    scopes: OnceCell<Vec<String>>,
    asked: OnceCell<Result<Asked, String>>,
}

impl<'a> Asking<'a> {
    const fn new(policy: &'a Policy, call: &'a Call<'a>, spoken_of: Option<&'a SpokenOf>) -> Self {
        Self {
            policy,
            call,
            spoken_of,
            scopes: OnceCell::new(),
            asked: OnceCell::new(),
        }
    }

    /// The verdict, unless nothing permits it.
    fn decide(&self, connection: Option<&ConnectionPolicies>) -> Result<Option<Verdict>, String> {
        let (policy, call) = (self.policy, self.call);
        let forbidding = self.ask(&policy.guardrails, None)?;
        if forbidding.failed || !forbidding.places.is_empty() {
            let denial = diagnose::guardrail(call, policy.names_at(&forbidding));
            return Ok(Some(Verdict::Deny(denial)));
        }
        let Some(connection) = connection else {
            return Ok(None);
        };
        let scopes = ScopeHash::all(call.resources);
        let allowing = self.permitting(&connection.allow, &scopes)?;
        if !allowing.is_empty() {
            return Ok(Some(Verdict::Allow(Permit::new(call, allowing, policy.version))));
        }
        let asking = self.permitting(&connection.ask, &scopes)?;
        if !asking.is_empty() {
            return Ok(Some(Verdict::Ask(Held::new(call, asking, policy.version))));
        }
        Ok(None)
    }

    /// The grants of one mode that permit the call.
    fn permitting(&self, of_mode: &Permitting, scopes: &[ScopeHash]) -> Result<Vec<GrantId>, String> {
        let mut findings = self.ask(&of_mode.slices, Some(self.call.claw))?;
        let by_table = of_mode.table.permitting(&self.policy.grants, self.call, scopes);
        findings.places.extend(by_table);
        Ok(self.policy.grants_at(&findings))
    }

    /// Puts every policy of an index that can speak of the call to Cedar.
    fn ask(&self, slices: &Slices, claw: Option<&ClawName>) -> Result<Findings, String> {
        let mut findings = Findings::default();
        if !slices.speak_of_action(self.call.action) {
            return Ok(findings);
        }
        for slice in slices.that_speak_of(self.scopes(), self.call.action) {
            let asked = self.asked().as_ref().map_err(Clone::clone)?;
            slice.ask(
                &self.policy.words,
                &self.policy.templates,
                claw,
                asked,
                &mut findings,
            );
        }
        Ok(findings)
    }

    fn scopes(&self) -> &[String] {
        self.scopes.get_or_init(|| scopes(self.call.resources))
    }

    fn asked(&self) -> &Result<Asked, String> {
        let say = || Asked::new(&self.policy.words, self.call, self.scopes(), self.spoken_of);
        self.asked.get_or_init(say)
    }
}
