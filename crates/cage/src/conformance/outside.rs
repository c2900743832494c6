//! What the host sees of a cage, whatever the cage says of itself: the judge of the rows with [`Judge::Outside`].
//!
//! Everything here is read from the host's `/proc`, by the process that runs the suite or the selftest. Where that
//! process may not look (an engine's containers, seen by an ordinary user), the row is not judged, and says so.
//!
//! [`Judge::Outside`]: super::table::Judge::Outside

use std::{fs, io, path::PathBuf};

use super::stage::{Verdict, ensure};

/// The inits to look at, by their process ids on the host.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sight {
    pub(super) init: u32,
    pub(super) neighbour: Option<u32>,
}

/// Why a row was not judged, or how it was.
#[derive(Debug)]
pub(super) enum Look {
    /// The host may not look.
    Barred(String),
    /// It looked.
    Seen(Verdict),
}

/// Judges one row.
pub(super) fn look(probe: &str, sight: Sight) -> Look {
    let seen = match probe {
        "init-is-powerless" => powerless(sight),
        "init-holds-nothing" => holds_nothing(sight),
        "init-environment-clean" => environment_clean(sight),
        "namespaces-of-its-own" => own_namespaces(sight),
        "user-of-its-own" => own_user(sight),
        "mounts-as-promised" => mounts_as_promised(sight),
        other => Ok(Err(format!("nobody knows how to look at {other}"))),
    };
    match seen {
        Ok(verdict) => Look::Seen(verdict),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Look::Barred(format!("the host's /proc is closed to this process: {error}"))
        }
        Err(error) => Look::Seen(Err(format!("the host's /proc cannot be read: {error}"))),
    }
}

fn proc(pid: u32, what: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{what}"))
}

/// The words of one line of a process's status.
fn status(pid: u32, field: &str) -> io::Result<Vec<String>> {
    let text = fs::read_to_string(proc(pid, "status"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    Ok(line.map_or_else(Vec::new, |words| {
        words.split_whitespace().map(str::to_owned).collect()
    }))
}

fn powerless(sight: Sight) -> io::Result<Verdict> {
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let found = status(sight.init, set)?;
        if found != ["0000000000000000"] {
            return Ok(Err(format!("{set} is {found:?}")));
        }
    }
    for (field, wanted) in [("NoNewPrivs", "1"), ("Seccomp", "2")] {
        let found = status(sight.init, field)?;
        if found != [wanted] {
            return Ok(Err(format!("{field} is {found:?}, not {wanted}")));
        }
    }
    for field in ["Uid", "Gid", "Groups"] {
        let found = status(sight.init, field)?;
        if found.iter().any(|id| id == "0") {
            return Ok(Err(format!("{field} is {found:?}")));
        }
    }
    Ok(Ok(format!(
        "no capability, filtered, user {} on the host",
        status(sight.init, "Uid")?.join(" ")
    )))
}

/// What an open descriptor may be: a pipe, a socket, an object without a name, or nothing.
fn harmless(target: &str) -> bool {
    ["pipe:[", "socket:[", "anon_inode:"]
        .iter()
        .any(|kind| target.starts_with(kind))
        || target == "/dev/null"
}

fn holds_nothing(sight: Sight) -> io::Result<Verdict> {
    let mut count = 0;
    for entry in fs::read_dir(proc(sight.init, "fd"))? {
        // Closed since the list was made.
        let Ok(target) = fs::read_link(entry?.path()) else {
            continue;
        };
        count += 1;
        let target = target.to_string_lossy().into_owned();
        if !harmless(&target) {
            return Ok(Err(format!("the init holds {target}")));
        }
    }
    Ok(Ok(format!("{count} descriptors, no file of the host among them")))
}

/// Variables that have the same value on many machines, and say nothing.
const COMMONPLACE: [&str; 7] = ["PATH", "HOME", "LANG", "TMPDIR", "HOSTNAME", "TERM", "LC_ALL"];

fn environment_clean(sight: Sight) -> io::Result<Verdict> {
    let text = fs::read(proc(sight.init, "environ"))?;
    let variables = text.split(|byte| *byte == 0).filter(|text| !text.is_empty());
    let mut count = 0;
    for variable in variables {
        count += 1;
        let text = String::from_utf8_lossy(variable);
        let (name, value) = text.split_once('=').unwrap_or((&text, ""));
        let ours = std::env::var(name).is_ok_and(|ours| ours == value);
        if ours && !COMMONPLACE.contains(&name) {
            return Ok(Err(format!("{name} came from the host")));
        }
    }
    Ok(Ok(format!("{count} variables, none of them the host's")))
}

fn namespace(process: &str, kind: &str) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/{process}/ns/{kind}"))
}

/// Whether the init shares this kind of namespace with nobody that we know.
fn apart(sight: Sight, kind: &str) -> io::Result<bool> {
    let own = namespace(&sight.init.to_string(), kind)?;
    let host = namespace("self", kind)?;
    let neighbour = sight.neighbour.map(|pid| namespace(&pid.to_string(), kind));
    Ok(own != host && neighbour.transpose()? != Some(own))
}

fn own_namespaces(sight: Sight) -> io::Result<Verdict> {
    const KINDS: [&str; 6] = ["pid", "mnt", "net", "ipc", "uts", "cgroup"];
    for kind in KINDS {
        if !apart(sight, kind)? {
            return Ok(Err(format!("the {kind} namespace is not its own")));
        }
    }
    Ok(Ok(format!("{} namespaces, each its own", KINDS.len())))
}

