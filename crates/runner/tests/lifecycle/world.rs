//! The world around a runner under test: its back end, its control plane and its gateway, all scripted.

mod cages;
mod servers;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use clawstaff_api::nodes::{CageStatus, Desired, Phase, RunnerClaw, RunnerStatus};
use clawstaff_cage::Stats;
use clawstaff_runner::{BackendChoice, Config, local::cage_path, run_with};
use clawstaff_types::{
    Event, EventKind, Outcome,
    spec::{Limit, Limits},
};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use self::{
    cages::Scripted,
    servers::{Control, Gateway},
};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What happened, in order: records and acts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Story(Arc<Mutex<Vec<Happening>>>);

#[derive(Debug, Clone)]
pub(crate) enum Happening {
    Record { intent: bool, event: Box<Event> },
    Act(String),
}

impl Story {
    pub(crate) fn tell(&self, happening: Happening) {
        self.lock().push(happening);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Happening>> {
        self.0.lock().unwrap()
    }
}

pub(crate) struct World {
    data: tempfile::TempDir,
    story: Story,
    cages: Arc<Scripted>,
    gateway: Gateway,
    control: Control,
}

pub(crate) struct Running {
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        for folder in ["control", "gateway", "runner", "run"] {
            std::fs::create_dir(data.path().join(folder)).unwrap();
        }
        std::fs::write(data.path().join("runner/node.token"), "token").unwrap();
        let story = Story::default();
        let gateway = Gateway::new(data.path().join("run/gateway.sock"), story.clone());
        gateway.start().await;
        let control = Control::new(&data.path().join("run/nodes.sock"));
        Self {
            cages: Arc::new(Scripted::new(story.clone())),
            data,
            story,
            gateway,
            control,
        }
    }

    pub(crate) fn claw(&self, name: &str, desired: Desired) -> RunnerClaw {
        if !self.gateway.knows(name) {
            self.open_door(name, 1);
        }
        RunnerClaw {
            claw: name.parse().unwrap(),
            cage: format!("{name}-00000001"),
            revision: 1,
            generation: 0,
            desired,
            image: None,
            limits: Limits::default(),
            needs_gateway_revision: 1,
            by: "uid-0".to_owned(),
        }
    }

    pub(crate) fn want(&self, claws: &[RunnerClaw]) {
        self.control.want(claws);
    }

    pub(crate) fn destroy(&self, claw: &str) {
        self.control.destroy(&format!("{claw}-00000001"));
    }

    pub(crate) fn run(&self) -> Running {
        self.run_as(false, true)
    }

    pub(crate) fn run_keeping_cages(&self) -> Running {
        self.run_as(true, true)
    }

    pub(crate) fn run_without_exec(&self) -> Running {
        self.run_as(false, false)
    }

    fn run_as(&self, keep_cages: bool, exec: bool) -> Running {
        let shutdown = CancellationToken::new();
        let config = Config {
            data: self.data.path().to_owned(),
            backend: BackendChoice::Auto,
            launcher: PathBuf::new(),
            claw: PathBuf::new(),
            docker_host: None,
            runtime: None,
            keep_cages,
            exec,
        };
        let (cages, token) = (Arc::clone(&self.cages), shutdown.clone());
        let task = tokio::spawn(async move { run_with(&config, cages, token).await.unwrap() });
        Running { shutdown, task }
    }

    // what the gateway does

    pub(crate) fn door_closed(&self, claw: &str) {
        self.gateway.door(claw, None);
    }

    pub(crate) fn open_door(&self, claw: &str, revision: u32) {
        self.door(claw, revision, 1);
    }

    pub(crate) fn door(&self, claw: &str, revision: u32, gateway_revision: u64) {
        self.gateway.door(claw, Some((revision, gateway_revision)));
    }

    /// Waits until the runner has asked for a door once more, from now on.
    pub(crate) async fn asked_for_door(&self) {
        self.gateway.asked_again().await;
    }

    pub(crate) fn refuse_records(&self, refuse: bool) {
        self.gateway.refuse(refuse);
    }

    pub(crate) async fn lose_gateway(&self) {
        self.gateway.stop().await;
    }

    pub(crate) async fn bring_gateway_back(&self) {
        self.gateway.start().await;
    }

    pub(crate) fn lose_control_plane(&self) {
        self.control.stop();
    }

    pub(crate) fn forget_status(&self) {
        self.control.forget();
    }

    // what the cages do

    pub(crate) fn ends_at_once(&self, ends: bool) {
        self.cages.script(|script| script.ends_at_once = ends);
    }

    pub(crate) fn end_by_memory(&self, claw: &str) {
        self.cages.out_of_memory(&format!("{claw}-00000001"));
    }

    pub(crate) fn measures(&self, stats: Stats) {
        self.cages.script(|script| script.stats = stats);
    }

