//! The cage's root file system, made by the init in its own mount namespace.
//!
//! The root is a small tmpfs that becomes read-only; what the image has at its top level is bound into it, also
//! read-only. Then come a private `/proc` with the host's secrets masked, a `/dev` with five devices, `/tmp`, the
//! storage at `/data` and the door at `/claw`. There is no `/sys`. At the end the old root is gone.
//!
//! `/tmp` and `/dev/shm` are `noexec`, as in Docker: an agent that builds programs has `/data` for it.

use std::{
    ffi::CString,
    fs::{self, File},
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, fs::symlink},
    },
    path::Path,
};

use rustix::{
    fs::CWD,
    mount::{
        MountFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags, mount, mount_bind,
        mount_bind_recursive, mount_change, move_mount, unmount,
    },
    process::pivot_root,
};

use crate::{
    fault::{During, Result},
    hand, network,
    staging::{Sources, Storage, make_dir},
    sys::{self, NODEV, NOEXEC, NOSUID, RDONLY},
};

/// Made here, whatever the image has under these names.
const OWN: [&str; 6] = ["proc", "sys", "dev", "tmp", "data", "claw"];
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];
const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "root/dev/fd"),
    ("/proc/self/fd/0", "root/dev/stdin"),
    ("/proc/self/fd/1", "root/dev/stdout"),
    ("/proc/self/fd/2", "root/dev/stderr"),
];
/// Parts of `/proc` that speak of the host or act on it: files are covered by `/dev/null`, directories by nothing.
const MASKED: [&str; 33] = [
    "acpi",
    "asound",
    "bus",
    "cmdline",
    "config.gz",
    "diskstats",
    "driver",
    "dynamic_debug",
    "fs",
    "interrupts",
    "iomem",
    "ioports",
    "irq",
    "kallsyms",
    "kcore",
    "key-users",
    "keys",
    "kmsg",
    "kpagecgroup",
    "kpagecount",
    "kpageflags",
    "latency_stats",
    "modules",
    "mtrr",
    "partitions",
    "sched_debug",
    "scsi",
    "slabinfo",
    "sysrq-trigger",
    "timer_list",
    "timer_stats",
    "tty",
    "vmallocinfo",
];

/// Builds the root below the current directory and moves into it. The storage may come through `hand`.
pub(crate) fn enter(sources: &Sources, tmp_bytes: u64, hand: &OwnedFd) -> Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .during("detach the mounts")?;
    tmpfs("root", "mode=755,size=256k,nr_inodes=256", MountFlags::NODEV)?;
    for name in OWN {
        make_dir(&Path::new("root").join(name))?;
    }
    bind_image(&sources.image)?;
    cover_etc(&sources.etc)?;
    make_dev()?;
    make_proc()?;
    tmpfs(
        "root/tmp",
        &format!("mode=1777,size={tmp_bytes},nr_inodes=16k"),
        MountFlags::NODEV | MountFlags::NOEXEC,
    )?;
    bind(&sources.door, "root/claw", RDONLY | NOSUID | NODEV | NOEXEC)?;
    attributes("root/dev", RDONLY | NOSUID | NOEXEC, false)?;
    // Last, because it takes longest to come.
    match &sources.data {
        Storage::At(place) => bind(place, "root/data", NOSUID | NODEV)?,
        Storage::Handed => place_storage(hand)?,
    }
    attributes("root", RDONLY | NOSUID | NODEV, false)?;
    pivot()
}

fn place_storage(hand: &OwnedFd) -> Result<()> {
    let storage = hand::take(hand)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(storage, "", CWD, "root/data", flags).during("mount the storage")?;
    attributes("root/data", NOSUID | NODEV, true)
}

fn pivot() -> Result<()> {
    std::env::set_current_dir("root").during("enter the new root")?;
    // The old root lands on top of the new one, from where it is taken away whole.
    pivot_root(".", ".").during("change the root")?;
    unmount(".", UnmountFlags::DETACH).during("take the old root away")?;
    std::env::set_current_dir("/").during("enter the root")
}

