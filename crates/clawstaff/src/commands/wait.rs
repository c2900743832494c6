//! Waiting until Claws are as they are wanted, with progress for whoever watches.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use clawstaff_api::{
    Code,
    nodes::{Desired, Phase},
    people::{ClawView, GatewayView, NodeView, RunnerView, ServerStatus},
};
use clawstaff_types::{ClawName, NodeName};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    client::{Client, escape},
    failure::{Exit, Failure},
    output,
};

/// How often to look.
const PACE: Duration = Duration::from_millis(200);
/// For how long a failure may be one from before the change, while the runner has not said otherwise.
const STALE: Duration = Duration::from_secs(12);

/// Whether and for how long to wait.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct WaitArgs {
    /// Wait until it is so (the default)
    #[arg(long, overrides_with = "no_wait")]
    wait: bool,

    /// Return as soon as the wish is recorded
    #[arg(long)]
    no_wait: bool,

    /// Give up waiting after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
}

impl WaitArgs {
    /// Whether to wait at all.
    pub(crate) const fn wanted(&self) -> bool {
        self.wait || !self.no_wait
    }

    const fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

/// What to wait for.
#[derive(Debug)]
pub(crate) struct Goal {
    /// These Claws are in the phase that is wanted of them.
    pub(crate) claws: Vec<ClawName>,
    /// The gateway works with at least this state.
    pub(crate) gateway_revision: Option<u64>,
    /// The cage has started more often than this.
    pub(crate) starts_above: Option<u32>,
}

/// How far one Claw is.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Done,
    Failed(String),
    Waiting(String),
}

/// Waits until the goal is reached.
pub(crate) async fn until(client: &Client, goal: &Goal, args: &WaitArgs) -> Result<(), Failure> {
    let started = Instant::now();
    let mut teller = Teller::new();
    let mut revisions = BTreeMap::new();
    loop {
        let waiting = look(client, goal, started, &mut revisions).await?;
        if waiting.is_empty() {
            teller.finish();
            return Ok(());
        }
        teller.tell(&waiting.join(" · "));
        if started.elapsed() > args.timeout() {
            teller.finish();
            let message = format!("not there after {} s: {}", args.timeout, waiting.join("; "));
            return Err(
                Failure::failed(message).hint("it goes on in the background; see `clawstaff claw list`")
            );
        }
        tokio::time::sleep(PACE).await;
    }
}

/// Waits until a cage is gone: the Claw is not known any more, or has another cage, or none.
pub(crate) async fn until_gone(
    client: &Client,
    name: &ClawName,
    cage: &str,
    args: &WaitArgs,
) -> Result<(), Failure> {
    let started = Instant::now();
    let mut teller = Teller::new();
    loop {
        let view: Result<ClawView, Failure> =
            client.get(&format!("/v1/claws/{}", escape(name.as_str()))).await;
        let phase = match view {
            Ok(view) if view.cage == cage && view.phase != Phase::Destroyed => output::word(&view.phase),
            Ok(_) => break,
            Err(failure) if failure.exit() == Exit::Api(Code::NotFound) => break,
            Err(failure) => return Err(failure),
        };
        teller.tell(&format!("{name} is {phase}"));
        if started.elapsed() > args.timeout() {
            teller.finish();
            return Err(Failure::failed(format!(
                "`{name}` is still {phase} after {} s",
                args.timeout
            )));
        }
        tokio::time::sleep(PACE).await;
    }
    teller.finish();
    Ok(())
}

/// What is still missing; an error if it will never come.
async fn look(
    client: &Client,
    goal: &Goal,
    started: Instant,
    revisions: &mut BTreeMap<ClawName, u32>,
) -> Result<Vec<String>, Failure> {
    let mut views = Vec::new();
    for name in &goal.claws {
        let path = format!("/v1/claws/{}", escape(name.as_str()));
        views.push(client.get::<ClawView>(&path).await?);
    }
    let mut waiting = hosts_lack(client, goal, &views).await?;
    for view in views {
        let name = &view.name;
        let asked = *revisions.entry(name.clone()).or_insert(view.revision);
        if asked < view.revision {
            return Err(Failure::failed(format!(
                "revision {asked} of Claw `{name}` is not the newest any more: it did not run and was taken back, or \
                 somebody changed it meanwhile"
            ))
            .hint(format!(
                "why: `clawstaff audit query --claw {name} --kind claw.updated`; its last lines: `clawstaff claw logs {name}`"
            )));
        }
        match progress(&view, goal, started.elapsed() > STALE) {
            Progress::Done => {}
            Progress::Waiting(text) => waiting.push(text),
            Progress::Failed(text) => {
                return Err(Failure::failed(text).hint(format!(
                    "its last lines: `clawstaff claw logs {name}`; again: `clawstaff claw restart {name}`"
                )));
            }
        }
    }
    Ok(waiting)
}

