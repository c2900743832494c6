//! Where the cgroup trees are mounted and where in them this process is, from `/proc/self/mountinfo` and
//! `/proc/self/cgroup` (formats: `proc_pid_mountinfo(5)`, `cgroups(7)`).

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// The cgroup directories of this process.
#[derive(Debug, Default)]
pub(super) struct Layout {
    v1: BTreeMap<String, PathBuf>,
    v2: Option<(PathBuf, PathBuf)>,
}

impl Layout {
    pub(super) fn parse(mountinfo: &str, own: &str) -> Self {
        let mut layout = Self::default();
        for mount in mountinfo.lines().filter_map(Mount::parse) {
            match mount.kind {
                "cgroup2" => {
                    if let Some(path) = own_path(own, str::is_empty) {
                        layout.v2 = Some((mount.at.clone(), mount.dir(path)));
                    }
                }
                "cgroup" => {
                    for controller in mount.options.split(',') {
                        if let Some(path) =
                            own_path(own, |names| names.split(',').any(|name| name == controller))
                        {
                            layout.v1.insert(controller.to_owned(), mount.dir(path));
                        }
                    }
                }
                _ => {}
            }
        }
        layout
    }

    /// Our directory in the tree of a v1 controller.
    pub(super) fn v1(&self, controller: &str) -> Option<&Path> {
        self.v1.get(controller).map(PathBuf::as_path)
    }

    /// The mount point of the unified tree and our directory in it.
    pub(super) fn v2(&self) -> Option<(&Path, &Path)> {
        self.v2
            .as_ref()
            .map(|(mount, own)| (mount.as_path(), own.as_path()))
    }
}

/// Our path in the tree whose list of controllers `is` accepts.
fn own_path(own: &str, is: impl Fn(&str) -> bool) -> Option<&str> {
    own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, names, path) = (parts.next()?, parts.next()?, parts.next()?);
        is(names).then_some(path)
    })
}

/// One line of mountinfo.
struct Mount<'a> {
    /// The directory of the tree that is at the mount point.
    root: &'a str,
    at: PathBuf,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, at) = (left.next()?, PathBuf::from(left.next()?));
        let mut right = right.split(' ');
        let (kind, _, options) = (right.next()?, right.next()?, right.next()?);
        Some(Self {
            root,
            at,
            kind,
            options,
        })
    }

    /// Where a path of the tree is in the file system.
    fn dir(&self, path: &str) -> PathBuf {
        let path = Path::new(path);
        let below = path
            .strip_prefix(self.root)
            .or_else(|_| path.strip_prefix("/"))
            .unwrap_or(path);
        self.at.join(below)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_host_with_both_trees_is_read() {
        let mountinfo = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
                         35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:7 - cgroup cgroup rw,memory\n\
                         41 31 0:37 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n\
                         22 1 0:20 / /proc rw - proc proc rw\n";
        let own = "4:memory:/jobs/7\n2:cpu,cpuacct:/\n1:name=systemd:/\n0::/jobs/7\n";
        let layout = Layout::parse(mountinfo, own);
        assert_eq!(
            layout.v1("memory"),
            Some(Path::new("/sys/fs/cgroup/memory/jobs/7"))
        );
        assert_eq!(
            layout.v1("cpuacct"),
            Some(Path::new("/sys/fs/cgroup/cpu,cpuacct/"))
        );
        assert_eq!(layout.v1("pids"), None);
        let unified = Path::new("/sys/fs/cgroup/unified");
        assert_eq!(layout.v2(), Some((unified, unified.join("jobs/7").as_path())));
    }

    #[test]
    fn a_subtree_mounted_in_a_container_is_found_below_its_mount_point() {
        let layout = Layout::parse(
            "1 2 0:3 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n",
            "0::/docker/abc/x\n",
        );
        assert_eq!(layout.v2().unwrap().1, Path::new("/sys/fs/cgroup/x"));
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange_to_read(mountinfo in "\\PC{0,200}", own in "\\PC{0,80}") {
            let _ = Layout::parse(&mountinfo, &own);
        }
    }
}
