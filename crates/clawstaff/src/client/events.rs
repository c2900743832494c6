//! Server-sent events (WHATWG HTML, section 9.2): only `data:` lines matter to us.

use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::failure::Failure;

/// The longest event, in bytes.
const MAX_EVENT: usize = 1024 * 1024;

/// A stream of events' data.
#[derive(Debug)]
pub(crate) struct Events {
    body: Incoming,
    splitter: Splitter,
}

impl Events {
    pub(super) fn new(body: Incoming) -> Self {
        Self {
            body,
            splitter: Splitter::default(),
        }
    }

    /// The next event's data, `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<String>, Failure> {
        let broken =
            |error: &dyn std::fmt::Display| Failure::unavailable(format!("the stream broke: {error}"));
        loop {
            if let Some(event) = self.splitter.take() {
                return Ok(Some(event));
            }
            let Some(frame) = self.body.frame().await else {
                return Ok(None);
            };
            let frame = frame.map_err(|error| broken(&error))?;
            if let Some(data) = frame.data_ref() {
                self.splitter.push(data).map_err(|error| broken(&error))?;
            }
        }
    }
}

/// An event that is too long for us.
#[derive(Debug, thiserror::Error)]
#[error("an event is longer than {MAX_EVENT} bytes")]
struct TooLong;

/// Cuts a byte stream into events.
#[derive(Debug, Default)]
struct Splitter {
    pending: Vec<u8>,
    data: Vec<String>,
    ready: std::collections::VecDeque<String>,
}

impl Splitter {
    fn push(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        for byte in bytes {
            if *byte == b'\n' {
                let line = std::mem::take(&mut self.pending);
                self.line(String::from_utf8_lossy(&line).trim_end_matches('\r'));
            } else if self.pending.len() < MAX_EVENT {
                self.pending.push(*byte);
            } else {
                return Err(TooLong);
            }
        }
        Ok(())
    }

    fn line(&mut self, line: &str) {
        if line.is_empty() {
            if !self.data.is_empty() {
                self.ready.push_back(std::mem::take(&mut self.data).join("\n"));
            }
        } else if let Some(data) = line.strip_prefix("data:") {
            self.data.push(data.strip_prefix(' ').unwrap_or(data).to_owned());
        }
    }

    fn take(&mut self) -> Option<String> {
        self.ready.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(chunks: &[&[u8]]) -> Vec<String> {
        let mut splitter = Splitter::default();
        for chunk in chunks {
            splitter.push(chunk).unwrap();
        }
        std::iter::from_fn(|| splitter.take()).collect()
    }

    #[test]
    fn comments_and_other_fields_are_passed_over() {
        let stream: &[u8] = b": hello\nid: 1\r\ndata: a\r\n\r\ndata:b\ndata: c\n\n";
        assert_eq!(split(&[stream]), ["a", "b\nc"]);
    }

    proptest! {
        #[test]
        fn events_do_not_depend_on_how_the_bytes_arrive(text in "(data: [a-z]{0,5}\n|\n|: x\n){0,20}", cut in 0usize..100) {
            let bytes = text.as_bytes();
            let cut = cut.min(bytes.len());
            prop_assert_eq!(split(&[bytes]), split(&[&bytes[..cut], &bytes[cut..]]));
        }
    }
}
