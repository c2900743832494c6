//! Reads token counts and errors out of a stream of server-sent events as it passes, without holding it up.
//!
//! Only lines that speak of usage or of an error are looked at, by the connector; everything else passes unread.

use clawstaff_connectors::Connector;
use serde_json::Value;

/// The longest line that is looked at, in bytes; longer ones pass unread.
const MAX_LINE: usize = 256 << 10;

/// Watches one stream.
#[derive(Debug, Default)]
pub(super) struct Usage {
    line: Vec<u8>,
    overlong: bool,
    seen: Option<(u64, u64)>,
    error: Option<String>,
}

impl Usage {
    /// The next piece of the stream.
    pub(super) fn piece(&mut self, connector: &Connector, piece: &[u8]) {
        let mut rest = piece;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end);
            self.extend(line);
            self.finish_line(connector);
            rest = after.get(1..).unwrap_or_default();
        }
        self.extend(rest);
    }

    /// The tokens in and out that the stream has told of so far.
    pub(super) const fn seen(&self) -> Option<(u64, u64)> {
        self.seen
    }

    /// The provider's own code of an error that came inside the stream.
    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    fn extend(&mut self, bytes: &[u8]) {
        if self.overlong || self.line.len() + bytes.len() > MAX_LINE {
            self.overlong = true;
            self.line.clear();
        } else {
            self.line.extend_from_slice(bytes);
        }
    }

    fn finish_line(&mut self, connector: &Connector) {
        let data = self.line.strip_prefix(b"data:").unwrap_or_default();
        if mentions(data, b"\"usage\"") || mentions(data, b"\"error\"") {
            let told: Value = serde_json::from_slice(data).unwrap_or_default();
            if let Some((input, output)) = connector.usage(&told) {
                let (most_in, most_out) = self.seen.unwrap_or_default();
                self.seen = Some((most_in.max(input), most_out.max(output)));
            }
            self.error = self.error.take().or_else(|| connector.error_inside(&told));
        }
        self.line.clear();
        self.overlong = false;
    }
}

fn mentions(data: &[u8], word: &[u8]) -> bool {
    memchr::memmem::find(data, word).is_some()
}
