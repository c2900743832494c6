//! How the launcher hands the mounted storage to the init, which it neither shares a mount namespace nor a memory with: as
//! a descriptor, through a socket pair. So the storage is mounted while shim and init make the rest.

use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use crate::fault::{During, Fault, Result};

/// The giving end and the taking end.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd)> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    socketpair(family, kind, SocketFlags::CLOEXEC, None).during("make a socket pair")
}

pub(crate) fn give(to: &OwnedFd, descriptor: &OwnedFd) -> Result<()> {
    let descriptors = [descriptor.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(Fault::new("cannot pass a descriptor: no room for it"));
    }
    // A dead taker is an error, not a signal that ends us.
    let given = sendmsg(to, &[IoSlice::new(b"!")], &mut ancillary, SendFlags::NOSIGNAL);
    given.during("hand the storage to the init").map(drop)
}

/// Waits for the descriptor; there is none when the giver is gone.
pub(crate) fn take(from: &OwnedFd) -> Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let parts = &mut [IoSliceMut::new(&mut byte)];
    recvmsg(from, parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC).during("take the storage")?;
    let taken = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    });
    taken.ok_or_else(|| Fault::new("no storage came"))
}
