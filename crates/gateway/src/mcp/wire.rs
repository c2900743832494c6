//! JSON-RPC over HTTP toward an MCP server: one request, its answer, and what the older revisions want around it.
//!
//! A request is put together once, is what policy judges, and goes out as it is. To a server that keeps sessions
//! the one thing changed is the number of the request, which has to be another each time; it means nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use clawstaff_types::ClawName;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::servers::Session;
use crate::{
    body,
    forward::{Answered, ForwardError},
    inject::Credentialed,
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
            if let Some(Ok(value)) = value.map(HeaderValue::from_str) {
                headers.insert(header, value);
            }
        }
    }
    headers
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

/// Sends a call to an MCP server, in a session of its Claw where the server keeps sessions.
///
/// # Errors
/// See [`ForwardError`]. A handshake that fails sends nothing of the call.
pub(crate) async fn send(
    gateway: &Gateway,
    link: &Link,
    claw: &ClawName,
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
        Some(Era::Sessions) | None => line.in_session(claw, request).await?,
    };
    Ok(Answered { response, secret })
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

    /// Sends within the Claw's session; once more in a new one, if the server has forgotten it.
    async fn in_session(
        &self,
        claw: &ClawName,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, ForwardError> {
        let servers = &self.gateway.servers;
        let (parts, body) = request.into_parts();
        let body = numbered(&body.collect().await.unwrap_or_default().to_bytes());
        let mut renewed = false;
        loop {
            let session = match servers.session(self.link, claw) {
                Some(session) => session,
                None => self.begin(claw, &parts.headers).await?,
            };
            let had_id = session.id.is_some();
            let mut again = Request::from_parts(parts.clone(), Full::new(body.clone()));
            join(again.headers_mut(), session);
            let response = self.exchange(again).await?;
            if response.status() != StatusCode::NOT_FOUND || !had_id || renewed {
                return Ok(response);
            }
            servers.drop_session(self.link, claw);
            renewed = true;
        }
    }

    async fn begin(&self, claw: &ClawName, credentials: &HeaderMap) -> Result<Session, ForwardError> {
        let (session, _) = self.handshake(credentials).await?;
        self.gateway
            .servers
            .keep_session(self.link, claw, session.clone());
        Ok(session)
    }

    /// `initialize` and `notifications/initialized`, with the credential of the call that they are for. Gives the
    /// session and the server's capabilities.
    pub(super) async fn handshake(&self, credentials: &HeaderMap) -> Result<(Session, Value), ForwardError> {
        let params = json!({ "protocolVersion": SESSIONS, "capabilities": {}, "clientInfo": client() });
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
        let version = answer.pointer("/result/protocolVersion").and_then(Value::as_str);
        let version = version.ok_or(ForwardError::Handshake)?;
        let session = Session {
            id,
            version: HeaderValue::from_str(version).map_err(|_| ForwardError::Handshake)?,
        };
        let ready = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        let mut ready = self.post(credentials, Bytes::from_static(ready.as_bytes()));
        join(ready.headers_mut(), session.clone());
        if self.exchange(ready).await?.status().is_success() {
            Ok((session, capabilities.unwrap_or_default()))
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
    match body.strip_prefix(HEAD.as_bytes()) {
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
#[derive(Debug, Default)]
pub(super) struct Events {
    line: Vec<u8>,
    data: Vec<u8>,
}

impl Events {
    /// The messages that are complete with this piece. Events that are none are passed over.
    pub(super) fn piece(&mut self, piece: &[u8]) -> Vec<Value> {
        let mut found = Vec::new();
        for byte in piece {
            match byte {
                b'\n' => found.extend(self.end_of_line()),
                _ if self.line.len() + self.data.len() < MAX_ANSWER => self.line.push(*byte),
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
    }
}
