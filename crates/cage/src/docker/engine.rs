//! Which engine it is behind the socket, and what each wants differently.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use bollard::models::{SystemInfo, SystemVersion};

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
    /// What runs the container, if not what the engine usually takes.
    pub(super) runtime: Option<String>,
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

/// Whether the engine has this runtime; if not, what it has and what helps.
pub(super) fn has_runtime(info: &SystemInfo, runtime: Option<&str>) -> Result<(), String> {
    let Some(wanted) = runtime else {
        return Ok(());
    };
    let known = runtimes(info);
    if known.iter().any(|name| name == wanted) {
        return Ok(());
    }
    Err(format!(
        "the engine has no runtime `{wanted}`, but {}: install it and name it in the engine's own configuration \
         (`runtimes`), or start the runner without `--runtime`",
        listed(&known)
    ))
}

fn runtimes(info: &SystemInfo) -> Vec<String> {
    let mut names: Vec<String> = info.runtimes.iter().flat_map(|all| all.keys().cloned()).collect();
    names.sort();
    names
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        "names none".to_owned()
    } else {
        names.join(", ")
    }
}

/// Whether the engine itself has no more rights than an ordinary user.
pub(super) fn is_rootless(info: &SystemInfo) -> bool {
    let options = info.security_options.iter().flatten();
    options
        .flat_map(|option| option.split(','))
        .any(|part| part == "name=rootless" || part == "rootless")
}

/// Who answers, and what it can run containers with.
pub(super) fn notes(kind: Kind, info: &SystemInfo, runtime: Option<&str>) -> Vec<(&'static str, String)> {
    let name = match kind {
        Kind::Docker => "Docker",
        Kind::Podman => "Podman",
    };
    let rights = if is_rootless(info) { "rootless" } else { "as root" };
    let cgroups = info
        .cgroup_version
        .map_or_else(|| "?".to_owned(), |version| version.to_string());
    let version = info.server_version.as_deref().unwrap_or("?");
    let used = runtime.or(info.default_runtime.as_deref()).unwrap_or("?");
    let lacking = match has_runtime(info, runtime) {
        Ok(()) => "",
        Err(_) => ", which it does not have: no cage will start",
    };
    vec![
        ("engine", format!("{name} {version}, {rights}, cgroup v{cgroups}")),
        (
            "runtimes",
            format!("{}; used: {used}{lacking}", listed(&runtimes(info))),
        ),
    ]
}

/// Whether Podman is about to clear up after the container: it then says a word that Docker's API does not have.
pub(super) fn is_clearing(error: &bollard::errors::Error) -> bool {
    matches!(error, bollard::errors::Error::JsonDataError { message, .. } if message.contains("`stopped`"))
}

impl Dialect {
    /// Docker takes the text of the filter, Podman the path of a file that has it.
    pub(super) fn of(kind: Kind, directory: Option<&Path>, runtime: Option<String>) -> io::Result<Self> {
        let text = seccomp::docker_profile().map_err(io::Error::other)?;
        Ok(match kind {
            Kind::Docker => Self {
                filter: text,
                runtime,
                counts_files: true,
                closed: &[],
                masks_by_option: false,
                processes: None,
            },
            Kind::Podman => Self {
                filter: as_file(directory, &text)?,
                runtime,
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
    use bollard::models::{Runtime, SystemVersionComponents};

    use super::*;

    #[test]
    fn a_runtime_that_the_engine_lacks_is_refused_with_what_it_has() {
        let info = SystemInfo {
            runtimes: Some(
                [
                    ("runc".to_owned(), Runtime::default()),
                    ("runsc".to_owned(), Runtime::default()),
                ]
                .into(),
            ),
            security_options: Some(vec![
                "name=seccomp,profile=default".to_owned(),
                "name=rootless".to_owned(),
            ]),
            ..SystemInfo::default()
        };
        assert_eq!(has_runtime(&info, None), Ok(()));
        assert_eq!(has_runtime(&info, Some("runsc")), Ok(()));
        let why = has_runtime(&info, Some("kata")).unwrap_err();
        assert!(why.contains("`kata`") && why.contains("runc, runsc"), "{why}");
        assert!(is_rootless(&info) && !is_rootless(&SystemInfo::default()));
        assert!(notes(Kind::Docker, &info, None)[0].1.contains("rootless"));
    }

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
        let path = Dialect::of(Kind::Podman, Some(dir.path()), None).unwrap().filter;
        let text = Dialect::of(Kind::Docker, None, None).unwrap().filter;
        assert_eq!(fs::read_to_string(path).unwrap(), text);
        assert!(Dialect::of(Kind::Podman, None, None).is_err());
    }
}
