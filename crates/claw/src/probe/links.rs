//! Probes of what files can be made to mean: links that lead elsewhere, bits that give another identity, and a
//! read-only place made writable again.

use std::{
    ffi::CString,
    fs::{self, File, Permissions},
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, chown, symlink},
    },
    path::{Path, PathBuf},
};

use super::{Findings, Verdict, files, kernel};

const HERE: &str = "/data/clawstaff-probe";

pub(super) fn setuid_gains_nothing(_: &[String]) -> Verdict {
    let mut findings = Findings::default();
    let path = Path::new(HERE);
    fs::write(path, "#!/sbin/claw\n").map_err(|error| format!("/data cannot be written: {error}"))?;
    findings.expect(chown(path, Some(0), Some(0)).is_err(), || {
        "a file could be given to root".to_owned()
    });
    // Allowed to the owner, and worth nothing where no file can belong to anybody else.
    let _ = fs::set_permissions(path, Permissions::from_mode(0o6755));
    let capability = CString::new(path.as_os_str().as_bytes())
        .map(|path| kernel::give_file_capability(&path))
        .unwrap_or_default();
    findings.expect(capability != 0, || {
        "a file could be given a capability".to_owned()
    });
    let _ = fs::remove_file(path);
    for (mount, options) in writable_mounts() {
        findings.expect(options.split(',').any(|option| option == "nosuid"), || {
            format!("set-user-id counts on {mount}")
        });
    }
    findings.verdict("ways to borrow another identity closed")
}

/// The mounts that may be written to, with their options.
fn writable_mounts() -> Vec<(String, String)> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let field = |line: &str, number: usize| line.split(' ').nth(number).unwrap_or_default().to_owned();
    table
        .lines()
        .map(|line| (field(line, 4), field(line, 5)))
        .filter(|(_, options)| options.split(',').any(|option| option == "rw"))
        .collect()
}

/// Asks for it with the arguments that would do it, then looks whether it was done.
pub(super) fn no_remounts(_: &[String]) -> Verdict {
    let mut findings = Findings::default();
    for place in [c"/", c"/claw", c"/proc/sys", c"/sys"] {
        let error = kernel::remount_writable(place);
        findings.expect(error != 0, || {
            format!("{} was remounted", place.to_string_lossy())
        });
    }
    for place in [c"/claw", c"/data", c"/proc/sys", c"/proc/kcore"] {
        let error = kernel::unmount(place);
        findings.expect(error != 0, || {
            format!("{} was unmounted", place.to_string_lossy())
        });
    }
    let tried = findings.verdict("attempts to remount and unmount")?;
    files::root_read_only(&[]).map(|seen| format!("{tried}; then {seen}"))
}

/// The arguments are files of the host, which no link may reach.
pub(super) fn links_stay_inside(foreign: &[String]) -> Verdict {
    let mut findings = Findings::default();
    let link = Path::new(HERE);
    let _ = fs::remove_file(link);
    for path in foreign {
        for target in [
            PathBuf::from(path),
            PathBuf::from(format!("../../../../../../../..{path}")),
            PathBuf::from(format!("/proc/1/root{path}")),
            PathBuf::from(format!("/proc/1/cwd/../../../..{path}")),
            PathBuf::from(format!("/proc/self/root/../..{path}")),
        ] {
            symlink(&target, link).map_err(|error| format!("/data takes no link: {error}"))?;
            findings.expect(File::open(link).is_err(), || {
                format!("{} can be read through a link", target.display())
            });
            let _ = fs::remove_file(link);
        }
    }
    for source in ["/sbin/claw", "/claw/claw.json", "/etc/hosts", "/proc/1/status"] {
        let linked = fs::hard_link(source, link).is_ok();
        let moved = fs::rename(source, link).is_ok();
        let _ = fs::remove_file(link);
        findings.expect(!linked, || format!("{source} has a second name in /data"));
        findings.expect(!moved, || format!("{source} was moved to /data"));
    }
    findings.verdict("links and moves lead nowhere else")
}
