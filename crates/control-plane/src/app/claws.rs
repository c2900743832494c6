//! The lives of Claws: seeing them, and wishing that they start, stop, pause, resume, go back or go away.

use std::{collections::BTreeMap, sync::Arc};

use clawstaff_api::{
    nodes::{CageStatus, Desired, Phase},
    people::{ClawView, RevisionView},
};
use clawstaff_store::{ClawRow, GatewayRow, RunnerRow, Snapshot};
use clawstaff_types::{ClawName, MemberId, NodeName, spec::ClawSpec};

use super::{
    apply::compiles,
    change::Planned,
    context::App,
    diff::{self, Against, difference},
    event,
    mint::Mint,
    nearest::nearest,
    phase::{Reported, seen},
    plan::{Plan, Step},
    problem::Problem,
    spec::spec_of,
    status::is_connected,
};

/// What a member can wish of a Claw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    Start,
    Stop,
    Restart,
    Pause,
    Resume,
}

impl Wish {
    const fn text(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Pause => "pause",
            Self::Resume => "resume",
        }
    }
}

/// What the nodes last said, as far as views of Claws need it.
struct Nodes {
    gateways: BTreeMap<NodeName, GatewayRow>,
    runners: BTreeMap<NodeName, RunnerRow>,
}

impl App {
    /// Every Claw that is left, by name; one being destroyed comes after its successor of the same name.
    pub(crate) async fn claws(&self) -> Result<Vec<ClawView>, Problem> {
        let snapshot = self.store.snapshot().await?;
        let nodes = self.reports().await?;
        let mut views: Vec<ClawView> = snapshot
            .claws
            .iter()
            .filter_map(|claw| view(claw, &snapshot, &nodes))
            .collect();
        for row in self.leaving(&snapshot, &nodes).await? {
            views.extend(view(&row, &snapshot, &nodes));
        }
        views.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(views)
    }

    /// One Claw.
    pub(crate) async fn claw(&self, name: &ClawName) -> Result<ClawView, Problem> {
        let all = self.claws().await?;
        let found = all.iter().find(|claw| claw.name == *name);
        found
            .cloned()
            .ok_or_else(|| no_claw(name, all.iter().map(|claw| &claw.name)))
    }

    /// Its revisions, oldest first.
    pub(crate) async fn history(&self, name: &ClawName) -> Result<Vec<RevisionView>, Problem> {
        let snapshot = self.store.snapshot().await?;
        let claw = required(&snapshot, name)?;
        let revisions = self.store.revisions(&claw.cage).await?;
        let view = |row: clawstaff_store::RevisionRow| RevisionView {
            revision: row.revision,
            at: row.at,
            by: row.by.to_string(),
            digest: row.digest.to_string(),
        };
        Ok(revisions.into_iter().map(view).collect())
    }

    /// Notes a wish.
    pub(crate) async fn wish(
        self: &Arc<Self>,
        by: MemberId,
        name: ClawName,
        wish: Wish,
    ) -> Result<ClawView, Problem> {
        let wanted = name.clone();
        let wish = match (wish, self.claw(&name).await?.phase) {
            // What should be running and is not gets a new start, not the answer that it should be.
            (Wish::Start, Phase::Failed) => Wish::Restart,
            (wish, _) => wish,
        };
        self.change(move |now, _| plan_wish(now, by, &wanted, wish))
            .await?;
        self.claw(&name).await
    }

    /// Notes that a Claw is to be destroyed, and shows it as it goes.
    pub(crate) async fn destroy(self: &Arc<Self>, by: MemberId, name: ClawName) -> Result<ClawView, Problem> {
        let last = self.claw(&name).await?;
        let done = self.change(move |now, _| plan_destroy(now, by, &name)).await?;
        let snapshot = self.store.snapshot().await?;
        let nodes = self.reports().await?;
        let row = self.store.claw_by_cage(&done.answer).await?;
        let leaving = row.and_then(|row| view(&row, &snapshot, &nodes));
        Ok(leaving.unwrap_or_else(|| destroyed(last)))
    }

