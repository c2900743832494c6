//! From a signed state to the state in force: verified, newer, compiled whole, kept; or refused with a reason.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use clawstaff_api::nodes::Signed;
use clawstaff_types::{
    Guardrail,
    spec::{Connection, CredentialRef},
};
use tokio::sync::watch;

use super::{Node, NodeEnd, Paths, guardrails, trust::StateKey};

/// The longest state that is kept and read back.
const MAX_STATE: u64 = 64 << 20;

/// What the status report says about states and messages.
#[derive(Debug)]
pub(super) struct States {
    pub(super) guardrails: Vec<Guardrail>,
    /// Why the newest state was refused, if it was.
    refused: Mutex<Option<String>>,
    /// Ids of messages of the state in force that are in an inbox, durably.
    pub(super) taken: Mutex<BTreeSet<String>>,
    /// Ids of messages that can never be delivered, so that this is recorded once.
    pub(super) hopeless: Mutex<BTreeSet<String>>,
    changed: watch::Sender<u64>,
}

impl States {
    pub(super) fn new(guardrails: Vec<Guardrail>) -> Self {
        Self {
            guardrails,
            refused: Mutex::default(),
            taken: Mutex::default(),
            hopeless: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }

    /// Changes when there is something new to report.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(super) fn touch(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(super) fn refused(&self) -> Option<String> {
        self.refused
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set_refused(&self, why: Option<String>) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = why;
        self.touch();
    }
}

impl Node {
    /// Puts the last good state in force, if there is one that still holds.
    pub(super) async fn restore(&self) {
        let kept = match crate::inbox::read_bounded(&self.paths.state, MAX_STATE) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => return tracing::error!(%error, "the last good state cannot be read"),
        };
        let restored = match serde_json::from_slice::<Signed>(&kept) {
            Ok(signed) => match StateKey::pinned(&self.paths.state_key) {
                Ok(Some(key)) => self.put_in_force(&signed, &key).await,
                Ok(None) => Err("no control plane's key is pinned".to_owned()),
                Err(error) => Err(error.to_string()),
            },
            Err(error) => Err(error.to_string()),
        };
        match restored {
            Ok(()) => tracing::info!(revision = self.revision(), "the last good state is in force"),
            Err(why) => tracing::error!(
                why,
                "the last good state does not hold; everything is denied until a new one comes"
            ),
        }
    }

    /// Takes a state that the control plane sent: in force and kept, or refused and reported.
    pub(super) async fn take(&self, signed: &Signed, key: &StateKey) -> Result<(), NodeEnd> {
        match self.put_in_force(signed, key).await {
            Ok(()) => {
                self.keep(signed);
                self.states.set_refused(None);
                tracing::info!(revision = self.revision(), "a new state is in force");
                self.needs_restart()
                    .map_or(Ok(()), |path| Err(NodeEnd::MustRestart(path)))
            }
            Err(why) => {
                tracing::error!(
                    why,
                    in_force = self.revision(),
                    "a state is refused; the last good one stays in force"
                );
                self.states.set_refused(Some(why.chars().take(300).collect()));
                Ok(())
            }
        }
    }

    /// The revision in force.
    pub(super) fn revision(&self) -> u64 {
        self.gateway.state.load().revision()
    }

    async fn put_in_force(&self, signed: &Signed, key: &StateKey) -> Result<(), String> {
        let mut wanted = key.open(signed).map_err(|e| e.to_string())?;
        if wanted.node != self.paths.node {
            return Err(format!(
                "the state is for node `{}`, and this is `{}`",
                wanted.node, self.paths.node
            ));
        }
        if wanted.revision <= self.revision() {
            return Err(format!(
                "state revision {} is not above {}, the one in force",
                wanted.revision,
                self.revision()
            ));
        }
        guardrails::merge(&mut wanted, &self.states.guardrails)?;
        let claws = wanted.claws.iter().map(|claw| claw.spec.name.clone()).collect();
        self.gateway.adopt(wanted).await.map_err(|e| e.to_string())?;
        if let Err(error) = self.gateway.inbox.retain(&claws) {
            tracing::error!(%error, "the inbox of a Claw that is gone cannot be removed");
        }
        Ok(())
    }

    fn keep(&self, signed: &Signed) {
        let kept = serde_json::to_vec(signed)
            .map_err(std::io::Error::other)
            .and_then(|bytes| crate::inbox::replace(&self.paths.state, &bytes));
        if let Err(error) = kept {
            tracing::error!(%error, "the state cannot be kept; after a restart an older one will be in force at first");
        }
    }

    /// A credential file that exists but lies where this process may not read any more.
    fn needs_restart(&self) -> Option<PathBuf> {
        let state = self.gateway.state.load();
        let files = credential_files(&state.raw().connections);
        let mut files = files.into_iter();
        files.find(|path| {
            place_of(path, &self.paths.data).is_some() && path.exists() && !self.confinement.can_read(path)
        })
    }
}

/// The directories of the credential files that the last good state names.
pub(crate) fn places_of_credentials(paths: &Paths) -> Vec<PathBuf> {
    let kept = crate::inbox::read_bounded(&paths.state, MAX_STATE).ok();
    let signed: Option<Signed> = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let key = StateKey::pinned(&paths.state_key).ok().flatten();
    let state = key.zip(signed).and_then(|(key, signed)| key.open(&signed).ok());
    let files = state
        .map(|state| credential_files(&state.connections))
        .unwrap_or_default();
    files
        .iter()
        .filter_map(|file| place_of(file, &paths.data))
        .collect()
}

/// What must be readable for a credential file: its directory, since such a file is replaced by renaming a new one
/// over it. `None` where that would open up the installation's own files.
fn place_of(file: &Path, data: &Path) -> Option<PathBuf> {
    let dir = file.parent()?;
    (!dir.starts_with(data) && !data.starts_with(dir)).then(|| dir.to_owned())
}

/// The files that connections name as the place of a credential.
fn credential_files(connections: &[Connection]) -> Vec<PathBuf> {
    let references = connections
        .iter()
        .flat_map(|c| c.signing_secret.iter().chain([&c.credential]));
    references
        .filter_map(|reference| match reference {
            CredentialRef::File(path) => Some(PathBuf::from(path)),
            CredentialRef::Vault(_)
            | CredentialRef::Env(_)
            | CredentialRef::Exec(_)
            | CredentialRef::Bao(_)
            | CredentialRef::Kubernetes(_) => None,
        })
        .collect()
}
