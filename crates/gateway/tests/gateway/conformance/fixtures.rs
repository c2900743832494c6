//! What the conformance suite expects to find at a server: tools, resources and prompts by fixed names.

use serde_json::{Value, json};

/// A picture of one point, and a sound of none.
const IMAGE: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8/5+hHgAHggJ/PchI7wAAAABJRU5ErkJggg==";
const AUDIO: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEARKwAAIhYAQACABAAZGF0YQAAAAA=";

/// Tools without arguments.
const PLAIN: [&str; 22] = [
    "test_simple_text",
    "test_image_content",
    "test_audio_content",
    "test_embedded_resource",
    "test_multiple_content_types",
    "test_tool_with_logging",
    "test_error_handling",
    "test_tool_with_progress",
    "test_elicitation_sep1034_defaults",
    "test_elicitation_sep1330_enums",
    "test_reconnection",
    "test_missing_capability",
    "test_streaming_elicitation",
    "test_logging_tool",
    "test_input_required_result_elicitation",
    "test_input_required_result_sampling",
    "test_input_required_result_list_roots",
    "test_input_required_result_request_state",
    "test_input_required_result_multiple_inputs",
    "test_input_required_result_multi_round",
    "test_input_required_result_tampered_state",
    "test_input_required_result_capabilities",
];

fn tool(name: &str, schema: Value) -> Value {
    json!({ "name": name, "description": format!("The suite's {name}"), "inputSchema": schema })
}

fn with(property: &str, schema: Value) -> Value {
    json!({ "type": "object", "properties": { property: schema }, "required": [property] })
}

pub(super) fn tools() -> Vec<Value> {
    let mut tools: Vec<Value> = PLAIN
        .iter()
        .map(|name| tool(name, json!({ "type": "object", "properties": {} })))
        .collect();
    tools.push(tool("test_sampling", with("prompt", json!({ "type": "string" }))));
    tools.push(tool(
        "test_elicitation",
        with("message", json!({ "type": "string" })),
    ));
    let value = json!({ "type": "string", "x-mcp-header": "Value" });
    tools.push(tool("test_custom_header", with("value", value)));
    tools.push(tool(
        "json_schema_2020_12_tool",
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "$defs": { "address": { "$anchor": "address", "type": "object", "properties": {
                "street": { "type": "string" }, "city": { "type": "string" } } } },
            "properties": { "name": { "type": "string" }, "address": { "$ref": "#/$defs/address" } },
            "allOf": [{ "anyOf": [{ "required": ["name"] }, { "required": ["address"] }] }],
            "if": { "required": ["address"] },
            "then": { "properties": { "address": { "required": ["street"] } } },
            "else": { "required": ["name"] },
            "additionalProperties": false
        }),
    ));
    tools
}

pub(super) fn text(words: &str) -> Value {
    json!({ "content": [{ "type": "text", "text": words }] })
}

