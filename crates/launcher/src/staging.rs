//! Brings everything that the cage will mount within reach of a process that may reach nothing else of the host.
//!
//! As root, the init will be an unprivileged uid that cannot even walk to the state directory. So the launcher first
//! takes a mount namespace of its own and binds the image and the door below a small tmpfs, and the init, which inherits
//! that tree and its working directory, finds them by relative paths; the storage follows, while the init makes the
//! rest, as a mount in a descriptor. An ordinary user needs none of this: the init is still that user. Either way the
//! current directory becomes `<state>/stage`.

use std::{
    fs::{self, Permissions},
    os::{
        fd::OwnedFd,
        unix::fs::{PermissionsExt, chown},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    fs::CWD,
    mount::{
        MountFlags, MountPropagationFlags, OpenTreeFlags, UnmountFlags, mount, mount_bind,
        mount_bind_recursive, mount_change, open_tree, unmount,
    },
};

use crate::{
    args::{Data, Identity, Run},
    fault::{During, Fault, Result},
    loopdev, sys,
};

/// Longest wait for a storage image to be free of its last mount.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// How the init comes by `/data`.
#[derive(Debug)]
pub(crate) enum Storage {
    /// It is at this path.
    At(PathBuf),
    /// The launcher hands it over.
    Handed,
}

/// Where the init finds what it mounts, valid in the current directory.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(crate) image: PathBuf,
    pub(crate) data: Storage,
    pub(crate) door: PathBuf,
    pub(crate) etc: PathBuf,
}

/// Stages the cage; `privileged` says whether this is the host's root.
pub(crate) fn prepare(run: &Run, privileged: bool) -> Result<Sources> {
    let stage = run.state.join("stage");
    if privileged {
        take_namespace(&stage)?;
    }
    std::env::set_current_dir(&stage).during("enter the stage directory")?;
    make_dir(Path::new("root"))?;
    if privileged {
        bind_sources(run)
    } else {
        own_sources(run)
    }
}

/// Undoes the mounts of [`prepare`] in this namespace.
pub(crate) fn dismantle(run: &Run) -> Result<()> {
    std::env::set_current_dir("/").during("leave the stage directory")?;
    unmount(run.state.join("stage"), UnmountFlags::DETACH).during("unmount the stage")
}

fn take_namespace(stage: &Path) -> Result<()> {
    sys::unshare(libc::CLONE_NEWNS).during("make a mount namespace")?;
    // Downstream, not private: what the host unmounts later goes here too, instead of staying busy.
    mount_change(
        "/",
        MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
    )
    .during("detach the mount namespace")?;
    let options = c"mode=755,size=64k,nr_inodes=64";
    mount(
        "stage",
        stage,
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        options,
    )
    .during("mount the stage")
}

fn own_sources(run: &Run) -> Result<Sources> {
    let Data::Directory(data) = &run.data else {
        return Err(Fault::new("cannot mount a storage image: that needs root"));
    };
    Ok(Sources {
        image: run.image.clone(),
        data: Storage::At(data.clone()),
        door: run.door.clone(),
        etc: run.etc.clone(),
    })
}

fn bind_sources(run: &Run) -> Result<Sources> {
    let sources = Sources {
        image: "image".into(),
        data: Storage::Handed,
        door: "door".into(),
        etc: "etc".into(),
    };
    for place in [&sources.image, &sources.door, &sources.etc] {
        make_dir(place)?;
    }
    mount_bind_recursive(&run.image, &sources.image).during("bind the image")?;
    mount_bind(&run.door, &sources.door).during("bind the door")?;
    mount_bind(&run.etc, &sources.etc).during("bind the cage's own files")?;
    Ok(sources)
}

/// Mounts the storage and takes it out of every namespace: the descriptor alone holds it.
pub(crate) fn storage(run: &Run) -> Result<OwnedFd> {
    match &run.data {
        Data::Directory(data) => detached(data),
        Data::Image(image) => mount_image(image, run),
    }
}

fn detached(place: &Path) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(CWD, place, flags).during("take the storage")
}

/// Mounts the ext4 image; of it the cage gets the directory `data`, which belongs to it.
fn mount_image(image: &Path, run: &Run) -> Result<OwnedFd> {
    loopdev::wait_detached(image, &run.state, PATIENCE)?;
    let (_keep, device) = loopdev::attach(image, &run.state)?;
    make_dir(Path::new("disk"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
    mount(&device, "disk", "ext4", flags, None).during("mount the storage image")?;
    let data = Path::new("disk/data");
    if !data.exists() {
        make_dir(data)?;
        let Identity {
            outside,
            outside_group,
            ..
        } = run.identity;
        chown(data, Some(outside), Some(outside_group)).during("give the storage to the cage")?;
        fs::set_permissions(data, Permissions::from_mode(0o700)).during("close the storage to others")?;
    }
    let storage = detached(data)?;
    unmount("disk", UnmountFlags::DETACH).during("unmount the storage image")?;
    Ok(storage)
}

pub(crate) fn make_dir(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(error).during(&format!("make the directory {}", path.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
