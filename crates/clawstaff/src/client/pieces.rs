//! An answer of any length, taken piece by piece. One that breaks off is a failure, never the whole.

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::failure::Failure;

/// What is still to come.
#[derive(Debug)]
pub(crate) struct Pieces(pub(super) Incoming);

impl Pieces {
    /// The next piece, `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        while let Some(frame) = self.0.frame().await {
            let broken = |error| Failure::unavailable(format!("the export broke off: {error}"));
            if let Ok(data) = frame.map_err(broken)?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}
