//! The difference between a spec file and what is: what a person reads, and the plan that makes it so. Pure but
//! for the ids it mints. Order is by name within connections, guardrails and Claws, each Claw's grants after it.

use std::collections::{BTreeMap, BTreeSet};

use clawstaff_api::people::{Change, ChangeVerb, ClawInput, Effect, GrantInput, Spec};
use clawstaff_connectors::Catalogue;
use clawstaff_store::{ClawRow, GrantOrigin, GrantRow, Snapshot};
use clawstaff_types::{
    ClawName, ConnectionName, EventKind, Grant, Guardrail, GuardrailName, MemberId, Mode,
    spec::{ClawSpec, Connection},
};

use super::{
    claws, effect,
    event::{self, listed},
    mint::{self, Mint},
    plan::{Plan, Step},
    problem::Problem,
    validate::{self, Connections, GrantTerms, within},
};

const MAX_THINGS: usize = 1000;
const MAX_GRANTS_PER_CLAW: usize = 200;

/// What a spec file is compared with, and on whose behalf.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Against<'a> {
    pub(crate) now: &'a Snapshot,
    pub(crate) catalogue: &'a Catalogue,
    pub(crate) mint: Mint,
    pub(crate) by: &'a MemberId,
    pub(crate) prune: bool,
}

/// A difference under construction.
#[derive(Debug)]
pub(crate) struct Difference {
    pub(crate) changes: Vec<Change>,
    pub(crate) plan: Plan,
    /// The grants as they will be, for compiling them before anything is changed.
    pub(crate) grants: Vec<Grant>,
    /// The guardrails as they will be.
    pub(crate) guardrails: Vec<Guardrail>,
}

impl Difference {
    fn note(&mut self, verb: ChangeVerb, what: String, effect: Effect, detail: impl Into<String>) {
        self.changes.push(Change {
            verb,
            what,
            effect,
            detail: detail.into(),
        });
    }
}

/// Compares. Everything is validated first: what comes back can be applied.
pub(crate) fn difference(spec: &Spec, against: Against<'_>) -> Result<Difference, Problem> {
    let wanted = Wanted::read(spec)?;
    let mut difference = Difference {
        changes: Vec::new(),
        plan: Plan::nothing(against.by.clone()),
        grants: Vec::new(),
        guardrails: Vec::new(),
    };
    connections(&wanted, against, &mut difference)?;
    guardrails(&wanted, against, &mut difference)?;
    let after = connections_after(&wanted, against);
    claws_and_grants(&wanted, against, &after, &mut difference)?;
    Ok(difference)
}

/// The file's things by name; a name given twice is refused.
struct Wanted<'a> {
    connections: BTreeMap<&'a ConnectionName, &'a Connection>,
    guardrails: BTreeMap<&'a GuardrailName, &'a Guardrail>,
    claws: BTreeMap<&'a ClawName, &'a ClawInput>,
}

impl<'a> Wanted<'a> {
    fn read(spec: &'a Spec) -> Result<Self, Problem> {
        Ok(Self {
            connections: by_name("connection", spec.connections.iter().map(|one| (&one.name, one)))?,
            guardrails: by_name("guardrail", spec.guardrails.iter().map(|one| (&one.name, one)))?,
            claws: by_name("claw", spec.claws.iter().map(|one| (&one.spec.name, one)))?,
        })
    }
}

fn by_name<'a, N: Ord + std::fmt::Display, T>(
    what: &str,
    things: impl Iterator<Item = (&'a N, &'a T)>,
) -> Result<BTreeMap<&'a N, &'a T>, Problem> {
    let mut named = BTreeMap::new();
    for (name, thing) in things {
        if named.insert(name, thing).is_some() {
            return Err(Problem::invalid(format!("{what} `{name}` is given twice")));
        }
        if named.len() > MAX_THINGS {
            return Err(Problem::invalid(format!(
                "there are more than {MAX_THINGS} of kind {what}"
            )));
        }
    }
    Ok(named)
}

fn connections_after<'a>(wanted: &Wanted<'a>, against: Against<'a>) -> Connections<'a> {
    let mut after: Connections<'a> = BTreeMap::new();
    if !against.prune {
        after.extend(against.now.connections.iter().map(|one| (&one.name, one)));
    }
    after.extend(wanted.connections.iter().map(|(name, one)| (*name, *one)));
    after
}

