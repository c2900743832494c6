//! JSON-RPC over HTTP toward an MCP server: one request, its answer, and what the older revisions want around it.
//!
//! A request is put together once, is what policy judges, and goes out as it is. To a server that keeps sessions
//! the one thing changed is the number of the request, which has to be another each time; it means nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use clawstaff_types::Secret;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde_json::{Map, Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    conversation::Heard,
    servers::{Session, Whose},
};
use crate::{
    body,
    forward::{Answered, ForwardError},
    inject::Credentialed,
    mask::Mask,
    shared::Gateway,
    state::Link,
};

/// The revision without sessions, and the newest one with them.
pub(super) const STATELESS: &str = "2026-07-28";
pub(super) const SESSIONS: &str = "2025-11-25";
pub(super) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
pub(super) const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
pub(super) const METHOD: HeaderName = HeaderName::from_static("mcp-method");
pub(super) const NAME: HeaderName = HeaderName::from_static("mcp-name");
/// Bytes of an answer that is not a call's.
const MAX_ANSWER: usize = 8 << 20;
/// Bytes of a message on a session's own stream, and the wait for it to be opened.
const MAX_HEARD: usize = 256 << 10;
const STREAM_WAIT: Duration = Duration::from_secs(5);
/// Objects within objects in the arguments of a tool, as far as headers repeat them.
const MAX_DEPTH: usize = 16;
/// How every request begins that we put together.
const HEAD: &str = r#"{"jsonrpc":"2.0","id":0,"#;

/// What a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Era {
    /// 2026-07-28: every request stands alone.
    Stateless,
    /// 2025-11-25 and older: a handshake first, then a session.
    Sessions,
}

/// A request as it is judged and sent.
pub(super) fn message(method: &str, params: &Value) -> String {
    format!("{HEAD}\"method\":{},\"params\":{params}}}", Value::from(method))
}

/// The headers that a request of `method` carries, `name` being what it is about.
pub(super) fn headers(era: Era, method: &str, name: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(
        header::ACCEPT,
        HeaderValue::from_static("application/json, text/event-stream"),
    );
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if era == Era::Stateless {
        headers.insert(VERSION, HeaderValue::from_static(STATELESS));
        let named = [(METHOD, Some(method)), (NAME, name)];
        for (header, value) in named {
            if let Some(Ok(value)) = value.map(|value| HeaderValue::from_str(&sayable(value))) {
                headers.insert(header, value);
            }
        }
    }
    headers
}

/// A text as the value of a header: by itself if it survives there, else in base64 as MCP 2026-07-28 says.
fn sayable(text: &str) -> String {
    let plain = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let coded = text.starts_with("=?base64?") && text.ends_with("?=");
    if plain && !coded && text.trim() == text {
        return text.to_owned();
    }
    format!("=?base64?{}?=", STANDARD.encode(text))
}

/// Repeats in headers those arguments of a tool that its definition wants there (`x-mcp-header`).
pub(super) fn name_arguments(headers: &mut HeaderMap, said: &Value, params: &Value) {
    let (schema, arguments) = (said.get("inputSchema"), params.get("arguments"));
    if let (Some(schema), Some(arguments)) = (schema, arguments) {
        name_members(headers, schema, arguments, 0);
    }
}

fn name_members(headers: &mut HeaderMap, schema: &Value, arguments: &Value, depth: usize) {
    let properties = schema.get("properties").and_then(Value::as_object);
    for (member, schema) in properties.into_iter().flatten() {
        let Some(argument) = arguments.get(member).filter(|_| depth < MAX_DEPTH) else {
            continue;
        };
        let value = match argument {
            Value::String(text) => Some(text.clone()),
            Value::Number(_) | Value::Bool(_) => Some(argument.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        };
        let named = schema.get("x-mcp-header").and_then(Value::as_str);
        if let (Some(named), Some(value)) = (named, value)
            && let Ok(name) = HeaderName::try_from(format!("mcp-param-{named}"))
            && let Ok(value) = HeaderValue::from_str(&sayable(&value))
        {
            headers.insert(name, value);
        }
        name_members(headers, schema, argument, depth + 1);
    }
}

/// Whether a response comes piece by piece.
pub(super) fn is_stream<B>(response: &Response<B>) -> bool {
    let media_type = response.headers().get(header::CONTENT_TYPE);
    media_type.is_some_and(|media_type| media_type.as_bytes().starts_with(b"text/event-stream"))
}

/// Sets a member of an object; anything else stays as it is.
pub(super) fn set(object: &mut Value, member: &str, value: impl Into<Value>) {
    if let Value::Object(members) = object {
        members.insert(member.to_owned(), value.into());
    }
}

/// Who we are, in the `_meta` of every request to a server without sessions.
pub(super) fn meta(capabilities: Value) -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": STATELESS,
        "io.modelcontextprotocol/clientCapabilities": capabilities,
        "io.modelcontextprotocol/clientInfo": client(),
    })
}

