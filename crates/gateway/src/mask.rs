//! An upstream that echoes the injected credential must not hand it to the cage: every occurrence is masked.
//!
//! Works on whole bodies, on headers and on streams, on the credential itself and on what services make of it:
//! base64 at any alignment, hexadecimal, and any mixture of percent-, JSON- and string-literal escapes over
//! these. A stream is held back only by as many bytes as could still become one of them, and how it is cut into
//! pieces makes no difference. A service that *wants* to give a credential away can always spell it in a way of
//! its own; this is against those that merely repeat what they were sent.

mod escape;
mod forms;

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Bytes, BytesMut};
use clawstaff_types::{ConnectionName, Secret};
use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::{memchr_iter, memmem};

use self::{escape::Decoded, forms::Forms};

/// What stands in the secret's place.
const MASK: &[u8] = b"[masked]";
/// Bytes of a whole body that are looked at together.
const WINDOW: usize = 64 << 10;

/// The spellings of the credentials in use, one for each connection: a credential is spelled out when it is another
/// one than at the last call.
#[derive(Debug, Default)]
pub(crate) struct Masks(Mutex<HashMap<ConnectionName, Arc<Forms>>>);

impl Masks {
    /// What masks `secret`, the credential of `connection`.
    pub(crate) fn of(&self, connection: &ConnectionName, secret: &Secret<String>) -> Mask {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = known.get(connection).filter(|forms| forms.are_of(secret)) {
            return Mask::with(Arc::clone(same));
        }
        let forms = Arc::new(Forms::of(secret));
        known.insert(connection.clone(), Arc::clone(&forms));
        drop(known);
        Mask::with(forms)
    }

    /// Wipes the spellings of connections that are no more.
    pub(crate) fn retain(&self, is_there: impl Fn(&ConnectionName) -> bool) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|connection, _| is_there(connection));
    }
}

/// Masks one secret.
#[derive(Debug)]
pub(crate) struct Mask {
    forms: Arc<Forms>,
    held: BytesMut,
}

impl Mask {
    /// Masks a secret that is not one of a connection's calls.
    pub(crate) fn new(secret: &Secret<String>) -> Self {
        Self::with(Arc::new(Forms::of(secret)))
    }

    fn with(forms: Arc<Forms>) -> Self {
        Self {
            forms,
            held: BytesMut::new(),
        }
    }

    /// A whole body; the same bytes when there is nothing to mask.
    pub(crate) fn body(&mut self, body: Bytes) -> Bytes {
        if body.len() <= WINDOW {
            return self.masked(body, true);
        }
        let mut out = BytesMut::with_capacity(body.len());
        for from in (0..body.len()).step_by(WINDOW) {
            let window = body.slice(from..body.len().min(from + WINDOW));
            out.extend_from_slice(&self.piece(window));
        }
        out.extend_from_slice(&self.rest());
        out.freeze()
    }

    /// All headers: a value with an echo is masked whole, a name with one is left out.
    pub(crate) fn headers(&self, headers: &mut HeaderMap) {
        let mut all = Vec::with_capacity(1024);
        for (name, value) in &*headers {
            all.extend_from_slice(name.as_str().as_bytes());
            all.push(b'\n');
            all.extend_from_slice(value.as_bytes());
            all.push(b'\n');
        }
        let in_names = self.named(headers);
        for name in in_names {
            headers.remove(name);
        }
        if self.echoes(&all) {
            let echoing = headers.values_mut().filter(|value| self.echoes(value.as_bytes()));
            echoing.for_each(|value| *value = HeaderValue::from_static("[masked]"));
        }
    }

    /// The next piece of a stream; some bytes at its end may be held back for the next one.
    pub(crate) fn piece(&mut self, piece: Bytes) -> Bytes {
        let text = if self.held.is_empty() {
            piece
        } else {
            self.held.extend_from_slice(&piece);
            self.held.split().freeze()
        };
        self.masked(text, false)
    }

    /// What was held back, at the end of a stream.
    pub(crate) fn rest(&mut self) -> Bytes {
        let text = self.held.split().freeze();
        self.masked(text, true)
    }

    /// `text` without its echoes; unless it is the `last`, what could still become one stays here.
    fn masked(&mut self, mut text: Bytes, last: bool) -> Bytes {
        let decoded = Decoded::of(&text);
        let spans = self.spans(&text, decoded.as_ref(), last);
        if !last {
            let ready = self.ready(&text, decoded.as_ref(), &spans);
            let tail = text.split_off(ready);
            self.held.extend_from_slice(&tail);
        }
        without(text, &spans)
    }

    fn echoes(&self, text: &[u8]) -> bool {
        !self.spans(text, Decoded::of(text).as_ref(), true).is_empty()
    }

    /// The names that repeat the secret; names are lower case.
    fn named(&self, headers: &HeaderMap) -> Vec<HeaderName> {
        let Some(lower) = self.forms.lower_case() else {
            return Vec::new();
        };
        let names = headers.keys();
        names
            .filter(|name| memmem::find(name.as_str().as_bytes(), lower).is_some())
            .cloned()
            .collect()
    }

    /// Where the echoes are, in order, those that overlap as one.
    fn spans(&self, text: &[u8], decoded: Option<&Decoded>, last: bool) -> Vec<Range<usize>> {
        let mut found: Vec<Range<usize>> = Vec::new();
        self.forms.find(text, &mut |span| found.push(span));
        if let Some(decoded) = decoded {
            decoded.find(&self.forms, last, &mut |span| found.push(span));
        }
        found.sort_by_key(|span| (span.start, span.end));
        found.dedup_by(|next, kept| {
            let overlap = next.start < kept.end;
            if overlap {
                kept.end = kept.end.max(next.end);
            }
            overlap
        });
        found
    }

    /// How much of `text` can no longer become part of an echo, whatever comes after it.
    fn ready(&self, text: &[u8], decoded: Option<&Decoded>, spans: &[Range<usize>]) -> usize {
        let raw = self.forms.all().filter_map(|form| begun(text, form));
        let escaped = self.forms.all().filter_map(|form| decoded?.begun(form));
        let mut ready = raw.chain(escaped).min().unwrap_or(text.len());
        // Neither an echo nor an escape is cut in two.
        loop {
            let before = ready;
            if let Some(span) = spans.iter().find(|span| span.start < ready && ready < span.end) {
                ready = span.start;
            }
            if let Some(decoded) = decoded {
                ready = decoded.boundary(ready);
            }
            if ready == before {
                return ready;
            }
        }
    }
}

/// `text` with a mask for every span that begins in it.
fn without(text: Bytes, spans: &[Range<usize>]) -> Bytes {
    if spans.first().is_none_or(|span| span.start >= text.len()) {
        return text;
    }
    let mut out = BytesMut::with_capacity(text.len());
    let mut from = 0;
    for span in spans.iter().take_while(|span| span.start < text.len()) {
        out.extend_from_slice(text.get(from..span.start).unwrap_or_default());
        out.extend_from_slice(MASK);
        from = span.end;
    }
    out.extend_from_slice(text.get(from..).unwrap_or_default());
    out.freeze()
}

/// Where the longest end of `text` starts that is a beginning of `form`.
fn begun(text: &[u8], form: &[u8]) -> Option<usize> {
    let first = *form.first()?;
    let from = text.len().saturating_sub(form.len() - 1);
    let tail = text.get(from..)?;
    memchr_iter(first, tail)
        .find(|at| tail.get(*at..).is_some_and(|end| form.starts_with(end)))
        .map(|at| from + at)
}

#[cfg(test)]
mod tests;
