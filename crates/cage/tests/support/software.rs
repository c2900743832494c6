//! A root file system with ordinary software in it, for cages of tests. Needs root, to bind what the script made.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use crate::common;

/// The root file system; dropped, its mounts go.
pub(crate) struct Root {
    pub(crate) path: PathBuf,
}

impl Root {
    /// The tree of `scripts/workload-root.sh`, read-only, with this build's `claw` beside it.
    pub(crate) fn make(dir: &Path) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/workload-root.sh");
        let output = Command::new("flock")
            .arg(std::env::temp_dir().join("clawstaff-workload-root.lock"))
            .arg(script)
            .output()
            .unwrap_or_else(|error| panic!("flock: {error}; run `apt-get install util-linux`"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "run `scripts/setup.sh`: {said}");
        let tree = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
        let root = Self {
            path: dir.join("root"),
        };
        fs::create_dir_all(root.path.join("sbin")).unwrap();
        fs::copy(common::program("claw"), root.path.join("sbin/claw")).unwrap();
        for entry in fs::read_dir(tree).unwrap().flatten() {
            root.take(&entry);
        }
        root
    }

    fn take(&self, entry: &fs::DirEntry) {
        let at = self.path.join(entry.file_name());
        if at.exists() {
            return;
        }
        if entry.file_type().unwrap().is_symlink() {
            return symlink(fs::read_link(entry.path()).unwrap(), at).unwrap();
        }
        fs::create_dir(&at).unwrap();
        let mut mount = Command::new("mount");
        let bound = mount.args(["-o", "bind,ro"]).arg(entry.path()).arg(&at).status();
        assert!(
            bound.unwrap().success(),
            "cannot bind {}: run the tests as root",
            at.display()
        );
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && entry.file_name() != "sbin" {
                let _ = Command::new("umount").arg(entry.path()).status();
            }
        }
    }
}
