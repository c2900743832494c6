//! How long the gateway waits for others before it gives up. Every wait is bounded; tests shorten them.

use std::time::Duration;

/// The longest waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// For the head of a cage's request; also how long an idle connection of a cage is kept.
    pub head: Duration,
    /// For the next piece of a cage's request body.
    pub body: Duration,
    /// For the head of a service's answer.
    pub answer: Duration,
    /// The same for a model.
    pub model: Duration,
    /// For the next piece of a service's answer that is kept whole.
    pub piece: Duration,
    /// For the next piece of a streamed answer.
    pub stream: Duration,
    /// For a whole answer, streamed or not, however steadily it comes.
    pub whole: Duration,
    /// For a human's decision, while the caller is kept waiting.
    pub human: Duration,
    /// For a human's decision at all: then silence denies.
    pub ask: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            body: Duration::from_secs(30),
            answer: Duration::from_mins(1),
            model: Duration::from_mins(5),
            piece: Duration::from_mins(1),
            stream: Duration::from_mins(5),
            whole: Duration::from_mins(30),
            human: Duration::from_secs(45),
            ask: Duration::from_hours(1),
        }
    }
}
