//! Two stand-in model APIs over one scripted [`brain`](crate::brain): Anthropic Messages and OpenAI Chat Completions.
//!
//! Shapes after <https://docs.anthropic.com/en/api/messages> and the OpenAI API reference: authentication,
//! errors, tool calls, usage, and both ways of streaming.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse as _, Response},
    routing::post,
};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::{
    brain::{Conversation, Done, Turn, next},
    faults::Fault,
    server::{Control, bearer_is, silent},
};

/// Either API, with the key it accepts.
#[derive(Debug, Clone)]
pub struct Model {
    control: Control,
    key: Arc<str>,
}

impl Model {
    /// A model that accepts this key.
    pub fn new(key: &str) -> Self {
        Self {
            control: Control::default(),
            key: key.into(),
        }
    }

    /// Both APIs' routes, the control routes included.
    pub fn router(self) -> Router {
        let control = self.control.routes();
        Router::new()
            .route("/v1/messages", post(messages))
            .route("/v1/chat/completions", post(chat))
            .with_state(self)
            .merge(control)
    }

    fn fault(&self, call: &str, error: fn(StatusCode, &str, &str) -> Value) -> Option<Response> {
        let answer = |status, kind, text| self.control.answer(call, status, error(status, kind, text));
        Some(match self.control.faults.take()? {
            Fault::RateLimited => {
                let text = "Number of requests has exceeded your rate limit";
                let mut response = answer(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", text);
                response
                    .headers_mut()
                    .insert(RETRY_AFTER, HeaderValue::from_static("1"));
                response
            }
            Fault::ServerError => answer(
                StatusCode::INTERNAL_SERVER_ERROR,
                "api_error",
                "Internal server error",
            ),
            Fault::Nonsense => (
                StatusCode::OK,
                Json(json!({"nonsense": true, "content": "not a list"})),
            )
                .into_response(),
            Fault::DoneButSilent => silent(),
        })
    }
}

/// A count that only depends on the text: about four characters a token, as a rule of thumb.
fn tokens(text: &str) -> usize {
    text.len().div_ceil(4)
}

fn anthropic_error(_: StatusCode, kind: &str, text: &str) -> Value {
    json!({"type": "error", "error": {"type": kind, "message": text}, "request_id": "req_011CSHoEeqs5C35K2UUqR7Fy"})
}

async fn messages(State(model): State<Model>, headers: HeaderMap, body: Bytes) -> Response {
    let call = "POST /v1/messages";
    let refuse = |status, kind: &str, text: &str| {
        model
            .control
            .answer(call, status, anthropic_error(status, kind, text))
    };
    if headers.get("x-api-key").and_then(|value| value.to_str().ok()) != Some(&model.key) {
        return refuse(
            StatusCode::UNAUTHORIZED,
            "authentication_error",
            "invalid x-api-key",
        );
    }
    if headers.get("anthropic-version").is_none() {
        return refuse(
            StatusCode::BAD_REQUEST,
            "invalid_request_error",
            "anthropic-version: header is required",
        );
    }
    if let Some(response) = model.fault(call, anthropic_error) {
        return response;
    }
    let Ok(request) = serde_json::from_slice::<Value>(&body) else {
        return refuse(
            StatusCode::BAD_REQUEST,
            "invalid_request_error",
            "The request body is not valid JSON",
        );
    };
    if request.get("max_tokens").and_then(Value::as_u64).is_none() {
        return refuse(
            StatusCode::BAD_REQUEST,
            "invalid_request_error",
            "max_tokens: Field required",
        );
    }
    let message = anthropic_message(&request, &next(&from_anthropic(&request)), body.len());
    model.control.journal.note(call, 200, message.clone());
    if request.get("stream").and_then(Value::as_bool) == Some(true) {
        event_stream(anthropic_events(&message))
    } else {
        Json(message).into_response()
    }
}

/// Reads an Anthropic conversation.
fn from_anthropic(request: &Value) -> Conversation {
    let mut conversation = Conversation {
        system: plain(request.get("system")),
        ..Conversation::default()
    };
    conversation.tools = names(request.get("tools"), "/name");
    let mut pending: Vec<(String, String)> = Vec::new();
    for message in list(request.get("messages")) {
        let content = message.get("content");
        if conversation.work.is_empty() && message.get("role").and_then(Value::as_str) == Some("user") {
            conversation.work = plain(content);
        }
        for block in list(content) {
            let field = |name: &str| {
                block
                    .get(name)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            match field("type").as_str() {
                "tool_use" => pending.push((field("id"), field("name"))),
                "tool_result" => {
                    let id = field("tool_use_id");
                    let tool = pending
                        .iter()
                        .find(|(made, _)| *made == id)
                        .map(|(_, name)| name.clone())
                        .unwrap_or_default();
                    conversation.done.push(Done {
                        tool,
                        result: plain(block.get("content")),
                    });
                }
                _ => {}
            }
        }
    }
    conversation
}

fn list(value: Option<&Value>) -> &[Value] {
    value
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

fn names(tools: Option<&Value>, pointer: &str) -> Vec<String> {
    list(tools)
        .iter()
        .filter_map(|tool| tool.pointer(pointer)?.as_str().map(str::to_owned))
        .collect()
}

/// Text, whether it is a string or a list of text blocks.
fn plain(content: Option<&Value>) -> String {
    match content {
        Some(Value::String(text)) => text.clone(),
        other => list(other)
            .iter()
            .filter_map(|block| block.get("text")?.as_str())
            .collect::<Vec<_>>()
            .join("\n"),
    }
}

fn anthropic_message(request: &Value, turn: &Turn, request_bytes: usize) -> Value {
    let step = list(request.get("messages")).len();
    let (content, stop) = match turn {
        Turn::Say(words) => (json!([{"type": "text", "text": words}]), "end_turn"),
        Turn::Call { words, tool, input } => (
            json!([{"type": "text", "text": words},
                {"type": "tool_use", "id": format!("toolu_{step:024}"), "name": tool, "input": input}]),
            "tool_use",
        ),
    };
    let output = tokens(&content.to_string());
    json!({"id": format!("msg_{step:024}"), "type": "message", "role": "assistant", "model": request.get("model"),
        "content": content, "stop_reason": stop, "stop_sequence": null,
        "usage": {"input_tokens": request_bytes.div_ceil(4), "output_tokens": output}})
}

/// The same message as server-sent events.
fn anthropic_events(message: &Value) -> Vec<String> {
    let mut start = message.clone();
    if let Some(start) = start.as_object_mut() {
        start.insert("content".to_owned(), json!([]));
        start.insert("stop_reason".to_owned(), Value::Null);
    }
    let mut events = vec![
        json!({"type": "message_start", "message": start}),
        json!({"type": "ping"}),
    ];
    for (index, block) in list(message.get("content")).iter().enumerate() {
        let mut opening = block.clone();
        let delta = if block.get("type").and_then(Value::as_str) == Some("text") {
            opening = json!({"type": "text", "text": ""});
            json!({"type": "text_delta", "text": block.get("text")})
        } else {
            if let Some(opening) = opening.as_object_mut() {
                opening.insert("input".to_owned(), json!({}));
            }
            json!({"type": "input_json_delta", "partial_json": block.get("input").map(Value::to_string)})
        };
        events.push(json!({"type": "content_block_start", "index": index, "content_block": opening}));
        events.push(json!({"type": "content_block_delta", "index": index, "delta": delta}));
        events.push(json!({"type": "content_block_stop", "index": index}));
    }
    let output = message.pointer("/usage/output_tokens");
    events.push(
        json!({"type": "message_delta", "usage": {"output_tokens": output},
        "delta": {"stop_reason": message.get("stop_reason"), "stop_sequence": null}}),
    );
    events.push(json!({"type": "message_stop"}));
    let named = |event: &Value| {
        format!(
            "event: {}\ndata: {event}\n\n",
            event.get("type").and_then(Value::as_str).unwrap_or_default()
        )
    };
    events.iter().map(named).collect()
}

fn event_stream(events: Vec<String>) -> Response {
    let chunks = futures_util::stream::iter(
        events
            .into_iter()
            .map(|event| Ok::<_, std::convert::Infallible>(Bytes::from(event))),
    );
    let mut response = Response::new(axum::body::Body::from_stream(chunks));
    response.headers_mut().insert(
        "content-type",
        HeaderValue::from_static("text/event-stream; charset=utf-8"),
    );
    response
}

fn openai_error(_: StatusCode, kind: &str, text: &str) -> Value {
    json!({"error": {"message": text, "type": kind, "param": null, "code": null}})
}

async fn chat(State(model): State<Model>, headers: HeaderMap, body: Bytes) -> Response {
    let call = "POST /v1/chat/completions";
    let refuse = |status, kind: &str, text: &str| {
        model
            .control
            .answer(call, status, openai_error(status, kind, text))
    };
    if !bearer_is(&headers, &model.key) {
        return refuse(
            StatusCode::UNAUTHORIZED,
            "invalid_request_error",
            "Incorrect API key provided.",
        );
    }
    if let Some(response) = model.fault(call, openai_error) {
        return response;
    }
    let Ok(request) = serde_json::from_slice::<Value>(&body) else {
        return refuse(
            StatusCode::BAD_REQUEST,
            "invalid_request_error",
            "We could not parse the JSON body of your request.",
        );
    };
    let turn = next(&from_openai(&request));
    let completion = openai_completion(&request, &turn, body.len());
    model.control.journal.note(call, 200, completion.clone());
    if request.get("stream").and_then(Value::as_bool) == Some(true) {
        event_stream(openai_chunks(&request, &completion))
    } else {
        Json(completion).into_response()
    }
}

/// Reads an OpenAI conversation.
fn from_openai(request: &Value) -> Conversation {
    let mut conversation = Conversation {
        tools: names(request.get("tools"), "/function/name"),
        ..Conversation::default()
    };
    let mut pending: Vec<(String, String)> = Vec::new();
    for message in list(request.get("messages")) {
        let field = |name: &str| {
            message
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        match field("role").as_str() {
            "system" | "developer" => conversation.system = plain(message.get("content")),
            "user" if conversation.work.is_empty() => conversation.work = plain(message.get("content")),
            "assistant" => pending.extend(list(message.get("tool_calls")).iter().filter_map(|made| {
                Some((
                    made.get("id")?.as_str()?.to_owned(),
                    made.pointer("/function/name")?.as_str()?.to_owned(),
                ))
            })),
            "tool" => {
                let id = field("tool_call_id");
                let tool = pending
                    .iter()
                    .find(|(made, _)| *made == id)
                    .map(|(_, name)| name.clone())
                    .unwrap_or_default();
                conversation.done.push(Done {
                    tool,
                    result: plain(message.get("content")),
                });
            }
            _ => {}
        }
    }
    conversation
}

fn openai_completion(request: &Value, turn: &Turn, request_bytes: usize) -> Value {
    let step = list(request.get("messages")).len();
    let (message, finish) = match turn {
        Turn::Say(words) => (json!({"role": "assistant", "content": words}), "stop"),
        Turn::Call { words, tool, input } => (
            json!({"role": "assistant", "content": words, "tool_calls": [{"id": format!("call_{step:020}"),
                "type": "function", "function": {"name": tool, "arguments": input.to_string()}}]}),
            "tool_calls",
        ),
    };
    let (prompt, completion) = (request_bytes.div_ceil(4), tokens(&message.to_string()));
    json!({"id": format!("chatcmpl-{step:020}"), "object": "chat.completion", "created": jiff::Timestamp::now().as_second(),
        "model": request.get("model"), "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}})
}

/// The same completion as chunks; usage only when asked for.
fn openai_chunks(request: &Value, completion: &Value) -> Vec<String> {
    let chunk = |choices: Value, usage: Value| {
        json!({"id": completion.get("id"), "object": "chat.completion.chunk", "created": completion.get("created"),
            "model": completion.get("model"), "choices": choices, "usage": usage})
    };
    let mut delta = completion
        .pointer("/choices/0/message")
        .cloned()
        .unwrap_or_default();
    for (index, made) in delta
        .get_mut("tool_calls")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .enumerate()
    {
        if let Some(made) = made.as_object_mut() {
            made.insert("index".to_owned(), json!(index));
        }
    }
    let finish = completion.pointer("/choices/0/finish_reason");
    let mut chunks = vec![
        chunk(
            json!([{"index": 0, "delta": delta, "finish_reason": null}]),
            Value::Null,
        ),
        chunk(
            json!([{"index": 0, "delta": {}, "finish_reason": finish}]),
            Value::Null,
        ),
    ];
    if request
        .pointer("/stream_options/include_usage")
        .and_then(Value::as_bool)
        == Some(true)
    {
        chunks.push(chunk(
            json!([]),
            completion.get("usage").cloned().unwrap_or_default(),
        ));
    }
    let mut lines: Vec<String> = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    lines.push("data: [DONE]\n\n".to_owned());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_apis_read_the_same_conversation() {
        let anthropic = json!({"system": "S", "tools": [{"name": "t"}], "messages": [
            {"role": "user", "content": "work"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "t", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "r"}]}]});
        let openai = json!({"tools": [{"type": "function", "function": {"name": "t"}}], "messages": [
            {"role": "system", "content": "S"}, {"role": "user", "content": "work"},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "t", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "1", "content": "r"}]});
        let (one, two) = (from_anthropic(&anthropic), from_openai(&openai));
        assert_eq!(
            (one.system, one.tools, one.work, one.done),
            (two.system, two.tools, two.work, two.done)
        );
    }
}
