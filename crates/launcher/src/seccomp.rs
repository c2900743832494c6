//! The seccomp filter that the build made of `seccomp/cage.json` (`build/`).
//!
//! A call of another architecture kills the process: the first instructions see to it.

use libc::sock_filter;

use crate::{
    fault::{During, Result},
    sys,
};

include!(concat!(env!("OUT_DIR"), "/filter.rs"));

/// Lets only the listed system calls through, from now on and for every descendant.
pub(crate) fn apply() -> Result<()> {
    sys::add_filter(&FILTER).during("add the seccomp filter")
}