fn connections(wanted: &Wanted<'_>, against: Against<'_>, out: &mut Difference) -> Result<(), Problem> {
    let before: BTreeMap<_, _> = against
        .now
        .connections
        .iter()
        .map(|one| (&one.name, one))
        .collect();
    for name in before
        .keys()
        .chain(wanted.connections.keys())
        .copied()
        .collect::<BTreeSet<_>>()
    {
        let (old, new) = (before.get(name).copied(), wanted.connections.get(name).copied());
        let what = format!("connection {name}");
        if let Some(new) = new {
            validate::connection(new, against.catalogue)?;
        }
        let (verb, effect, detail, step) = match (old, new) {
            (None, Some(new)) => {
                let detail = format!("to {}", new.connector);
                (
                    ChangeVerb::Add,
                    Effect::Neutral,
                    detail,
                    Step::PutConnection(new.clone()),
                )
            }
            (Some(old), Some(new)) if old != new => {
                let detail = connection_detail(old, new);
                (
                    ChangeVerb::Change,
                    effect::connection(old, new),
                    detail,
                    Step::PutConnection(new.clone()),
                )
            }
            (Some(old), None) if against.prune => {
                let step = Step::RemoveConnection(old.name.clone());
                (ChangeVerb::Remove, Effect::Narrows, String::new(), step)
            }
            (Some(_) | None, Some(_) | None) => continue,
        };
        out.note(verb, what, effect, detail);
        out.plan.step(step, event::connection(against.by, old, new));
    }
    Ok(())
}

fn connection_detail(old: &Connection, new: &Connection) -> String {
    let differs = [
        ("connector", old.connector != new.connector),
        ("credential", old.credential != new.credential),
        ("signing_secret", old.signing_secret != new.signing_secret),
        ("base_url", old.base_url != new.base_url),
    ];
    named(&differs)
}

fn named(differs: &[(&str, bool)]) -> String {
    let names: Vec<&str> = differs
        .iter()
        .filter(|(_, yes)| *yes)
        .map(|(name, _)| *name)
        .collect();
    names.join(", ")
}

fn guardrails(wanted: &Wanted<'_>, against: Against<'_>, out: &mut Difference) -> Result<(), Problem> {
    let before: BTreeMap<_, _> = against
        .now
        .guardrails
        .iter()
        .map(|one| (&one.name, one))
        .collect();
    for name in before
        .keys()
        .chain(wanted.guardrails.keys())
        .copied()
        .collect::<BTreeSet<_>>()
    {
        let (old, new) = (before.get(name).copied(), wanted.guardrails.get(name).copied());
        if let Some(new) = new {
            validate::guardrail(new, against.catalogue)?;
        }
        let stays = new.or(old.filter(|_| !against.prune));
        out.guardrails.extend(stays.cloned());
        let (verb, effect, step) = match (old, new) {
            (None, Some(new)) => (ChangeVerb::Add, Effect::Narrows, Step::PutGuardrail(new.clone())),
            (Some(old), Some(new)) if old != new => (
                ChangeVerb::Change,
                effect::guardrail(old, new),
                Step::PutGuardrail(new.clone()),
            ),
            (Some(old), None) if against.prune => (
                ChangeVerb::Remove,
                Effect::Widens,
                Step::RemoveGuardrail(old.name.clone()),
            ),
            (Some(_) | None, Some(_) | None) => continue,
        };
        let detail = stays.map(forbids).unwrap_or_default();
        out.note(verb, format!("guardrail {name}"), effect, detail);
        out.plan.step(step, event::guardrail(against.by, old, new));
    }
    Ok(())
}

fn forbids(guardrail: &Guardrail) -> String {
    format!(
        "forbids {} on {}",
        listed(&guardrail.actions),
        listed(&guardrail.resources)
    )
}

fn claws_and_grants(
    wanted: &Wanted<'_>,
    against: Against<'_>,
    connections: &Connections<'_>,
    out: &mut Difference,
) -> Result<(), Problem> {
    let before: BTreeMap<_, _> = against
        .now
        .claws
        .iter()
        .map(|row| (&row.spec.name, row))
        .collect();
    for name in before
        .keys()
        .chain(wanted.claws.keys())
        .copied()
        .collect::<BTreeSet<_>>()
    {
        match (before.get(name).copied(), wanted.claws.get(name).copied()) {
            (old, Some(new)) => {
                let cage = claw(old, &new.spec, against, connections, out)?;
                grants(name, &cage, Some(new), against, connections, out)?;
            }
            (Some(old), None) if against.prune => removed(old, against.now, out),
            (Some(old), None) => {
                validate::claw(&old.spec, connections, against.catalogue)?;
                grants(name, &old.cage, None, against, connections, out)?;
            }
            (None, None) => {}
        }
    }
    Ok(())
}

