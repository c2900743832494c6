//! Model Context Protocol servers: a connector whose actions are what a server offers.
//!
//! One request is one JSON-RPC message (MCP 2025-11-25 and 2026-07-28, streamable HTTP). A tool is an action,
//! `mcp:tools.NAME`; a resource or a prompt is what `resources.read` and `prompts.get` touch. The body says what is
//! meant, never a header. What a server says of itself is not known here: this crate only knows how to read a call.

use std::{collections::BTreeMap, sync::OnceLock};

use clawstaff_types::{Access, ActionId, ActionPattern, ConnectorId, ResourceRef};
use http::Method;
use serde_json::Value;

use crate::{
    action::{Action, Auth, AuthScheme, Connector, Protocol, RecordKind},
    load::Rules,
    recognise::{Mapped, Unmapped},
    request::{self, Body, RequestView},
    summary::Summary,
};

/// The connector's id.
pub const MCP: &str = "mcp";
/// What the names of actions that are tools begin with.
const TOOLS: &str = "tools.";
/// Arguments of one call that conditions may speak of, and bytes of one.
const MAX_ARGUMENTS: usize = 256;
const MAX_ARGUMENT: usize = 1024;

/// The action that calling the tool `name` is. `None` if the name cannot be said in a grant.
pub fn tool_action(name: &str) -> Option<ActionId> {
    ActionId::new(id()?, &format!("{TOOLS}{name}")).ok()
}

/// Whether `action` is calling a tool of an MCP server.
pub fn is_tool_action(action: &ActionId) -> bool {
    action.connector().as_str() == MCP && action.name().starts_with(TOOLS)
}

fn id() -> Option<ConnectorId> {
    static ID: OnceLock<Option<ConnectorId>> = OnceLock::new();
    ID.get_or_init(|| MCP.parse().ok()).clone()
}

/// The connector, as the catalogue shows it.
pub(crate) fn connector() -> Option<Connector> {
    let action = |name: &str, title: &str, description: &str, resource: &str| -> Option<Action> {
        Some(Action {
            id: ActionId::new(id()?, name).ok()?,
            access: Access::Read,
            title: title.to_owned(),
            description: description.to_owned(),
            resource: Some(resource.parse().ok()?),
            record: RecordKind::Tool,
            tool: None,
        })
    };
    Some(Connector {
        id: id()?,
        name: "MCP server".to_owned(),
        description:
            "Any server of the Model Context Protocol over streamable HTTP; the connection's `base_url` \
                      says where. Each of its tools is an action, `tools.NAME`"
                .to_owned(),
        hosts: Vec::new(),
        // A connection to an MCP server always has an address of its own.
        base_url: "https://mcp.invalid".to_owned(),
        auth: Auth {
            scheme: AuthScheme::Bearer,
            placeholder_prefix: "mcp_".to_owned(),
            extra_headers: Vec::new(),
        },
        actions: vec![
            action(
                "resources.read",
                "Read resources",
                "Read a resource that the server offers, subscribe to its changes, or have its address completed",
                "resource",
            )?,
            action(
                "prompts.get",
                "Get prompts",
                "Get a prompt that the server offers, or have its arguments completed",
                "prompt",
            )?,
        ],
        rules: Rules::default(),
        protocol: Protocol::Mcp,
    })
}

/// Whether a pattern can mean an action of a server, whichever tools it has.
pub(crate) fn may_mean(pattern: &ActionPattern) -> bool {
    let of_mcp = pattern
        .connector()
        .is_none_or(|connector| connector.as_str() == MCP);
    of_mcp && (pattern.name().starts_with(TOOLS) || pattern.name().starts_with('*'))
}

