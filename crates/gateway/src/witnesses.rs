//! External witnesses (C2SP tlog-witness), named by the operator's policy file: they are shown how both logs grow, and
//! what they cosign is kept beside the log.
//!
//! ```text
//!   witnesses.policy      C2SP tlog-policy: the logs' keys, the witnesses' keys and addresses, the quorum
//!   witnessed.checkpoint, control.witnessed.checkpoint      the newest checkpoint of each log that has the quorum
//! ```
//!
//! Witnesses are told only what the two parties have agreed on: checkpoints that gateway and control plane have both
//! signed. One that will not follow has seen another log under the same key, and an incident is opened.

mod ask;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use clawstaff_audit::{
    Checkpoint, Draft, Log, Phase, Policy, Stream, note::MAX_NOTE_BYTES, policy::MAX_POLICY_BYTES,
};
use clawstaff_export::sink::Url;
use clawstaff_types::{Actor, Digest, Event, EventKind};
use tokio_util::sync::CancellationToken;

use crate::{
    inbox::{read_bounded, read_if_present, replace},
    node,
    sinks::http::Http,
};

/// How often growth is shown.
const EVERY: Duration = Duration::from_mins(1);

/// Why the policy file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WitnessesError {
    /// It cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It is not a policy that can be followed.
    #[error("`{}` cannot be followed: {why}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// Where things are.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// `$DATA/gateway`
    pub(crate) own: PathBuf,
    /// `$DATA/gateway/log`
    pub(crate) log: PathBuf,
}

/// Which log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Which {
    Own,
    Control,
}

impl Which {
    const fn words(self) -> &'static str {
        match self {
            Self::Own => "the gateway's log",
            Self::Control => "the control plane's log",
        }
    }

    /// The checkpoint that both parties have signed.
    fn agreed(self, own: &Path) -> PathBuf {
        own.join(match self {
            Self::Own => "cosigned.checkpoint",
            Self::Control => "control.checkpoint",
        })
    }

    /// Where the newest one that the witnesses have signed as well is kept.
    fn witnessed(self, own: &Path) -> PathBuf {
        own.join(match self {
            Self::Own => "witnessed.checkpoint",
            Self::Control => "control.witnessed.checkpoint",
        })
    }
}

/// A witness that can be asked.
#[derive(Debug)]
struct Reachable {
    name: String,
    key: clawstaff_audit::Cosigner,
    url: Url,
}

/// What became of asking a witness.
#[derive(Debug)]
enum Trouble {
    /// It cannot be asked now.
    Failed(String),
    /// It has seen another log than this one.
    Contradiction(String),
}

/// The witnesses of this installation.
#[derive(Debug)]
pub(crate) struct Witnesses {
    policy: Policy,
    reachable: Vec<Reachable>,
    places: Places,
    log: Log,
    /// Where the control plane's log is asked for.
    control: node::Client,
    http: Http,
    /// The size that each witness has cosigned last of each log.
    sizes: Mutex<BTreeMap<(usize, Which), u64>>,
    /// Contradictions that are on record.
    accused: Mutex<BTreeSet<String>>,
}