    /// Makes an earlier revision's spec the newest revision.
    pub(crate) async fn rollback(
        self: &Arc<Self>,
        by: MemberId,
        name: ClawName,
        to: u32,
    ) -> Result<ClawView, Problem> {
        let snapshot = self.store.snapshot().await?;
        let cage = required(&snapshot, &name)?.cage.clone();
        let earlier = self.store.claw_revision(&cage, to).await?;
        let earlier =
            earlier.ok_or_else(|| Problem::not_found(format!("claw `{name}` has no revision {to}")))?;
        let app = Arc::clone(self);
        let wanted = name.clone();
        self.change(move |now, mint| {
            let claw = required(now, &wanted)?;
            if claw.cage != cage {
                return Err(Problem::conflict(format!(
                    "claw `{wanted}` was replaced meanwhile"
                )));
            }
            if claw.revision == to {
                return Err(Problem::conflict(format!("claw `{wanted}` is at revision {to}")));
            }
            app.plan_rollback(now, mint, by, earlier.spec)
        })
        .await?;
        self.claw(&name).await
    }

    /// The same as applying a file that differs from what is in this one spec.
    pub(crate) fn plan_rollback(
        &self,
        now: &Snapshot,
        mint: Mint,
        by: MemberId,
        spec: ClawSpec,
    ) -> Result<Planned<()>, Problem> {
        let mut file = spec_of(now);
        for claw in file.claws.iter_mut().filter(|claw| claw.spec.name == spec.name) {
            claw.spec = spec.clone();
        }
        let against = Against {
            now,
            catalogue: &self.catalogue,
            mint,
            by: &by,
            prune: false,
        };
        let difference = difference(&file, against)?;
        compiles(now.revision, &difference.grants, &difference.guardrails)?;
        let mut plan = difference.plan;
        // Everything but this Claw is as it was, so nothing is adopted by a file that nobody wrote.
        plan.steps.retain(|step| !matches!(step, Step::AdoptGrant(_)));
        Ok(Planned { plan, answer: () })
    }

    async fn reports(&self) -> Result<Nodes, Problem> {
        Ok(Nodes {
            gateways: self.store.gateways().await?,
            runners: self.store.runners().await?,
        })
    }

    /// Destroyed Claws whose cages the runner still has.
    async fn leaving(&self, snapshot: &Snapshot, nodes: &Nodes) -> Result<Vec<ClawRow>, Problem> {
        let reported = nodes.runners.values().flat_map(|runner| &runner.status.cages);
        let mut leaving = Vec::new();
        for cage in reported {
            if !snapshot.claws.iter().any(|claw| claw.cage == cage.cage) {
                leaving.extend(self.store.claw_by_cage(&cage.cage).await?);
            }
        }
        Ok(leaving)
    }
}

/// The Claw of this name, or a problem that names the nearest.
pub(crate) fn required<'a>(snapshot: &'a Snapshot, name: &ClawName) -> Result<&'a ClawRow, Problem> {
    let found = snapshot.claw(name);
    found.ok_or_else(|| no_claw(name, snapshot.claws.iter().map(|claw| &claw.spec.name)))
}

fn no_claw<'a>(name: &ClawName, all: impl Iterator<Item = &'a ClawName>) -> Problem {
    let problem = Problem::not_found(format!("there is no Claw `{name}`"));
    match nearest(name.as_str(), all.map(ClawName::as_str)) {
        Some(near) => problem.hint(format!("the nearest is `{near}`")),
        None => problem.hint("`clawstaff claw list` shows all"),
    }
}

fn view(claw: &ClawRow, snapshot: &Snapshot, nodes: &Nodes) -> Option<ClawView> {
    let name = &claw.spec.name;
    let place = claw.spec.place();
    let runner = nodes.runners.get(&place);
    let cage = runner.and_then(|runner| reported_cage(runner, &claw.cage));
    let reported = runner.map(|runner| Reported {
        revision: runner.status.revision,
        connected: is_connected(runner.seen),
        cage,
    });
    let seen = seen(claw, reported)?;
    let ready = nodes
        .gateways
        .get(&place)
        .and_then(|gateway| gateway.status.ready.get(name));
    let model = claw.spec.model.as_ref();
    Some(ClawView {
        name: name.clone(),
        node: place,
        description: claw.spec.description.clone(),
        phase: seen.phase,
        reason: seen.reason,
        cause: seen.cause,
        desired: claw.desired,
        revision: claw.revision,
        running_revision: cage.filter(|cage| is_up(cage)).map(|cage| cage.revision),
        ready: !claw.destroyed && ready.copied().unwrap_or(false),
        cage: claw.cage.clone(),
        starts: cage.map_or(0, |cage| cage.starts),
        model: model.map(|model| format!("{}/{}", model.connection, model.name)),
        grants: if claw.destroyed {
            0
        } else {
            snapshot.grants_of(name).count()
        },
        stats: cage.and_then(|cage| cage.stats.clone()),
    })
}