/// What the hosts of these Claws lack: the control plane's own, or nodes that joined.
async fn hosts_lack(client: &Client, goal: &Goal, views: &[ClawView]) -> Result<Vec<String>, Failure> {
    let elsewhere = |name: &NodeName| !name.is_local() && views.iter().any(|view| view.node == *name);
    let mut lacks = Vec::new();
    if views.is_empty() || views.iter().any(|view| view.node.is_local()) {
        let status: ServerStatus = client.get("/v1/status").await?;
        lacks.extend(host_lacks(goal, status.gateway.as_ref(), status.runner.as_ref()));
    }
    if views.iter().any(|view| elsewhere(&view.node)) {
        let nodes: Vec<NodeView> = client.get("/v1/nodes").await?;
        for node in nodes.iter().filter(|node| elsewhere(&node.name)) {
            let all = host_lacks(goal, node.gateway.as_ref(), node.runner.as_ref());
            lacks.extend(all.map(|lack| format!("node {}: {lack}", node.name)));
        }
    }
    Ok(lacks)
}

fn host_lacks(
    goal: &Goal,
    gateway: Option<&GatewayView>,
    runner: Option<&RunnerView>,
) -> impl Iterator<Item = String> {
    let gateway = goal
        .gateway_revision
        .and_then(|wanted| gateway_lack(gateway, wanted));
    let silent = !goal.claws.is_empty() && !runner.is_some_and(|runner| runner.connected);
    let runner = silent.then(|| "the runner is not connected".to_owned());
    gateway.into_iter().chain(runner)
}

fn gateway_lack(gateway: Option<&GatewayView>, wanted: u64) -> Option<String> {
    let Some(gateway) = gateway else {
        return Some("the gateway has not connected yet".to_owned());
    };
    match &gateway.refused {
        Some(why) => Some(format!(
            "the gateway refuses the new state: {}",
            output::tame(why, 300)
        )),
        None if !gateway.connected => Some("the gateway is not connected".to_owned()),
        None if gateway.revision < wanted => Some(format!(
            "the gateway works with revision {} of {wanted}",
            gateway.revision
        )),
        None => None,
    }
}

fn progress(view: &ClawView, goal: &Goal, settled: bool) -> Progress {
    let there = match view.desired {
        Desired::Running => view.phase == Phase::Running && view.running_revision == Some(view.revision),
        Desired::Paused => matches!(view.phase, Phase::Paused | Phase::Stopped),
        Desired::Stopped => view.phase == Phase::Stopped,
    };
    let started = goal.starts_above.is_none_or(|starts| view.starts > starts);
    let reason = view.reason.as_deref().map(|reason| output::tame(reason, 300));
    let phase = output::word(&view.phase);
    let told = reason.map_or_else(|| phase.clone(), |reason| format!("{phase} ({reason})"));
    if there && started {
        return Progress::Done;
    }
    let current = view.running_revision == Some(view.revision) && started;
    if view.phase == Phase::Failed && (current || settled) {
        return Progress::Failed(format!("Claw `{}` is {told}", view.name));
    }
    Progress::Waiting(format!("{} is {told}", view.name))
}

/// A spinner on a terminal; elsewhere a line at each change.
struct Teller {
    bar: Option<ProgressBar>,
    last: String,
}

impl Teller {
    fn new() -> Self {
        let bar = output::watched().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self {
            bar,
            last: String::new(),
        }
    }

    fn tell(&mut self, text: &str) {
        if self.last == text {
            return;
        }
        text.clone_into(&mut self.last);
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None => output::note(&format!("waiting: {text}")),
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
