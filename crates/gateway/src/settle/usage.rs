//! Reads token counts out of a stream of server-sent events as it passes, without holding it up.
//!
//! Only lines that speak of usage are looked at, by the connector; everything else passes unread.

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

    fn extend(&mut self, bytes: &[u8]) {
        if self.overlong || self.line.len() + bytes.len() > MAX_LINE {
            self.overlong = true;
            self.line.clear();
        } else {
            self.line.extend_from_slice(bytes);
        }
    }

    fn finish_line(&mut self, connector: &Connector) {
        let told = self
            .line
            .strip_prefix(b"data:")
            .filter(|data| mentions_usage(data));
        let told = told.and_then(|data| serde_json::from_slice::<Value>(data).ok());
        if let Some((input, output)) = told.and_then(|answer| connector.usage(&answer)) {
            let (most_in, most_out) = self.seen.unwrap_or_default();
            self.seen = Some((most_in.max(input), most_out.max(output)));
        }
        self.line.clear();
        self.overlong = false;
    }
}

fn mentions_usage(data: &[u8]) -> bool {
    data.windows(7).any(|window| window == b"\"usage\"")
}
