//! Model Context Protocol, revision 2026-07-28, as a stateless client writes and reads it. Pure.

use serde_json::{Map, Value, json};

use super::{
    sse::SseReader,
    tool::{ToolOutcome, ToolSpec},
};

/// The revision that every request names.
pub(crate) const PROTOCOL: &str = "2026-07-28";
/// The longest answer, or event of a streamed answer, in bytes.
const MAX_ANSWER: usize = 1024 * 1024;
/// JSON-RPC: no such method.
const METHOD_NOT_FOUND: i64 = -32601;
/// JSON-RPC: the parameters are wrong; MCP says so of a tool that does not exist as well.
const INVALID_PARAMS: i64 = -32602;

/// The request for the list of tools, from `cursor` on.
pub(crate) fn list(id: u64, cursor: Option<&str>) -> Value {
    let mut params = Map::new();
    if let Some(cursor) = cursor {
        params.insert("cursor".into(), cursor.into());
    }
    request(id, "tools/list", params)
}

/// The request for a call.
pub(crate) fn call(id: u64, name: &str, arguments: Map<String, Value>) -> Value {
    let mut params = Map::new();
    params.insert("name".into(), name.into());
    params.insert("arguments".into(), arguments.into());
    request(id, "tools/call", params)
}

fn request(id: u64, method: &str, mut params: Map<String, Value>) -> Value {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": PROTOCOL,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": { "name": "claw", "version": env!("CARGO_PKG_VERSION") },
    });
    params.insert("_meta".into(), meta);
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    /// Its result.
    Result(Value),
    /// A JSON-RPC error.
    Error {
        /// The error's number.
        code: i64,
        /// The error's text.
        message: String,
    },
}

/// Why no answer could be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum McpError {
    /// The answer is too long.
    #[error("the answer is longer than {MAX_ANSWER} bytes")]
    TooLong,
    /// The answer ended before it was one.
    #[error("the answer ended without a result")]
    Missing,
    /// The answer is not JSON-RPC.
    #[error("the answer is not JSON-RPC: {0}")]
    NotJsonRpc(String),
}

/// Reads the answer to one request, from JSON or from a stream of events, piece by piece.
#[derive(Debug)]
pub(crate) struct AnswerReader {
    id: u64,
    form: Form,
}

#[derive(Debug)]
enum Form {
    Json(Vec<u8>),
    Events(SseReader),
}

impl AnswerReader {
    /// A reader for the answer to request `id`, in the form that its content type names.
    pub(crate) fn new(id: u64, content_type: &str) -> Self {
        let media = content_type.split(';').next().unwrap_or_default().trim();
        let form = if media.eq_ignore_ascii_case("text/event-stream") {
            Form::Events(SseReader::new(MAX_ANSWER))
        } else {
            Form::Json(Vec::new())
        };
        Self { id, form }
    }

    /// Takes in a piece; the answer as soon as it is there, which in a stream is before the stream's end.
    ///
    /// # Errors
    /// When it is too long or not JSON-RPC.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<Option<Answer>, McpError> {
        match &mut self.form {
            Form::Json(bytes) => {
                if bytes.len() + piece.len() > MAX_ANSWER {
                    return Err(McpError::TooLong);
                }
                bytes.extend_from_slice(piece);
                Ok(None)
            }
            Form::Events(reader) => {
                let events = reader.push(piece).map_err(|_| McpError::TooLong)?;
                for event in events.iter().filter(|event| !event.is_empty()) {
                    if let Some(answer) = read(self.id, event)? {
                        return Ok(Some(answer));
                    }
                }
                Ok(None)
            }
        }
    }

    /// The answer at the end of the body.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn finish(self) -> Result<Answer, McpError> {
        match self.form {
            Form::Json(bytes) => read(self.id, &bytes)?.ok_or(McpError::Missing),
            Form::Events(_) => Err(McpError::Missing),
        }
    }
}

/// A message of the server: the answer to request `id`, or nothing when it is about something else.
fn read(id: u64, bytes: &[u8]) -> Result<Option<Answer>, McpError> {
    let message: Value =
        serde_json::from_slice(bytes).map_err(|error| McpError::NotJsonRpc(error.to_string()))?;
    if message.get("method").is_some() {
        return Ok(None);
    }
    if let Some(error) = message.get("error") {
        // An error about a request that the server could not read has no id.
        return Ok(Some(Answer::Error {
            code: error.get("code").and_then(Value::as_i64).unwrap_or_default(),
            message: text_of(error, "message").to_owned(),
        }));
    }
    if message.get("id").and_then(Value::as_u64) != Some(id) {
        return Ok(None);
    }
    match message.get("result") {
        Some(result) => Ok(Some(Answer::Result(result.clone()))),
        None => Err(McpError::NotJsonRpc("neither result nor error".into())),
    }
}

fn text_of<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// The tools of one page of the list, and where the next page begins. Entries without a name are left out.
pub(crate) fn tools(result: &Value) -> (Vec<ToolSpec>, Option<String>) {
    let listed = result.get("tools").and_then(Value::as_array);
    let tools = listed.into_iter().flatten().filter_map(tool).collect();
    let cursor = result.get("nextCursor").and_then(Value::as_str);
    (tools, cursor.map(str::to_owned))
}

fn tool(value: &Value) -> Option<ToolSpec> {
    let schema = value.get("inputSchema").filter(|schema| schema.is_object());
    Some(ToolSpec {
        name: value
            .get("name")?
            .as_str()
            .filter(|name| is_tool_name(name))?
            .to_owned(),
        description: text_of(value, "description").to_owned(),
        input_schema: schema.cloned().unwrap_or_else(|| json!({ "type": "object" })),
    })
}