fn removed(claw: &ClawRow, now: &Snapshot, out: &mut Difference) {
    let name = &claw.spec.name;
    out.note(
        ChangeVerb::Remove,
        format!("claw {name}"),
        Effect::Narrows,
        "with its cage and its storage",
    );
    claws::destruction(claw, now, &mut out.plan);
}

/// Adds or revises a Claw and returns its cage.
fn claw(
    old: Option<&ClawRow>,
    new: &ClawSpec,
    against: Against<'_>,
    connections: &Connections<'_>,
    out: &mut Difference,
) -> Result<String, Problem> {
    validate::claw(new, connections, against.catalogue)?;
    validate::place(old.map(|old| &old.spec), new, &against.now.nodes)?;
    let what = format!("claw {}", new.name);
    let Some(old) = old else {
        let cage = mint::cage(&new.name)?;
        out.note(ChangeVerb::Add, what, Effect::Neutral, "revision 1");
        let (cage_of_step, spec) = (cage.clone(), new.clone());
        let step = Step::AddClaw {
            cage: cage_of_step,
            spec,
        };
        out.plan.step(step, event::claw(against.by, None, new, 1));
        return Ok(cage);
    };
    if let Some(spec) = differing(&old.spec, new) {
        let revision = old.revision + 1;
        let detail = format!("{} → revision {revision}", claw_detail(&old.spec, &spec));
        let effect = effect::budget(&old.spec.budget, &spec.budget);
        out.note(ChangeVerb::Change, what, effect, detail);
        let event = event::claw(against.by, Some(&old.spec), &spec, revision);
        let cage = old.cage.clone();
        out.plan.step(Step::ReviseClaw { cage, spec, revision }, event);
    }
    Ok(old.cage.clone())
}

/// The new spec if it differs. Instructions that only were sealed once more are the same instructions.
fn differing(old: &ClawSpec, new: &ClawSpec) -> Option<ClawSpec> {
    let same_text = match (&old.instructions, &new.instructions) {
        (Some(was), Some(is)) => was.digest == is.digest && was.recipient == is.recipient,
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    };
    let mut spec = new.clone();
    if same_text {
        spec.instructions.clone_from(&old.instructions);
    }
    (spec != *old).then_some(spec)
}

fn claw_detail(old: &ClawSpec, new: &ClawSpec) -> String {
    named(&[
        ("description", old.description != new.description),
        ("agent", old.agent != new.agent),
        ("model", old.model != new.model),
        ("instructions", old.instructions != new.instructions),
        ("limits", old.limits != new.limits),
        ("budget", old.budget != new.budget),
        ("triggers", old.triggers != new.triggers),
    ])
}

/// The grants of one Claw: those of the file replace those of the last file, those given by hand stay, and the
/// one of the model follows the model. `input` is `None` for a Claw that the file does not speak of.
fn grants(
    name: &ClawName,
    cage: &str,
    input: Option<&ClawInput>,
    against: Against<'_>,
    connections: &Connections<'_>,
    out: &mut Difference,
) -> Result<(), Problem> {
    let mut unmatched: Vec<&GrantRow> = against.now.grants_of(name).collect();
    let Some(input) = input else {
        for row in unmatched {
            valid(&row.grant, connections, against.catalogue)?;
            out.grants.push(row.grant.clone());
        }
        return Ok(());
    };
    if input.grants.len() > MAX_GRANTS_PER_CLAW {
        return Err(Problem::invalid(format!(
            "claw `{name}` has more than {MAX_GRANTS_PER_CLAW} grants"
        )));
    }
    let mut wanted = Vec::new();
    for (at, grant) in input.grants.iter().enumerate() {
        let place = format!("claw `{name}`, grant {}", at + 1);
        validate::grant(terms(grant), connections, against.catalogue)
            .map_err(|problem| within(problem, &place))?;
        wanted.push((
            grant_of(grant, name, against.mint, against.by)?,
            GrantOrigin::File,
        ));
    }
    let model = validate::model_grant(&input.spec, connections, against.catalogue, against.by)?;
    wanted.extend(model.map(|grant| (grant, GrantOrigin::Model)));
    let mut added = Vec::new();
    for (grant, origin) in wanted {
        match unmatched.iter().position(|row| matches(row, &grant, origin)) {
            Some(at) => kept(unmatched.remove(at), origin, out),
            None => added.push((grant, origin)),
        }
    }
    for row in unmatched {
        if row.origin == GrantOrigin::Hand {
            valid(&row.grant, connections, against.catalogue)?;
            out.grants.push(row.grant.clone());
        } else {
            revoked(row, out);
        }
    }
    for (grant, origin) in added {
        given(cage, grant, origin, out);
    }
    Ok(())
}