/// The action that a JSON-RPC request is.
///
/// # Errors
/// [`Unmapped`], whenever it is not exactly one call of something that a grant can speak of.
pub(crate) fn recognise(request: &RequestView<'_>) -> Result<Mapped, Unmapped> {
    if request.method != Method::POST || request.path != "/" {
        return Err(Unmapped::Unknown);
    }
    if request.query.is_some() {
        return Err(Unmapped::Query("an MCP server takes none"));
    }
    let Body::Json(Value::Object(message)) = request::body(request)? else {
        return Err(Unmapped::Body("it is not one JSON-RPC request"));
    };
    if message.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err(Unmapped::Body("it is not JSON-RPC 2.0"));
    }
    let nothing = Value::Null;
    let params = message.get("params").unwrap_or(&nothing);
    match text(&message, "method")? {
        "tools/call" => tool(params),
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => {
            resource(text_in(params, "uri")?)
        }
        "prompts/get" => prompt(text_in(params, "name")?),
        "completion/complete" => completion(params),
        _ => Err(Unmapped::Refused {
            name: "method".to_owned(),
            why: "only calls of tools, and reading of resources and prompts, are; lists are at /mcp"
                .to_owned(),
        }),
    }
}

fn tool(params: &Value) -> Result<Mapped, Unmapped> {
    let name = text_in(params, "name")?;
    let action = tool_action(name).ok_or_else(|| Unmapped::Value {
        name: "name".to_owned(),
        rule: "must be 1 to 121 letters, digits, `_`, `-` and `.`".to_owned(),
    })?;
    let mut arguments = BTreeMap::new();
    if let Some(given) = params.get("arguments") {
        flatten(given, &mut String::new(), &mut arguments)?;
    }
    Ok(mapped(action, Access::External, Vec::new(), arguments))
}

fn resource(uri: &str) -> Result<Mapped, Unmapped> {
    touching("resources.read", "resource", uri)
}

fn prompt(name: &str) -> Result<Mapped, Unmapped> {
    touching("prompts.get", "prompt", name)
}

/// Completing is reading: it tells what is there.
fn completion(params: &Value) -> Result<Mapped, Unmapped> {
    let reference = params.get("ref").unwrap_or(&Value::Null);
    match text_in(reference, "type")? {
        "ref/prompt" => prompt(text_in(reference, "name")?),
        "ref/resource" => resource(text_in(reference, "uri")?),
        _ => Err(Unmapped::Body("it completes neither a prompt nor a resource")),
    }
}

fn touching(action: &str, kind: &str, it: &str) -> Result<Mapped, Unmapped> {
    let action = id().and_then(|id| ActionId::new(id, action).ok());
    let kind = kind.parse().map_err(|_| Unmapped::Unknown)?;
    let resource = ResourceRef::new(kind, it).map_err(|error| Unmapped::Value {
        name: "uri".to_owned(),
        rule: format!("must be {}", error.rule),
    })?;
    let action = action.ok_or(Unmapped::Unknown)?;
    Ok(mapped(action, Access::Read, vec![resource], BTreeMap::new()))
}

const fn mapped(
    action: ActionId,
    access: Access,
    resources: Vec<ResourceRef>,
    arguments: BTreeMap<String, String>,
) -> Mapped {
    Mapped {
        action,
        access,
        record: RecordKind::Tool,
        resources,
        arguments,
    }
}

fn text<'a>(object: &'a serde_json::Map<String, Value>, name: &str) -> Result<&'a str, Unmapped> {
    let found = object.get(name).and_then(Value::as_str);
    found.ok_or_else(|| Unmapped::Missing(name.to_owned()))
}

fn text_in<'a>(value: &'a Value, name: &str) -> Result<&'a str, Unmapped> {
    match value {
        Value::Object(object) => text(object, name),
        _ => Err(Unmapped::Missing(name.to_owned())),
    }
}

/// Every text, number, truth value and null of the arguments under its JSON pointer (RFC 6901): `/labels/0`.
fn flatten(value: &Value, at: &mut String, into: &mut BTreeMap<String, String>) -> Result<(), Unmapped> {
    let scalar = match value {
        Value::Object(members) => {
            for (name, member) in members {
                below(at, &name.replace('~', "~0").replace('/', "~1"), member, into)?;
            }
            return Ok(());
        }
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                below(at, &index.to_string(), element, into)?;
            }
            return Ok(());
        }
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::Null => "null".to_owned(),
    };
    // What is too long for a condition to name, or too much, has no value that a condition could accept.
    if scalar.len() <= MAX_ARGUMENT && at.len() <= MAX_ARGUMENT {
        if into.len() == MAX_ARGUMENTS {
            return Err(Unmapped::Body("it holds more than 256 arguments"));
        }
        into.insert(at.clone(), scalar);
    }
    Ok(())
}