impl Witnesses {
    /// The witnesses that the policy file names; `None` if there is no such file.
    ///
    /// # Errors
    /// When it cannot be read or followed: without it the log would have fewer witnesses than the operator believes.
    pub(crate) fn load(
        places: Places,
        log: Log,
        control: node::Client,
        extra_ca: Option<&Path>,
    ) -> Result<Option<Self>, WitnessesError> {
        let path = places.own.join("witnesses.policy");
        let malformed = |why: String| WitnessesError::Malformed {
            path: path.clone(),
            why,
        };
        let bytes = match read_if_present(&path, MAX_POLICY_BYTES as u64) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(None),
            Err(source) => return Err(WitnessesError::Read { path, source }),
        };
        let text = str::from_utf8(&bytes).map_err(|error| malformed(error.to_string()))?;
        let policy = Policy::parse(text).map_err(|error| malformed(error.to_string()))?;
        if !policy.logs().iter().any(|known| known.key.name() == log.origin()) {
            return Err(malformed(format!("it has no `log` line for `{}`", log.origin())));
        }
        let mut reachable = Vec::new();
        for witness in policy.witnesses() {
            let Some(url) = &witness.url else { continue };
            reachable.push(Reachable {
                name: witness.name.clone(),
                key: witness.key.clone(),
                url: Url::parse(url)
                    .map_err(|error| malformed(format!("witness {}: {error}", witness.name)))?,
            });
        }
        let http = Http::new(None, extra_ca).map_err(|error| malformed(error.0))?;
        Ok(Some(Self {
            policy,
            reachable,
            places,
            log,
            control,
            http,
            sizes: Mutex::default(),
            accused: Mutex::default(),
        }))
    }

    /// Shows both logs' growth until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        loop {
            for which in [Which::Own, Which::Control] {
                if let Err(why) = self.round(which).await {
                    tracing::warn!(
                        log = which.words(),
                        why,
                        "a checkpoint has too few witnesses; it is shown again"
                    );
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    /// Shows every witness the newest checkpoint that both parties have signed, and keeps it if enough cosign it.
    async fn round(&self, which: Which) -> Result<(), String> {
        let Some((agreed, checkpoint)) = self.agreed(which)? else {
            return Ok(());
        };
        let path = which.witnessed(&self.places.own);
        if self.kept(&path).is_some_and(|kept| kept == checkpoint) {
            return Ok(());
        }
        let (mut note, mut troubles) = (agreed.clone(), Vec::new());
        for (at, witness) in self.reachable.iter().enumerate() {
            match self.ask(which, (at, witness), &agreed, &checkpoint).await {
                Ok(lines) => note.push_str(&lines),
                Err(Trouble::Failed(why)) => troubles.push(format!("{}: {why}", witness.name)),
                Err(Trouble::Contradiction(why)) => {
                    self.accuse(&why, &agreed).await?;
                    troubles.push(why);
                }
            }
        }
        match self.policy.check(&note) {
            Ok(_) => replace(&path, note.as_bytes()).map_err(|error| error.to_string()),
            Err(error) => Err(format!("{error}; {}", troubles.join("; "))),
        }
    }

    /// What both parties have signed last, if the policy is about this log at all.
    fn agreed(&self, which: Which) -> Result<Option<(String, Checkpoint)>, String> {
        let kept = read_if_present(&which.agreed(&self.places.own), MAX_NOTE_BYTES as u64);
        let Some(bytes) = kept.map_err(|error| error.to_string())? else {
            return Ok(None);
        };
        let note = String::from_utf8(bytes).map_err(|error| error.to_string())?;
        let stated = Checkpoint::parse(&note).map_err(|error| error.to_string())?;
        let Some(known) = self
            .policy
            .logs()
            .iter()
            .find(|log| log.key.name() == stated.origin)
        else {
            return Ok(None);
        };
        let checkpoint = Checkpoint::verify(&note, &known.key).map_err(|error| error.to_string())?;
        Ok(Some((note, checkpoint)))
    }

    /// The newest checkpoint with a quorum.
    fn kept(&self, path: &Path) -> Option<Checkpoint> {
        let note = read_bounded(path, MAX_NOTE_BYTES as u64).ok()?;
        let vouched = self.policy.check(str::from_utf8(&note).ok()?).ok()?;
        Some(vouched.checkpoint)
    }

    /// Opens an incident, once for each contradiction.
    async fn accuse(&self, why: &str, note: &str) -> Result<(), String> {
        let known = self.accused.lock().map_or(true, |accused| accused.contains(why));
        if known {
            return Ok(());
        }
        tracing::error!(why, "a witness has seen another log");
        let mut event = Event::new(EventKind::IncidentOpened, Actor::System("gateway".to_owned()));
        event.reason = Some(why.chars().take(300).collect());
        let digest = Digest::of(note.as_bytes());
        event.digests.insert("checkpoint".to_owned(), digest);
        let draft = Draft {
            stream: Stream::System("gateway".to_owned()),
            phase: Phase::Fact,
            call: digest,
            event,
        };
        self.log.append(draft).await.map_err(|error| error.to_string())?;
        if let Ok(mut accused) = self.accused.lock() {
            accused.insert(why.to_owned());
        }
        Ok(())
    }
}
