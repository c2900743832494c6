//! Which image a cage has: `image.json` beside its spec. A revision keeps the image that it was made with, whatever
//! its reference has come to mean since.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};

use crate::image::Unpacked;

const FILE: &str = "image.json";

/// The image of one revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pinned {
    pub(super) reference: String,
    pub(super) revision: u32,
    pub(super) image: Unpacked,
}

pub(super) fn read(dir: &Path) -> io::Result<Pinned> {
    serde_json::from_slice(&fs::read(dir.join(FILE))?).map_err(io::Error::other)
}

/// Writes it down; a cage of an image of ours has none.
pub(super) fn write(dir: &Path, image: Option<&Pinned>) -> io::Result<()> {
    let path = dir.join(FILE);
    match image {
        Some(image) => super::core::replace(&path, &serde_json::to_vec(image)?),
        None => match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        },
    }
}
