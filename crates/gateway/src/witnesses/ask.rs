//! One witness, one checkpoint: the proof from where the witness stands, the request, its answer.

use std::time::Duration;

use bytes::Bytes;
use clawstaff_api::nodes::{ControlLog, GATEWAY_CONTROL_LOG};
use clawstaff_audit::{
    Checkpoint,
    published::{Published, TileHashes},
    tree::{self, Hash},
    witness::{ADD_CHECKPOINT, AddCheckpoint, conflicting_size, cosignatures},
};
use http::{Method, StatusCode};

use super::{Reachable, Trouble, Which, Witnesses};

/// Requests for one checkpoint: a witness may say twice where it stands.
const TRIES: usize = 3;
const PROOF_TIME: Duration = Duration::from_secs(10);

fn failed(error: impl std::fmt::Display) -> Trouble {
    Trouble::Failed(error.to_string())
}

impl Witnesses {
    /// The lines that this witness adds to the checkpoint.
    pub(super) async fn ask(
        &self,
        which: Which,
        (at, witness): (usize, &Reachable),
        agreed: &str,
        checkpoint: &Checkpoint,
    ) -> Result<String, Trouble> {
        let mut old = self.stands_at(at, which);
        for _ in 0..TRIES {
            let proof = self.proof(which, witness, old, checkpoint).await?;
            let request = AddCheckpoint {
                old,
                proof,
                checkpoint: agreed.to_owned(),
            };
            let (status, body) = self.post(witness, request).await?;
            match status {
                StatusCode::OK => {
                    let (lines, _) = cosignatures(&body, agreed, &witness.key).map_err(failed)?;
                    if let Ok(mut sizes) = self.sizes.lock() {
                        sizes.insert((at, which), checkpoint.size);
                    }
                    return Ok(lines);
                }
                StatusCode::CONFLICT => {
                    let stands = conflicting_size(&body).map_err(failed)?;
                    if stands == old {
                        return Err(another_log(which, witness, stands));
                    }
                    old = stands;
                }
                StatusCode::UNPROCESSABLE_ENTITY => return Err(another_log(which, witness, old)),
                other => return Err(failed(format!("it answered {other}"))),
            }
        }
        Err(failed("it says another size each time"))
    }

    fn stands_at(&self, at: usize, which: Which) -> u64 {
        let sizes = self.sizes.lock();
        sizes.map_or(0, |sizes| sizes.get(&(at, which)).copied().unwrap_or(0))
    }

    /// That the checkpoint extends what the witness has seen.
    async fn proof(
        &self,
        which: Which,
        witness: &Reachable,
        old: u64,
        checkpoint: &Checkpoint,
    ) -> Result<Vec<Hash>, Trouble> {
        if old == 0 || old == checkpoint.size {
            return Ok(Vec::new());
        }
        let has = match which {
            Which::Own => self.log.size(),
            Which::Control => checkpoint.size,
        };
        if old > has {
            return Err(Trouble::Contradiction(format!(
                "witness {} has cosigned {old} entries of {}, which has fewer: it was rolled back",
                witness.name,
                which.words()
            )));
        }
        if old > checkpoint.size {
            return Err(failed("it has cosigned a newer checkpoint"));
        }
        match which {
            Which::Own => self.own_proof(old, checkpoint.clone()).await,
            Which::Control => self.control_proof(old, checkpoint).await,
        }
    }

    /// Out of our tiles, and checked before anybody else sees it: a bad tile is no contradiction.
    async fn own_proof(&self, old: u64, to: Checkpoint) -> Result<Vec<Hash>, Trouble> {
        let dir = self.places.log.clone();
        let proof = tokio::task::spawn_blocking(move || {
            let published = Published::new(&dir);
            let hashes = TileHashes::new(&published, to.size);
            let root = tree::root_of(&hashes, old).map_err(failed)?;
            let proof = tree::consistency_proof(&hashes, old, to.size).map_err(failed)?;
            proof
                .filter(|proof| tree::verify_consistency(old, to.size, &root, &to.root, proof))
                .ok_or_else(|| {
                    failed("the log's tiles do not prove its checkpoint; see `clawstaff audit verify`")
                })
        });
        proof.await.map_err(failed)?
    }

    /// From the control plane, whose log it is. It tells of its newest checkpoint only.
    async fn control_proof(&self, old: u64, to: &Checkpoint) -> Result<Vec<Hash>, Trouble> {
        let path = format!("{GATEWAY_CONTROL_LOG}?from={old}");
        let news: Option<ControlLog> = self.control.get(&path, PROOF_TIME).await.map_err(failed)?;
        let news = news.ok_or_else(|| failed("the control plane has no news of its log"))?;
        let newest = Checkpoint::parse(&news.checkpoint).map_err(failed)?;
        if newest == *to {
            Ok(news.consistency)
        } else {
            Err(failed("the control plane's log has grown meanwhile"))
        }
    }

    async fn post(
        &self,
        witness: &Reachable,
        request: AddCheckpoint,
    ) -> Result<(StatusCode, String), Trouble> {
        let path = format!("{}/{ADD_CHECKPOINT}", witness.url.path.trim_end_matches('/'));
        let url = witness.url.at(&path);
        let body = Bytes::from(request.to_body());
        let answer = self.http.exchange(Method::POST, &url, Vec::new(), body).await;
        let (status, body) = answer.map_err(|error| failed(error.0))?;
        let body = String::from_utf8(body.to_vec()).map_err(|_| failed("its answer is not text"))?;
        Ok((status, body))
    }
}

fn another_log(which: Which, witness: &Reachable, old: u64) -> Trouble {
    Trouble::Contradiction(format!(
        "witness {} has cosigned {old} other entries of {}: it was rewritten or forked",
        witness.name,
        which.words()
    ))
}
