//! Reading `/claw/claw.json`, and refusing a contract that this program does not speak.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use clawstaff_cage_contract::{ClawFile, VERSION};
use serde::Deserialize;

/// The exit code for a configuration that cannot be used (`EX_CONFIG` of `sysexits.h`).
pub(crate) const EXIT_CONFIG: u8 = 78;

/// The largest `claw.json` that is read, in bytes.
const MAX_BYTES: u64 = 256 * 1024;

/// Why there is no usable `claw.json`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClawFileError {
    /// The file could not be read.
    #[error("reading {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is larger than any honest one.
    #[error("{path} is larger than {MAX_BYTES} bytes")]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// The file speaks of another contract.
    #[error(
        "{path} follows version {found} of the cage contract and this program version {VERSION}: \
         gateway and cage image must come from the same release"
    )]
    OtherVersion {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The file is not what the contract says.
    #[error("reading {path} as JSON of the cage contract: {source}")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Where it breaks.
        source: serde_json::Error,
    },
}

/// The one field that every version of the contract has.
#[derive(Deserialize)]
struct Version {
    contract: u32,
}

/// Reads the file at `path`.
///
/// # Errors
/// When it cannot be read, is too large, follows another version of the contract, or is malformed.
pub(crate) fn read(path: &Path) -> Result<ClawFile, ClawFileError> {
    let failed = |source| ClawFileError::Read {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len > MAX_BYTES) {
        return Err(ClawFileError::TooLarge {
            path: path.to_owned(),
        });
    }
    parse(path, &bytes)
}

/// The version is read first: a later contract may have another shape, and deserves the clearer message.
fn parse(path: &Path, bytes: &[u8]) -> Result<ClawFile, ClawFileError> {
    let malformed = |source| ClawFileError::Malformed {
        path: path.to_owned(),
        source,
    };
    let Version { contract } = serde_json::from_slice(bytes).map_err(malformed)?;
    if contract != VERSION {
        return Err(ClawFileError::OtherVersion {
            path: path.to_owned(),
            found: contract,
        });
    }
    serde_json::from_slice(bytes).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(text: &str) -> Result<ClawFile, ClawFileError> {
        parse(Path::new("/claw/claw.json"), text.as_bytes())
    }

    #[test]
    fn another_contract_is_refused_by_its_version_whatever_its_shape() {
        let error = parse_text(r#"{"contract": 2, "soul": {}}"#).unwrap_err();
        assert!(
            matches!(error, ClawFileError::OtherVersion { found: 2, .. }),
            "{error}"
        );
        assert!(error.to_string().contains("version 2"), "{error}");
    }

    #[test]
    fn the_contracts_own_file_is_read() {
        let file = parse_text(
            r#"{"contract":1,"claw":"triage","revision":3,"command":[],"env":{"A":"b"},
                "model":{"api":"anthropic","name":"m"}}"#,
        )
        .unwrap();
        assert_eq!(file.claw.as_str(), "triage");
        assert_eq!(file.revision, 3);
    }

    #[test]
    fn a_broken_file_is_called_malformed() {
        assert!(matches!(
            parse_text("{\"contract\":1}"),
            Err(ClawFileError::Malformed { .. })
        ));
        assert!(matches!(parse_text("no"), Err(ClawFileError::Malformed { .. })));
    }
}
