//! Probes of the file systems that a cage sees.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

use super::{Findings, Verdict, kernel};

pub(super) fn root_read_only(_: &[String]) -> Verdict {
    let mut findings = Findings::default();
    for dir in [
        "/",
        "/etc",
        "/sbin",
        "/usr",
        "/bin",
        "/lib",
        "/var",
        "/sys",
        "/proc/sys",
        "/dev",
    ] {
        let path = Path::new(dir).join("clawstaff-probe");
        findings.expect(!creates(&path), || format!("a file could be made in {dir}"));
    }
    for file in ["/sbin/claw", "/etc/passwd", "/etc/resolv.conf", "/etc/hosts"] {
        let opened = OpenOptions::new().append(true).open(file);
        findings.expect(opened.is_err(), || format!("{file} could be opened for writing"));
    }
    findings.verdict("places that cannot be written")
}

fn creates(path: &Path) -> bool {
    let made = File::create_new(path).is_ok();
    if made {
        let _ = fs::remove_file(path);
    }
    made
}

pub(super) fn door_read_only(_: &[String]) -> Verdict {
    let mut findings = Findings::default();
    findings.expect(Path::new("/claw").is_dir(), || "/claw is not there".to_owned());
    findings.expect(!creates(Path::new("/claw/clawstaff-probe")), || {
        "a file could be made in /claw".to_owned()
    });
    for entry in fs::read_dir("/claw").into_iter().flatten().flatten() {
        let removed = fs::rename(entry.path(), "/claw/clawstaff-probe").is_ok();
        findings.expect(!removed, || {
            format!("{} could be renamed", entry.path().display())
        });
    }
    findings.verdict("attempts on /claw failed")
}

/// Character devices that may be there: memory's harmless ones, `tty`, `ptmx`, and pseudo-terminals.
fn harmless(major: u64, minor: u64) -> bool {
    matches!((major, minor), (1, 3 | 5 | 7 | 8 | 9) | (5, 0 | 2) | (136, _))
}

pub(super) fn devices_minimal(_: &[String]) -> Verdict {
    const S_IFCHR: u32 = 0o020_000;
    const S_IFBLK: u32 = 0o060_000;
    let mut findings = Findings::default();
    let mut todo = vec![PathBuf::from("/dev")];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let Ok(found) = fs::symlink_metadata(entry.path()) else {
                continue;
            };
            let (kind, path) = (found.file_type(), entry.path());
            let device = (found.rdev() >> 8 & 0xfff, found.rdev() & 0xff);
            findings.expect(!kind.is_block_device(), || {
                format!("{} is a block device", path.display())
            });
            findings.expect(!kind.is_char_device() || harmless(device.0, device.1), || {
                format!("{} is the device {}:{}", path.display(), device.0, device.1)
            });
            if kind.is_dir() {
                todo.push(path);
            }
        }
    }
    for (path, mode, major, minor) in [
        (c"/tmp/clawstaff-probe", S_IFCHR, 1, 1),
        (c"/data/clawstaff-probe", S_IFBLK, 7, 0),
        (c"/dev/shm/clawstaff-probe", S_IFBLK, 8, 0),
    ] {
        let error = kernel::make_device(path, mode | 0o600, major, minor);
        findings.expect(error != 0, || {
            format!("made a device node at {}", path.to_string_lossy())
        });
    }
    findings.verdict("devices and attempts to make some; none gives anything away")
}

pub(super) fn proc_masked(_: &[String]) -> Verdict {
    let mut findings = Findings::default();
    for name in [
        "kcore",
        "keys",
        "latency_stats",
        "timer_list",
        "sched_debug",
        "kmsg",
        "kpagecount",
        "kpageflags",
    ] {
        let path = Path::new("/proc").join(name);
        let mut byte = [0];
        let read = File::open(&path)
            .and_then(|mut file| file.read(&mut byte))
            .unwrap_or(0);
        findings.expect(read == 0, || format!("{} can be read", path.display()));
    }
    for name in ["acpi", "scsi"] {
        let path = Path::new("/proc").join(name);
        let entries = fs::read_dir(&path).map_or(0, Iterator::count);
        findings.expect(entries == 0, || {
            format!("{} has {entries} entries", path.display())
        });
    }
    // An empty write triggers nothing, even where it is let through. `/dev/null` in its place takes everything.
    let sysrq = fs::metadata("/proc/sysrq-trigger");
    let covered = sysrq.is_ok_and(|found| found.file_type().is_char_device());
    let refused = OpenOptions::new()
        .write(true)
        .open("/proc/sysrq-trigger")
        .is_err();
    findings.expect(covered || refused, || {
        "/proc/sysrq-trigger can be opened for writing".to_owned()
    });
    findings.verdict("parts of /proc closed")
}

