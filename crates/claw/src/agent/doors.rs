//! The agent's side of the fixed doors: inbox, acts, tools, model. Every exchange has its patience and its bound.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use clawstaff_cage_contract::{Ack, ActReport, InboxItem, ModelApi};
use clawstaff_types::EventId;
use http::{
    HeaderMap, Method, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER},
};
use http_body_util::Full;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::time::timeout;

use super::{
    conversation::Happened,
    mcp::{self, Answer, AnswerReader},
    model,
    tool::{ToolOutcome, ToolSpec},
};
use crate::{
    client::{self, Exchange, HttpError, MAX_ANSWER},
    text::{cut, first_chars},
};

/// How long the gateway is asked to hold the question for work, in seconds.
const WAIT: u64 = 25;
/// Beyond that, for the way there and back.
const INBOX: Duration = Duration::from_secs(WAIT + 10);
/// For an acknowledgement or a report.
const SHORT: Duration = Duration::from_secs(10);
/// For a tool call.
const TOOL: Duration = Duration::from_mins(1);
/// For an answer of the model.
const MODEL: Duration = Duration::from_secs(110);
/// Pages of the list of tools.
const MAX_PAGES: usize = 8;
/// Tools that the model is told of.
const MAX_TOOLS: usize = 256;
/// The longest reason of a refusal that is passed on, in bytes.
const MAX_REASON: usize = 2048;
/// The contract's bound on a report's target and error, in characters.
const MAX_TARGET: usize = 256;
const MAX_ERROR: usize = 64;

/// Why a door did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DoorError {
    /// No answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// No answer in time.
    #[error("no answer within {} seconds", .0.as_secs())]
    Late(Duration),
    /// An answer that is a refusal.
    #[error("{status}: {reason}")]
    Refused {
        /// Its status.
        status: StatusCode,
        /// Its reason.
        reason: String,
    },
    /// An answer that is not of the contract.
    #[error("reading the answer: {0}")]
    Malformed(#[from] serde_json::Error),
    /// An answer that is not MCP.
    #[error(transparent)]
    Mcp(#[from] mcp::McpError),
}

impl DoorError {
    /// Whether asking again would bring the same.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Refused { status, .. } => {
                status.is_client_error() && *status != StatusCode::TOO_MANY_REQUESTS
            }
            Self::Http(_) | Self::Late(_) | Self::Malformed(_) | Self::Mcp(_) => false,
        }
    }

    /// Whether the other side went away amid the exchange: what came of it is unknown, and so is all before it
    /// that was not acknowledged.
    pub(crate) fn is_lost(&self) -> bool {
        match self {
            Self::Http(HttpError::Connect { .. } | HttpError::Exchange { .. })
            | Self::Mcp(mcp::McpError::Missing) => true,
            Self::Http(HttpError::Request(_) | HttpError::Json(_) | HttpError::TooLong { .. })
            | Self::Mcp(mcp::McpError::TooLong | mcp::McpError::NotJsonRpc(_))
            | Self::Late(_)
            | Self::Refused { .. }
            | Self::Malformed(_) => false,
        }
    }
}

/// The doors at one address.
#[derive(Debug)]
pub(crate) struct Doors {
    at: SocketAddr,
    /// Of the next JSON-RPC request.
    next_id: AtomicU64,
}

impl Doors {
    /// The doors that listen at `at`.
    pub(crate) fn new(at: SocketAddr) -> Self {
        Self {
            at,
            next_id: AtomicU64::new(1),
        }
    }

    /// Waits for work; nothing when none came in time.
    pub(crate) async fn next_item(&self) -> Result<Option<InboxItem>, DoorError> {
        let path = format!("/claw/v1/inbox/next?wait={WAIT}");
        within(INBOX, async {
            let exchange = client::send(self.at, client::get(self.at, &path)?).await?;
            if exchange.status() == StatusCode::NO_CONTENT {
                return Ok(None);
            }
            let body = accepted(exchange).await?;
            Ok(Some(serde_json::from_slice(&body)?))
        })
        .await
    }

