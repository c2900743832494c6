//! Server-sent events, as far as MCP needs them: the `data` of each event. Pure.
//! Format: WHATWG HTML, "Server-sent events", interpreting an event stream.

/// An event, or the rest of one, is longer than the reader was told to hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is longer than {0} bytes")]
pub(crate) struct EventTooLong(usize);

/// Reads a stream piece by piece, wherever the pieces are cut.
#[derive(Debug)]
pub(crate) struct SseReader {
    max: usize,
    line: Vec<u8>,
    /// The data lines of the event so far, joined by newlines; none before the first.
    data: Option<Vec<u8>>,
    /// A carriage return was the last byte: a newline after it belongs to it.
    after_cr: bool,
}

impl SseReader {
    /// A reader that holds at most `max` bytes of one event.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            line: Vec::new(),
            data: None,
            after_cr: false,
        }
    }

    /// Takes in a piece and gives the data of every event that it completes.
    ///
    /// # Errors
    /// When an event grows over the bound.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<Vec<Vec<u8>>, EventTooLong> {
        let mut events = Vec::new();
        for byte in piece {
            match byte {
                b'\n' if self.after_cr => self.after_cr = false,
                b'\n' | b'\r' => {
                    self.after_cr = *byte == b'\r';
                    events.extend(self.end_line());
                }
                _ => {
                    self.after_cr = false;
                    self.line.push(*byte);
                    if self.line.len() + self.data.as_ref().map_or(0, Vec::len) > self.max {
                        return Err(EventTooLong(self.max));
                    }
                }
            }
        }
        Ok(events)
    }

    fn end_line(&mut self) -> Option<Vec<u8>> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            return self.data.take();
        }
        let line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&line);
        let value = line.strip_prefix(b"data")?;
        let value = match value.strip_prefix(b":") {
            Some(value) => value.strip_prefix(b" ").unwrap_or(value),
            None if value.is_empty() => value,
            None => return None,
        };
        match &mut self.data {
            Some(data) => {
                data.push(b'\n');
                data.extend_from_slice(value);
            }
            None => self.data = Some(value.to_vec()),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn events(stream: &str) -> Vec<String> {
        let events = SseReader::new(1000).push(stream.as_bytes()).unwrap();
        events
            .into_iter()
            .map(|event| String::from_utf8(event).unwrap())
            .collect()
    }

    #[test]
    fn the_data_of_each_event_is_read() {
        assert_eq!(
            events("event: message\nid: 1\ndata: {\"a\":1}\n\ndata:b\n\n"),
            ["{\"a\":1}", "b"]
        );
    }

    #[test]
    fn lines_end_in_every_way_that_the_standard_allows() {
        assert_eq!(events("data: a\r\ndata: b\rdata: c\n\r\n"), ["a\nb\nc"]);
    }

    #[test]
    fn comments_other_fields_and_unfinished_events_are_nothing() {
        assert_eq!(
            events(": ping\n\nretry: 5\n\ndatax: 1\n\ndata: open"),
            Vec::<String>::new()
        );
        assert_eq!(events("data\n\n"), [""]);
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut reader = SseReader::new(64);
        assert_eq!(reader.push(&[b'x'; 100]), Err(EventTooLong(64)));
        let mut reader = SseReader::new(64);
        let many = "data: 1234567890\n".repeat(20);
        assert_eq!(reader.push(many.as_bytes()), Err(EventTooLong(64)));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_the_stream_is_cut(
            stream in "(data: ?|[a-c:]|\r|\n|\r\n){0,40}",
            size in 1_usize..9,
        ) {
            let whole = SseReader::new(4096).push(stream.as_bytes()).unwrap();
            let mut reader = SseReader::new(4096);
            let mut pieces = Vec::new();
            for piece in stream.as_bytes().chunks(size) {
                pieces.extend(reader.push(piece).unwrap());
            }
            prop_assert_eq!(whole, pieces);
        }

        #[test]
        fn no_bytes_make_it_panic_or_hold_more_than_its_bound(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            let mut reader = SseReader::new(32);
            let _ = reader.push(&bytes);
            // The byte that went over the bound is still there.
            prop_assert!(reader.line.len() + reader.data.map_or(0, |data| data.len()) <= 33);
        }
    }
}
