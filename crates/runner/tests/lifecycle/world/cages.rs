//! A back end in memory that keeps to the contract, writes down what it is told, and fails as scripted.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use clawstaff_cage::{
    Backend, CageError, CageId, CageSpec, Capabilities, Enforcement, ExecOutput, Exit, ExitReason, Observed,
    Snapshot, SnapshotName, Stats,
};
use clawstaff_types::spec::Limit;
use futures_util::future::{BoxFuture, FutureExt as _, ready};

use super::{Happening, Story};

/// How the back end misbehaves.
#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) ends_at_once: bool,
    pub(crate) unlimited: Option<Limit>,
    pub(crate) stats: Stats,
    /// The next snapshot freezes its cage, and takes until this is sent or dropped.
    pub(crate) copies_until: Option<tokio::sync::oneshot::Receiver<()>>,
    pub(crate) looks: u32,
}

#[derive(Debug)]
pub(crate) struct Scripted {
    story: Story,
    cages: Mutex<BTreeMap<String, Observed>>,
    script: Mutex<Script>,
}

impl Scripted {
    pub(crate) fn new(story: Story) -> Self {
        Self {
            story,
            cages: Mutex::default(),
            script: Mutex::default(),
        }
    }

    pub(crate) fn script(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script.lock().unwrap());
    }

    pub(crate) fn out_of_memory(&self, cage: &str) {
        self.cages()
            .insert(cage.to_owned(), ended(ExitReason::OutOfMemory));
    }

    pub(crate) fn looks(&self) -> u32 {
        self.script.lock().unwrap().looks
    }

    fn cages(&self) -> MutexGuard<'_, BTreeMap<String, Observed>> {
        self.cages.lock().unwrap()
    }

    fn act(&self, act: &str, id: &CageId, after: Observed) -> BoxFuture<'static, Result<(), CageError>> {
        self.story.tell(Happening::Act(format!("{act} {id}")));
        self.cages().insert(id.to_string(), after);
        ready(Ok(())).boxed()
    }
}

fn running() -> Observed {
    Observed::Running {
        pid: 1,
        started: SystemTime::now(),
    }
}

fn ended(reason: ExitReason) -> Observed {
    Observed::Exited(Exit {
        reason,
        last_lines: "SECRET words of the agent".to_owned(),
    })
}

impl Backend for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn capabilities(&self) -> Capabilities {
        let missing = self.script.lock().unwrap().unlimited;
        let all = [Limit::Memory, Limit::Cpus, Limit::Pids, Limit::Storage];
        let limits = all.map(|limit| {
            let enforced = missing != Some(limit);
            let missing = || Enforcement::missing("there is no disk", "buy a disk");
            (
                limit,
                if enforced {
                    Enforcement::Enforced
                } else {
                    missing()
                },
            )
        });
        Capabilities {
            limits: limits.into(),
            features: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    fn create<'a>(&'a self, spec: &'a CageSpec) -> BoxFuture<'a, Result<(), CageError>> {
        let before = self.cages().get(&spec.id.to_string()).cloned();
        self.act("create", &spec.id, before.unwrap_or(Observed::Created))
    }

    fn start<'a>(&'a self, id: &'a CageId) -> BoxFuture<'a, Result<(), CageError>> {
        let ends = self.script.lock().unwrap().ends_at_once;
        self.act(
            "start",
            id,
            if ends {
                ended(ExitReason::Code(3))
            } else {
                running()
            },
        )
    }

    fn stop<'a>(&'a self, id: &'a CageId, _grace: Duration) -> BoxFuture<'a, Result<(), CageError>> {
        self.act("stop", id, ended(ExitReason::Signal(15)))
    }

    fn pause<'a>(&'a self, id: &'a CageId) -> BoxFuture<'a, Result<(), CageError>> {
        self.act("pause", id, Observed::Paused)
    }

    fn resume<'a>(&'a self, id: &'a CageId) -> BoxFuture<'a, Result<(), CageError>> {
        self.act("resume", id, running())
    }

    fn destroy<'a>(&'a self, id: &'a CageId) -> BoxFuture<'a, Result<(), CageError>> {
        self.story.tell(Happening::Act(format!("destroy {id}")));
        self.cages().remove(&id.to_string());
        ready(Ok(())).boxed()
    }

    fn observe<'a>(&'a self, id: &'a CageId) -> BoxFuture<'a, Result<Observed, CageError>> {
        let observed = self.cages().get(&id.to_string()).cloned();
        ready(Ok(observed.unwrap_or(Observed::Absent))).boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<CageId>, CageError>> {
        self.script.lock().unwrap().looks += 1;
        let ids = self.cages().keys().map(|id| id.parse().unwrap()).collect();
        ready(Ok(ids)).boxed()
    }

    fn stats<'a>(&'a self, _id: &'a CageId) -> BoxFuture<'a, Result<Stats, CageError>> {
        ready(Ok(self.script.lock().unwrap().stats)).boxed()
    }

    fn logs<'a>(&'a self, _id: &'a CageId, _tail_bytes: u64) -> BoxFuture<'a, Result<Vec<u8>, CageError>> {
        ready(Ok(b"output".to_vec())).boxed()
    }

    fn snapshot<'a>(&'a self, id: &'a CageId) -> BoxFuture<'a, Result<Snapshot, CageError>> {
        self.story.tell(Happening::Act(format!("snapshot {id}")));
        let taken = Snapshot {
            name: "20260131T235959.123Z".parse().unwrap(),
            bytes: 4096,
        };
        let Some(until) = self.script.lock().unwrap().copies_until.take() else {
            return ready(Ok(taken)).boxed();
        };
        self.cages().insert(id.to_string(), Observed::Paused);
        async move {
            let _ = until.await;
            self.cages().insert(id.to_string(), running());
            Ok(taken)
        }
        .boxed()
    }

    fn snapshots<'a>(&'a self, _id: &'a CageId) -> BoxFuture<'a, Result<Vec<Snapshot>, CageError>> {
        ready(Ok(Vec::new())).boxed()
    }

    fn restore<'a>(
        &'a self,
        id: &'a CageId,
        _name: &'a SnapshotName,
    ) -> BoxFuture<'a, Result<(), CageError>> {
        self.story.tell(Happening::Act(format!("restore {id}")));
        ready(Ok(())).boxed()
    }

    fn forget_snapshot<'a>(
        &'a self,
        id: &'a CageId,
        _name: &'a SnapshotName,
    ) -> BoxFuture<'a, Result<(), CageError>> {
        self.story.tell(Happening::Act(format!("forget {id}")));
        ready(Ok(())).boxed()
    }

    fn exec<'a>(
        &'a self,
        id: &'a CageId,
        _command: &'a [String],
        _timeout: Duration,
    ) -> BoxFuture<'a, Result<ExecOutput, CageError>> {
        self.story.tell(Happening::Act(format!("exec {id}")));
        let output = ExecOutput {
            code: Some(0),
            stdout: b"done".to_vec(),
            stderr: Vec::new(),
        };
        ready(Ok(output)).boxed()
    }
}
