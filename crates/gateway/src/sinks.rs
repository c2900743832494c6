//! Sinks: every record of this gateway's log and of the control plane's, sent where the organization wants them.
//!
//! ```text
//!  state ─► sinks wanted ─┬─► sink × own log      ─┐  read ─► send ─► cursor durable ─► read …
//!                         └─► sink × control log  ─┘
//! ```
//!
//! Here and not in the control plane, because here are the credentials and the way out; the control plane's own
//! entries are asked for over the connection that the gateway has dialled. A sink reads a log by index, behind what
//! is durable: however slow or dead it is, no acknowledgement waits for it.
//!
//! At least once, in the log's order: the cursor moves after the receiver has taken a batch. If we crash in between,
//! the batch is sent again, and `origin` and `index` say that it is the same.

mod backoff;
mod board;
mod channel;
mod cursor;
mod files;
pub(crate) mod http;
mod job;
mod otlp;
mod s3;
pub mod sigv4;
mod source;
mod syslog;
pub mod webhook;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use clawstaff_types::{Sink, SinkName};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use self::board::Board;
use self::{job::Job, source::Source};
use crate::{node, shared::Gateway};

/// What the sinks need besides the gateway.
#[derive(Debug, Clone)]
pub struct Places {
    /// `$DATA/gateway/sinks`: cursors.
    pub cursors: PathBuf,
    /// `$DATA/gateway/exports`: what file sinks write.
    pub exports: PathBuf,
    /// `$DATA/run/nodes.sock`, where the control plane's log is asked for.
    pub socket: PathBuf,
    /// `$DATA/gateway/node.token`
    pub token: PathBuf,
}

/// One sink's two jobs.
struct Running {
    sink: Sink,
    stop: CancellationToken,
}

/// Keeps the sinks as the state in force wants them, until `shutdown`.
pub async fn run(gateway: Arc<Gateway>, places: Places, shutdown: CancellationToken) {
    let mut news = gateway.revisions.subscribe();
    let mut running: BTreeMap<SinkName, Running> = BTreeMap::new();
    let mut jobs = JoinSet::new();
    loop {
        news.mark_unchanged();
        let state = gateway.state.load_full();
        let wanted = &state.raw().sinks;
        running.retain(|_, one| {
            let stays = wanted.contains(&one.sink);
            if !stays {
                one.stop.cancel();
            }
            stays
        });
        gateway
            .sinks
            .keep(|name| wanted.iter().any(|sink| sink.name == *name));
        cursor::keep(&places.cursors, wanted);
        for sink in wanted
            .iter()
            .filter(|sink| !running.contains_key(&sink.name))
            .cloned()
            .collect::<Vec<_>>()
        {
            let stop = shutdown.child_token();
            start(&gateway, &places, &sink, &stop, &mut jobs);
            running.insert(sink.name.clone(), Running { sink, stop });
        }
        tokio::select! {
            changed = news.changed() => if changed.is_err() { break },
            () = shutdown.cancelled() => break,
            // A finished job was told to end; what matters is that it is not kept.
            Some(_ended) = jobs.join_next(), if !jobs.is_empty() => {}
        }
    }
    while jobs.join_next().await.is_some() {}
}

fn start(
    gateway: &Arc<Gateway>,
    places: &Places,
    sink: &Sink,
    stop: &CancellationToken,
    jobs: &mut JoinSet<()>,
) {
    let client = node::Client::new(places.socket.clone(), places.token.clone());
    for source in [Source::own(Arc::clone(gateway)), Source::control(client)] {
        let job = Job::new(Arc::clone(gateway), sink.clone(), source, places);
        let stop = stop.clone();
        jobs.spawn(async move {
            tokio::select! {
                () = job.run() => {}
                () = stop.cancelled() => {}
            }
        });
    }
}
