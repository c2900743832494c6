//! Where the contract's places are: the contract's own values, unless a test says otherwise.
//!
//! The flags exist so that the real program can be tried outside a cage. They give no power to anybody: whoever
//! can start `claw` with other places could have started any other program there.

use std::{net::SocketAddr, path::PathBuf};

use clawstaff_cage_contract as contract;

/// Places and addresses of one cage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// `/claw`
    pub(crate) claw_dir: PathBuf,
    /// `/data`
    pub(crate) data_dir: PathBuf,
    /// The fixed HTTP doors.
    pub(crate) doors: SocketAddr,
    /// The HTTP proxy.
    pub(crate) proxy: SocketAddr,
    /// The image's own command, which runs when the Claw has none.
    pub(crate) image_command: Vec<String>,
}

/// A command line that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OptionsError {
    /// A flag that does not exist.
    #[error("unknown argument {0:?}")]
    Unknown(String),
    /// A flag without its value.
    #[error("{0} needs a value")]
    Missing(String),
    /// A value that is not `ADDRESS:PORT`.
    #[error("{flag} wants ADDRESS:PORT, not {value:?}")]
    NotAnAddress {
        /// The flag.
        flag: String,
        /// What was given.
        value: String,
    },
}

impl Options {
    /// Reads `--claw-dir DIR`, `--data DIR`, `--doors ADDR` and `--proxy ADDR`; none is needed in a cage. After `--`
    /// comes the image's own command.
    ///
    /// # Errors
    /// When an argument is unknown, incomplete or malformed.
    pub(crate) fn parse(args: &[String]) -> Result<Self, OptionsError> {
        let mut options = Self {
            claw_dir: contract::CLAW_DIR.into(),
            data_dir: contract::DATA_DIR.into(),
            doors: address("--doors", contract::DOORS_ADDR)?,
            proxy: address("--proxy", contract::PROXY_ADDR)?,
            image_command: Vec::new(),
        };
        let mut args = args.iter();
        while let Some(flag) = args.next() {
            if flag == "--" {
                options.image_command = args.cloned().collect();
                break;
            }
            let mut value = || args.next().ok_or_else(|| OptionsError::Missing(flag.clone()));
            match flag.as_str() {
                "--claw-dir" => options.claw_dir = value()?.into(),
                "--data" => options.data_dir = value()?.into(),
                "--doors" => options.doors = address(flag, value()?)?,
                "--proxy" => options.proxy = address(flag, value()?)?,
                _ => return Err(OptionsError::Unknown(flag.clone())),
            }
        }
        Ok(options)
    }

    /// A file of the contract under the Claw's directory: the contract's path, moved to where this cage has it.
    pub(crate) fn claw_path(&self, contract_path: &str) -> PathBuf {
        let name = contract_path
            .strip_prefix(contract::CLAW_DIR)
            .unwrap_or(contract_path)
            .trim_start_matches('/');
        self.claw_dir.join(name)
    }
}

fn address(flag: &str, value: &str) -> Result<SocketAddr, OptionsError> {
    value.parse().map_err(|_| OptionsError::NotAnAddress {
        flag: flag.to_owned(),
        value: value.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options, OptionsError> {
        Options::parse(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn without_flags_the_places_are_the_contracts() {
        let options = parse(&[]).unwrap();
        assert_eq!(
            options.claw_path(contract::DOOR_SOCKET),
            PathBuf::from(contract::DOOR_SOCKET)
        );
        assert_eq!(options.doors.to_string(), contract::DOORS_ADDR);
    }

    #[test]
    fn flags_move_the_places() {
        let options = parse(&["--claw-dir", "/tmp/c", "--proxy", "127.0.0.1:9"]).unwrap();
        assert_eq!(
            options.claw_path(contract::CA_FILE),
            PathBuf::from("/tmp/c/ca.pem")
        );
        assert_eq!(options.proxy.port(), 9);
    }

    #[test]
    fn flags_that_are_not_understood_are_refused() {
        assert_eq!(parse(&["--nope"]), Err(OptionsError::Unknown("--nope".into())));
        assert_eq!(parse(&["--data"]), Err(OptionsError::Missing("--data".into())));
        assert!(parse(&["--doors", "here"]).is_err());
    }
}