fn client() -> Value {
    json!({ "name": "clawstaff-gateway", "version": env!("CARGO_PKG_VERSION") })
}

/// Sends a call to an MCP server, in the session of its conversation where the server keeps sessions.
///
/// # Errors
/// See [`ForwardError`]. A handshake that fails sends nothing of the call.
pub(crate) async fn send(
    gateway: &Gateway,
    link: &Link,
    whose: Whose<'_>,
    credentialed: Credentialed,
) -> Result<Answered, ForwardError> {
    let (request, secret, own_address, _) = credentialed.into_parts();
    let line = Line {
        gateway,
        link,
        own_address,
    };
    let era = gateway.servers.last_seen(link).map(|offer| offer.era);
    let response = match era {
        Some(Era::Stateless) => line.exchange(request).await?,
        Some(Era::Sessions) | None => line.in_session(whose, request, &secret).await?,
    };
    Ok(Answered { response, secret })
}

/// Reads a session's own stream to its end. What nobody reads holds it up.
async fn hear(mut body: Incoming, mut mask: Mask, to: Heard) {
    let mut events = Events::up_to(MAX_HEARD);
    while let Some(Ok(frame)) = body.frame().await {
        let data = frame.into_data().unwrap_or_default();
        for message in events.piece(&mask.piece(data)) {
            let says = |at: &str| message.pointer(at).and_then(Value::as_str);
            if says("/method") == Some("notifications/resources/updated") {
                let uri = says("/params/uri").unwrap_or_default().to_owned();
                let _nobody_is_subscribed = to.updates.send(uri);
            } else if message.get("method").is_some() && to.messages.send(message).await.is_err() {
                return;
            }
        }
    }
}

/// The way to one server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) link: &'a Link,
    pub(super) own_address: bool,
}

