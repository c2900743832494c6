//! The ClawCage: what a cage is, what every back end that makes cages must keep to, and the suite that holds them
//! to it.
//!
//! * [`Backend`] is the contract; [`native`] keeps it with the kernel alone, [`docker`] with a Docker Engine.
//! * [`CageSpec`] says what a cage should be, [`Observed`] what it is.
//! * [`Capabilities`] says what this host can enforce. What it cannot, a cage is refused, unless its own limits
//!   accept it by name.
//! * [`image`] makes other people's images into root file systems, with their digests checked.
//! * [`conformance`] is one suite over `&dyn Backend`: the lifecycle from outside, the probes from inside.
//!
//! Nothing in here knows who a Claw belongs to, what it may do, or any secret: a cage is a box. How the native
//! box is made stands in the launcher; this crate only starts that program and reads the files it leaves.
//! `docs/design/life-of-a-cage.md` tells the story of one cage from create to destroy.

pub mod backend;
pub mod builtin;
pub mod capability;
pub mod conformance;
pub mod docker;
pub mod id;
pub mod image;
pub mod native;
pub mod observed;
pub mod reached;
pub mod seccomp;
pub mod snapshot;
pub mod spec;

mod raze;
mod storage;
mod tail;

pub use backend::{Backend, CageError};
pub use capability::{Capabilities, Enforcement, Feature};
pub use id::CageId;
pub use observed::{ExecOutput, Exit, ExitReason, Observed, Stats};
pub use reached::{Counts, Reached};
pub use snapshot::{Snapshot, SnapshotName};
pub use spec::{CageSpec, Image};

/// The one user and group id inside every cage; never 0.
pub const CAGE_UID: u32 = 65532;

/// Size of a cage's `/tmp`, in bytes. It is memory, and counts as such.
pub const TMP_BYTES: u64 = 64 << 20;
