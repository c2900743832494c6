//! JSON text in which nothing is escaped, read from its start. What is not found as expected is `None`.

use memchr::memchr;

/// The rest of a text without backslashes and control characters: a quote in it can only begin or end a string.
#[derive(Debug)]
pub(super) struct Plain<'t>(&'t str);

impl<'t> Plain<'t> {
    /// The whole text, if it is one.
    pub(super) fn new(bytes: &'t [u8]) -> Option<Self> {
        // Counted to the end, so that many bytes are looked at at a time.
        let other = |b: &u8| u32::from(*b < 0x20) + u32::from(*b == b'\\');
        let others: u32 = bytes.iter().map(other).sum();
        let text = str::from_utf8(bytes).ok()?;
        (others == 0).then_some(Self(text))
    }

    /// What follows this literal, which must be next.
    pub(super) fn after(&mut self, literal: &str) -> Option<&mut Self> {
        self.0 = self.0.strip_prefix(literal)?;
        Some(self)
    }

    /// A string, behind its opening quote; its closing one is passed.
    pub(super) fn string(&mut self) -> Option<&'t str> {
        let end = memchr(b'"', self.0.as_bytes())?;
        let (found, rest) = self.0.split_at_checked(end)?;
        self.0 = rest.get(1..)?;
        Some(found)
    }

    /// A number in the one way in which it is written.
    pub(super) fn number(&mut self) -> Option<u64> {
        let end = self.0.bytes().position(|b| !b.is_ascii_digit())?;
        let (digits, rest) = self.0.split_at_checked(end)?;
        if digits.len() > 1 && digits.starts_with('0') {
            return None;
        }
        self.0 = rest;
        digits.parse().ok()
    }

    /// Nothing is left.
    pub(super) fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}