fn reported_cage<'a>(runner: &'a RunnerRow, cage: &str) -> Option<&'a CageStatus> {
    runner.status.cages.iter().find(|status| status.cage == cage)
}

const fn is_up(cage: &CageStatus) -> bool {
    matches!(
        cage.phase,
        Phase::Running | Phase::Paused | Phase::Quarantined | Phase::Stopping
    )
}

fn destroyed(mut view: ClawView) -> ClawView {
    view.phase = Phase::Destroyed;
    view.desired = Desired::Stopped;
    view.reason = None;
    view.cause = None;
    view.running_revision = None;
    view.ready = false;
    view.grants = 0;
    view.stats = None;
    view
}

fn plan_wish(now: &Snapshot, by: MemberId, name: &ClawName, wish: Wish) -> Result<Planned<()>, Problem> {
    let claw = required(now, name)?;
    let mut plan = Plan::nothing(by);
    if let Some((desired, generation)) = wished(claw, wish)? {
        let event = event::wish(&plan.by, claw, wish.text());
        let cage = claw.cage.clone();
        plan.step(
            Step::Wish {
                cage,
                desired,
                generation,
            },
            event,
        );
    }
    Ok(Planned { plan, answer: () })
}

/// The phase and generation that a wish leads to, or `None` if it is so already.
fn wished(claw: &ClawRow, wish: Wish) -> Result<Option<(Desired, u64)>, Problem> {
    let name = &claw.spec.name;
    let conflict =
        |text: &str, hint: &str| Err(Problem::conflict(format!("claw `{name}` {text}")).hint(hint));
    let same = claw.generation;
    let next = claw.generation.saturating_add(1);
    match (wish, claw.desired) {
        (Wish::Start, Desired::Running) | (Wish::Stop, Desired::Stopped) | (Wish::Pause, Desired::Paused) => {
            Ok(None)
        }
        (Wish::Start, Desired::Stopped) | (Wish::Resume, Desired::Paused) => {
            Ok(Some((Desired::Running, same)))
        }
        (Wish::Stop, Desired::Running | Desired::Paused) => Ok(Some((Desired::Stopped, same))),
        (Wish::Pause, Desired::Running) => Ok(Some((Desired::Paused, same))),
        (Wish::Restart, Desired::Running | Desired::Paused | Desired::Stopped) => {
            Ok(Some((Desired::Running, next)))
        }
        (Wish::Start, Desired::Paused) => conflict("is paused, so it cannot be started", "resume it"),
        (Wish::Pause, Desired::Stopped) => conflict("is stopped, so it cannot be paused", "start it first"),
        (Wish::Resume, Desired::Running) => conflict(
            "is not paused, so it cannot be resumed",
            "it is to be running already",
        ),
        (Wish::Resume, Desired::Stopped) => conflict("is not paused, so it cannot be resumed", "start it"),
    }
}

fn plan_destroy(now: &Snapshot, by: MemberId, name: &ClawName) -> Result<Planned<String>, Problem> {
    let claw = required(now, name)?;
    let mut plan = Plan::nothing(by);
    destruction(claw, now, &mut plan);
    Ok(Planned {
        plan,
        answer: claw.cage.clone(),
    })
}

/// Everything that goes when a Claw goes: its grants, then the Claw itself.
pub(crate) fn destruction(claw: &ClawRow, now: &Snapshot, plan: &mut Plan) {
    for row in now.grants_of(&claw.spec.name) {
        diff::take(row, plan);
    }
    let event = event::wish(&plan.by, claw, "destroy");
    let (name, cage) = (claw.spec.name.clone(), claw.cage.clone());
    plan.step(Step::DestroyClaw { name, cage }, event);
}