/// Names that both model APIs take, and that fit in a header.
pub(crate) fn is_tool_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// What the answer to a call means to the model.
pub(crate) fn outcome(answer: &Answer) -> ToolOutcome {
    match answer {
        Answer::Error {
            code: METHOD_NOT_FOUND | INVALID_PARAMS,
            message,
        } => ToolOutcome::nonsense(&format!("denied, or no such call: {message}")),
        Answer::Error { message, .. } => ToolOutcome::refused(message),
        Answer::Result(result) => {
            if text_of(result, "resultType") == "input_required" {
                return ToolOutcome::refused("the tool asks for input that nobody here can give");
            }
            let text = content(result);
            if result.get("isError").and_then(Value::as_bool) == Some(true) {
                ToolOutcome::refused(&text)
            } else {
                ToolOutcome::happened(&text)
            }
        }
    }
}

fn content(result: &Value) -> String {
    let blocks = result.get("content").and_then(Value::as_array);
    let texts: Vec<String> = blocks.into_iter().flatten().map(block).collect();
    match result.get("structuredContent") {
        Some(structured) if texts.is_empty() => structured.to_string(),
        Some(_) | None => texts.join("\n"),
    }
}

fn block(block: &Value) -> String {
    let resource = block
        .get("resource")
        .map_or("", |resource| text_of(resource, "text"));
    match text_of(block, "type") {
        "text" => text_of(block, "text").to_owned(),
        "resource" if !resource.is_empty() => resource.to_owned(),
        "resource_link" => text_of(block, "uri").to_owned(),
        kind => format!("[{kind} content, not shown]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::tool::Verdict;
    use proptest::prelude::*;

    fn whole(content_type: &str, body: &str) -> Result<Answer, McpError> {
        let mut reader = AnswerReader::new(1, content_type);
        match reader.push(body.as_bytes())? {
            Some(answer) => Ok(answer),
            None => reader.finish(),
        }
    }

    #[test]
    fn every_request_says_who_asks_and_in_which_revision() {
        let request = call(3, "slack_messages_read", Map::new());
        let meta = &request["params"]["_meta"];
        assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
        assert_eq!(meta["io.modelcontextprotocol/clientCapabilities"], json!({}));
        assert_eq!(meta["io.modelcontextprotocol/clientInfo"]["name"], "claw");
        assert_eq!(request["method"], "tools/call");
        assert_eq!(list(1, Some("c"))["params"]["cursor"], "c");
    }

    #[test]
    fn answers_are_read_from_json_and_from_events() {
        let result = Answer::Result(json!({ "tools": [] }));
        let json = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}"#;
        assert_eq!(whole("application/json", json), Ok(result.clone()));
        let events = format!(
            ": hello\n\nevent: message\ndata: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}}\n\n\
             event: message\ndata: {json}\n\n"
        );
        assert_eq!(whole("text/event-stream; charset=utf-8", &events), Ok(result));
    }

    #[test]
    fn a_stream_that_ends_without_the_answer_is_an_error() {
        assert_eq!(
            whole("text/event-stream", "data: {\"id\":2,\"result\":{}}\n\n"),
            Err(McpError::Missing)
        );
        assert!(matches!(
            whole("application/json", "hello"),
            Err(McpError::NotJsonRpc(_))
        ));
    }

    #[test]
    fn results_errors_and_unknown_tools_are_told_apart() {
        let verdict = |answer| outcome(&answer).verdict;
        let result = |value| Answer::Result(value);
        assert_eq!(
            verdict(result(json!({"content": [{"type": "text", "text": "a"}]}))),
            Verdict::Happened
        );
        assert_eq!(
            verdict(result(json!({"content": [], "isError": true}))),
            Verdict::Refused
        );
        assert_eq!(
            verdict(result(json!({"resultType": "input_required"}))),
            Verdict::Refused
        );
        let error = |code| Answer::Error {
            code,
            message: "no".into(),
        };
        assert_eq!(verdict(error(-32602)), Verdict::Nonsense);
        assert_eq!(verdict(error(-32000)), Verdict::Refused);
    }

    #[test]
    fn tools_are_listed_with_their_schemas_and_the_next_page() {
        let (tools, cursor) = tools(&json!({
            "tools": [
                { "name": "a", "description": "A", "inputSchema": { "type": "object", "required": ["x"] } },
                { "name": "no good" },
                { "description": "nameless" },
            ],
            "nextCursor": "2",
        }));
        assert_eq!(tools.len(), 1);
        assert_eq!(tools[0].input_schema["required"][0], "x");
        assert_eq!(cursor.as_deref(), Some("2"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_reading_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..300), events in any::<bool>(),
        ) {
            let mut reader = AnswerReader::new(1, if events { "text/event-stream" } else { "application/json" });
            if let Ok(None) = reader.push(&bytes) {
                let _ = reader.finish();
            }
        }

        #[test]
        fn json_of_any_shape_is_survived(
            shape in "(\\{\"id\":1,\"(result|error)\":|\\{\"result\":|)(\\{\"content\":\\[\\{\\}\\]\\}|\\[\\]|7|\"x\"|null)\\}?",
        ) {
            if let Ok(answer) = whole("application/json", &shape) {
                let _ = outcome(&answer);
                if let Answer::Result(result) = answer {
                    let _ = tools(&result);
                }
            }
        }
    }
}
