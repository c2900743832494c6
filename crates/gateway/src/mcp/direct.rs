//! A tool call of the revision without sessions, answered without a detour.
//!
//! Nearly everything that comes to `/mcp` is one kind of request: a `tools/call` that says in headers and body alike what
//! it is. What is exactly that (checked here, part by part) goes straight to our own tools. Whatever has anything else
//! about it goes to rmcp, which knows the whole protocol, so this can only ever leave work out. Both give the same
//! answer, byte for byte; a test compares them.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, header, request::Parts};
use rmcp::{
    ErrorData,
    model::{
        CallToolRequestParams, CallToolResult, ClientCapabilities, Implementation, JsonObject, RequestId,
        ServerJsonRpcMessage, ServerResult,
    },
};
use serde::Deserialize;

use super::STATELESS;
use crate::{
    body::{Body, full},
    problem::Refusal,
};

/// A request that is exactly a tool call.
#[derive(Debug)]
pub(super) struct ToolCall {
    pub(super) id: RequestId,
    pub(super) params: CallToolRequestParams,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message<'a> {
    jsonrpc: &'a str,
    id: RequestId,
    method: &'a str,
    #[serde(borrow)]
    params: Params<'a>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params<'a> {
    name: &'a str,
    #[serde(default)]
    arguments: Option<JsonObject>,
    #[serde(rename = "_meta", borrow)]
    meta: Meta<'a>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Meta<'a> {
    #[serde(rename = "io.modelcontextprotocol/protocolVersion")]
    version: &'a str,
    #[serde(rename = "io.modelcontextprotocol/clientCapabilities")]
    _capabilities: ClientCapabilities,
    #[serde(rename = "io.modelcontextprotocol/clientInfo", default)]
    _client: Option<Implementation>,
}

/// The tool call that a request is; `None` when it is anything more, less or else.
pub(super) fn tool_call(parts: &Parts, body: &[u8]) -> Option<ToolCall> {
    if parts.method != Method::POST {
        return None;
    }
    let named = name_in(&parts.headers)?;
    let message: Message<'_> = serde_json::from_slice(body).ok()?;
    let fits = message.jsonrpc == "2.0"
        && message.method == "tools/call"
        && message.params.name.as_bytes() == named.as_bytes()
        && message.params.meta.version.as_bytes() == STATELESS.as_bytes();
    let mut params = CallToolRequestParams::new(message.params.name.to_owned());
    params.arguments = message.params.arguments;
    fits.then_some(ToolCall {
        id: message.id,
        params,
    })
}

/// The name of the tool by the headers, if they are those of a tool call: each once, and no other that has a meaning.
fn name_in(headers: &HeaderMap) -> Option<&HeaderValue> {
    let with_meaning = |name: &str| name.starts_with("mcp-") || matches!(name, "origin" | "last-event-id");
    let known = [
        once(headers, "mcp-protocol-version")?,
        once(headers, "mcp-method")?,
        once(headers, "mcp-name")?,
    ];
    let [version, method, name] = known;
    let others = headers.keys().filter(|name| with_meaning(name.as_str())).count();
    let fits = others == known.len()
        && version == STATELESS
        && method == "tools/call"
        && name
            .as_bytes()
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || *b == b'_')
        && is_here(once(headers, header::HOST.as_str())?)
        && once(headers, header::CONTENT_TYPE.as_str())? == "application/json"
        && accepts_both(once(headers, header::ACCEPT.as_str())?);
    fits.then_some(name)
}

/// Whether a host is the cage itself, by an address; a name that leads here is looked at by rmcp.
fn is_here(host: &HeaderValue) -> bool {
    let host = host.to_str().unwrap_or_default();
    let (name, port) = host.split_once(':').unwrap_or((host, "0"));
    matches!(name, "127.0.0.1" | "localhost") && port.bytes().all(|byte| byte.is_ascii_digit())
}

fn once<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// The two media types that a client has to accept, in the spelling of nearly all.
fn accepts_both(accept: &HeaderValue) -> bool {
    let types = accept.to_str().unwrap_or_default();
    let has = |wanted: &str| types.split(',').any(|one| one.trim() == wanted);
    has("application/json") && has("text/event-stream")
}

/// The answer to a tool call.
pub(super) fn answer(id: RequestId, result: Result<CallToolResult, ErrorData>) -> Response<Body> {
    let message = match result {
        Ok(result) => ServerJsonRpcMessage::response(ServerResult::CallToolResult(result), id),
        Err(error) => ServerJsonRpcMessage::error(error, Some(id)),
    };
    let Ok(text) = serde_json::to_vec(&message) else {
        return Refusal::internal().into_response();
    };
    let mut response = Response::new(full(Bytes::from(text)));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn usual() -> Value {
        json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
            "name": "a_tool", "arguments": { "x": 1 },
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {},
            },
        } })
    }

    fn headers() -> Vec<(&'static str, &'static str)> {
        vec![
            ("host", "127.0.0.1:7070"),
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-method", "tools/call"),
            ("mcp-name", "a_tool"),
            ("user-agent", "x"),
        ]
    }

    fn is_direct(method: Method, headers: &[(&str, &str)], body: &str) -> bool {
        let mut request = http::Request::builder().method(method).uri("/mcp");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        tool_call(&parts, body.as_bytes()).is_some()
    }

    #[test]
    fn the_usual_call_is_recognised_with_its_name_and_arguments() {
        let body = usual().to_string();
        assert!(is_direct(Method::POST, &headers(), &body));
        let message: Message<'_> = serde_json::from_str(&body).unwrap();
        assert_eq!(Value::from(message.params.arguments.unwrap()), json!({ "x": 1 }));
    }

    #[test]
    fn whatever_is_not_exactly_that_is_left_to_the_whole_protocol() {
        let body = usual().to_string();
        assert!(!is_direct(Method::GET, &headers(), &body));
        for (at, _) in headers().iter().enumerate().take(6) {
            let mut fewer = headers();
            let (name, _) = fewer.remove(at);
            assert!(!is_direct(Method::POST, &fewer, &body), "without {name}");
            let mut twice = headers();
            twice.push(headers()[at]);
            assert!(!is_direct(Method::POST, &twice, &body), "{name} twice");
            let mut other = headers();
            other[at].1 = "other";
            assert!(!is_direct(Method::POST, &other, &body), "another {name}");
        }
        for more in ["mcp-session-id", "mcp-param-x", "origin", "last-event-id"] {
            let mut headers = headers();
            headers.push((more, "x"));
            assert!(!is_direct(Method::POST, &headers, &body), "with {more}");
        }
        let changed = |at: &str, value: Value| {
            let mut changed = usual();
            *changed.pointer_mut(at).unwrap() = value;
            changed.to_string()
        };
        let with = |at: &str, name: &str| {
            let mut more = usual();
            let object = more.pointer_mut(at).unwrap().as_object_mut().unwrap();
            object.insert(name.to_owned(), json!({}));
            more.to_string()
        };
        for body in [
            changed("/jsonrpc", json!("1.0")),
            changed("/id", json!(null)),
            changed("/method", json!("tools/list")),
            changed("/params/name", json!("another_tool")),
            changed("/params/_meta", json!({})),
            changed(
                "/params/_meta/io.modelcontextprotocol~1protocolVersion",
                json!("2025-11-25"),
            ),
            changed(
                "/params/_meta/io.modelcontextprotocol~1clientCapabilities",
                json!(7),
            ),
            with("", "result"),
            with("/params", "inputResponses"),
            with("/params/_meta", "progressToken"),
            body.replace("\"id\":1", "\"id\":1,\"id\":1"),
            body.replace("\"arguments\"", "\"name\":\"a_tool\",\"arguments\""),
            format!("[{body}]"),
            format!("{body} x"),
        ] {
            assert!(!is_direct(Method::POST, &headers(), &body), "{body}");
        }
    }
}