    /// Says how an item ended.
    pub(crate) async fn ack(&self, id: &EventId, ack: &Ack) -> Result<(), DoorError> {
        self.post(&format!("/claw/v1/inbox/{id}/ack"), ack).await
    }

    /// Reports an act, with its texts cut to the contract's bounds.
    pub(crate) async fn report(&self, act: ActReport) -> Result<(), DoorError> {
        let act = ActReport {
            target: first_chars(&act.target, MAX_TARGET),
            error: first_chars(&act.error, MAX_ERROR),
            ..act
        };
        self.post("/claw/v1/acts", &act).await
    }

    async fn post<T: Serialize>(&self, path: &str, body: &T) -> Result<(), DoorError> {
        within(SHORT, async {
            let exchange = client::send(self.at, client::post_json(self.at, path, body)?).await?;
            accepted(exchange).await.map(drop)
        })
        .await
    }

    /// Every tool that this Claw has been granted.
    pub(crate) async fn tools(&self) -> Result<Vec<ToolSpec>, DoorError> {
        let mut tools = Vec::new();
        let mut cursor = None;
        for _ in 0..MAX_PAGES {
            let id = self.id();
            let answer = self
                .mcp(id, "tools/list", None, mcp::list(id, cursor.as_deref()))
                .await?;
            let result = match answer {
                Answer::Result(result) => result,
                Answer::Error { message, .. } => {
                    return Err(DoorError::Refused {
                        status: StatusCode::OK,
                        reason: message,
                    });
                }
            };
            let (page, next) = mcp::tools(&result);
            tools.extend(page);
            cursor = next;
            if cursor.is_none() || tools.len() >= MAX_TOOLS {
                break;
            }
        }
        tools.truncate(MAX_TOOLS);
        Ok(tools)
    }

    /// Makes a call, and says what came of it.
    ///
    /// # Errors
    /// Only when the door was lost amid it ([`DoorError::is_lost`]).
    pub(crate) async fn call(
        &self,
        name: &str,
        arguments: Map<String, Value>,
    ) -> Result<ToolOutcome, DoorError> {
        if !mcp::is_tool_name(name) {
            return Ok(ToolOutcome::nonsense("there is no tool of that name"));
        }
        let id = self.id();
        let request = mcp::call(id, name, arguments);
        match self.mcp(id, "tools/call", Some(name), request).await {
            Ok(answer) => Ok(mcp::outcome(&answer)),
            Err(DoorError::Refused { reason, .. }) => Ok(ToolOutcome::refused(&reason)),
            Err(error) if error.is_lost() => Err(error),
            Err(error) => Ok(ToolOutcome::refused(&format!(
                "the call brought no result: {error}"
            ))),
        }
    }

    fn id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    async fn mcp(&self, id: u64, method: &str, name: Option<&str>, body: Value) -> Result<Answer, DoorError> {
        within(TOOL, async {
            let bytes = serde_json::to_vec(&body)?;
            let mut builder = client::request(Method::POST, self.at, "/mcp")
                .header(CONTENT_TYPE, "application/json")
                .header(ACCEPT, "application/json, text/event-stream")
                .header("MCP-Protocol-Version", mcp::PROTOCOL)
                .header("Mcp-Method", method);
            if let Some(name) = name {
                builder = builder.header("Mcp-Name", name);
            }
            let request = builder.body(Full::new(bytes.into())).map_err(HttpError::from)?;
            let mut exchange = client::send(self.at, request).await?;
            let mut reader = AnswerReader::new(id, content_type(exchange.headers()));
            if !exchange.status().is_success() {
                return rpc_error(id, exchange).await;
            }
            while let Some(piece) = exchange.chunk().await? {
                if let Some(answer) = reader.push(&piece)? {
                    return Ok(answer);
                }
            }
            Ok(reader.finish()?)
        })
        .await
    }