/// The results of tools that do nothing else.
pub(super) fn result(tool: &str) -> Option<Value> {
    let image = json!({ "type": "image", "data": IMAGE, "mimeType": "image/png" });
    let embedded = |uri: &str, media: &str, words: &str| json!({ "type": "resource", "resource": { "uri": uri, "mimeType": media, "text": words } });
    Some(match tool {
        "test_simple_text" => text("This is a simple text response for testing."),
        "test_image_content" => json!({ "content": [image] }),
        "test_audio_content" => {
            json!({ "content": [{ "type": "audio", "data": AUDIO, "mimeType": "audio/wav" }] })
        }
        "test_embedded_resource" => json!({ "content": [embedded(
            "test://embedded-resource", "text/plain", "This is an embedded resource content.")] }),
        "test_multiple_content_types" => json!({ "content": [
            { "type": "text", "text": "Multiple content types test:" }, image,
            embedded("test://mixed-content-resource", "application/json", r#"{"test":"data","value":123}"#)] }),
        "test_error_handling" => json!({ "isError": true, "content": [
            { "type": "text", "text": "This tool intentionally returns an error for testing" }] }),
        "test_reconnection" => text("Reconnection test completed"),
        "json_schema_2020_12_tool" => text("Hello, world!"),
        "test_custom_header" => text("taken"),
        _ => return None,
    })
}

pub(super) fn resources() -> Value {
    json!([
        { "uri": "test://static-text", "name": "Static text", "mimeType": "text/plain" },
        { "uri": "test://static-binary", "name": "Static binary", "mimeType": "image/png" },
    ])
}

pub(super) fn templates() -> Value {
    json!([{ "uriTemplate": "test://template/{id}/data", "name": "Dynamic", "mimeType": "application/json" }])
}

/// What a resource holds.
pub(super) fn contents(uri: &str) -> Option<Value> {
    let id = uri
        .strip_prefix("test://template/")
        .and_then(|rest| rest.strip_suffix("/data"));
    let one = match (uri, id) {
        ("test://static-text", _) => {
            json!({ "mimeType": "text/plain", "text": "This is the content of the static text resource." })
        }
        ("test://static-binary", _) => json!({ "mimeType": "image/png", "blob": IMAGE }),
        (_, Some(id)) => json!({ "mimeType": "application/json",
            "text": json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") }).to_string() }),
        _ => return None,
    };
    let mut one = one;
    one["uri"] = uri.into();
    Some(json!({ "contents": [one] }))
}

pub(super) fn prompts() -> Value {
    json!([
        { "name": "test_simple_prompt", "description": "A simple test prompt" },
        { "name": "test_prompt_with_arguments", "description": "With arguments", "arguments": [
            { "name": "arg1", "description": "First", "required": true },
            { "name": "arg2", "description": "Second", "required": true }] },
        { "name": "test_prompt_with_embedded_resource", "description": "With a resource", "arguments": [
            { "name": "resourceUri", "description": "Which", "required": true }] },
        { "name": "test_prompt_with_image", "description": "With an image" },
        { "name": "test_input_required_result_prompt", "description": "That wants more input" },
    ])
}

/// What a prompt says.
pub(super) fn prompt(name: &str, arguments: &Value) -> Option<Value> {
    let said = |content: Value| json!({ "role": "user", "content": content });
    let words = |text: String| said(json!({ "type": "text", "text": text }));
    let argument = |name: &str| arguments[name].as_str().unwrap_or_default().to_owned();
    let messages = match name {
        "test_simple_prompt" => vec![words("This is a simple prompt for testing.".to_owned())],
        "test_prompt_with_arguments" => vec![words(format!(
            "Prompt with arguments: arg1='{}', arg2='{}'",
            argument("arg1"),
            argument("arg2")
        ))],
        "test_prompt_with_embedded_resource" => vec![
            said(
                json!({ "type": "resource", "resource": { "uri": argument("resourceUri"),
                "mimeType": "text/plain", "text": "Embedded resource content for testing." } }),
            ),
            words("Please process the embedded resource above.".to_owned()),
        ],
        "test_prompt_with_image" => vec![
            said(json!({ "type": "image", "data": IMAGE, "mimeType": "image/png" })),
            words("Please analyze the image above.".to_owned()),
        ],
        _ => return None,
    };
    Some(json!({ "messages": messages }))
}

/// Questions of the tools that ask: by which key, by which method, with which parameters.
pub(super) fn question(tool: &str, arguments: &Value) -> Option<(&'static str, &'static str, Value)> {
    let words = |name: &str| arguments[name].as_str().unwrap_or_default().to_owned();
    let form = |message: &str, schema: Value| json!({ "message": message, "requestedSchema": schema });
    Some(match tool {
        "test_sampling" => (
            "sampled",
            "sampling/createMessage",
            json!({ "maxTokens": 100, "messages": [
                { "role": "user", "content": { "type": "text", "text": words("prompt") } }] }),
        ),
        "test_elicitation" => (
            "answered",
            "elicitation/create",
            form(
                &words("message"),
                json!({ "type": "object", "required": ["username", "email"], "properties": {
                    "username": { "type": "string", "description": "User's response" },
                    "email": { "type": "string", "description": "User's email address" } } }),
            ),
        ),
        "test_elicitation_sep1034_defaults" => {
            ("answered", "elicitation/create", form("Defaults", defaults()))
        }
        "test_elicitation_sep1330_enums" => ("answered", "elicitation/create", form("Choices", choices())),
        _ => return None,
    })
}

fn defaults() -> Value {
    json!({ "type": "object", "properties": {
        "name": { "type": "string", "default": "John Doe" },
        "age": { "type": "integer", "default": 30 },
        "score": { "type": "number", "default": 95.5 },
        "status": { "type": "string", "enum": ["active", "inactive", "pending"], "default": "active" },
        "verified": { "type": "boolean", "default": true } } })
}

fn choices() -> Value {
    let options = json!(["option1", "option2", "option3"]);
    json!({ "type": "object", "properties": {
        "untitledSingle": { "type": "string", "enum": options },
        "titledSingle": { "type": "string", "oneOf": [
            { "const": "value1", "title": "First Option" }, { "const": "value2", "title": "Second Option" },
            { "const": "value3", "title": "Third Option" }] },
        "legacyEnum": { "type": "string", "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"] },
        "untitledMulti": { "type": "array", "items": { "type": "string", "enum": options } },
        "titledMulti": { "type": "array", "items": { "anyOf": [
            { "const": "value1", "title": "First Choice" }, { "const": "value2", "title": "Second Choice" },
            { "const": "value3", "title": "Third Choice" }] } } } })
}
