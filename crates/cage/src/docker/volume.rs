//! Where `/data` lives: in a file system of fixed size that we mount for the engine to bind, or in a volume of the
//! engine, which has no size.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::SystemTime,
};

use bollard::{models::SystemInfo, query_parameters::RemoveVolumeOptions};
use rustix::mount::{UnmountFlags, unmount};

use super::{container::volume_name, engine::is_rootless, forgive, tools};
use crate::{
    CAGE_UID,
    capability::Enforcement,
    id::CageId,
    snapshot::{Shelf, Snapshot, SnapshotName, Source},
    spec::CageSpec,
    storage,
};

/// The cages' storage.
#[derive(Debug, Clone)]
pub(super) struct Volumes {
    /// Below it, for each cage, `<id>/storage.img` mounted on `<id>/disk`; the cage gets `<id>/disk/data`, which
    /// exists only while it is mounted.
    directory: Option<PathBuf>,
    /// The host's user that is a container's root, which `userns-remap` shifts.
    first_user: u32,
    enforcement: Enforcement,
}

impl Volumes {
    /// Volumes of the engine.
    pub(super) fn of_the_engine() -> Self {
        let enforcement = Enforcement::missing(
            "volumes of the engine have no size",
            "give the back end a directory of this machine for storage",
        );
        Self {
            directory: None,
            first_user: 0,
            enforcement,
        }
    }

    /// File systems of our own, if we may.
    pub(super) fn at(directory: PathBuf, info: &SystemInfo) -> Self {
        if !rustix::process::geteuid().is_root() {
            let why = "an ordinary user cannot mount a file system of a fixed size";
            return Self {
                enforcement: Enforcement::missing(why, "start the runner as root"),
                ..Self::of_the_engine()
            };
        }
        if is_rootless(info) {
            let why = "a rootless engine does not see the file systems that we mount, and shifts users";
            let remedy = "use an engine that runs as root, or the native back end";
            return Self {
                enforcement: Enforcement::missing(why, remedy),
                ..Self::of_the_engine()
            };
        }
        match tools() {
            Enforcement::Enforced => Self {
                directory: Some(directory),
                first_user: first_user(info.docker_root_dir.as_deref().unwrap_or_default()),
                enforcement: Enforcement::Enforced,
            },
            missing @ Enforcement::NotEnforced { .. } => Self {
                enforcement: missing,
                ..Self::of_the_engine()
            },
        }
    }

    pub(super) fn enforcement(&self) -> Enforcement {
        self.enforcement.clone()
    }

    fn place(&self, id: &CageId) -> Option<PathBuf> {
        self.directory
            .as_ref()
            .map(|directory| directory.join("cages").join(id.as_str()))
    }

    /// The directory to bind at `/data`.
    pub(super) fn data_of(&self, id: &CageId) -> Option<PathBuf> {
        self.place(id).map(|place| place.join("disk/data"))
    }

    /// Cages that have storage here, with or without a container.
    pub(super) fn list(&self) -> Vec<CageId> {
        let Some(directory) = &self.directory else {
            return Vec::new();
        };
        let entries = fs::read_dir(directory.join("cages"))
            .into_iter()
            .flatten()
            .flatten();
        entries
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect()
    }

    /// Makes the cage's storage and mounts it; the engine wants to see what it will bind. `user` is the cage's, as
    /// it sees itself.
    pub(super) async fn make(&self, spec: &CageSpec, user: u32) -> io::Result<()> {
        let (Some(place), Some(directory)) = (self.place(&spec.id), self.directory.clone()) else {
            return Ok(());
        };
        let bytes = spec.limits.storage.0;
        off_thread(move || make_image(&directory.join("templates"), &place, bytes)).await?;
        self.mount(&spec.id, user).await
    }

    /// Whose `/data` is, as the cage sees its users; where the engine keeps it, nobody can say.
    pub(super) fn owner(&self, id: &CageId) -> Option<u32> {
        let found = fs::symlink_metadata(self.data_of(id)?).ok()?;
        found.uid().checked_sub(self.first_user)
    }

    /// Mounts the cage's storage if it is not mounted.
    pub(super) async fn attach(&self, id: &CageId) -> io::Result<()> {
        self.mount(id, CAGE_UID).await
    }

    async fn mount(&self, id: &CageId, user: u32) -> io::Result<()> {
        let Some(place) = self.place(id) else {
            return Ok(());
        };
        let user = self.first_user.saturating_add(user);
        off_thread(move || attach(&place, user)).await
    }

    /// Unmounts it.
    pub(super) async fn detach(&self, id: &CageId) -> io::Result<()> {
        let Some(place) = self.place(id) else {
            return Ok(());
        };
        off_thread(move || detach(&place)).await
    }

