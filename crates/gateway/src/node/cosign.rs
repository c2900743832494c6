//! The gateway as witness of the control plane's own log: it cosigns what extends everything it cosigned before.
//!
//! What it cosigned last is kept here, where the control plane cannot reach; so a control plane that loses,
//! rewrites or forks its log finds nobody to cosign it, and an incident is opened in a log that is not its own.

use std::{convert::Infallible, io, time::Duration};

use clawstaff_api::nodes::{ControlLog, Cosigned, GATEWAY_CONTROL_LOG, GATEWAY_COSIGNED};
use clawstaff_audit::{Checkpoint, Stream, VerifyingKey, cosignature::cosign, note::MAX_NOTE_BYTES, tree};
use clawstaff_types::{Actor, Digest, Event, EventKind};
use jiff::Timestamp;

use super::{Node, session::Broken};
use crate::record;

/// The control plane holds a long poll for 25 s.
const POLL_TIME: Duration = Duration::from_secs(40);
const ANSWER_TIME: Duration = Duration::from_secs(15);
/// Between two looks at a log that contradicts itself.
const CONTRADICTED_PAUSE: Duration = Duration::from_secs(10);
/// The longest proof for a log of 2^64 entries.
const MAX_PROOF: usize = 64;

impl Node {
    /// The key of the control plane's log: the pinned one, or this one if it is the first.
    ///
    /// # Errors
    /// When another one is pinned, or the file cannot be used.
    pub(super) fn pin_control_log(&self, vkey: &str) -> Result<VerifyingKey, Broken> {
        let offered = VerifyingKey::parse(vkey).map_err(|error| Broken::Protocol(error.to_string()))?;
        let path = &self.paths.control_vkey;
        match crate::inbox::read_bounded(path, MAX_NOTE_BYTES as u64) {
            Ok(pinned) if pinned == format!("{offered}\n").as_bytes() => Ok(offered),
            Ok(pinned) => Err(Broken::Protocol(format!(
                "this control plane signs its log as `{offered}`, but `{}` is pinned: if it was replaced on purpose, remove `{}` and `{}`",
                String::from_utf8_lossy(&pinned).trim_end(),
                path.display(),
                self.paths.control_checkpoint.display(),
            ))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                crate::inbox::replace(path, format!("{offered}\n").as_bytes()).map_err(Broken::own)?;
                Ok(offered)
            }
            Err(error) => Err(Broken::own(error)),
        }
    }

    /// Cosigns the control plane's log as it grows. Ends when the conversation breaks.
    pub(super) async fn cosign_control(&self, key: &VerifyingKey) -> Result<Infallible, Broken> {
        loop {
            let known = self.cosigned_before(key)?;
            let from = known.as_ref().map_or(0, |known| known.size);
            let path = format!("{GATEWAY_CONTROL_LOG}?from={from}");
            let Some(news) = self.client.get::<ControlLog>(&path, POLL_TIME).await? else {
                continue;
            };
            let stated = Checkpoint::verify(&news.checkpoint, key)
                .map_err(|error| Broken::Protocol(format!("the control plane's log: {error}")))?;
            match contradiction(known.as_ref(), &stated, &news.consistency) {
                None => self.cosign(&news.checkpoint).await?,
                Some(why) => {
                    self.accuse(&why, &news.checkpoint).await?;
                    tokio::time::sleep(CONTRADICTED_PAUSE).await;
                }
            }
        }
    }

    /// What was cosigned last.
    fn cosigned_before(&self, key: &VerifyingKey) -> Result<Option<Checkpoint>, Broken> {
        match crate::inbox::read_bounded(&self.paths.control_checkpoint, MAX_NOTE_BYTES as u64) {
            Ok(note) => Checkpoint::verify(&String::from_utf8_lossy(&note), key)
                .map(Some)
                .map_err(Broken::own),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Broken::own(error)),
        }
    }

    /// Kept before it is given out: what was ever cosigned is remembered.
    async fn cosign(&self, note: &str) -> Result<(), Broken> {
        let checkpoint = cosign(note, &self.log_key, Timestamp::now()).map_err(Broken::own)?;
        crate::inbox::replace(&self.paths.control_checkpoint, checkpoint.as_bytes()).map_err(Broken::own)?;
        let cosigned = Cosigned { checkpoint };
        self.client
            .post::<_, serde_json::Value>(GATEWAY_COSIGNED, &cosigned, ANSWER_TIME)
            .await?;
        Ok(())
    }

    /// Keeps the contradicting checkpoint, which its own signature convicts, and opens an incident, once for each.
    async fn accuse(&self, why: &str, note: &str) -> Result<(), Broken> {
        tracing::error!(
            why,
            "the control plane's log contradicts itself; it is not cosigned"
        );
        let path = self.paths.control_checkpoint.with_file_name("control.conflict");
        let known = crate::inbox::read_bounded(&path, MAX_NOTE_BYTES as u64);
        if known.is_ok_and(|known| known == note.as_bytes()) {
            return Ok(());
        }
        let mut event = Event::new(EventKind::IncidentOpened, Actor::System("gateway".to_owned()));
        event.reason = Some(why.chars().take(300).collect());
        let digest = Digest::of(note.as_bytes());
        event.digests.insert("checkpoint".to_owned(), digest);
        let stream = Stream::System("gateway".to_owned());
        record::fact(&self.gateway, stream, digest, event)
            .await
            .map_err(Broken::own)?;
        crate::inbox::replace(&path, note.as_bytes()).map_err(Broken::own)
    }
}

/// Why a log that stood at `known` cannot stand at `stated` now, if so.
fn contradiction(known: Option<&Checkpoint>, stated: &Checkpoint, proof: &[Digest]) -> Option<String> {
    let known = known?;
    let (have, says) = (known.size, stated.size);
    if stated.origin != known.origin {
        return Some(format!(
            "the control plane's log is called `{}` now, it was `{}`",
            stated.origin, known.origin
        ));
    }
    if says < have {
        return Some(format!(
            "the control plane's log has {says} entries now, it had {have}: it was rolled back"
        ));
    }
    let extends = proof.len() <= MAX_PROOF
        && (have == 0 || tree::verify_consistency(have, says, &known.root, &stated.root, proof));
    (!extends).then(|| {
        format!("the control plane's log of {says} entries does not extend the {have} it had: it was rewritten or forked")
    })
}

#[cfg(test)]
mod tests {
    use clawstaff_audit::tree::{CompactRange, leaf_hash};

    use super::*;

    fn at(leaves: &[&str]) -> Checkpoint {
        let mut tree = CompactRange::new();
        for leaf in leaves {
            tree.push(leaf_hash(leaf.as_bytes()));
        }
        Checkpoint {
            origin: "control".into(),
            size: tree.size(),
            root: tree.root(),
        }
    }

    #[test]
    fn only_what_extends_the_last_is_no_contradiction() {
        let (one, two) = (at(&["a"]), at(&["a", "b"]));
        let proof = [leaf_hash(b"b")];
        assert_eq!(contradiction(None, &two, &[]), None);
        assert_eq!(contradiction(Some(&one), &two, &proof), None);
        assert_eq!(contradiction(Some(&two), &two, &[]), None);
        for (known, stated, proof) in [
            (&two, &one, &[][..]),
            (&one, &two, &[][..]),
            (&one, &at(&["x", "b"]), &proof[..]),
            (&two, &at(&["a", "x"]), &[][..]),
        ] {
            assert!(
                contradiction(Some(known), stated, proof).is_some(),
                "{known:?} {stated:?}"
            );
        }
    }
}
