//! What a cage should be.

use std::path::PathBuf;

use clawstaff_types::{ClawName, spec::Limits};
use serde::{Deserialize, Serialize};

use crate::id::CageId;

/// The program that is the init of every cage, in the built-in image.
pub const INIT: [&str; 2] = ["/sbin/claw", "init"];

/// One cage as asked for. Back ends keep it beside the cage; the stored form is JSON of these fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CageSpec {
    /// Its id.
    pub id: CageId,
    /// The Claw; also the host name inside.
    pub claw: ClawName,
    /// The Claw's revision, for labels and people.
    pub revision: u32,
    /// The root file system.
    pub image: Image,
    /// Host directory bound read-only at `/claw`. It must exist, let others search it, and its files and its socket
    /// must be open to others: inside, the cage has a user id of its own.
    pub door_dir: PathBuf,
    /// Its limits. `limits.storage` cannot change while the cage exists.
    pub limits: Limits,
    /// What runs as pid 1; normally [`INIT`].
    pub command: Vec<String>,
}

/// Where a cage's root file system comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Image {
    /// The image that ClawStaff assembles from its own `claw` program.
    Builtin,
    /// A root file system unpacked in a directory of the host; native back end only.
    Directory(PathBuf),
    /// Another image, by a [`Reference`](crate::image::Reference) as text: of the local engine, a registry, an OCI
    /// layout or an archive.
    Oci(String),
}

impl CageSpec {
    /// The cage's command with the image's own behind it, which the init runs when the Claw has none.
    pub(crate) fn command_with(&self, own: &[String]) -> Vec<String> {
        let mut command = self.command.clone();
        if !own.is_empty() && self.command == Self::init() {
            command.push("--".to_owned());
            command.extend_from_slice(own);
        }
        command
    }

    /// [`INIT`] as a command.
    pub fn init() -> Vec<String> {
        INIT.map(str::to_owned).to_vec()
    }
}