fn below(
    at: &mut String,
    step: &str,
    value: &Value,
    into: &mut BTreeMap<String, String>,
) -> Result<(), Unmapped> {
    let length = at.len();
    at.push('/');
    at.push_str(step);
    flatten(value, at, into)?;
    at.truncate(length);
    Ok(())
}

/// What a record may say of a JSON-RPC answer.
pub(crate) fn summarise(status: u16, body: &[u8]) -> Summary {
    let answer: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let code = answer.pointer("/error/code").and_then(Value::as_i64);
    let failed = answer.pointer("/result/isError") == Some(&Value::Bool(true));
    let succeeded = (200..300).contains(&status) && code.is_none() && !failed;
    Summary {
        succeeded,
        items: answer
            .pointer("/result/content")
            .or_else(|| answer.pointer("/result/contents"))
            .and_then(Value::as_array)
            .map(|items| items.len() as u64),
        error: code
            .map(|code| code.to_string())
            .or_else(|| failed.then(|| "isError".to_owned())),
        ..Summary::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Mapped, Unmapped> {
        recognise(&RequestView {
            method: &Method::POST,
            path: "/",
            query: None,
            content_type: Some("application/json"),
            body: body.as_bytes(),
        })
    }

    fn call(params: &str) -> Result<Mapped, Unmapped> {
        read(&format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#
        ))
    }

    #[test]
    fn a_tool_is_an_action_and_its_arguments_have_json_pointers() {
        let mapped = call(
            r#"{"name":"create-Issue_2","arguments":{"repo":"acme/site","labels":["a","b"],"a/b":{"~":1.5},"x":null,"big":true}}"#,
        )
        .unwrap();
        assert_eq!(mapped.action.to_string(), "mcp:tools.create-Issue_2");
        let found: Vec<(&str, &str)> = mapped
            .arguments
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            found,
            [
                ("/a~1b/~0", "1.5"),
                ("/big", "true"),
                ("/labels/0", "a"),
                ("/labels/1", "b"),
                ("/repo", "acme/site"),
                ("/x", "null"),
            ]
        );
    }

    #[test]
    fn resources_and_prompts_are_what_reading_touches() {
        let uri = read(
            r#"{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///docs/a.md"}}"#,
        );
        assert_eq!(
            uri.unwrap().resources[0].to_string(),
            "resource:file:///docs/a.md"
        );
        let completed = read(
            r#"{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"greet"},"argument":{"name":"a","value":"b"}}}"#,
        )
        .unwrap();
        assert_eq!(completed.action.to_string(), "mcp:prompts.get");
        assert_eq!(completed.resources[0].to_string(), "prompt:greet");
    }

    #[test]
    fn what_could_be_read_in_two_ways_or_is_no_call_is_refused() {
        for body in [
            r#"[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}}]"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#,
            r#"{"jsonrpc":"1.0","id":1,"method":"tools/call","params":{"name":"a"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","method":"ping","params":{"name":"a"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name":"b"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a b"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":""}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///*"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
            "",
            "null",
        ] {
            assert!(read(body).is_err(), "{body}");
        }
    }

    #[test]
    fn arguments_are_bounded() {
        let many: Vec<String> = (0..300).map(|n| n.to_string()).collect();
        assert!(
            call(&format!(
                r#"{{"name":"a","arguments":{{"l":[{}]}}}}"#,
                many.join(",")
            ))
            .is_err()
        );
        let long = "x".repeat(2000);
        let mapped = call(&format!(r#"{{"name":"a","arguments":{{"t":"{long}"}}}}"#)).unwrap();
        assert!(mapped.arguments.is_empty());
    }

    #[test]
    fn an_error_of_the_tool_is_a_failure() {
        assert!(summarise(200, br#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#).succeeded);
        assert!(!summarise(200, br#"{"result":{"content":[],"isError":true}}"#).succeeded);
        assert_eq!(
            summarise(200, br#"{"error":{"code":-32602,"message":"secret words"}}"#)
                .error
                .as_deref(),
            Some("-32602")
        );
    }
}
