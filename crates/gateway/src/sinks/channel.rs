//! A way to a receiver: what is the same for all of them, and which is which.

use std::{path::Path, time::Duration};

use clawstaff_export::sink::Target;
use clawstaff_types::{Secret, Sink};

use super::{
    files::Files, job::Failed, otlp::Otlp, s3::Bucket, source::Batch, syslog::Syslog, webhook::Webhook,
};

/// What opening a channel needs.
#[derive(Debug)]
pub(super) struct Opening<'a> {
    pub(super) sink: &'a Sink,
    /// The log's short name.
    pub(super) log: &'static str,
    pub(super) secret: Option<Secret<String>>,
    pub(super) exports: &'a Path,
    pub(super) extra_ca: Option<&'a Path>,
}

/// An open channel.
pub(super) enum Channel {
    Syslog(Box<Syslog>),
    Webhook(Webhook),
    Otlp(Otlp),
    S3(Bucket),
    File(Files),
}

impl Channel {
    /// Opens it. Whether anybody is there is known only once something is sent, except for syslog.
    pub(super) async fn open(target: &Target, opening: Opening<'_>) -> Result<Self, Failed> {
        match target.clone() {
            Target::Syslog {
                host, port, version, ..
            } => Syslog::open(&host, port, version, opening)
                .await
                .map(Box::new)
                .map(Self::Syslog),
            Target::Webhook { url, format, .. } => Webhook::open(url, format, opening).map(Self::Webhook),
            Target::Otlp { url, .. } => Otlp::open(url, opening).map(Self::Otlp),
            Target::S3 {
                url,
                bucket,
                prefix,
                region,
                format,
                ..
            } => Bucket::open(url, &bucket, &prefix, region, format, opening).map(Self::S3),
            Target::File { format } => Files::open(format, &opening).map(Self::File),
        }
    }

    /// Sends the batch. Returns the index below which the receiver has certainly taken everything.
    pub(super) async fn send(&mut self, batch: &Batch) -> Result<u64, Failed> {
        match self {
            Self::Syslog(syslog) => syslog.send(batch).await,
            Self::Webhook(webhook) => webhook.send(batch).await.map(|()| batch.end()),
            Self::Otlp(otlp) => otlp.send(batch).await.map(|()| batch.end()),
            Self::S3(bucket) => bucket.send(batch).await.map(|()| batch.end()),
            Self::File(files) => files.send(batch).map(|()| batch.end()),
        }
    }

    /// Resolves when the receiver has ended the connection; never for those without one.
    pub(super) async fn gone(&mut self) -> Failed {
        match self {
            Self::Syslog(syslog) => syslog.gone().await,
            Self::Webhook(_) | Self::Otlp(_) | Self::S3(_) | Self::File(_) => std::future::pending().await,
        }
    }

    /// Records in one batch, at most.
    pub(super) const fn most(&self) -> usize {
        match self {
            Self::Syslog(_) | Self::Webhook(_) => 100,
            Self::Otlp(_) => 200,
            Self::S3(_) | Self::File(_) => 1000,
        }
    }

    /// How long a batch that is not full waits for more.
    pub(super) const fn patience(&self) -> Option<Duration> {
        match self {
            Self::S3(_) => Some(super::s3::PATIENCE),
            Self::Syslog(_) | Self::Webhook(_) | Self::Otlp(_) | Self::File(_) => None,
        }
    }
}

/// This machine's name, for receivers.
pub(super) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
