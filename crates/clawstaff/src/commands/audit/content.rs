//! `clawstaff audit show --content`: what was sent and received, from the gateway on its own host.
//!
//! The record comes from the control plane, the content never does; what the gateway decrypts is compared with what
//! the record commits to.

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use clawstaff_api::{
    local::{CONTENT, Content, ContentPart},
    people::AuditRecord,
};
use serde_json::json;

use crate::{
    context::Context,
    failure::{Exit, Failure},
    output::{self, Format},
};

/// The longest piece shown on a terminal, in characters; `-o json` has all of it.
const MAX_SHOWN: usize = 100_000;

pub(super) async fn show(context: &Context, record: &AuditRecord) -> Result<(), Failure> {
    if !record.id.starts_with("gateway:") {
        return Err(Failure::usage("only records of the gateway have content"));
    }
    let path = format!("{CONTENT}/{}", record.index);
    let content: Content = context.gateway()?.get(&path).await?;
    match context.output {
        Format::Json => output::json(&json!({
            "id": record.id,
            "parts": content.parts.iter().map(|part| as_json(record, part)).collect::<Vec<_>>(),
            "erased": content.erased,
        }))?,
        Format::Table => {
            super::show(Format::Table, record)?;
            for part in &content.parts {
                print(record, part)?;
            }
        }
    }
    if content.erased > 0 {
        output::note(&format!(
            "{} parts cannot be read any more: their subject was erased",
            content.erased
        ));
    }
    if content.parts.iter().all(|part| is_committed(record, part)) {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Verification,
        "what is kept is not what the record commits to",
    ))
}

fn is_committed(record: &AuditRecord, part: &ContentPart) -> bool {
    record.event.digests.get(&part.label) == Some(&part.digest)
}

fn pieces(part: &ContentPart) -> impl Iterator<Item = String> {
    part.pieces.iter().map(|piece| {
        let bytes = BASE64.decode(piece).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn as_json(record: &AuditRecord, part: &ContentPart) -> serde_json::Value {
    json!({
        "label": part.label,
        "pieces": pieces(part).collect::<Vec<_>>(),
        "digest": part.digest,
        "committed": is_committed(record, part),
    })
}

fn print(record: &AuditRecord, part: &ContentPart) -> Result<(), Failure> {
    let proof = if is_committed(record, part) {
        "as recorded"
    } else {
        "NOT as recorded"
    };
    output::line(&format!("\n{} ({proof})", part.label))?;
    for piece in pieces(part).filter(|piece| !piece.is_empty()) {
        let lines = piece.lines().map(|line| output::tame(line, MAX_SHOWN));
        output::line(&lines.collect::<Vec<_>>().join("\n"))?;
    }
    Ok(())
}