    /// The next snapshot takes until the answer is dropped.
    pub(crate) fn copies_slowly(&self) -> tokio::sync::oneshot::Sender<()> {
        let (end, until) = tokio::sync::oneshot::channel();
        self.cages.script(|script| script.copies_until = Some(until));
        end
    }

    /// Waits until the runner has looked at its cages so many times more.
    pub(crate) async fn looked(&self, times: u32) {
        let wanted = self.cages.looks() + times;
        until(|| (self.cages.looks() >= wanted).then_some(())).await;
    }

    pub(crate) fn cannot_limit(&self, limit: Limit) {
        self.cages.script(|script| script.unlimited = Some(limit));
    }

    // what came of it

    pub(crate) fn history(&self) -> Vec<String> {
        let line = |happening: &Happening| match happening {
            Happening::Act(text) => text.clone(),
            Happening::Record { intent: true, event } => format!("record {} intent", event.kind),
            Happening::Record { intent: false, event } => {
                format!("record {} {:?}", event.kind, event.outcome.unwrap())
            }
        };
        self.story.lock().iter().map(line).collect()
    }

    pub(crate) fn acts(&self) -> Vec<String> {
        self.history()
            .into_iter()
            .filter(|line| !line.starts_with("record"))
            .collect()
    }

    pub(crate) fn last_act(&self) -> String {
        self.acts().pop().unwrap()
    }

    pub(crate) async fn acted(&self, act: &str, times: usize) {
        until(|| (self.acts().iter().filter(|done| *done == act).count() >= times).then_some(())).await;
    }

    pub(crate) async fn recorded(&self, kind: EventKind, outcome: Option<Outcome>) {
        let found = || {
            let story = self.story.lock();
            let mut records = story.iter().filter_map(|happening| match happening {
                Happening::Record { event, .. } => Some(event),
                Happening::Act(_) => None,
            });
            records
                .any(|event| event.kind == kind && event.outcome == outcome)
                .then_some(())
        };
        until(found).await;
    }

    pub(crate) async fn phase(&self, claw: &str, phase: Phase) -> CageStatus {
        self.status(claw, |status| status.phase == phase).await
    }

    pub(crate) async fn reason(&self, claw: &str, words: &str) -> CageStatus {
        self.status(claw, |status| {
            status
                .reason
                .as_ref()
                .is_some_and(|reason| reason.contains(words))
        })
        .await
    }

    pub(crate) async fn started(&self, claw: &str, starts: u32) -> CageStatus {
        self.status(claw, |status| {
            status.phase == Phase::Running && status.starts == starts
        })
        .await
    }

    async fn status(&self, claw: &str, wanted: impl Fn(&CageStatus) -> bool) -> CageStatus {
        let mut told: watch::Receiver<RunnerStatus> = self.control.told();
        let mut last = None;
        let waiting = async {
            loop {
                let status = told.borrow_and_update().clone();
                last = status
                    .cages
                    .into_iter()
                    .find(|status| status.claw.as_str() == claw);
                if let Some(status) = last.as_ref().filter(|status| wanted(status)) {
                    return status.clone();
                }
                told.changed().await.unwrap();
            }
        };
        let waited = waiting_for(waiting).await;
        waited.unwrap_or_else(|| panic!("{claw} is {last:?}; {:#?}", self.history()))
    }

    pub(crate) async fn exec(&self, claw: &str, argv: &[&str]) -> Value {
        self.post(
            claw,
            "exec",
            json!({ "argv": argv, "timeout_secs": 5 }).to_string(),
        )
        .await
    }

    pub(crate) async fn selftest(&self, claw: &str) -> Value {
        self.post(claw, "selftest", String::new()).await
    }

    pub(crate) async fn snapshot(&self, claw: &str, what: &str, body: &str) -> Value {
        self.post(claw, what, body.to_owned()).await
    }

    async fn post(&self, claw: &str, what: &str, body: String) -> Value {
        let socket = self.data.path().join("run/runner.sock");
        let path = cage_path(&claw.parse().unwrap(), what);
        serde_json::from_slice(&servers::send(&socket, &path, body).await).unwrap()
    }
}

/// Waits in real time, also where the runner's clock is paused and jumps.
async fn waiting_for<T>(waiting: impl Future<Output = T>) -> Option<T> {
    let (expire, expired) = tokio::sync::oneshot::channel::<()>();
    let timer = std::thread::spawn(move || {
        std::thread::park_timeout(PATIENCE);
        drop(expire);
    });
    let result = tokio::select! {
        result = waiting => Some(result),
        _ = expired => None,
    };
    timer.thread().unpark();
    result
}

async fn until<T>(check: impl Fn() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = check() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    waiting_for(looking).await.unwrap()
}
