//! OTLP sinks: a batch of records as one `ExportLogsServiceRequest` over HTTP, in protobuf.

use bytes::Bytes;
use clawstaff_export::{otlp, sink::Url};
use clawstaff_types::Secret;
use http::{Method, header};

use super::{
    channel::{Opening, host},
    http::{Http, value},
    job::Failed,
    source::Batch,
};

/// A collector.
#[derive(Debug)]
pub(super) struct Otlp {
    http: Http,
    url: Url,
    token: Option<Secret<String>>,
    host: String,
}

impl Otlp {
    pub(super) fn open(url: Url, opening: Opening<'_>) -> Result<Self, Failed> {
        Ok(Self {
            http: Http::new(opening.sink.ca.as_deref(), opening.extra_ca)?,
            url,
            token: opening.secret,
            host: host(),
        })
    }

    pub(super) async fn send(&self, batch: &Batch) -> Result<(), Failed> {
        let mut headers = vec![(header::CONTENT_TYPE, value("application/x-protobuf", false)?)];
        if let Some(token) = &self.token {
            let bearer = Secret::new(format!("Bearer {}", token.expose_secret()));
            headers.push((header::AUTHORIZATION, value(bearer.expose_secret(), true)?));
        }
        let body = Bytes::from(otlp::request(&batch.items, &self.host));
        let answer = self.http.send(Method::POST, &self.url, headers, body).await?;
        // Sending the same again would be refused again, says the protocol; but nothing is lost in silence.
        match otlp::rejected(&answer) {
            0 => Ok(()),
            count => {
                tracing::error!(
                    count,
                    "an OpenTelemetry collector took a batch and rejected some of its records"
                );
                Ok(())
            }
        }
    }
}
