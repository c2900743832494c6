//! The files with secrets of the control plane's own: seeds of its signing keys, the dashboard's token, the
//! key of the nodes' authority, and the digests of the nodes' tokens. Made on first use, mode 0600. None of them opens a vault.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use clawstaff_api::nodes::NodeTokens;
use clawstaff_types::{Digest, Secret};

use crate::RunError;

/// Reads the 32 bytes in the file, or makes new ones.
pub(crate) fn seed(path: &Path) -> Result<Secret<[u8; 32]>, RunError> {
    let bytes = Secret::new(read_or_make(path, || {
        let mut seed = [0; 32];
        aws_lc_rs::rand::fill(&mut seed).map_err(|_| RunError::Crypto)?;
        Ok(seed.to_vec())
    })?);
    let seed: Result<[u8; 32], _> = bytes.expose_secret().as_slice().try_into();
    seed.map(Secret::new).map_err(|_| RunError::Key {
        path: path.to_owned(),
        what: "the 32 bytes of a key",
    })
}

/// Reads the dashboard's token, or makes one; only its digest is kept in memory.
pub(crate) fn dashboard_token(path: &Path) -> Result<Digest, RunError> {
    let text = Secret::new(read_or_make(path, || {
        let mut random = [0; 32];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| RunError::Crypto)?;
        Ok(hex::encode(random).into_bytes())
    })?);
    let token = text.expose_secret().trim_ascii();
    if token.len() < 32 || !token.iter().all(u8::is_ascii_graphic) {
        return Err(RunError::Key {
            path: path.to_owned(),
            what: "a token of at least 32 printable characters",
        });
    }
    Ok(Digest::of(token))
}

/// The digests of the nodes' tokens; `None` as long as the file is not there, and then no node gets in.
pub(crate) fn node_tokens(path: &Path) -> Result<Option<NodeTokens>, RunError> {
    match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|_| RunError::Key {
                path: path.to_owned(),
                what: "the digests of the nodes' tokens",
            }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(file_error("read", path, source)),
    }
}

pub(crate) fn read_or_make(
    path: &Path,
    make: impl FnOnce() -> Result<Vec<u8>, RunError>,
) -> Result<Vec<u8>, RunError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let bytes = make()?;
            write_private(path, &bytes).map_err(|source| file_error("write", path, source))?;
            Ok(bytes)
        }
        Err(source) => Err(file_error("read", path, source)),
    }
}

/// Written beside it and renamed, so that a crash leaves no half of a key.
fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

pub(crate) fn file_error(doing: &'static str, path: &Path, source: std::io::Error) -> RunError {
    RunError::File {
        doing,
        path: path.to_owned(),
        source,
    }
}
