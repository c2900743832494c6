//! What there is on this host that a cage could have left: counted before, and compared after.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Everything on the host that bears a name with `mark` in it, and how much else there is of each kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Census {
    pub(crate) mounts: usize,
    pub(crate) loop_devices: Vec<String>,
    pub(crate) cgroups: Vec<PathBuf>,
    pub(crate) processes: Vec<String>,
    pub(crate) descriptors: usize,
    pub(crate) files: Vec<PathBuf>,
}

impl Census {
    /// Looks for `mark` everywhere, and at every file below `dir` but templates and the built-in image.
    pub(crate) fn take(mark: &str, dir: &Path) -> Self {
        let text = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let has = |text: &str| text.contains(mark) || text.contains(&*dir.to_string_lossy());
        let loop_devices = entries(Path::new("/sys/block"))
            .into_iter()
            .map(|device| text(&device.join("loop/backing_file")))
            .filter(|file| has(file));
        let processes = entries(Path::new("/proc")).into_iter().filter_map(|process| {
            let command = fs::read(process.join("cmdline")).ok()?;
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            // One that has ended and waits for the machine's init to notice is not left behind by us.
            let stat = text(&process.join("stat"));
            let ended = stat
                .rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']));
            let own = process.file_name()? == &*std::process::id().to_string();
            (!own && !ended && (has(&command) || has(&text(&process.join("cgroup"))))).then_some(command)
        });
        let mut cgroups = Vec::new();
        walk(Path::new("/sys/fs/cgroup"), &mut |path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.contains(mark) && path.is_dir() {
                cgroups.push(path.to_owned());
            }
        });
        let mut files = Vec::new();
        for part in ["state/cages", "state/users", "state/images/oci", "storage/cages"] {
            walk(&dir.join(part), &mut |path| files.push(path.to_owned()));
        }
        Self {
            mounts: text(Path::new("/proc/self/mountinfo"))
                .lines()
                .filter(|line| has(line))
                .count(),
            loop_devices: loop_devices.collect(),
            cgroups,
            processes: processes.collect(),
            descriptors: entries(Path::new("/proc/self/fd")).len(),
            files,
        }
    }
}

fn walk(dir: &Path, visit: &mut impl FnMut(&Path)) {
    for path in entries(dir) {
        visit(&path);
        if fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
            walk(&path, visit);
        }
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect()
}