fn tmpfs(at: &str, options: &str, flags: MountFlags) -> Result<()> {
    let options = CString::new(options).during("name the options of a tmpfs")?;
    mount(
        "tmpfs",
        at,
        "tmpfs",
        flags | MountFlags::NOSUID,
        options.as_c_str(),
    )
    .during(&format!("mount {at}"))
}

fn attributes(at: &str, set: u64, recursive: bool) -> Result<()> {
    let path = CString::new(at).during("name a mount")?;
    sys::mount_setattr(&path, set, recursive).during(&format!("set the attributes of {at}"))
}

fn bind(from: &Path, at: &str, set: u64) -> Result<()> {
    mount_bind_recursive(from, at).during(&format!("bind {at}"))?;
    attributes(at, set, true)
}

/// Binds each entry of the image's top level, so that the image needs no mount points of ours.
fn bind_image(image: &Path) -> Result<()> {
    for entry in fs::read_dir(image).during("read the image")? {
        let entry = entry.during("read the image")?;
        let (name, kind) = (entry.file_name(), entry.file_type().during("read the image")?);
        if OWN.iter().any(|own| name.as_bytes() == own.as_bytes()) {
            continue;
        }
        let at = Path::new("root").join(&name);
        if kind.is_symlink() {
            let target = fs::read_link(entry.path()).during("read a link of the image")?;
            symlink(target, &at).during("copy a link of the image")?;
            continue;
        }
        if kind.is_dir() {
            make_dir(&at)?;
        } else if kind.is_file() {
            File::create(&at).during("make a mount point")?;
        } else {
            continue;
        }
        let at = at.to_string_lossy();
        bind(&entry.path(), &at, RDONLY | NOSUID | NODEV)?;
    }
    Ok(())
}

/// The resolver of a cage is its own shim, whatever the image says. Where the image has no such file, the C
/// library's default is 127.0.0.1 as well.
fn cover_etc(etc: &Path) -> Result<()> {
    for name in ["hosts", "resolv.conf"] {
        let at = format!("root/etc/{name}");
        if fs::symlink_metadata(&at).is_ok_and(|found| found.is_file()) {
            bind(&etc.join(name), &at, RDONLY | NOSUID | NODEV | NOEXEC)?;
        }
    }
    Ok(())
}

fn make_dev() -> Result<()> {
    tmpfs("root/dev", "mode=755,size=64k,nr_inodes=64", MountFlags::NOEXEC)?;
    for name in DEVICES {
        let at = format!("root/dev/{name}");
        File::create(&at).during("make a mount point")?;
        mount_bind(format!("/dev/{name}"), &at).during(&format!("bind {at}"))?;
        attributes(&at, NOSUID | NOEXEC, false)?;
    }
    for (target, at) in LINKS {
        symlink(target, at).during(&format!("link {at}"))?;
    }
    make_dir(Path::new("root/dev/shm"))?;
    tmpfs(
        "root/dev/shm",
        "mode=1777,size=16m,nr_inodes=1k",
        MountFlags::NODEV | MountFlags::NOEXEC,
    )
}

fn make_proc() -> Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "root/proc", "proc", flags, None).during("mount a private proc")?;
    network::open_low_ports(Path::new("root/proc"))?;
    bind(
        Path::new("root/proc/sys"),
        "root/proc/sys",
        RDONLY | NOSUID | NODEV | NOEXEC,
    )?;
    MASKED
        .iter()
        .try_for_each(|name| mask(&format!("root/proc/{name}")))
}

fn mask(at: &str) -> Result<()> {
    let Ok(found) = fs::symlink_metadata(at) else {
        return Ok(());
    };
    if found.is_dir() {
        tmpfs(
            at,
            "mode=555,size=4k,nr_inodes=2",
            MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY,
        )
    } else {
        mount_bind("root/dev/null", at).during(&format!("cover {at}"))
    }
}