/// A grant that stays although the file does not say it must still make sense with the file's connections.
fn valid(grant: &Grant, connections: &Connections<'_>, catalogue: &Catalogue) -> Result<(), Problem> {
    let terms = GrantTerms {
        connection: &grant.connection,
        actions: &grant.actions,
        resources: &grant.resources,
        conditions: &grant.conditions,
    };
    validate::grant(terms, connections, catalogue)
        .map_err(|problem| within(problem, &format!("claw `{}`, grant `{}`", grant.claw, grant.id)))
}

pub(crate) const fn terms(grant: &GrantInput) -> GrantTerms<'_> {
    GrantTerms {
        connection: &grant.connection,
        actions: grant.actions.as_slice(),
        resources: grant.resources.as_slice(),
        conditions: &grant.conditions,
    }
}

/// A grant as asked for, with an id.
pub(crate) fn grant_of(
    input: &GrantInput,
    claw: &ClawName,
    mint: Mint,
    by: &MemberId,
) -> Result<Grant, Problem> {
    Ok(Grant {
        id: mint.grant()?,
        claw: claw.clone(),
        connection: input.connection.clone(),
        actions: input.actions.clone(),
        resources: input.resources.clone(),
        conditions: input.conditions.clone(),
        mode: input.mode,
        expires: input.expires,
        granted_by: by.clone(),
    })
}

/// The same permission, whoever gave it. A file may adopt a grant given by hand; a model's grant is its own.
fn matches(row: &GrantRow, wanted: &Grant, origin: GrantOrigin) -> bool {
    let kind = (row.origin == GrantOrigin::Model) == (origin == GrantOrigin::Model);
    let (is, should) = (&row.grant, wanted);
    kind && is.connection == should.connection
        && is.actions == should.actions
        && is.resources == should.resources
        && is.conditions == should.conditions
        && is.mode == should.mode
        && is.expires == should.expires
}

fn kept(row: &GrantRow, origin: GrantOrigin, out: &mut Difference) {
    out.grants.push(row.grant.clone());
    if row.origin == GrantOrigin::Hand && origin == GrantOrigin::File {
        out.plan.steps.push(Step::AdoptGrant(row.grant.id.clone()));
    }
}

fn given(cage: &str, grant: Grant, origin: GrantOrigin, out: &mut Difference) {
    out.note(
        ChangeVerb::Add,
        what_grant(&grant),
        Effect::Widens,
        grant_detail(&grant),
    );
    out.grants.push(grant.clone());
    give(cage, grant, origin, &mut out.plan);
}

/// The step that gives a grant.
pub(crate) fn give(cage: &str, grant: Grant, origin: GrantOrigin, plan: &mut Plan) {
    let event = event::grant(&plan.by, EventKind::GrantAdded, &grant, origin_text(origin));
    let cage = cage.to_owned();
    plan.step(Step::AddGrant { cage, grant, origin }, event);
}

fn revoked(row: &GrantRow, out: &mut Difference) {
    out.note(
        ChangeVerb::Remove,
        what_grant(&row.grant),
        Effect::Narrows,
        grant_detail(&row.grant),
    );
    take(row, &mut out.plan);
}

/// The step that takes a grant away.
pub(crate) fn take(row: &GrantRow, plan: &mut Plan) {
    let event = event::grant(
        &plan.by,
        EventKind::GrantRevoked,
        &row.grant,
        origin_text(row.origin),
    );
    plan.step(Step::RevokeGrant(row.grant.id.clone()), event);
}

const fn origin_text(origin: GrantOrigin) -> &'static str {
    match origin {
        GrantOrigin::File => "file",
        GrantOrigin::Hand => "hand",
        GrantOrigin::Model => "model",
    }
}

fn what_grant(grant: &Grant) -> String {
    format!(
        "grant {} {} {} {}",
        grant.claw,
        grant.connection,
        listed(&grant.actions),
        listed(&grant.resources)
    )
}

fn grant_detail(grant: &Grant) -> String {
    let mode = match grant.mode {
        Mode::Allow => "allow",
        Mode::Ask => "ask",
    };
    match grant.expires {
        Some(expires) => format!("{mode}, until {expires}"),
        None => mode.to_owned(),
    }
}
