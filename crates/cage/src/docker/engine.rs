//! Which engine it is behind the socket, and what each wants differently.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use bollard::models::SystemVersion;

use crate::seccomp;

/// Who answers at the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A Docker Engine, or what passes for one.
    Docker,
    /// Podman's service.
    Podman,
}

/// What differs between engines in a container's description.
#[derive(Debug, Clone)]
pub(super) struct Dialect {
    /// The system-call filter as the engine takes it.
    pub(super) filter: String,
    /// Whether it takes a number of files for a tmpfs.
    pub(super) counts_files: bool,
    /// Places that the engine would otherwise make writable.
    pub(super) closed: &'static [&'static str],
    /// Whether it takes the list of what is masked as an option of its own.
    pub(super) masks_by_option: bool,
    /// The most processes of one user, where the engine would otherwise ask for more than it may have itself.
    pub(super) processes: Option<i64>,
}

impl Kind {
    pub(super) fn of(version: &SystemVersion) -> Self {
        let components = version.components.iter().flatten();
        let mut names = components.map(|component| component.name.as_str());
        if names.any(|name| name.starts_with("Podman")) {
            Self::Podman
        } else {
            Self::Docker
        }
    }
}

/// Whether Podman is about to clear up after the container: it then says a word that Docker's API does not have.
pub(super) fn is_clearing(error: &bollard::errors::Error) -> bool {
    matches!(error, bollard::errors::Error::JsonDataError { message, .. } if message.contains("`stopped`"))
}

impl Dialect {
    /// Docker takes the text of the filter, Podman the path of a file that has it.
    pub(super) fn of(kind: Kind, directory: Option<&Path>) -> io::Result<Self> {
        let text = seccomp::docker_profile().map_err(io::Error::other)?;
        Ok(match kind {
            Kind::Docker => Self {
                filter: text,
                counts_files: true,
                closed: &[],
                masks_by_option: false,
                processes: None,
            },
            Kind::Podman => Self {
                filter: as_file(directory, &text)?,
                counts_files: false,
                closed: &["/run", "/var/tmp"],
                masks_by_option: true,
                processes: Some(own_processes()),
            },
        })
    }
}

/// What this process may have, and no more than Podman lets itself have. The cgroup has the limit that counts.
fn own_processes() -> i64 {
    const PODMANS: i64 = 32_768;
    let own = rustix::process::getrlimit(rustix::process::Resource::Nproc).maximum;
    let own = own.and_then(|most| i64::try_from(most).ok());
    own.unwrap_or(PODMANS).min(PODMANS)
}

fn as_file(directory: Option<&Path>, text: &str) -> io::Result<String> {
    let missing = || io::Error::other("Podman wants it as a file: give the back end a directory");
    let path = written(directory.ok_or_else(missing)?, text)?;
    let path = path.into_os_string().into_string();
    path.map_err(|_| io::Error::other("the directory's name is no text"))
}

/// The file, whole under its name or not there.
fn written(directory: &Path, text: &str) -> io::Result<PathBuf> {
    let path = directory.join("seccomp.json");
    if fs::read_to_string(&path).is_ok_and(|found| found == text) {
        return Ok(path);
    }
    fs::create_dir_all(directory)?;
    let unfinished = directory.join(format!("seccomp.{:?}.next", std::thread::current().id()));
    fs::write(&unfinished, text)?;
    fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o644))?;
    fs::rename(unfinished, &path)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use bollard::models::SystemVersionComponents;

    use super::*;

    #[test]
    fn podman_is_known_by_its_component_and_gets_the_filter_as_a_file() {
        let podman = SystemVersion {
            components: Some(vec![SystemVersionComponents {
                name: "Podman Engine".to_owned(),
                ..SystemVersionComponents::default()
            }]),
            ..SystemVersion::default()
        };
        assert_eq!(Kind::of(&podman), Kind::Podman);
        assert_eq!(Kind::of(&SystemVersion::default()), Kind::Docker);
        let dir = tempfile::tempdir().unwrap();
        let path = Dialect::of(Kind::Podman, Some(dir.path())).unwrap().filter;
        let text = Dialect::of(Kind::Docker, None).unwrap().filter;
        assert_eq!(fs::read_to_string(path).unwrap(), text);
        assert!(Dialect::of(Kind::Podman, None).is_err());
    }
}