    /// Asks the model, and says what happened in the conversation's words.
    ///
    /// # Errors
    /// Only when the door was lost amid it ([`DoorError::is_lost`]).
    pub(crate) async fn ask(&self, api: ModelApi, body: &Value) -> Result<Happened, DoorError> {
        match within(MODEL, self.exchange_with_model(api, body)).await {
            Err(error) if !error.is_lost() => Ok(Happened::Failed(error.to_string())),
            otherwise => otherwise,
        }
    }

    async fn exchange_with_model(&self, api: ModelApi, body: &Value) -> Result<Happened, DoorError> {
        let mut request = client::post_json(self.at, model::path(api), body)?;
        if api == ModelApi::Anthropic {
            let version = http::HeaderValue::from_static("2023-06-01");
            request.headers_mut().insert("anthropic-version", version);
        }
        let exchange = client::send(self.at, request).await?;
        let status = exchange.status();
        let wait = retry_after(exchange.headers());
        if status.is_success() {
            let body = exchange.whole(MAX_ANSWER).await?;
            return Ok(model::read(api, &body).map_or_else(
                |error| Happened::Unreadable(error.to_string()),
                Happened::Answered,
            ));
        }
        let reason = reason(exchange).await?;
        Ok(match status.as_u16() {
            401 | 403 => Happened::Forbidden(reason),
            429 | 503 | 529 => Happened::Busy(wait),
            _ => Happened::Failed(format!("{status}: {reason}")),
        })
    }
}

async fn within<T>(
    patience: Duration,
    exchange: impl Future<Output = Result<T, DoorError>>,
) -> Result<T, DoorError> {
    timeout(patience, exchange)
        .await
        .unwrap_or(Err(DoorError::Late(patience)))
}

async fn accepted(exchange: Exchange) -> Result<Vec<u8>, DoorError> {
    let status = exchange.status();
    if status.is_success() {
        return Ok(exchange.whole(MAX_ANSWER).await?);
    }
    let reason = reason(exchange).await?;
    Err(DoorError::Refused { status, reason })
}

/// A refusal of an MCP request: JSON-RPC where the body is that, the gateway's own otherwise.
async fn rpc_error(id: u64, exchange: Exchange) -> Result<Answer, DoorError> {
    let status = exchange.status();
    let (body, _) = exchange.first(MAX_REASON * 8).await?;
    let mut reader = AnswerReader::new(id, "application/json");
    if reader.push(&body).is_ok()
        && let Ok(answer @ Answer::Error { .. }) = reader.finish()
    {
        return Ok(answer);
    }
    Err(DoorError::Refused {
        status,
        reason: readable(&body),
    })
}

async fn reason(exchange: Exchange) -> Result<String, HttpError> {
    let (body, _) = exchange.first(MAX_REASON * 8).await?;
    Ok(readable(&body))
}

/// The words of a refusal: a problem's `detail`, an API's `error.message`, or the text as it came.
pub(crate) fn readable(body: &[u8]) -> String {
    let json: Option<Value> = serde_json::from_slice(body).ok();
    let words = json.as_ref().and_then(|json| {
        let at = |pointer| json.pointer(pointer).and_then(Value::as_str);
        at("/detail").or(at("/error/message")).or(at("/title"))
    });
    let text = words.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    cut(&text, MAX_REASON)
}

fn content_type(headers: &HeaderMap) -> &str {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// The delay in seconds; a date, the other form of the header, is treated as absent.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_refusal_are_found_where_they_are() {
        assert_eq!(readable(br#"{"title":"Denied","detail":"no grant"}"#), "no grant");
        assert_eq!(readable(br#"{"error":{"message":"overloaded"}}"#), "overloaded");
        assert_eq!(readable(br#"{"title":"Denied"}"#), "Denied");
        assert_eq!(readable(b"plain"), "plain");
    }

    #[test]
    fn a_delay_is_read_in_seconds() {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, "7".parse().unwrap());
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(7)));
        headers.insert(RETRY_AFTER, "Wed, 21 Oct 2026 07:28:00 GMT".parse().unwrap());
        assert_eq!(retry_after(&headers), None);
    }
}
