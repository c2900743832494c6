//! The data directory before the parts start: folders with the right owners, tokens, and the lock that keeps
//! a second supervisor away.
//!
//! Folders of a part belong to its user, who may be taken over: so nothing in them is opened through a link,
//! and files are made beside and renamed into place.

use std::{
    fs::{DirBuilder, File, OpenOptions, Permissions},
    io::{ErrorKind, Read as _, Write as _},
    os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown, lchown,
    },
    path::{Path, PathBuf},
};

use clawstaff_api::nodes::NodeTokens;
use clawstaff_types::Digest;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};

use crate::{failure::Failure, place::Place};

/// The longest path to a data directory whose sockets still fit into a socket address (107 bytes).
const MAX_ROOT: usize = 90;

/// A user and a group by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Who runs what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owners {
    pub(super) runner: Owner,
    pub(super) control: Owner,
    pub(super) gateway: Owner,
}

/// Holds the data directory for one supervisor; freed when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "holding it open is what it is for")] File);

/// Makes everything ready for the parts.
pub(super) fn prepare(place: &Place, owners: &Owners) -> Result<Lock, Failure> {
    if place.root().as_os_str().len() > MAX_ROOT {
        let message = format!("the data directory's path is longer than {MAX_ROOT} bytes");
        return Err(Failure::usage(message)
            .hint("its sockets would not fit into a socket address; use a shorter path"));
    }
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let root = place.root();
    std::fs::create_dir_all(root).map_err(|error| cannot("make", root, &error))?;
    folder(root, 0o711, owners.runner)?;
    for owner in [owners.control, owners.gateway] {
        reachable(root, owner)?;
    }
    let lock = lock(&root.join("up.lock"))?;
    folders(place, owners)?;
    tokens(place, owners)?;
    Ok(lock)
}

fn folders(place: &Place, owners: &Owners) -> Result<(), Failure> {
    folder(&place.control(), 0o700, owners.control)?;
    folder(&place.gateway(), 0o700, owners.gateway)?;
    // Root's group, not the parts': the control plane must not reach the doors.
    let doors = Owner {
        uid: owners.gateway.uid,
        gid: owners.runner.gid,
    };
    folder(&place.doors(), 0o710, doors)?;
    folder(&place.runner(), 0o700, owners.runner)?;
    // Each part makes its own socket here; the sticky bit keeps them from each other's. Clients check who listens.
    let run = Owner {
        uid: owners.runner.uid,
        gid: owners.control.gid,
    };
    let mode = if owners.runner == owners.control {
        0o711
    } else {
        0o1771
    };
    folder(&place.run(), mode, run)
}

/// A folder with this mode and owner, whatever it was before; a link is refused.
fn folder(path: &Path, mode: u32, owner: Owner) -> Result<(), Failure> {
    let made = DirBuilder::new().mode(0o700).create(path);
    if let Err(error) = made
        && error.kind() != ErrorKind::AlreadyExists
    {
        return Err(cannot("make", path, &error));
    }
    let meta = std::fs::symlink_metadata(path).map_err(|error| cannot("look at", path, &error))?;
    if !meta.is_dir() {
        return Err(Failure::failed(format!("{} is not a folder", path.display())));
    }
    if (meta.uid(), meta.gid()) != (owner.uid, owner.gid) {
        lchown(path, Some(owner.uid), Some(owner.gid))
            .map_err(|error| cannot("change the owner of", path, &error))?;
    }
    if meta.mode() & 0o7777 != mode {
        std::fs::set_permissions(path, Permissions::from_mode(mode))
            .map_err(|error| cannot("change the mode of", path, &error))?;
    }
    Ok(())
}

