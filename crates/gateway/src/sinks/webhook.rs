//! Webhook sinks: a batch of records as one signed `POST`.
//!
//! ```text
//! x-clawstaff-timestamp: 1764057600
//! x-clawstaff-signature: v1=HEX          HMAC-SHA256(secret, "v1:" TIMESTAMP ":" DELIVERY ":" BODY)
//! x-clawstaff-delivery:  ORIGIN:FIRST-LAST
//! ```
//!
//! A receiver checks the signature in constant time, refuses a timestamp that is more than five minutes away, and
//! keeps one of each record by origin and index; 2xx says that it has it.

use aws_lc_rs::hmac;
use bytes::Bytes;
use clawstaff_export::{Format, sink::Url};
use clawstaff_types::Secret;
use http::{HeaderName, Method, header};
use jiff::Timestamp;

use super::{
    channel::Opening,
    http::{Http, value},
    job::Failed,
    source::Batch,
};

const TIMESTAMP: HeaderName = HeaderName::from_static("x-clawstaff-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("x-clawstaff-signature");
const DELIVERY: HeaderName = HeaderName::from_static("x-clawstaff-delivery");

/// A webhook.
#[derive(Debug)]
pub(super) struct Webhook {
    http: Http,
    url: Url,
    format: Format,
    secret: Secret<String>,
}

impl Webhook {
    pub(super) fn open(url: Url, format: Format, opening: Opening<'_>) -> Result<Self, Failed> {
        Ok(Self {
            http: Http::new(opening.sink.ca.as_deref(), opening.extra_ca)?,
            url,
            format,
            secret: opening
                .secret
                .ok_or_else(|| Failed("a webhook needs a secret to sign with".to_owned()))?,
        })
    }

    pub(super) async fn send(&self, batch: &Batch) -> Result<(), Failed> {
        let lines = batch.items.iter().map(|item| self.format.line(item));
        let body: String = std::iter::once(self.format.head()).chain(lines).collect();
        let delivery = format!(
            "{}:{}-{}",
            batch.origin,
            batch.first,
            batch.end().saturating_sub(1)
        );
        let timestamp = Timestamp::now().as_second().to_string();
        let signature = sign(&self.secret, &timestamp, &delivery, body.as_bytes());
        let headers = vec![
            (header::CONTENT_TYPE, value(self.format.media_type(), false)?),
            (TIMESTAMP, value(&timestamp, false)?),
            (SIGNATURE, value(&signature, false)?),
            (DELIVERY, value(&delivery, false)?),
        ];
        self.http
            .send(Method::POST, &self.url, headers, Bytes::from(body))
            .await?;
        Ok(())
    }
}

/// The signature's header.
pub fn sign(secret: &Secret<String>, timestamp: &str, delivery: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes());
    let mut context = hmac::Context::with_key(&key);
    for part in [
        b"v1:",
        timestamp.as_bytes(),
        b":",
        delivery.as_bytes(),
        b":",
        body,
    ] {
        context.update(part);
    }
    format!("v1={}", hex::encode(context.sign()))
}
