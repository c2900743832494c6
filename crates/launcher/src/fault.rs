//! The launcher's one error: what it was doing, and what the kernel said. It ends as a line of text for the back
//! end, which has nothing to branch on: a cage that cannot be made exactly as asked is not made at all.

use std::{fmt, io};

/// What could not be done, and why.
#[derive(Debug)]
pub(crate) struct Fault(String);

impl Fault {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(crate) type Result<T> = std::result::Result<T, Fault>;

/// Says what was being done when it failed.
pub(crate) trait During<T> {
    /// `what` follows "cannot" in a sentence.
    fn during(self, what: &str) -> Result<T>;
}

impl<T, E: fmt::Display> During<T> for std::result::Result<T, E> {
    fn during(self, what: &str) -> Result<T> {
        self.map_err(|error| Fault(format!("cannot {what}: {error}")))
    }
}

/// The last system call's error.
pub(crate) fn last_error() -> io::Error {
    io::Error::last_os_error()
}