impl Line<'_> {
    pub(super) async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, ForwardError> {
        let Gateway { upstream, waits, .. } = self.gateway;
        upstream.exchange(request, self.own_address, waits.answer).await
    }

    /// Sends within the conversation's session; once more in a new one, if the server has forgotten it.
    async fn in_session(
        &self,
        whose: Whose<'_>,
        request: Request<Full<Bytes>>,
        secret: &Secret<String>,
    ) -> Result<Response<Incoming>, ForwardError> {
        let servers = &self.gateway.servers;
        let (parts, body) = request.into_parts();
        let body = numbered(&body.collect().await.unwrap_or_default().to_bytes());
        let mut renewed = false;
        loop {
            let session = self.session(whose, &parts.headers, secret).await?;
            let had_id = session.id.is_some();
            let mut again = Request::from_parts(parts.clone(), Full::new(body.clone()));
            join(again.headers_mut(), session);
            let response = self.exchange(again).await?;
            if response.status() != StatusCode::NOT_FOUND || !had_id || renewed {
                return Ok(response);
            }
            servers.drop_session(self.link, whose);
            renewed = true;
        }
    }

    /// The conversation's session, begun now if there is none, and logging as the client wants it.
    async fn session(
        &self,
        whose: Whose<'_>,
        credentials: &HeaderMap,
        secret: &Secret<String>,
    ) -> Result<Session, ForwardError> {
        let servers = &self.gateway.servers;
        let wanted = &whose.1.level;
        let is_ready = |session: &Session| !session.logs || wanted.is_none() || session.level == *wanted;
        if let Some(session) = servers.session(self.link, whose).filter(is_ready) {
            return Ok(session);
        }
        let turn = servers.asking(self.link);
        let _one_at_a_time = turn.lock().await;
        let mut session = if let Some(session) = servers.session(self.link, whose) {
            session
        } else {
            let (mut session, _) = self.handshake(credentials, &whose.1.capabilities).await?;
            if let Some(to) = &whose.1.to {
                session.stream = self.own_stream(credentials, &session, (to, secret)).await;
            }
            session
        };
        if !is_ready(&session) {
            let params = json!({ "level": wanted });
            let message = numbered(message("logging/setLevel", &params).as_bytes());
            let mut request = self.post(credentials, message);
            join(request.headers_mut(), session.clone());
            drop(self.exchange(request).await?);
            session.level.clone_from(wanted);
        }
        servers.keep_session(self.link, whose, session.clone());
        Ok(session)
    }

    /// Opens the stream on which a server says what belongs to no call, if it has one; it ends with what is given.
    async fn own_stream(
        &self,
        credentials: &HeaderMap,
        session: &Session,
        (to, secret): (&Heard, &Secret<String>),
    ) -> Option<Arc<DropGuard>> {
        let mut request = self.post(credentials, Bytes::new());
        *request.method_mut() = http::Method::GET;
        request.headers_mut().remove(header::CONTENT_TYPE);
        let stream = HeaderValue::from_static("text/event-stream");
        request.headers_mut().insert(header::ACCEPT, stream);
        join(request.headers_mut(), session.clone());
        let opened = tokio::time::timeout(STREAM_WAIT, self.exchange(request)).await;
        let response = opened.ok()?.ok()?;
        if !response.status().is_success() || !is_stream(&response) {
            return None;
        }
        let stop = CancellationToken::new();
        let ends = Arc::new(stop.clone().drop_guard());
        let hearing = hear(response.into_body(), Mask::new(secret), to.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = hearing => {}
                () = stop.cancelled() => {}
            }
        });
        Some(ends)
    }

    /// `initialize` and `notifications/initialized`, with the credential of the call that they are for. Gives the
    /// session and the server's capabilities.
    pub(super) async fn handshake(
        &self,
        credentials: &HeaderMap,
        can: &Map<String, Value>,
    ) -> Result<(Session, Value), ForwardError> {
        let params = json!({ "protocolVersion": SESSIONS, "capabilities": can, "clientInfo": client() });
        let hello = numbered(message("initialize", &params).as_bytes());
        let response = self.exchange(self.post(credentials, hello)).await?;
        if !response.status().is_success() {
            return Err(ForwardError::Handshake);
        }
        let id = response.headers().get(SESSION_ID).cloned();
        let mut answer = answer(response, self.gateway)
            .await
            .ok_or(ForwardError::Handshake)?;
        let capabilities = answer.pointer_mut("/result/capabilities").map(Value::take);
        let capabilities = capabilities.unwrap_or_default();
        let version = answer.pointer("/result/protocolVersion").and_then(Value::as_str);
        let version = version.ok_or(ForwardError::Handshake)?;
        let session = Session {
            id,
            version: HeaderValue::from_str(version).map_err(|_| ForwardError::Handshake)?,
            logs: capabilities.get("logging").is_some(),
            level: None,
            stream: None,
        };
        let ready = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        let mut ready = self.post(credentials, Bytes::from_static(ready.as_bytes()));
        join(ready.headers_mut(), session.clone());
        if self.exchange(ready).await?.status().is_success() {
            Ok((session, capabilities))
        } else {
            Err(ForwardError::Handshake)
        }
    }

    /// A request with the credential and everything else that `like` has, but for what is of the call itself.
    pub(super) fn post(&self, like: &HeaderMap, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = http::Method::POST;
        if let Ok(uri) = self.link.base.url().parse() {
            *request.uri_mut() = uri;
        }
        let mut headers = like.clone();
        for name in [SESSION_ID, VERSION, METHOD, NAME, header::CONTENT_LENGTH] {
            headers.remove(name);
        }
        *request.headers_mut() = headers;
        request
    }
}

pub(super) fn join(headers: &mut HeaderMap, session: Session) {
    headers.insert(VERSION, session.version);
    match session.id {
        Some(id) => headers.insert(SESSION_ID, id),
        None => headers.remove(SESSION_ID),
    };
}

