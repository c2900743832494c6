//! A stand-in Slack: the Web API methods that support work needs, and the Events API that delivers messages.
//!
//! Shapes after <https://docs.slack.dev/apis>: every Web API answer is 200 with `ok`, arguments come as query,
//! form or JSON, lists are paginated by `cursor`, the rate limit is 429 with `Retry-After`. Events are delivered
//! signed (`v0`), retried up to three times with `X-Slack-Retry-Num` when the receiver does not answer 2xx in time.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::hmac;
use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header::RETRY_AFTER},
    response::{IntoResponse as _, Response},
    routing::{any, post},
};
use bytes::Bytes;
use http_body_util::Full;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    faults::Fault,
    server::{Control, bearer_is, silent},
};

/// The team id in every event.
pub const TEAM: &str = "T0ACME";
const APP: &str = "A0CLAW";
const CONFIDENTIAL: &str = "C0EXECS";

/// A message that somebody wrote in the support channel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Message {
    /// The Events API's id of its delivery.
    pub event_id: String,
    /// Who wrote it.
    pub user: String,
    /// Slack's timestamp, which is the message's id in its channel.
    pub ts: String,
    /// What was written.
    pub text: String,
}

/// One workspace.
#[derive(Debug, Clone)]
pub struct Slack {
    control: Control,
    token: Arc<str>,
    signing_secret: Arc<str>,
    channels: Arc<Mutex<BTreeMap<String, Vec<Value>>>>,
}

/// Where and what the Events API should deliver.
#[derive(Debug, Deserialize)]
struct Delivery {
    url: String,
    channel: String,
    message: Message,
}

impl Slack {
    /// A workspace with one confidential channel beside whatever is delivered later.
    pub fn new(token: &str, signing_secret: &str) -> Self {
        let secret = json!({"type": "message", "user": "U0CEO", "ts": "1763990000.000100",
            "text": "Confidential: the acquisition closes on Friday."});
        let channels = BTreeMap::from([(CONFIDENTIAL.to_owned(), vec![secret])]);
        Self {
            control: Control::default(),
            token: token.into(),
            signing_secret: signing_secret.into(),
            channels: Arc::new(Mutex::new(channels)),
        }
    }

    /// Its routes, the control routes included: `POST /_standin/deliver` makes it deliver one event.
    pub fn router(self) -> Router {
        let control = self.control.routes();
        Router::new()
            .route("/api/{method}", any(web_api))
            .route("/_standin/deliver", post(deliver))
            .with_state(self)
            .merge(control)
    }

    fn messages(&self, channel: &str) -> Option<Vec<Value>> {
        self.channels
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(channel)
            .cloned()
    }

    fn post(&self, channel: &str, message: Value) {
        self.channels
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(channel.to_owned())
            .or_default()
            .push(message);
    }
}

/// The arguments of a Web API call, wherever they were put.
fn arguments(uri: &Uri, headers: &HeaderMap, body: &[u8]) -> BTreeMap<String, String> {
    let content_type = headers
        .get("content-type")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let mut found = form(uri.query().unwrap_or_default().as_bytes());
    if content_type.starts_with("application/json") {
        let json: BTreeMap<String, Value> = serde_json::from_slice(body).unwrap_or_default();
        found.extend(json.into_iter().map(|(name, value)| match value {
            Value::String(text) => (name, text),
            other => (name, other.to_string()),
        }));
    } else {
        found.extend(form(body));
    }
    found
}

/// `application/x-www-form-urlencoded`.
fn form(text: &[u8]) -> BTreeMap<String, String> {
    let uri = format!("http://x/?{}", String::from_utf8_lossy(text)).parse::<Uri>();
    let query = uri
        .ok()
        .and_then(|uri| axum::extract::Query::<BTreeMap<String, String>>::try_from_uri(&uri).ok());
    query.map(|axum::extract::Query(pairs)| pairs).unwrap_or_default()
}

