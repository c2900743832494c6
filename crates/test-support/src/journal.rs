//! What reached a stand-in, in order, for whoever wants to know what was really done.
//!
//! Served at `GET /_standin/journal`; not part of any vendor's protocol.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde_json::Value;

/// One request that reached the stand-in.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// Method and path: `POST /v1/pages`.
    pub call: String,
    /// The HTTP status it was answered with.
    pub status: u16,
    /// What the vendor's protocol calls the thing that was done, for instance the page made.
    pub detail: Value,
}

/// A shared, append-only journal.
#[derive(Debug, Clone, Default)]
pub struct Journal(Arc<Mutex<Vec<Line>>>);

impl Journal {
    /// Notes one request.
    pub fn note(&self, call: impl Into<String>, status: u16, detail: Value) {
        let line = Line {
            call: call.into(),
            status,
            detail,
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    /// Everything noted so far.
    pub fn lines(&self) -> Vec<Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
