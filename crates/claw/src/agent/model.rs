//! The two model APIs, as values: conversation in, request body out; answer bytes in, [`Reply`] out. Pure.

mod anthropic;
mod openai;

use clawstaff_cage_contract::ModelApi;
use serde_json::{Map, Value, json};

use super::tool::{ToolOutcome, ToolSpec};

/// Tokens that one answer may have.
pub(crate) const MAX_TOKENS: u32 = 2048;

/// An answer of the model, read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reply {
    /// The message to keep in the conversation, in the API's own shape; none when it said nothing.
    pub(crate) message: Option<Value>,
    /// What it said.
    pub(crate) text: String,
    /// What it asked for.
    pub(crate) calls: Vec<Asked>,
    /// Why it stopped.
    pub(crate) stop: Stop,
}

/// A tool call as the model wrote it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Asked {
    /// The model's own id of the call.
    pub(crate) id: String,
    /// The name it gave.
    pub(crate) name: String,
    /// Its arguments; none when they are not a JSON object.
    pub(crate) arguments: Option<Map<String, Value>>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It was complete.
    Complete,
    /// It reached [`MAX_TOKENS`].
    Cut,
    /// The model declined to go on.
    Declined,
}

/// An answer that is none of the API's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not one of the model API: {0}")]
pub(crate) struct Unreadable(pub(crate) String);

/// The path of the API's door.
pub(crate) fn path(api: ModelApi) -> &'static str {
    match api {
        ModelApi::Anthropic => "/anthropic/v1/messages",
        ModelApi::Openai => "/openai/v1/chat/completions",
    }
}

/// The body of a request: the model, the system prompt, the tools and the messages so far.
pub(crate) fn request(
    api: ModelApi,
    model: &str,
    system: &str,
    tools: &[ToolSpec],
    messages: &[Value],
) -> Value {
    match api {
        ModelApi::Anthropic => anthropic::request(model, system, tools, messages),
        ModelApi::Openai => openai::request(model, system, tools, messages),
    }
}

/// Reads the body of an answer.
///
/// # Errors
/// When it is not an answer of this API.
pub(crate) fn read(api: ModelApi, body: &[u8]) -> Result<Reply, Unreadable> {
    match api {
        ModelApi::Anthropic => anthropic::read(body),
        ModelApi::Openai => openai::read(body),
    }
}

/// Adds something said to the model: to the last message when that is already ours and the API wants the two
/// sides to take turns.
pub(crate) fn say(api: ModelApi, messages: &mut Vec<Value>, text: &str) {
    match api {
        ModelApi::Anthropic => anthropic::say(messages, text),
        ModelApi::Openai => messages.push(json!({ "role": "user", "content": text })),
    }
}

/// Adds the results of all calls of the last answer, in their order.
pub(crate) fn add_results(api: ModelApi, messages: &mut Vec<Value>, results: &[(String, ToolOutcome)]) {
    match api {
        ModelApi::Anthropic => messages.push(anthropic::results(results)),
        ModelApi::Openai => messages.extend(results.iter().map(openai::result)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_bytes_make_reading_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(ModelApi::Anthropic, &bytes);
            let _ = read(ModelApi::Openai, &bytes);
        }

        #[test]
        fn answers_with_any_of_their_fields_replaced_are_survived(
            field in 0_usize..8, junk in "(null|7|\"x\"|\\[\\]|\\{\\}|\\[7\\])",
        ) {
            let anthropic = [
                r#"{"content":J,"stop_reason":"end_turn"}"#,
                r#"{"content":[{"type":J,"text":"a"}],"stop_reason":"end_turn"}"#,
                r#"{"content":[{"type":"text","text":J}],"stop_reason":"end_turn"}"#,
                r#"{"content":[{"type":"tool_use","id":J,"name":"t","input":{}}]}"#,
                r#"{"content":[{"type":"tool_use","id":"i","name":J,"input":{}}]}"#,
                r#"{"content":[{"type":"tool_use","id":"i","name":"t","input":J}]}"#,
                r#"{"content":[],"stop_reason":J}"#,
                "J",
            ];
            let openai = [
                r#"{"choices":J}"#,
                r#"{"choices":[{"message":J}]}"#,
                r#"{"choices":[{"message":{"content":J}}]}"#,
                r#"{"choices":[{"message":{"tool_calls":J}}]}"#,
                r#"{"choices":[{"message":{"tool_calls":[{"id":J,"function":{"name":"t","arguments":"{}"}}]}}]}"#,
                r#"{"choices":[{"message":{"tool_calls":[{"id":"i","function":{"name":J,"arguments":"{}"}}]}}]}"#,
                r#"{"choices":[{"message":{"tool_calls":[{"id":"i","function":{"name":"t","arguments":J}}]}}]}"#,
                r#"{"choices":[{"message":{"content":"a"},"finish_reason":J}]}"#,
            ];
            let _ = read(ModelApi::Anthropic, anthropic[field].replace('J', &junk).as_bytes());
            let _ = read(ModelApi::Openai, openai[field].replace('J', &junk).as_bytes());
        }
    }
}