pub(super) fn sys_masked(_: &[String]) -> Verdict {
    let mut findings = Findings::default();
    for file in [
        "/sys/power/state",
        "/sys/kernel/uevent_helper",
        "/sys/kernel/profiling",
        "/sys/kernel/mm/ksm/run",
    ] {
        let opened = OpenOptions::new().write(true).open(file);
        findings.expect(opened.is_err(), || format!("{file} can be opened for writing"));
    }
    for dir in [
        "/sys/firmware",
        "/sys/kernel/debug",
        "/sys/kernel/security",
        "/sys/fs/bpf",
    ] {
        let entries = fs::read_dir(dir).map_or(0, Iterator::count);
        findings.expect(entries == 0, || format!("{dir} has {entries} entries"));
    }
    for dir in cgroup_dirs() {
        let opened = OpenOptions::new().write(true).open(dir.join("cgroup.procs"));
        findings.expect(opened.is_err(), || format!("{} can be written", dir.display()));
        let made = fs::create_dir(dir.join("clawstaff-probe")).is_ok();
        findings.expect(!made, || format!("a cgroup could be made in {}", dir.display()));
    }
    findings.verdict("parts of /sys closed")
}

/// The cgroup mounts in sight and one level below.
fn cgroup_dirs() -> Vec<PathBuf> {
    let root = PathBuf::from("/sys/fs/cgroup");
    let below = fs::read_dir(&root)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    below.filter(|path| path.is_dir()).chain([root.clone()]).collect()
}

pub(super) fn core_pattern_locked(_: &[String]) -> Verdict {
    let mut findings = Findings::default();
    for name in [
        "core_pattern",
        "modprobe",
        "hotplug",
        "sysrq",
        "hostname",
        "yama/ptrace_scope",
    ] {
        let path = Path::new("/proc/sys/kernel").join(name);
        // Opened only, never written: an open that works is the finding.
        let opened = OpenOptions::new().write(true).open(&path);
        findings.expect(opened.is_err(), || {
            format!("{} can be opened for writing", path.display())
        });
    }
    findings.verdict("settings of the kernel cannot be written")
}

pub(super) fn no_engine_socket(_: &[String]) -> Verdict {
    let mut findings = Findings::default();
    for path in [
        "/var/run/docker.sock",
        "/run/docker.sock",
        "/run/containerd/containerd.sock",
        "/run/podman/podman.sock",
        "/run/crio/crio.sock",
        "/run/systemd/private",
        "/run/dbus/system_bus_socket",
    ] {
        findings.expect(fs::symlink_metadata(path).is_err(), || format!("{path} is there"));
    }
    findings.verdict("sockets absent")
}

/// Most entries looked at when searching all that is in sight.
const MOST_ENTRIES: usize = 300_000;

/// Searches everything in sight, and every other process's root, for the files named by the arguments, which the
/// suite has put into another cage's `/data` and into the host's `/tmp`.
pub(super) fn neighbours_unreachable(marks: &[String]) -> Verdict {
    let mut roots = vec![PathBuf::from("/")];
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        roots.extend(["root", "cwd"].map(|link| entry.path().join(link)));
    }
    let (mut seen, mut found) = (0, Vec::new());
    for root in roots {
        search(&root, marks, &mut seen, &mut found);
    }
    let mut findings = Findings::default();
    findings.expect(!marks.is_empty(), || "no mark was named to look for".to_owned());
    findings.expect(found.is_empty(), || format!("found {}", found.join(", ")));
    findings.expect(seen < MOST_ENTRIES, || {
        "there is too much in sight to search".to_owned()
    });
    findings.verdict("checks; no mark of a neighbour in sight")
}

fn search(root: &Path, marks: &[String], seen: &mut usize, found: &mut Vec<String>) {
    let mut todo = vec![root.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            *seen += 1;
            let (name, path) = (entry.file_name(), entry.path());
            if marks.iter().any(|mark| mark.as_bytes() == name.as_bytes()) {
                found.push(path.display().to_string());
            }
            let deeper = entry.file_type().is_ok_and(|kind| kind.is_dir()) && !is_virtual(&path);
            if deeper && *seen < MOST_ENTRIES {
                todo.push(path);
            }
        }
    }
}

/// Nobody's files are in these.
fn is_virtual(path: &Path) -> bool {
    path.ends_with("proc") || path.ends_with("sys")
}

/// Writes zeros to a new file until it cannot, or until `most` bytes; returns what it wrote.
pub(super) fn fill(path: &Path, most: u64) -> u64 {
    let block = vec![0; 1 << 20];
    let mut written = 0;
    if let Ok(mut file) = File::create(path) {
        while written < most {
            match file.write(&block) {
                Ok(0) | Err(_) => break,
                Ok(count) => written += count as u64,
            }
        }
    }
    let _ = fs::remove_file(path);
    written
}
