//! A streamed answer: it flows to the cage after the durable intent, and its outcome is recorded at its end.
//!
//! The pump runs apart from the cage's connection, so that a cage that goes away does not take the record with
//! it. A revoked grant ends the stream.

use std::io;

use bytes::Bytes;
use clawstaff_types::Outcome;
use futures_util::StreamExt as _;
use http::StatusCode;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::{Settling, tokens, usage::Usage};
use crate::{body::Body, commit::Running, decide, mask::Mask};

/// Pieces on their way at any time.
const DEPTH: usize = 16;

/// The longest stream that is kept, in bytes.
const MAX_KEPT: usize = 4 << 20;

/// Why a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Complete,
    CageGone,
    UpstreamBroke,
    Silence,
    TooLong,
    Revoked,
}

impl End {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::CageGone => "cage_gone",
            Self::UpstreamBroke => "upstream_broke",
            Self::Silence => "silence",
            Self::TooLong => "too_long",
            Self::Revoked => "revoked",
        }
    }
}

/// Starts the pump and gives the body that the cage reads.
pub(super) fn flow(settling: Settling, status: StatusCode, body: Incoming, mask: Mask) -> Body {
    let (to_cage, from_pump) = mpsc::channel(DEPTH);
    let digest = settling.keys.subject.commit.begin("response");
    let kept = settling.gateway.content.keeps().then(Vec::new);
    let pump = Pump {
        settling,
        status,
        mask,
        digest,
        usage: Usage::default(),
        bytes: 0,
        kept,
        to_cage,
    };
    tokio::spawn(pump.run(body));
    let frames = tokio_stream_of(from_pump).map(|piece| piece.map(Frame::data));
    StreamBody::new(frames).boxed_unsync()
}

fn tokio_stream_of(
    from_pump: mpsc::Receiver<io::Result<Bytes>>,
) -> impl futures_util::Stream<Item = io::Result<Bytes>> + Send {
    futures_util::stream::unfold(from_pump, |mut from_pump| async move {
        from_pump.recv().await.map(|piece| (piece, from_pump))
    })
}

struct Pump {
    settling: Settling,
    status: StatusCode,
    mask: Mask,
    digest: Running,
    usage: Usage,
    bytes: u64,
    /// What has passed, if content is kept and as long as it is not too much.
    kept: Option<Vec<u8>>,
    to_cage: mpsc::Sender<io::Result<Bytes>>,
}

impl Pump {
    async fn run(mut self, body: Incoming) {
        let whole = self.settling.gateway.waits.whole;
        let mut end = tokio::time::timeout(whole, self.pump(body))
            .await
            .unwrap_or(End::TooLong);
        let rest = self.mask.rest();
        if end == End::Complete && !rest.is_empty() && !self.release(rest).await {
            end = End::CageGone;
        }
        let to_cage = self.to_cage.clone();
        let recorded = self.settle(end).await;
        if end != End::Complete || !recorded {
            let broke = io::Error::other("the stream was broken off");
            let _nobody_listens = to_cage.send(Err(broke)).await;
        }
    }

    async fn pump(&mut self, mut body: Incoming) -> End {
        let mut revisions = self.settling.gateway.revisions.subscribe();
        let idle = self.settling.gateway.waits.stream;
        loop {
            tokio::select! {
                biased;
                () = self.to_cage.closed() => return End::CageGone,
                changed = revisions.changed() => {
                    if changed.is_err() || !self.still_allowed() {
                        return End::Revoked;
                    }
                }
                frame = tokio::time::timeout(idle, body.frame()) => match frame {
                    Err(_) => return End::Silence,
                    Ok(None) => return End::Complete,
                    Ok(Some(Err(_))) => return End::UpstreamBroke,
                    Ok(Some(Ok(frame))) => {
                        let Ok(data) = frame.into_data() else { continue };
                        self.usage.piece(&self.settling.question.link.connector, &data);
                        let clear = self.mask.piece(data);
                        if !clear.is_empty() && !self.release(clear).await {
                            return End::CageGone;
                        }
                    }
                }
            }
        }
    }

    /// Hands a piece to the cage; `false` when nobody is there any more.
    async fn release(&mut self, piece: Bytes) -> bool {
        self.digest.update(&piece);
        self.bytes += piece.len() as u64;
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(&piece);
        }
        self.kept.take_if(|kept| kept.len() > MAX_KEPT);
        self.to_cage.send(Ok(piece)).await.is_ok()
    }

    fn still_allowed(&self) -> bool {
        let state = self.settling.gateway.state.load();
        decide::still_allowed(&state, &self.settling.question, Timestamp::now())
    }

    async fn settle(self, end: End) -> bool {
        let Self {
            mut settling,
            status,
            digest,
            usage,
            bytes,
            kept,
            ..
        } = self;
        let mut facts = vec![
            ("status", status.as_u16().to_string()),
            ("response_bytes", bytes.to_string()),
            ("stream", end.as_str().to_owned()),
        ];
        tokens(&mut facts, usage.seen());
        let whole = match &kept {
            Some(kept) => settling.keep(kept).await,
            None => !settling.gateway.content.keeps(),
        };
        if !whole {
            facts.push(("content", "not kept".to_owned()));
        }
        let error = usage.error();
        facts.extend(error.map(|error| ("error", error.to_owned())));
        let outcome = match end {
            End::Complete if status.is_success() && error.is_none() => Outcome::Succeeded,
            End::Complete => Outcome::Failed,
            End::CageGone | End::UpstreamBroke | End::Silence | End::TooLong | End::Revoked => {
                Outcome::Unknown
            }
        };
        if let Some(spend) = settling.spend.take() {
            let whole = end == End::Complete && error.is_none();
            facts.extend(spend.settle(usage.seen().filter(|_| whole)));
        }
        settling.close(outcome, facts, Some(digest.end())).await.is_ok()
    }
}
