//! What could be left of a cage on the host: mounts, loop devices, cgroups, processes, files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::id::CageId;

/// Everything on the host that still bears the cage's id.
pub(super) fn of(id: &CageId, searched: &[PathBuf]) -> Vec<String> {
    let mut found = Vec::new();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    found.extend(
        mounts
            .lines()
            .filter(|line| line.contains(id.as_str()))
            .map(|line| format!("mount {line}")),
    );
    for device in entries(Path::new("/sys/block")) {
        let file = fs::read_to_string(device.join("loop/backing_file")).unwrap_or_default();
        if file.contains(id.as_str()) {
            found.push(format!("loop device {}", file.trim()));
        }
    }
    for process in entries(Path::new("/proc")) {
        let cgroup = fs::read_to_string(process.join("cgroup")).unwrap_or_default();
        let command = fs::read(process.join("cmdline")).unwrap_or_default();
        let named = String::from_utf8_lossy(&command).contains(id.as_str());
        if process.join("stat").exists() && (named || cgroup.contains(id.as_str())) {
            found.push(format!("process {}", process.display()));
        }
    }
    walk(Path::new("/sys/fs/cgroup"), id, &mut found);
    for root in searched {
        walk(root, id, &mut found);
    }
    found
}

fn walk(root: &Path, id: &CageId, found: &mut Vec<String>) {
    let mut todo = vec![root.to_owned()];
    while let Some(dir) = todo.pop() {
        for path in entries(&dir) {
            if path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().contains(id.as_str()))
            {
                found.push(path.display().to_string());
            } else if fs::symlink_metadata(&path).is_ok_and(|kind| kind.is_dir()) {
                todo.push(path);
            }
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