async fn web_api(
    State(slack): State<Slack>,
    Path(method): Path<String>,
    verb: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let call = format!("{verb} /api/{method}");
    if !bearer_is(&headers, &slack.token) {
        return slack.control.answer(
            &call,
            StatusCode::OK,
            json!({"ok": false, "error": "invalid_auth"}),
        );
    }
    match slack.control.faults.take() {
        Some(Fault::RateLimited) => {
            let refused = json!({"ok": false, "error": "ratelimited"});
            let mut response = slack
                .control
                .answer(&call, StatusCode::TOO_MANY_REQUESTS, refused);
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("1"));
            return response;
        }
        Some(Fault::ServerError) => {
            return slack.control.answer(
                &call,
                StatusCode::INTERNAL_SERVER_ERROR,
                json!({"ok": false, "error": "internal_error"}),
            );
        }
        Some(Fault::Nonsense) => return (StatusCode::OK, "<html>").into_response(),
        Some(Fault::DoneButSilent) => {
            slack.run(&method, &arguments(&uri, &headers, &body));
            return silent();
        }
        None => {}
    }
    let answer = slack.run(&method, &arguments(&uri, &headers, &body));
    slack.control.answer(&call, StatusCode::OK, answer)
}

impl Slack {
    fn run(&self, method: &str, arguments: &BTreeMap<String, String>) -> Value {
        let argument = |name: &str| arguments.get(name).map(String::as_str).unwrap_or_default();
        let refuse = |error: &str| json!({"ok": false, "error": error});
        let channel = argument("channel");
        match method {
            "auth.test" => json!({"ok": true, "team_id": TEAM, "user_id": "U0CLAW", "bot_id": "B0CLAW"}),
            "conversations.history" | "conversations.replies" => {
                let Some(messages) = self.messages(channel) else {
                    return refuse("channel_not_found");
                };
                let thread = (method == "conversations.replies").then(|| argument("ts"));
                page(&messages, thread, argument("cursor"), argument("limit"))
            }
            "conversations.info" if self.messages(channel).is_some() => {
                json!({"ok": true, "channel": {"id": channel, "name": "support", "is_channel": true}})
            }
            "conversations.info" => refuse("channel_not_found"),
            "users.info" => {
                json!({"ok": true, "user": {"id": argument("user"), "name": "customer", "is_bot": false}})
            }
            "chat.postMessage" => {
                if self.messages(channel).is_none() {
                    return refuse("channel_not_found");
                }
                if argument("text").is_empty() {
                    return refuse("no_text");
                }
                let ts = format!(
                    "17650{:05}.000100",
                    self.messages(channel).map_or(0, |all| all.len())
                );
                let message = json!({"type": "message", "user": "U0CLAW", "bot_id": "B0CLAW", "ts": ts,
                    "thread_ts": argument("thread_ts"), "text": argument("text")});
                self.post(channel, message.clone());
                json!({"ok": true, "channel": channel, "ts": ts, "message": message})
            }
            _ => refuse("unknown_method"),
        }
    }
}

/// One page of a channel's history or of a thread.
fn page(messages: &[Value], thread: Option<&str>, cursor: &str, limit: &str) -> Value {
    let text = |message: &Value, name: &str| {
        message
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let in_thread = |message: &&Value| {
        thread.is_none_or(|thread| text(message, "ts") == thread || text(message, "thread_ts") == thread)
    };
    let matching: Vec<&Value> = messages.iter().filter(in_thread).collect();
    if thread.is_some() && matching.is_empty() {
        return json!({"ok": false, "error": "thread_not_found"});
    }
    let start: usize = cursor.parse().unwrap_or(0);
    let limit = limit.parse::<usize>().unwrap_or(100).clamp(1, 999);
    let here: Vec<&Value> = matching.iter().skip(start).take(limit).copied().collect();
    let end = start + here.len();
    let next = if end < matching.len() {
        end.to_string()
    } else {
        String::new()
    };
    json!({"ok": true, "messages": here, "has_more": !next.is_empty(), "response_metadata": {"next_cursor": next}})
}

/// The header value of Slack's signature, version 0: HMAC-SHA256 over `v0:<timestamp>:<body>`.
pub fn signature(signing_secret: &str, timestamp: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, signing_secret.as_bytes());
    let tag = hmac::sign(&key, format!("v0:{timestamp}:{body}").as_bytes());
    format!("v0={}", hex::encode(tag.as_ref()))
}

