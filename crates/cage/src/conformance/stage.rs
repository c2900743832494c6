//! The suite's cages: made under names of their own, and all destroyed at the end.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clawstaff_types::ClawName;

use super::Setup;
use crate::{
    backend::Backend,
    id::CageId,
    observed::{ExecOutput, Exit, Observed},
    spec::CageSpec,
};

/// What a check says: what it saw, or what was wrong.
pub(super) type Verdict = Result<String, String>;

/// Longest wait for something that should happen at once, on a busy machine, or an emulated one.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A back end and the means to play with it.
#[derive(Debug)]
pub struct Stage<'a> {
    pub(super) backend: &'a dyn Backend,
    pub(super) setup: &'a Setup,
    generation: u32,
}

impl<'a> Stage<'a> {
    /// A stage whose cages no other stage has.
    pub fn new(backend: &'a dyn Backend, setup: &'a Setup) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            backend,
            setup,
            generation: now.subsec_nanos() ^ std::process::id().rotate_left(16),
        }
    }

    /// The spec of a cage that plays a part of `claw probe actor`.
    pub(super) fn spec(&self, name: &str, part: &[&str]) -> Result<CageSpec, String> {
        let claw: ClawName = format!("check-{name}")
            .parse()
            .map_err(|error| format!("{error}"))?;
        let command = ["/sbin/claw", "probe", "actor"]
            .iter()
            .chain(part)
            .map(|word| (*word).to_owned());
        Ok(CageSpec {
            id: CageId::new(&claw, self.generation),
            claw,
            revision: 1,
            image: self.setup.image.clone(),
            door_dir: self.setup.door_dir.clone(),
            limits: self.setup.limits.clone(),
            command: command.collect(),
        })
    }

    /// Makes and starts a cage.
    pub(super) async fn launch(&self, name: &str, part: &[&str]) -> Result<CageSpec, String> {
        let spec = self.spec(name, part)?;
        self.backend.create(&spec).await.map_err(text)?;
        self.backend.start(&spec.id).await.map_err(text)?;
        Ok(spec)
    }

    pub(super) async fn observe(&self, id: &CageId) -> Result<Observed, String> {
        self.backend.observe(id).await.map_err(text)
    }

    /// The init's process id on the host, if the cage runs.
    pub(super) async fn pid(&self, id: &CageId) -> Result<u32, String> {
        match self.observe(id).await? {
            Observed::Running { pid, .. } => Ok(pid),
            other => Err(format!("{id} does not run: {other:?}")),
        }
    }

    /// Waits for the cage to end by itself.
    pub(super) async fn exit(&self, id: &CageId) -> Result<Exit, String> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.observe(id).await? {
                Observed::Exited(exit) => return Ok(exit),
                other if Instant::now() > end => return Err(format!("{id} did not end: {other:?}")),
                _ => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// Waits until the cage has printed `words`.
    pub(super) async fn hears(&self, id: &CageId, words: &str) -> Result<Vec<u8>, String> {
        let end = Instant::now() + PATIENCE;
        loop {
            let log = self.backend.logs(id, 1 << 20).await.map_err(text)?;
            if String::from_utf8_lossy(&log).contains(words) {
                return Ok(log);
            }
            if Instant::now() > end {
                return Err(format!("{id} did not say `{words}` but {} bytes", log.len()));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Runs a part of `claw probe actor` in a live cage.
    pub(super) async fn exec(&self, id: &CageId, part: &[&str]) -> Result<ExecOutput, String> {
        let command: Vec<String> = ["/sbin/claw", "probe", "actor"]
            .iter()
            .chain(part)
            .map(|word| (*word).to_owned())
            .collect();
        self.backend.exec(id, &command, PATIENCE).await.map_err(text)
    }

    /// Runs a part that must succeed.
    pub(super) async fn does(&self, id: &CageId, part: &[&str]) -> Result<Vec<u8>, String> {
        let output = self.exec(id, part).await?;
        if output.code == Some(0) {
            return Ok(output.stdout);
        }
        Err(format!(
            "{part:?} in {id}: {:?} {}",
            output.code,
            String::from_utf8_lossy(&output.stderr)
        ))
    }

    /// Destroys the cage of that name.
    pub(super) async fn clear(&self, name: &str) -> Result<(), String> {
        let spec = self.spec(name, &[])?;
        self.backend.destroy(&spec.id).await.map_err(text)
    }
}

pub(super) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

pub(super) fn ensure(condition: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(otherwise()) }
}
