//! Backups of the vault: made, and put back. For custodians only, since whoever has a backup and its key has every secret.

use std::sync::Arc;

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Query, State, rejection::BytesRejection},
    http::header,
    response::{IntoResponse, Response},
};
use clawstaff_api::{
    ApiProblem, Code,
    local::{RestoreQuery, Restored},
};
use clawstaff_types::{EventKind, Secret};
use clawstaff_vault::{BackupError, Contents, MAX_BACKUP};

use super::{
    Caller, Local, respond,
    secrets::{Act, begun, ended, kind_of, refusal as refused_secret},
};
use crate::settle::chain;

/// A key or passphrase, a line break, and a backup.
pub(super) const MAX_RESTORE: usize = MAX_BACKUP + 4096;

pub(super) async fn make(
    State(local): State<Arc<Local>>,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    match made(&local, &caller, body).await {
        Ok(file) => ([(header::CONTENT_TYPE, "application/octet-stream")], file).into_response(),
        Err(problem) => respond(&problem),
    }
}

async fn made(
    local: &Local,
    caller: &Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Vec<u8>, ApiProblem> {
    custodians_only(local, caller)?;
    let key = text(&whole(body)?)?;
    let sealed_to = if key.expose_secret().trim_start().starts_with("age1") {
        "recipient"
    } else {
        "passphrase"
    };
    let act = Act::of_vault(vec![("backup", sealed_to.to_owned())]);
    let begun = begun(local, caller, &act).await?;
    let gateway = Arc::clone(&local.gateway);
    // A passphrase is stretched, which takes a second.
    let done = tokio::task::spawn_blocking(move || gateway.vault.backup(&key)).await;
    let done = done.map_err(|_| ApiProblem::new(Code::Internal, "the backup broke off"))?;
    ended(local, begun, done.is_ok()).await;
    let (file, names) = done.map_err(refusal)?;
    tracing::info!(secrets = names.len(), "a backup of the vault was made");
    Ok(file)
}

pub(super) async fn restore(
    State(local): State<Arc<Local>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<RestoreQuery>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    match restored(&local, &caller, query, body).await {
        Ok(restored) => Json(restored).into_response(),
        Err(problem) => respond(&problem),
    }
}

async fn restored(
    local: &Local,
    caller: &Caller,
    query: RestoreQuery,
    body: Result<Bytes, BytesRejection>,
) -> Result<Restored, ApiProblem> {
    custodians_only(local, caller)?;
    let body = whole(body)?;
    let read = tokio::task::spawn_blocking(move || contents(&body)).await;
    let contents = read.map_err(|_| ApiProblem::new(Code::Internal, "the restoring broke off"))??;
    let vault = &local.gateway.vault;
    vault.may_restore(&contents, query.replace).map_err(refusal)?;
    let mut open = Vec::new();
    for name in contents.names() {
        let act = Act::restored(kind_of(vault, name), name);
        open.push(begun(local, caller, &act).await?);
    }
    let done = vault.restore(&contents, query.replace);
    local.gateway.masks.retain(|_| false);
    for begun in open {
        ended(local, begun, done.is_ok()).await;
    }
    done.map_err(refusal)?;
    Ok(Restored {
        secrets: contents.names().cloned().collect(),
    })
}

fn custodians_only(local: &Local, caller: &Caller) -> Result<(), ApiProblem> {
    if caller.is_custodian(local) {
        return Ok(());
    }
    let why = "only custodians back the vault up and restore it: root, the gateway's own user, and those named with `--custodian`";
    Err(ApiProblem::new(Code::Forbidden, why))
}

fn whole(body: Result<Bytes, BytesRejection>) -> Result<Secret<Vec<u8>>, ApiProblem> {
    let too_long = format!("a backup has at most {MAX_BACKUP} bytes");
    let body = body.map_err(|_| ApiProblem::new(Code::Invalid, too_long))?;
    Ok(Secret::new(Vec::from(body)))
}

fn text(bytes: &Secret<Vec<u8>>) -> Result<Secret<String>, ApiProblem> {
    let text = std::str::from_utf8(bytes.expose_secret());
    let text = text.map_err(|_| ApiProblem::new(Code::Invalid, "a key or passphrase is text in UTF-8"))?;
    Ok(Secret::new(text.to_owned()))
}

/// Opens what follows the first line with what stands in it.
fn contents(body: &Secret<Vec<u8>>) -> Result<Contents, ApiProblem> {
    let body = body.expose_secret();
    let end = memchr::memchr(b'\n', body);
    let (key, file) = end
        .and_then(|end| Some((body.get(..end)?, body.get(end + 1..)?)))
        .ok_or_else(|| ApiProblem::new(Code::Invalid, "a key or passphrase, a line break, and the backup"))?;
    let key = text(&Secret::new(key.to_vec()))?;
    Contents::read(file, &key).map_err(refusal)
}

fn refusal(error: BackupError) -> ApiProblem {
    let code = match error {
        BackupError::Store(error) => return refused_secret(&error),
        BackupError::Exists(_) => Code::Conflict,
        BackupError::PrivateKey
        | BackupError::BadRecipient
        | BackupError::NoKey
        | BackupError::TooLarge
        | BackupError::Unopenable
        | BackupError::Malformed => Code::Invalid,
        BackupError::Seal | BackupError::File(_) | BackupError::Io { .. } => Code::Internal,
    };
    ApiProblem::new(code, chain(&error))
}

impl Act {
    /// Something that happens to the vault as a whole.
    fn of_vault(facts: Vec<(&'static str, String)>) -> Self {
        Self {
            kind: EventKind::ConfigChanged,
            name: None,
            facts,
        }
    }

    /// A secret that comes from a backup.
    fn restored(kind: EventKind, name: &clawstaff_types::SecretName) -> Self {
        Self {
            facts: vec![("from", "backup".to_owned())],
            ..Self::of(kind, name, None)
        }
    }
}
