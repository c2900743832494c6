//! S3 sinks: a batch of records as one object, `PREFIX/LOG/FIRST-LAST.EXT`.
//!
//! An object is written once and whole. Records wait a little for company, so that a quiet log does not become
//! an object for each record; after a crash the same records may come again in an object with another end.

use std::time::Duration;

use bytes::Bytes;
use clawstaff_export::{Format, sink::Url};
use clawstaff_types::{Digest, Secret};
use http::{HeaderName, Method, header};
use jiff::Timestamp;

use super::{
    channel::Opening,
    http::{Http, value},
    job::Failed,
    sigv4::{self, Keys, Signing},
    source::Batch,
};

/// How long records wait for company.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// A bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    http: Http,
    url: Url,
    /// `/BUCKET/PREFIX/LOG/`
    folder: String,
    region: String,
    format: Format,
    keys: Keys,
}

impl Bucket {
    pub(super) fn open(
        url: Url,
        bucket: &str,
        prefix: &str,
        region: String,
        format: Format,
        opening: Opening<'_>,
    ) -> Result<Self, Failed> {
        let secret = opening.secret.as_ref().map(Secret::expose_secret);
        let pair = secret.and_then(|text| text.trim().split_once(':'));
        let (id, key) = pair.ok_or_else(|| {
            Failed("the secret of an S3 sink is `ACCESS_KEY_ID:SECRET_ACCESS_KEY`".to_owned())
        })?;
        Ok(Self {
            http: Http::new(opening.sink.ca.as_deref(), opening.extra_ca)?,
            url,
            folder: format!("/{bucket}/{prefix}{}/", opening.log),
            region,
            format,
            keys: Keys {
                id: id.to_owned(),
                secret: Secret::new(key.to_owned()),
            },
        })
    }

    pub(super) async fn send(&self, batch: &Batch) -> Result<(), Failed> {
        let lines = batch.items.iter().map(|item| self.format.line(item));
        let body: String = std::iter::once(self.format.head()).chain(lines).collect();
        let last = batch.end().saturating_sub(1);
        let path = format!(
            "{}{:020}-{last:020}.{}",
            self.folder,
            batch.first,
            self.format.extension()
        );
        let digest = hex::encode(Digest::of(body.as_bytes()).as_bytes());
        let time = Timestamp::now();
        let date = time.strftime("%Y%m%dT%H%M%SZ").to_string();
        let authority = self.url.authority();
        let signed = [
            ("host", authority.as_str()),
            ("x-amz-content-sha256", &digest),
            ("x-amz-date", &date),
        ];
        let signing = Signing {
            method: "PUT",
            path: &path,
            headers: &signed,
            body: &digest,
            region: &self.region,
            service: "s3",
            date: &date,
        };
        let authorization = sigv4::authorization(&signing, &self.keys);
        let headers = vec![
            (header::HOST, value(&authority, false)?),
            (header::CONTENT_TYPE, value(self.format.media_type(), false)?),
            (
                HeaderName::from_static("x-amz-content-sha256"),
                value(&digest, false)?,
            ),
            (HeaderName::from_static("x-amz-date"), value(&date, false)?),
            (header::AUTHORIZATION, value(&authorization, false)?),
        ];
        let url = self.url.at(&path);
        self.http
            .send(Method::PUT, &url, headers, Bytes::from(body))
            .await?;
        Ok(())
    }
}