fn own_user(sight: Sight) -> io::Result<Verdict> {
    let uid = status(sight.init, "Uid")?;
    let neighbour = sight.neighbour.map(|pid| status(pid, "Uid")).transpose()?;
    let runner = rustix::process::geteuid().as_raw().to_string();
    if uid.contains(&runner) || neighbour.as_ref() == Some(&uid) {
        return Ok(Err(format!("user {} is somebody else's too", uid.join(" "))));
    }
    if !apart(sight, "user")? {
        return Ok(Err("the user namespace is not its own".to_owned()));
    }
    Ok(Ok(format!("user {} on the host, and nobody else", uid.join(" "))))
}

/// One line of a mount table.
struct Mount<'a> {
    at: &'a str,
    options: Vec<&'a str>,
    shared: bool,
    kind: &'a str,
    writable: bool,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (own, file_system) = line.split_once(" - ")?;
        let words: Vec<&str> = own.split(' ').collect();
        let options: Vec<&str> = words.get(5)?.split(',').collect();
        let mut last = file_system.split(' ');
        let (kind, whole) = (last.next()?, last.nth(1)?);
        Some(Self {
            at: words.get(4)?,
            shared: words.iter().skip(6).any(|tag| tag.starts_with("shared:")),
            kind,
            writable: options.contains(&"rw") && !whole.split(',').any(|option| option == "ro"),
            options,
        })
    }

    /// Whether this mount, made later, hides another at or below its own place.
    fn covers(&self, at: &str) -> bool {
        at == self.at || at.strip_prefix(self.at).is_some_and(|rest| rest.starts_with('/'))
    }

    fn fault(&self) -> Option<&'static str> {
        let storage = ["/data", "/tmp"].contains(&self.at);
        let device = self.at == "/dev" || self.at.starts_with("/dev/");
        let process = self.at == "/proc" || self.at.starts_with("/proc/");
        // What covers a part of /proc is `/dev/null`.
        let made = ["proc", "tmpfs", "devtmpfs", "devpts", "mqueue"].contains(&self.kind);
        if self.shared {
            Some("is shared back with the host")
        } else if !self.writable {
            None
        } else if !(storage || (device || process) && made) {
            Some("can be written")
        } else if !self.options.contains(&"nosuid") {
            Some("lends identities")
        } else if storage && !self.options.contains(&"nodev") {
            Some("has working devices")
        } else {
            None
        }
    }
}

fn mounts_as_promised(sight: Sight) -> io::Result<Verdict> {
    let table = fs::read_to_string(proc(sight.init, "mountinfo"))?;
    Ok(judge_mounts(&table))
}

fn judge_mounts(table: &str) -> Verdict {
    let mounts: Option<Vec<Mount<'_>>> = table.lines().map(Mount::parse).collect();
    let mounts = mounts.ok_or("the mount table cannot be understood")?;
    let mut later = mounts.iter();
    let mut writable = 0;
    while let Some(mount) = later.next() {
        if later.clone().any(|over| over.covers(mount.at)) {
            continue;
        }
        if let Some(fault) = mount.fault() {
            return Err(format!("{} {fault}", mount.at));
        }
        writable += usize::from(mount.writable);
    }
    ensure(mounts.len() > 5, || {
        format!("only {} mounts are in sight", mounts.len())
    })?;
    Ok(format!(
        "{} mounts, {writable} of them writable, all as promised",
        mounts.len()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(line: &str) -> Option<&'static str> {
        Mount::parse(line).unwrap().fault()
    }

    #[test]
    fn a_mount_that_breaks_a_promise_is_named() {
        let root = "1 2 0:1 / / ro,nosuid,nodev - tmpfs tmpfs rw,size=256k";
        assert_eq!(fault(root), None);
        assert_eq!(
            fault(&root.replace("ro,nosuid", "rw,nosuid")),
            Some("can be written")
        );
        let data = "1 2 7:0 /data /data rw,nosuid,nodev,noatime - ext4 /dev/loop0 rw";
        assert_eq!(fault(data), None);
        assert_eq!(fault(&data.replace(",nodev", "")), Some("has working devices"));
        assert_eq!(fault(&data.replace(",nosuid", "")), Some("lends identities"));
        assert_eq!(
            fault(&data.replace("noatime -", "noatime shared:7 -")),
            Some("is shared back with the host")
        );
        let foreign = "1 2 8:1 /home /proc/home rw,nosuid,nodev - ext4 /dev/sda1 rw";
        assert_eq!(fault(foreign), Some("can be written"));
        assert_eq!(fault(&foreign.replace("/dev/sda1 rw", "/dev/sda1 ro")), None);
    }

    #[test]
    fn what_is_covered_is_out_of_reach_and_what_covers_counts() {
        let open = "1 2 0:1 / /sys/fs/cgroup rw,nosuid - tmpfs tmpfs rw";
        let below = "1 2 0:2 / /sys/fs/cgroup/pids rw,nosuid - cgroup cgroup rw";
        let mask = "1 2 0:3 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro";
        let six = "1 2 0:4 / /a ro - tmpfs tmpfs ro\n".repeat(6);
        assert!(judge_mounts(&format!("{six}{open}\n{below}\n{mask}")).is_ok());
        assert!(judge_mounts(&format!("{six}{mask}\n{open}")).is_err());
        assert!(judge_mounts(&format!("{six}{mask}\n{below}")).is_err());
    }

    #[test]
    fn this_process_is_no_cage() {
        let sight = Sight {
            init: std::process::id(),
            neighbour: None,
        };
        for row in ["init-is-powerless", "namespaces-of-its-own", "user-of-its-own"] {
            let Look::Seen(verdict) = look(row, sight) else {
                panic!("{row} was not looked at");
            };
            assert!(verdict.is_err(), "{row}: {verdict:?}");
        }
    }
}
