//! Loop devices: a file as a block device, so that a cage's storage has a size of its own. The device detaches by
//! itself when the last mount of it goes.
//!
//! Which device was last tried for a cage is written down before it is tried, in `loop` in the cage's directory: looking
//! for the image behind every device of the machine takes longer than making a cage.

#![expect(unsafe_code, reason = "loop devices are set up with ioctls")]

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::fault::{During, Fault, Result, last_error};

const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const ATTEMPTS: u32 = 64;
/// File in the cage's directory: the number of the device that was tried last.
const NOTE: &str = "loop";

/// `struct loop_config` of `<linux/loop.h>`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// `struct loop_info64` of `<linux/loop.h>`.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// Attaches `image` to a free loop device. The open device keeps it attached until it is mounted.
pub(crate) fn attach(image: &Path, state: &Path) -> Result<(File, PathBuf)> {
    let both = || OpenOptions::new().read(true).write(true).clone();
    let backing = both().open(image).during("open the storage image")?;
    let control = both()
        .open("/dev/loop-control")
        .during("open /dev/loop-control")?;
    for _ in 0..ATTEMPTS {
        // SAFETY: LOOP_CTL_GET_FREE takes no argument.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
        if number < 0 {
            return Err(last_error()).during("find a free loop device");
        }
        fs::write(state.join(NOTE), number.to_string()).during("write down the loop device")?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = both().open(&path).during("open a loop device")?;
        match configure(&device, &backing) {
            Ok(()) => return Ok((device, path)),
            // Somebody else took it in between: try the next.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) => return Err(error).during("attach the storage image to a loop device"),
        }
    }
    Err(Fault::new(
        "cannot attach the storage image: every loop device is taken as soon as it is free",
    ))
}

fn configure(device: &File, backing: &File) -> io::Result<()> {
    // SAFETY: all fields are integers or arrays of them, for which zero is valid.
    let mut config: LoopConfig = unsafe { std::mem::zeroed() };
    config.fd = backing.as_raw_fd().cast_unsigned();
    config.info.flags = LO_FLAGS_AUTOCLEAR;
    // SAFETY: `config` has the layout of `struct loop_config` and lives across the call, which only reads it.
    let done = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
    if done < 0 { Err(last_error()) } else { Ok(()) }
}

/// Waits until `image` is behind no loop device: two mounts of one file system would destroy it.
pub(crate) fn wait_detached(image: &Path, state: &Path, patience: Duration) -> Result<()> {
    let end = Instant::now() + patience;
    while is_attached(image, state)? {
        if Instant::now() >= end {
            return Err(Fault::new(
                "cannot use the storage image: a loop device still holds it",
            ));
        }
        // The kernel has no event for this; it detaches within a tick or two of the last unmount.
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn is_attached(image: &Path, state: &Path) -> Result<bool> {
    let number = match fs::read_to_string(state.join(NOTE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        read => read.during("read which loop device it had")?,
    };
    let backing = format!("/sys/block/loop{number}/loop/backing_file");
    Ok(fs::read_to_string(backing).is_ok_and(|file| Path::new(file.trim_end_matches('\n')) == image))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_sizes_of_the_kernel_header() {
        assert_eq!(size_of::<LoopInfo>(), 232);
        assert_eq!(size_of::<LoopConfig>(), 304);
    }
}
