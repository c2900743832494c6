//! Brings everything that the cage will mount within reach of a process that may reach nothing else of the host.
//!
//! As root, the init will be an unprivileged uid that cannot even walk to the state directory. So the shim first
//! takes a mount namespace of its own and binds the image, the storage and the door below a small tmpfs, and the
//! init, which inherits that tree and its working directory, finds them by relative paths. An ordinary user needs
//! none of this: the init is still that user. Either way the current directory becomes `<state>/stage`.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_change,
    unmount,
};

use crate::{
    args::{Data, Identity, Run},
    fault::{During, Fault, Result},
    loopdev, sys,
};

/// Longest wait for a storage image to be free of its last mount.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Where the init finds what it mounts, valid in the current directory.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(crate) image: PathBuf,
    pub(crate) data: PathBuf,
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

/// Undoes the mounts of [`prepare`] in this namespace, so that only the cage's own keeps the storage.
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
        data: data.clone(),
        door: run.door.clone(),
        etc: run.etc.clone(),
    })
}

fn bind_sources(run: &Run) -> Result<Sources> {
    let sources = Sources {
        image: "image".into(),
        data: "data".into(),
        door: "door".into(),
        etc: "etc".into(),
    };
    for place in [&sources.image, &sources.data, &sources.door, &sources.etc] {
        make_dir(place)?;
    }
    mount_bind_recursive(&run.image, &sources.image).during("bind the image")?;
    mount_bind(&run.door, &sources.door).during("bind the door")?;
    mount_bind(&run.etc, &sources.etc).during("bind the cage's own files")?;
    match &run.data {
        Data::Directory(data) => mount_bind(data, &sources.data).during("bind the storage")?,
        Data::Image(image) => mount_image(image, &sources.data, run.identity)?,
    }
    Ok(sources)
}

/// Mounts the ext4 image and binds its `data` directory, which belongs to the cage, at `place`.
fn mount_image(image: &Path, place: &Path, identity: Identity) -> Result<()> {
    loopdev::wait_detached(image, PATIENCE)?;
    let (_keep, device) = loopdev::attach(image)?;
    make_dir(Path::new("disk"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
    mount(&device, "disk", "ext4", flags, None).during("mount the storage image")?;
    let data = Path::new("disk/data");
    if !data.exists() {
        make_dir(data)?;
        chown(data, Some(identity.outside), Some(identity.outside_group))
            .during("give the storage to the cage")?;
        fs::set_permissions(data, Permissions::from_mode(0o700)).during("close the storage to others")?;
    }
    mount_bind(data, place).during("bind the storage")?;
    unmount("disk", UnmountFlags::DETACH).during("unmount the storage image")
}

pub(crate) fn make_dir(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(error).during(&format!("make the directory {}", path.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
