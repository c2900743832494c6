//! Where the local installation is, and how its files are called.

use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// The file in [`Place::run`] that says why the gateway ended.
pub(crate) const GATEWAY_FAULT: &str = "gateway.fault";

/// The data root of an installation. The tree is described in `ARCHITECTURE.md` and made by `clawstaff up`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place(PathBuf);

impl Place {
    /// The given root, else the default one for this user.
    pub(crate) fn find(given: Option<PathBuf>) -> Result<Self, Failure> {
        if let Some(path) = given {
            let absolute = std::path::absolute(&path);
            return absolute.map(Self).map_err(|error| {
                Failure::usage(format!(
                    "cannot use {} as data directory: {error}",
                    path.display()
                ))
            });
        }
        if rustix::process::geteuid().is_root() {
            return Ok(Self(PathBuf::from("/var/lib/clawstaff")));
        }
        let absolute = |name: &str| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        absolute("XDG_DATA_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
            .map(|base| Self(base.join("clawstaff")))
            .ok_or_else(|| {
                Failure::usage("there is no home directory to keep the data in")
                    .hint("name a directory with --data or CLAWSTAFF_DATA")
            })
    }

    /// The root itself.
    pub(crate) fn root(&self) -> &Path {
        &self.0
    }

    /// The control plane's own folder.
    pub(crate) fn control(&self) -> PathBuf {
        self.0.join("control")
    }

    /// On a node: who it is. The uplink's, which has the control plane's folder where there is none.
    pub(crate) fn identity(&self) -> PathBuf {
        self.control().join("identity.json")
    }

    /// The gateway's own folder.
    pub(crate) fn gateway(&self) -> PathBuf {
        self.0.join("gateway")
    }

    /// One folder per cage, made by the gateway.
    pub(crate) fn doors(&self) -> PathBuf {
        self.0.join("doors")
    }

    /// The runner's own folder.
    pub(crate) fn runner(&self) -> PathBuf {
        self.0.join("runner")
    }

    /// The sockets.
    pub(crate) fn run(&self) -> PathBuf {
        self.0.join("run")
    }

    /// The control plane's API for people.
    pub(crate) fn api_socket(&self) -> PathBuf {
        self.run().join("api.sock")
    }

    /// The control plane's API for nodes.
    pub(crate) fn nodes_socket(&self) -> PathBuf {
        self.run().join("nodes.sock")
    }

    /// Why the gateway ended, if it did so with an error.
    pub(crate) fn gateway_fault(&self) -> PathBuf {
        self.run().join(GATEWAY_FAULT)
    }

    /// The gateway's API for this host.
    pub(crate) fn gateway_socket(&self) -> PathBuf {
        self.run().join("gateway.sock")
    }

    /// The runner's API for this host.
    pub(crate) fn runner_socket(&self) -> PathBuf {
        self.run().join("runner.sock")
    }
}