/// The parts' own users must be able to get to the data directory.
fn reachable(root: &Path, owner: Owner) -> Result<(), Failure> {
    if owner.uid == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    let root = root
        .canonicalize()
        .map_err(|error| cannot("find", root, &error))?;
    for folder in root.ancestors() {
        let meta = std::fs::metadata(folder).map_err(|error| cannot("look at", folder, &error))?;
        let search = match (meta.uid() == owner.uid, meta.gid() == owner.gid) {
            (true, _) => 0o100,
            (false, true) => 0o010,
            (false, false) => 0o001,
        };
        if meta.mode() & search == 0 {
            let message = format!(
                "{} is closed to uid {}, which must get to the data below it",
                folder.display(),
                owner.uid
            );
            return Err(Failure::failed(message).hint(format!(
                "`chmod a+x {}`, or use another --data directory",
                folder.display()
            )));
        }
    }
    Ok(())
}

fn lock(path: &Path) -> Result<Lock, Failure> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| cannot("open", path, &error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let folder = path.parent().unwrap_or(path).display();
            let message = format!("`clawstaff up` runs already on {folder}");
            Err(
                Failure::new(crate::failure::Exit::Api(clawstaff_api::Code::Conflict), message)
                    .hint("stop the other one, or use another --data directory"),
            )
        }
        Err(error) => Err(cannot("lock", path, &error.into())),
    }
}

/// Node tokens: each node has its own, the control plane only their digests.
fn tokens(place: &Place, owners: &Owners) -> Result<(), Failure> {
    let gateway = token(&place.gateway().join("node.token"), owners.gateway)?;
    let runner = token(&place.runner().join("node.token"), owners.runner)?;
    let digests = NodeTokens {
        gateway: Digest::of(gateway.as_bytes()),
        runner: Digest::of(runner.as_bytes()),
    };
    let json = serde_json::to_vec(&digests)
        .map_err(|error| Failure::failed(format!("cannot write the tokens' digests: {error}")))?;
    put(&place.control().join("nodes.json"), &json, owners.control)
}

/// The token at `path`; a new one if there is none.
fn token(path: &Path, owner: Owner) -> Result<String, Failure> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path);
    match opened {
        Ok(file) => {
            let mut text = String::new();
            file.take(256)
                .read_to_string(&mut text)
                .map_err(|error| cannot("read", path, &error))?;
            Ok(text.trim().to_owned())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let text = random_hex(32)?;
            put(path, text.as_bytes(), owner)?;
            Ok(text)
        }
        Err(error) => Err(cannot("open", path, &error)),
    }
}

fn random_hex(bytes: usize) -> Result<String, Failure> {
    let mut random = vec![0_u8; bytes];
    let got = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| Failure::failed(format!("cannot get random bytes: {error}")))?;
    if got == bytes {
        Ok(hex::encode(random))
    } else {
        Err(Failure::failed("got too few random bytes"))
    }
}

/// Puts a file of mode 0600 at `path`, whole, in place of whatever is there.
pub(crate) fn put(path: &Path, bytes: &[u8], owner: Owner) -> Result<(), Failure> {
    let beside = beside(path)?;
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(bytes)?;
        if rustix::process::geteuid().is_root() {
            fchown(&file, Some(owner.uid), Some(owner.gid))?;
        }
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().map_err(|error| cannot("write", path, &error))
}

fn beside(path: &Path) -> Result<PathBuf, Failure> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", random_hex(8)?));
    Ok(path.with_file_name(name))
}

/// The processes' ids, for whoever wants to look; never through a link in the sockets' folder.
pub(super) fn put_pids(place: &Place, pids: &str) -> Result<(), Failure> {
    let own = Owner {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
    };
    put(&place.root().join("pids"), pids.as_bytes(), own)?;
    let (from, to) = (place.root().join("pids"), place.run().join("pids"));
    std::fs::rename(&from, &to).map_err(|error| cannot("write", &to, &error))
}

fn cannot(doing: &str, path: &Path, error: &std::io::Error) -> Failure {
    let failure = Failure::failed(format!("cannot {doing} {}: {error}", path.display()));
    match error.kind() {
        ErrorKind::PermissionDenied => {
            failure.hint("use a directory of your own with --data, or start it as root")
        }
        _ => failure,
    }
}
