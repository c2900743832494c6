//! The two seccomp filters that the build made of `seccomp/cage.json`.
//!
//! Of two filters that both return an error number the one added last is heard, so `ABSENT` comes second. A call of
//! another architecture kills the process: the first instructions of both programs see to it.

use libc::sock_filter;

use crate::{
    fault::{During, Result},
    sys,
};

include!(concat!(env!("OUT_DIR"), "/filters.rs"));

/// Lets only the listed system calls through, from now on and for every descendant.
pub(crate) fn apply() -> Result<()> {
    sys::add_filter(&ALLOW).during("add the seccomp allow-list")?;
    sys::add_filter(&ABSENT).during("add the seccomp list of absent calls")
}
