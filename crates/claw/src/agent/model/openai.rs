//! The OpenAI-compatible Chat Completions API, without streaming.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Asked, MAX_TOKENS, Reply, Stop, Unreadable};
use crate::agent::tool::{ToolOutcome, ToolSpec};

#[derive(Deserialize)]
struct Answer {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<Call>>,
}

#[derive(Deserialize)]
struct Call {
    id: String,
    function: Function,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    #[serde(default)]
    arguments: Value,
}

pub(super) fn request(model: &str, system: &str, tools: &[ToolSpec], messages: &[Value]) -> Value {
    let tools: Vec<Value> = tools
        .iter()
        .map(|tool| {
            json!({
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": tool.input_schema,
                },
            })
        })
        .collect();
    let mut all = vec![json!({ "role": "system", "content": system })];
    all.extend_from_slice(messages);
    json!({ "model": model, "max_completion_tokens": MAX_TOKENS, "tools": tools, "messages": all, "stream": false })
}

pub(super) fn read(body: &[u8]) -> Result<Reply, Unreadable> {
    let answer: Answer = serde_json::from_slice(body).map_err(|error| Unreadable(error.to_string()))?;
    let Some(choice) = answer.choices.into_iter().next() else {
        return Err(Unreadable("no choice in it".into()));
    };
    let Message {
        content,
        refusal,
        tool_calls,
    } = choice.message;
    let calls = tool_calls.unwrap_or_default();
    let message = keep(content.as_deref(), &calls);
    let stop = match choice.finish_reason.as_deref() {
        Some("length") => Stop::Cut,
        Some("content_filter") => Stop::Declined,
        Some(_) | None if refusal.is_some() => Stop::Declined,
        Some(_) | None => Stop::Complete,
    };
    Ok(Reply {
        message,
        text: content.or(refusal).unwrap_or_default(),
        calls: calls.into_iter().map(asked).collect(),
        stop,
    })
}

fn asked(call: Call) -> Asked {
    Asked {
        id: call.id,
        name: call.function.name,
        arguments: arguments(&call.function.arguments),
    }
}

/// A string of JSON by the API, an object by some that imitate it; no arguments at all are an empty object.
fn arguments(value: &Value) -> Option<Map<String, Value>> {
    match value {
        Value::String(text) if text.trim().is_empty() => Some(Map::new()),
        Value::String(text) => serde_json::from_str(text).ok(),
        Value::Object(map) => Some(map.clone()),
        Value::Null => Some(Map::new()),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) => None,
    }
}

/// The message in the form in which every imitation takes it back.
fn keep(content: Option<&str>, calls: &[Call]) -> Option<Value> {
    if calls.is_empty() {
        return content
            .filter(|text| !text.is_empty())
            .map(|text| json!({ "role": "assistant", "content": text }));
    }
    let calls: Vec<Value> = calls
        .iter()
        .map(|call| {
            let arguments = match &call.function.arguments {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let function = json!({ "name": call.function.name, "arguments": arguments });
            json!({ "id": call.id, "type": "function", "function": function })
        })
        .collect();
    Some(json!({ "role": "assistant", "content": content, "tool_calls": calls }))
}

/// The API has no mark for an error: the text says it.
pub(super) fn result((id, outcome): &(String, ToolOutcome)) -> Value {
    let content = if outcome.is_error() {
        format!("error: {}", outcome.text)
    } else {
        outcome.text.clone()
    };
    json!({ "role": "tool", "tool_call_id": id, "content": content })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_arguments(arguments: &Value) -> Asked {
        let body = json!({ "choices": [{ "message": { "content": null, "tool_calls": [
            { "id": "c1", "type": "function", "function": { "name": "read_file", "arguments": arguments } },
        ] }, "finish_reason": "tool_calls" }] });
        read(body.to_string().as_bytes()).unwrap().calls.remove(0)
    }

    #[test]
    fn arguments_are_json_in_a_string() {
        let asked = with_arguments(&json!("{\"path\": \"/data/a\"}"));
        assert_eq!(asked.arguments.unwrap()["path"], "/data/a");
        assert_eq!(with_arguments(&json!("")).arguments, Some(Map::new()));
        assert_eq!(
            with_arguments(&json!({"path": "x"})).arguments.unwrap()["path"],
            "x"
        );
    }

    #[test]
    fn broken_arguments_are_none() {
        for broken in [json!("{"), json!("7"), json!([1]), json!(true)] {
            assert_eq!(with_arguments(&broken).arguments, None, "{broken}");
        }
    }

    #[test]
    fn errors_are_said_in_the_text() {
        let message = result(&("c1".into(), ToolOutcome::refused("not granted")));
        assert_eq!(
            message,
            json!({"role": "tool", "tool_call_id": "c1", "content": "error: not granted"})
        );
    }

    #[test]
    fn an_answer_without_words_or_calls_leaves_no_message() {
        let reply = read(br#"{"choices":[{"message":{"content":""},"finish_reason":"stop"}]}"#).unwrap();
        assert_eq!((reply.message, reply.calls.len()), (None, 0));
        assert!(read(br#"{"choices":[]}"#).is_err());
    }
}
