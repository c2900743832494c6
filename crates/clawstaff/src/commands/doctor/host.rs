//! What the kernel of this host has, read from where it says so.

use std::{fs, path::Path};

use super::Row;

pub(super) fn rows() -> Vec<Row> {
    let uname = rustix::system::uname();
    let found = |what: &str, state: String| Row {
        part: "host",
        what: what.to_owned(),
        state,
        why: None,
        remedy: None,
    };
    vec![
        found("kernel", uname.release().to_string_lossy().into_owned()),
        found("user", format!("uid {}", rustix::process::geteuid().as_raw())),
        found("cgroups", cgroups().to_owned()),
        found(
            "security modules",
            read("/sys/kernel/security/lsm").unwrap_or_else(|| "unknown".to_owned()),
        ),
        user_namespaces(),
    ]
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn cgroups() -> &'static str {
    let root = Path::new("/sys/fs/cgroup");
    if root.join("cgroup.controllers").exists() {
        "v2"
    } else if root.join("unified/cgroup.controllers").exists() {
        "v1, with v2 beside it"
    } else if root.join("memory").exists() {
        "v1"
    } else {
        "none mounted"
    }
}

/// A native cage needs a user namespace, also as root.
fn user_namespaces() -> Row {
    let none = read("/proc/sys/user/max_user_namespaces").is_some_and(|max| max == "0");
    let barred = read("/proc/sys/kernel/unprivileged_userns_clone").is_some_and(|allowed| allowed == "0")
        && !rustix::process::geteuid().is_root();
    let (why, remedy) = if none {
        (
            "the kernel allows none",
            "sysctl -w user.max_user_namespaces=15000",
        )
    } else if barred {
        (
            "only root may make them",
            "sysctl -w kernel.unprivileged_userns_clone=1, or run as root",
        )
    } else {
        return Row {
            part: "host",
            what: "user namespaces".to_owned(),
            state: "yes".to_owned(),
            why: None,
            remedy: None,
        };
    };
    Row {
        part: "host",
        what: "user namespaces".to_owned(),
        state: "no".to_owned(),
        why: Some(why.to_owned()),
        remedy: Some(remedy.to_owned()),
    }
}