    /// Removes it for good.
    pub(super) async fn remove(
        &self,
        engine: &bollard::Docker,
        owner: &str,
        id: &CageId,
    ) -> Result<(), String> {
        if let Some(place) = self.place(id) {
            let all = move || {
                detach(&place)?;
                if place.exists() {
                    fs::remove_dir_all(&place)
                } else {
                    Ok(())
                }
            };
            return off_thread(all).await.map_err(|error| error.to_string());
        }
        let removed = engine
            .remove_volume(&volume_name(owner, id), None::<RemoveVolumeOptions>)
            .await;
        forgive(removed, &[404]).map_err(|error| error.to_string())
    }

    /// Copies the cage's storage, to which nobody writes meanwhile.
    pub(super) async fn snapshot(&self, id: &CageId) -> io::Result<Snapshot> {
        let place = self.own_place(id)?;
        let work = move || {
            if is_mounted(&place) {
                rustix::fs::syncfs(fs::File::open(place.join("disk"))?)?;
            }
            let image = place.join("storage.img");
            Shelf::of(&place).take(Source::Image(&image), SystemTime::now())
        };
        off_thread(work).await
    }

    pub(super) async fn snapshots(&self, id: &CageId) -> io::Result<Vec<Snapshot>> {
        let place = self.own_place(id)?;
        off_thread(move || Shelf::of(&place).list()).await
    }

    /// Makes the storage what a snapshot is. Nobody uses it.
    pub(super) async fn restore(&self, id: &CageId, name: SnapshotName) -> io::Result<()> {
        let place = self.own_place(id)?;
        let work = move || {
            detach(&place)?;
            Shelf::of(&place).put_back(&name, Source::Image(&place.join("storage.img")))
        };
        off_thread(work).await
    }

    pub(super) async fn forget_snapshot(&self, id: &CageId, name: SnapshotName) -> io::Result<()> {
        let place = self.own_place(id)?;
        off_thread(move || Shelf::of(&place).remove(&name)).await
    }

    fn own_place(&self, id: &CageId) -> io::Result<PathBuf> {
        self.place(id).ok_or_else(|| {
            io::Error::other(
                "its storage is a volume of the engine, which has no snapshots; run the runner as root",
            )
        })
    }

    /// Bytes in use; 0 where the engine keeps them and does not say.
    pub(super) fn used(&self, id: &CageId) -> u64 {
        let Some(place) = self.place(id) else {
            return 0;
        };
        if is_mounted(&place) {
            let found = rustix::fs::statvfs(place.join("disk"));
            return found.map_or(0, |disk| {
                disk.f_blocks
                    .saturating_sub(disk.f_bfree)
                    .saturating_mul(disk.f_frsize)
            });
        }
        place
            .join("storage.img")
            .metadata()
            .map_or(0, |found| found.blocks() * 512)
    }
}

/// First host user of a remapped engine, from the name that it gives its directory: `…/100000.100000`.
fn first_user(engine_dir: &str) -> u32 {
    let last = engine_dir.rsplit('/').next().unwrap_or_default();
    last.split_once('.')
        .and_then(|(user, _)| user.parse().ok())
        .unwrap_or(0)
}

async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}

fn make_image(templates: &Path, place: &Path, bytes: u64) -> io::Result<()> {
    let image = place.join("storage.img");
    match image.metadata() {
        Ok(found) if found.len() == bytes => return Ok(()),
        Ok(_) => {
            return Err(io::Error::other(
                "`limits.storage` cannot change while the cage exists; destroy it first",
            ));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    fs::create_dir_all(place.join("disk"))?;
    let unfinished = place.join("storage.next");
    storage::make_image(templates, &unfinished, bytes)?;
    fs::rename(unfinished, image)
}

/// Something else than its parent directory is mounted on `disk`.
fn is_mounted(place: &Path) -> bool {
    let device = |path: &Path| path.metadata().map(|found| found.dev()).ok();
    let (disk, parent) = (device(&place.join("disk")), device(place));
    disk.is_some() && disk != parent
}

fn attach(place: &Path, user: u32) -> io::Result<()> {
    let disk = place.join("disk");
    if !is_mounted(place) {
        let mount =
            storage::host_program("mount").ok_or_else(|| io::Error::other("mount is not installed"))?;
        let output = Command::new(mount)
            .args(["-t", "ext4", "-o", "loop,nosuid,nodev,noatime"])
            .arg(place.join("storage.img"))
            .arg(&disk)
            .env_clear()
            .stdin(Stdio::null())
            .output()?;
        if !output.status.success() {
            return Err(io::Error::other(
                String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            ));
        }
    }
    let data = disk.join("data");
    if !data.exists() {
        fs::create_dir(&data)?;
        chown(&data, Some(user), Some(user))?;
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

fn detach(place: &Path) -> io::Result<()> {
    if is_mounted(place) {
        unmount(place.join("disk"), UnmountFlags::empty())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::first_user;

    #[test]
    fn a_remapped_engine_shows_its_first_user_in_its_directory() {
        assert_eq!(first_user("/var/lib/docker/100000.100000"), 100_000);
        assert_eq!(first_user("/var/lib/docker"), 0);
        assert_eq!(first_user("/home/a.b/docker"), 0);
        assert_eq!(first_user(""), 0);
    }
}
