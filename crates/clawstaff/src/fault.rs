//! Why the gateway does not run, for whoever finds nobody at its socket: a text beside it.

use std::{
    io::{Read as _, Write as _},
    path::Path,
};

/// The most that is read of it, in bytes.
const MAX: u64 = 4096;

/// Leaves the reason; forgets it again with the next start.
pub(crate) fn leave(path: &Path, why: &str) {
    forget(path);
    // Made anew and never through a link: others may write in this folder.
    let made = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path);
    // That it is said on standard error is what counts.
    let _best_effort = made.and_then(|mut file| file.write_all(why.as_bytes()));
}

/// Removes the reason.
pub(crate) fn forget(path: &Path) {
    let _none = std::fs::remove_file(path);
}

/// The reason, if there is one, safe to print.
pub(crate) fn read(path: &Path) -> Option<String> {
    let mut text = Vec::new();
    std::fs::File::open(path)
        .ok()?
        .take(MAX)
        .read_to_end(&mut text)
        .ok()?;
    let text = String::from_utf8_lossy(&text);
    let shown: String = text.chars().filter(|character| !character.is_control()).collect();
    (!shown.is_empty()).then_some(shown)
}
