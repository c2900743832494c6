//! The Anthropic Messages API, without streaming.
//!
//! The assistant's content blocks are kept exactly as they came: some of them (thinking) carry signatures.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Asked, MAX_TOKENS, Reply, Stop, Unreadable};
use crate::agent::tool::{ToolOutcome, ToolSpec};

#[derive(Deserialize)]
struct Answer {
    content: Vec<Value>,
    #[serde(default)]
    stop_reason: Option<String>,
}

pub(super) fn request(model: &str, system: &str, tools: &[ToolSpec], messages: &[Value]) -> Value {
    let tools: Vec<Value> = tools
        .iter()
        .map(|tool| {
            json!({ "name": tool.name, "description": tool.description, "input_schema": tool.input_schema })
        })
        .collect();
    json!({
        "model": model,
        "max_tokens": MAX_TOKENS,
        "system": system,
        "tools": tools,
        "messages": messages,
        "stream": false,
    })
}

pub(super) fn read(body: &[u8]) -> Result<Reply, Unreadable> {
    let answer: Answer = serde_json::from_slice(body).map_err(|error| Unreadable(error.to_string()))?;
    let mut text = String::new();
    let mut calls = Vec::new();
    for block in &answer.content {
        match block.get("type").and_then(Value::as_str) {
            Some("text") => text.push_str(string(block, "text")?),
            Some("tool_use") => calls.push(call(block)?),
            // Blocks for the model itself, and kinds yet to come: kept, not read.
            Some(_) => {}
            None => return Err(Unreadable("a content block without a type".into())),
        }
    }
    let stop = match answer.stop_reason.as_deref() {
        Some("max_tokens" | "model_context_window_exceeded") => Stop::Cut,
        Some("refusal") => Stop::Declined,
        Some(_) | None => Stop::Complete,
    };
    let spoke = !answer.content.is_empty();
    let message = spoke.then(|| json!({ "role": "assistant", "content": answer.content }));
    Ok(Reply {
        message,
        text,
        calls,
        stop,
    })
}

fn call(block: &Value) -> Result<Asked, Unreadable> {
    Ok(Asked {
        id: string(block, "id")?.to_owned(),
        name: string(block, "name")?.to_owned(),
        arguments: block.get("input").and_then(Value::as_object).cloned(),
    })
}

fn string<'a>(block: &'a Value, field: &str) -> Result<&'a str, Unreadable> {
    block
        .get(field)
        .and_then(Value::as_str)
        .ok_or_else(|| Unreadable(format!("a content block without its {field}")))
}

pub(super) fn say(messages: &mut Vec<Value>, text: &str) {
    let block = json!({ "type": "text", "text": text });
    let ours = messages
        .last_mut()
        .filter(|last| last.get("role").and_then(Value::as_str) == Some("user"))
        .and_then(|last| last.get_mut("content"))
        .and_then(Value::as_array_mut);
    match ours {
        Some(blocks) => blocks.push(block),
        None => messages.push(json!({ "role": "user", "content": [block] })),
    }
}

pub(super) fn results(results: &[(String, ToolOutcome)]) -> Value {
    let blocks: Vec<Value> = results
        .iter()
        .map(|(id, outcome)| {
            json!({
                "type": "tool_result",
                "tool_use_id": id,
                "content": outcome.text,
                "is_error": outcome.is_error(),
            })
        })
        .collect();
    json!({ "role": "user", "content": blocks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_calls_are_read_and_the_blocks_kept_as_they_came() {
        let body = json!({
            "content": [
                { "type": "thinking", "thinking": "…", "signature": "s" },
                { "type": "text", "text": "I look." },
                { "type": "tool_use", "id": "t1", "name": "read_file", "input": { "path": "/data/a" } },
            ],
            "stop_reason": "tool_use",
        });
        let reply = read(body.to_string().as_bytes()).unwrap();
        assert_eq!(reply.text, "I look.");
        assert_eq!(reply.calls[0].name, "read_file");
        assert_eq!(reply.calls[0].arguments.as_ref().unwrap()["path"], "/data/a");
        assert_eq!(reply.message.unwrap()["content"], body["content"]);
    }

    #[test]
    fn arguments_that_are_no_object_are_none() {
        let body =
            r#"{"content":[{"type":"tool_use","id":"t","name":"n","input":"{"}],"stop_reason":"tool_use"}"#;
        assert_eq!(read(body.as_bytes()).unwrap().calls[0].arguments, None);
    }

    #[test]
    fn stops_are_told_apart() {
        let stop = |reason: &str| {
            let body = json!({ "content": [], "stop_reason": reason }).to_string();
            read(body.as_bytes()).unwrap().stop
        };
        assert_eq!(stop("end_turn"), Stop::Complete);
        assert_eq!(stop("max_tokens"), Stop::Cut);
        assert_eq!(stop("refusal"), Stop::Declined);
    }

    #[test]
    fn two_things_said_in_a_row_are_one_message() {
        let mut messages = vec![results(&[("t".into(), ToolOutcome::refused("no"))])];
        say(&mut messages, "and mind this");
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0]["content"][0]["is_error"], true);
        assert_eq!(messages[0]["content"][1]["text"], "and mind this");
    }
}