/// The same request with a number that no other of this process has. What we did not put together stays as it is.
pub(super) fn numbered(body: &[u8]) -> Bytes {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    // An answer to a server's own request number 0 begins alike, and keeps its number.
    let rest = body.strip_prefix(HEAD.as_bytes());
    match rest.filter(|rest| rest.starts_with(br#""method":"#)) {
        Some(rest) => {
            let id = NEXT.fetch_add(1, Ordering::Relaxed);
            let mut numbered = format!(r#"{{"jsonrpc":"2.0","id":{id},"#).into_bytes();
            numbered.extend_from_slice(rest);
            numbered.into()
        }
        None => Bytes::copy_from_slice(body),
    }
}

/// The JSON-RPC answer in a response that is read whole, whether it came as JSON or as a stream.
pub(super) async fn answer(response: Response<Incoming>, gateway: &Gateway) -> Option<Value> {
    let body = body::read(response.into_body(), MAX_ANSWER, gateway.waits.piece).await;
    last_answer(&body.ok()?)
}

pub(super) fn last_answer(body: &[u8]) -> Option<Value> {
    if let Ok(answer) = serde_json::from_slice::<Value>(body) {
        return is_answer(&answer).then_some(answer);
    }
    let mut events = Events::default();
    let mut found = events.piece(body);
    found.extend(events.piece(b"\n\n"));
    found.into_iter().rfind(is_answer)
}

pub(super) fn is_answer(message: &Value) -> bool {
    let has = |name: &str| message.get(name).is_some();
    has("result") || has("error")
}

/// Server-sent events (WHATWG HTML) taken apart into the JSON-RPC messages in them.
#[derive(Debug)]
pub(super) struct Events {
    line: Vec<u8>,
    data: Vec<u8>,
    limit: usize,
}

impl Default for Events {
    fn default() -> Self {
        Self::up_to(MAX_ANSWER)
    }
}

impl Events {
    /// Those of no more than `limit` bytes.
    const fn up_to(limit: usize) -> Self {
        Self {
            line: Vec::new(),
            data: Vec::new(),
            limit,
        }
    }

    /// The messages that are complete with this piece. Events that are none are passed over.
    pub(super) fn piece(&mut self, piece: &[u8]) -> Vec<Value> {
        let mut found = Vec::new();
        for byte in piece {
            match byte {
                b'\n' => found.extend(self.end_of_line()),
                _ if self.line.len() + self.data.len() < self.limit => self.line.push(*byte),
                _ => {}
            }
        }
        found
    }

    fn end_of_line(&mut self) -> Option<Value> {
        let line = std::mem::take(&mut self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            return serde_json::from_slice(&data).ok();
        }
        if let Some(data) = line.strip_prefix(b"data:") {
            let data = data.strip_prefix(b" ").unwrap_or(data);
            if !self.data.is_empty() {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(data);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_gives_its_messages_however_it_is_cut() {
        let stream = b": hello\r\n\r\nevent: message\r\nid: 1\ndata: {\"a\":\ndata: 1}\n\ndata: x\n\ndata:{\"result\":{}}\n\n";
        let whole = Events::default().piece(stream);
        assert_eq!(whole, [json!({ "a": 1 }), json!({ "result": {} })]);
        let mut events = Events::default();
        let cut: Vec<Value> = stream.iter().flat_map(|byte| events.piece(&[*byte])).collect();
        assert_eq!(cut, whole);
        assert_eq!(last_answer(stream), Some(json!({ "result": {} })));
    }

    #[test]
    fn only_the_number_of_our_own_requests_is_changed() {
        let ours = message("tools/call", &json!({ "name": "a" }));
        let (first, second) = (numbered(ours.as_bytes()), numbered(ours.as_bytes()));
        assert_ne!(first, second);
        let strip = |body: &[u8]| {
            let mut value: Value = serde_json::from_slice(body).unwrap();
            value["id"] = json!(0);
            value
        };
        assert_eq!(strip(&first), strip(ours.as_bytes()));
        let theirs = br#"{"id":7,"jsonrpc":"2.0","method":"x"}"#;
        assert_eq!(numbered(theirs), theirs.as_slice());
        let answer = br#"{"jsonrpc":"2.0","id":0,"result":{}}"#;
        assert_eq!(numbered(answer), answer.as_slice());
    }
}
