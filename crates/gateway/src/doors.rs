//! doors: one directory per cage, made here and mounted read-only at `/claw`: socket, authority, files.
//!
//! Level-triggered: [`reconcile`] makes the doors what the state in force says, as often as it is called. A
//! directory that exists is kept (a running cage has it mounted); what is in it is replaced whole.

mod files;

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
};

use clawstaff_api::{local, nodes::GatewayClaw};
use clawstaff_types::ClawName;
use tokio::{net::UnixListener, sync::Mutex};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::files::Files;
use crate::{
    accept::{self, Cage},
    commit::CommitError,
    mcp::Mcp,
    settle::chain,
    shared::Gateway,
    state::State,
    tls::TlsError,
};

/// The doors that are open.
#[derive(Debug, Default)]
pub(crate) struct Doors {
    open: std::sync::Mutex<HashMap<ClawName, OpenDoor>>,
    turn: Mutex<()>,
}

#[derive(Debug)]
struct OpenDoor {
    dir: PathBuf,
    cage: String,
    revision: u32,
    gateway_revision: u64,
    files: Files,
    _listening: DropGuard,
}

/// A door could not be opened; it is tried again with the next state or by [`Gateway::retry_doors`].
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// The file system refused.
    #[error("`{path}`: {source}", path = .path.display())]
    File {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The Claw's instructions cannot be opened.
    #[error("the instructions cannot be opened: {0}")]
    Instructions(#[from] clawstaff_vault::seal::UnsealError),
    /// The cage's certificate authority.
    #[error("the cage's certificate authority: {0}")]
    Authority(String),
    /// The Claw's commitment key.
    #[error("the Claw's commitment key: {0}")]
    Key(String),
}

impl From<TlsError> for DoorError {
    fn from(error: TlsError) -> Self {
        Self::Authority(chain(&error))
    }
}

impl From<CommitError> for DoorError {
    fn from(error: CommitError) -> Self {
        Self::Key(chain(&error))
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> DoorError {
    let path = path.to_owned();
    move |source| DoorError::File { path, source }
}

impl Gateway {
    /// The Claw's door, once it is open and describes the state in force.
    pub fn door(&self, claw: &ClawName) -> Option<local::Door> {
        let open = self.doors.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.get(claw).map(|door| local::Door {
            dir: door.dir.display().to_string(),
            revision: door.revision,
            gateway_revision: door.gateway_revision,
        })
    }

    /// Tries again to open the doors that could not be opened.
    pub async fn retry_doors(self: &Arc<Self>) {
        reconcile(self).await;
    }

    /// Closes all doors for the end of the process; the directories stay for the cages that have them mounted.
    pub fn shut_doors(&self) {
        self.doors
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

/// Makes the doors what the state in force says.
pub(crate) async fn reconcile(gateway: &Arc<Gateway>) {
    let _one_at_a_time = gateway.doors.turn.lock().await;
    let state = gateway.state.load_full();
    let wanted: HashSet<ClawName> = state.claw_names().cloned().collect();
    for claw in present(gateway) {
        if !wanted.contains(&claw) {
            close_door(gateway, &claw);
        }
    }
    for claw in wanted {
        if let Err(error) = open_door(gateway, &state, &claw) {
            tracing::error!(%claw, error = chain(&error), "a door could not be opened");
        }
    }
}

/// The Claws that have a door, open or left behind on disk.
fn present(gateway: &Gateway) -> HashSet<ClawName> {
    let open = gateway.doors.open.lock().unwrap_or_else(PoisonError::into_inner);
    let mut present: HashSet<ClawName> = open.keys().cloned().collect();
    drop(open);
    let on_disk = fs::read_dir(&gateway.doors_dir).into_iter().flatten().flatten();
    present.extend(on_disk.filter_map(|entry| entry.file_name().to_str()?.parse().ok()));
    present
}

/// Opens the door of `claw`, or brings an open one up to date.
fn open_door(gateway: &Arc<Gateway>, state: &State, claw: &ClawName) -> Result<(), DoorError> {
    let Some(known) = state.claw(claw) else {
        return Ok(());
    };
    let dir = gateway.doors_dir.join(claw.as_str());
    if is_of_another_cage(gateway, known) {
        close_door(gateway, claw);
    }
    let files = Files::of(gateway, state, known)?;
    let mut open = gateway.doors.open.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(door) = open.get_mut(claw) {
        files.write(&dir, Some(&door.files))?;
        door.revision = known.revision;
        door.gateway_revision = state.revision();
        door.files = files;
        return Ok(());
    }
    make_dir(&gateway.doors_dir, 0o710)?;
    make_dir(&dir, 0o711)?;
    files.write(&dir, None)?;
    let listening = listen(gateway, known, &dir)?;
    let door = OpenDoor {
        dir,
        cage: known.cage.clone(),
        revision: known.revision,
        gateway_revision: state.revision(),
        files,
        _listening: listening,
    };
    open.insert(claw.clone(), door);
    Ok(())
}

/// Whether the open door was made for a cage that is no more.
fn is_of_another_cage(gateway: &Gateway, known: &GatewayClaw) -> bool {
    let open = gateway.doors.open.lock().unwrap_or_else(PoisonError::into_inner);
    open.get(&known.spec.name)
        .is_some_and(|door| door.cage != known.cage)
}

/// Binds the socket under a temporary name and puts it in place, so that a cage that runs never finds none.
fn listen(gateway: &Arc<Gateway>, known: &GatewayClaw, dir: &Path) -> Result<DropGuard, DoorError> {
    let (fresh, socket) = (dir.join(".door.sock"), dir.join("door.sock"));
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&fresh)(error)),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&fresh).map_err(at(&fresh))?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o666)).map_err(at(&fresh))?;
    fs::rename(&fresh, &socket).map_err(at(&socket))?;
    let stop = CancellationToken::new();
    let claw = known.spec.name.clone();
    let cage = Arc::new(Cage {
        mcp: Mcp::new(gateway, &claw, stop.child_token()),
        gateway: Arc::clone(gateway),
        claw,
    });
    tokio::spawn(accept::listen(cage, listener, stop.clone()));
    Ok(stop.drop_guard())
}

fn make_dir(dir: &Path, mode: u32) -> Result<(), DoorError> {
    match fs::create_dir(dir) {
        Ok(()) => fs::set_permissions(dir, fs::Permissions::from_mode(mode)).map_err(at(dir)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(at(dir)(error)),
    }
}

/// Closes the door of a Claw that is gone, with everything that was made for it.
fn close_door(gateway: &Gateway, claw: &ClawName) {
    let mut open = gateway.doors.open.lock().unwrap_or_else(PoisonError::into_inner);
    drop(open.remove(claw));
    drop(open);
    let dir = gateway.doors_dir.join(claw.as_str());
    if let Err(error) = fs::remove_dir_all(&dir)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%claw, %error, "removing a door");
    }
    gateway.authorities.forget(claw);
    gateway.budgets.forget(claw);
    gateway.servers.forget(claw);
    gateway.limits.forget(claw);
    gateway.ready.forget(claw);
}