/// The body of an Events API delivery of one message.
pub fn event_body(channel: &str, message: &Message) -> Value {
    json!({"token": "unused", "team_id": TEAM, "api_app_id": APP, "type": "event_callback",
        "event_id": message.event_id, "event_time": jiff::Timestamp::now().as_second(),
        "event": {"type": "message", "channel": channel, "channel_type": "channel", "user": message.user,
            "text": message.text, "ts": message.ts, "event_ts": message.ts, "team": TEAM},
        "authorizations": [{"team_id": TEAM, "user_id": "U0CLAW", "is_bot": true, "is_enterprise_install": false}],
        "is_ext_shared_channel": false})
}

/// The channel gets the message, then the receiver the event. Answers with the receiver's last status and how
/// many tries it took.
async fn deliver(State(slack): State<Slack>, Json(delivery): Json<Delivery>) -> Response {
    let message = &delivery.message;
    let posted = json!({"type": "message", "user": message.user, "ts": message.ts, "text": message.text});
    let known = slack.messages(&delivery.channel).unwrap_or_default();
    if !known.iter().any(|one| one.get("ts") == posted.get("ts")) {
        slack.post(&delivery.channel, posted);
    }
    let body = event_body(&delivery.channel, message).to_string();
    for attempt in 0..=3_u32 {
        let status = slack.send(&delivery.url, &body, attempt).await;
        if let Some(status) = status.filter(|status| status.is_success() || attempt == 3) {
            return Json(json!({"status": status.as_u16(), "tries": attempt + 1})).into_response();
        }
        tokio::time::sleep(Duration::from_millis(200) * (attempt + 1)).await;
    }
    (
        StatusCode::BAD_GATEWAY,
        Json(json!({"error": "the receiver cannot be reached"})),
    )
        .into_response()
}

impl Slack {
    async fn send(&self, url: &str, body: &str, attempt: u32) -> Option<StatusCode> {
        let now = jiff::Timestamp::now().as_second();
        let mut request = http::Request::post(url)
            .header("content-type", "application/json")
            .header("user-agent", "Slackbot 1.0 (+https://api.slack.com/robots)")
            .header("x-slack-request-timestamp", now.to_string())
            .header("x-slack-signature", signature(&self.signing_secret, now, body));
        if attempt > 0 {
            request = request
                .header("x-slack-retry-num", attempt.to_string())
                .header("x-slack-retry-reason", "http_error");
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).ok()?;
        let client = Client::builder(TokioExecutor::new()).build_http();
        let answer = tokio::time::timeout(Duration::from_secs(3), client.request(request)).await;
        Some(answer.ok()?.ok()?.status())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_one_of_slacks_documentation() {
        // The worked example of "Verifying requests from Slack".
        let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
        assert_eq!(
            signature("8f742231b10e8888abcd99yyyzzz85a5", 1_531_420_618, body),
            "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
        );
    }

    #[test]
    fn a_thread_is_its_parent_and_its_replies() {
        let messages = [
            json!({"ts": "1", "text": "a"}),
            json!({"ts": "2", "text": "b"}),
            json!({"ts": "3", "thread_ts": "1"}),
        ];
        assert_eq!(
            page(&messages, Some("1"), "", "")["messages"]
                .as_array()
                .map(Vec::len),
            Some(2)
        );
        assert_eq!(page(&messages, Some("9"), "", "")["error"], "thread_not_found");
        assert_eq!(
            page(&messages, None, "", "2")["response_metadata"]["next_cursor"],
            "2"
        );
    }
}
