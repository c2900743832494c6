//! Faults on demand: what the next requests to a stand-in are answered with instead of the real thing.
//!
//! `POST /_standin/faults` takes a list of [`Fault`]s; each is used up by one request, in order.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

/// One request's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Answered as the vendor answers when its rate limit is hit; retry after one second.
    RateLimited,
    /// 500 in the vendor's shape.
    ServerError,
    /// 200 with a body that is not what the protocol says.
    Nonsense,
    /// The request is done, then the connection is closed without an answer.
    DoneButSilent,
}

/// The faults that wait for their request.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<VecDeque<Fault>>>);

impl Faults {
    /// Adds faults for the requests to come.
    pub fn add(&self, faults: impl IntoIterator<Item = Fault>) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(faults);
    }

    /// The fault of the request at hand, if one waits.
    pub fn take(&self) -> Option<Fault> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}
