//! What the built-in manifests say, as people read it, and how a manifest that is wrong is refused.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::fmt::Write;

use clawstaff_connectors::{Catalogue, Connector, Protocol, RecordKind};
use clawstaff_types::{ConnectorId, ResourceRef};

fn builtin(id: &str) -> Connector {
    let id: ConnectorId = id.parse().unwrap();
    Catalogue::builtin().unwrap().get(&id).unwrap().clone()
}

/// One line per action: id, access, resource, record, tool.
fn listed(connector: &Connector) -> String {
    let mut text = String::new();
    for action in connector.actions() {
        let resource = action.resource.as_ref().map_or("-", |kind| kind.as_str());
        let tool = action.tool.as_ref().map_or("-", |tool| tool.name.as_str());
        let access = format!("{:?}", action.access).to_lowercase();
        let record = match action.record {
            RecordKind::Tool => "tool",
            RecordKind::MessageRead => "message read",
            RecordKind::MessageSent => "message sent",
            RecordKind::Model => "model",
        };
        writeln!(
            text,
            "{:27} {access:11} {resource:9} {record:12} {tool}",
            action.id.to_string()
        )
        .unwrap();
    }
    text
}

#[test]
fn the_built_in_connectors_are_the_manifests_in_the_folder() {
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../connectors")).unwrap();
    let mut files: Vec<String> = folder
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let catalogue = Catalogue::builtin().unwrap();
    let loaded: Vec<String> = catalogue
        .iter()
        .filter(|connector| connector.protocol() == Protocol::Http)
        .map(|connector| format!("{}.toml", connector.id()))
        .collect();
    assert_eq!(loaded, files);
}

#[test]
fn the_actions_of_every_built_in_connector_are_as_listed() {
    for id in ["anthropic", "github", "notion", "openai", "slack"] {
        insta::assert_snapshot!(format!("actions of {id}"), listed(&builtin(id)));
    }
}

#[test]
fn every_tool_tells_a_model_what_it_takes_and_refuses_the_rest() {
    for connector in Catalogue::builtin().unwrap().iter() {
        for (action, tool) in connector.tools() {
            assert_eq!(tool.input_schema["type"], "object", "{}", action.id);
            assert_eq!(tool.input_schema["additionalProperties"], false, "{}", action.id);
            for (name, schema) in tool.input_schema["properties"].as_object().unwrap() {
                assert!(
                    !schema["description"].as_str().unwrap().is_empty(),
                    "{} {name}",
                    action.id
                );
            }
            assert!(tool.description.ends_with('.'), "{}", action.id);
        }
    }
    let slack = builtin("slack");
    let (_, tool) = slack
        .tools()
        .find(|(_, tool)| tool.name == "slack_messages_read")
        .unwrap();
    insta::assert_json_snapshot!("schema of slack_messages_read", tool.input_schema);
}

#[test]
fn credentials_travel_where_each_api_expects_them() {
    let shown = ["anthropic", "github", "notion", "openai", "slack"].map(|id| {
        let connector = builtin(id);
        let hosts: Vec<_> = connector
            .hosts()
            .iter()
            .map(|host| host.as_str().to_owned())
            .collect();
        format!(
            "{id}: {} {hosts:?}\n  {:?}",
            connector.base_url(),
            connector.auth()
        )
    });
    insta::assert_snapshot!(shown.join("\n"), @r#"
    anthropic: https://api.anthropic.com ["api.anthropic.com"]
      Auth { scheme: Header { name: "x-api-key" }, placeholder_prefix: "sk-ant-", extra_headers: [("anthropic-version", "2023-06-01")] }
    github: https://api.github.com ["api.github.com"]
      Auth { scheme: Bearer, placeholder_prefix: "ghp_", extra_headers: [("user-agent", "ClawStaff"), ("x-github-api-version", "2022-11-28")] }
    notion: https://api.notion.com ["api.notion.com"]
      Auth { scheme: Bearer, placeholder_prefix: "ntn_", extra_headers: [("notion-version", "2022-06-28")] }
    openai: https://api.openai.com ["api.openai.com"]
      Auth { scheme: Bearer, placeholder_prefix: "sk-", extra_headers: [] }
    slack: https://slack.com/api ["slack.com"]
      Auth { scheme: Bearer, placeholder_prefix: "xoxb-", extra_headers: [] }
    "#);
}

#[test]
fn what_is_above_a_resource_follows_from_its_id() {
    let repo: ResourceRef = "repo:acme/site".parse().unwrap();
    assert_eq!(builtin("github").parents(&repo), ["org:acme".parse().unwrap()]);
    let channel: ResourceRef = "channel:C0".parse().unwrap();
    assert_eq!(builtin("slack").parents(&channel), []);
}

/// A manifest that loads.
const GOOD: &str = r#"format = 1
id = "demo"
name = "Demo"
description = "A tool"
base_url = "https://api.example.com/v1"
hosts = ["api.example.com"]

[auth]
scheme = "bearer"
placeholder_prefix = "demo_"

[resource.thing]
id = "{thing}"

[[action]]
id = "things.read"
access = "read"
title = "Read things"
description = "Read a thing"
resource = "thing"

[[action.request]]
methods = ["GET"]
path = "/things/{thing}"

[action.tool]
name = "demo_things_read"
description = "Read a thing."

[action.tool.arguments]
thing = { type = "string", required = true, description = "The thing" }

[[action.tool.send]]
method = "GET"
path = "/things/{thing}"
"#;

#[test]
fn a_manifest_that_is_wrong_is_refused_with_its_line_and_a_remedy() {
    assert!(Connector::parse(GOOD).is_ok());
    let cases = [
        ("format = 1", "format = 2"),
        ("id = \"demo\"", "id = \"Demo\""),
        ("id = \"demo\"", "id = \"demo\"\nextra = 1"),
        ("https://api.example.com/v1", "http://api.example.com/v1"),
        ("[\"api.example.com\"]", "[\"*\"]"),
        ("scheme = \"bearer\"", "scheme = \"header\""),
        ("id = \"{thing}\"", "id = \"{thing}{more}\""),
        (
            "id = \"{thing}\"",
            "id = \"{thing}\"\nparents = [\"org:{owner}\"]",
        ),
        ("id = \"things.read\"", "id = \"Things\""),
        ("access = \"read\"", "access = \"maybe\""),
        ("resource = \"thing\"", "resource = \"other\""),
        ("methods = [\"GET\"]", "methods = [\"FETCH\"]"),
        (
            "path = \"/things/{thing}\"\n\n[action.tool]",
            "path = \"/things//{thing}\"\n\n[action.tool]",
        ),
        (
            "path = \"/things/{thing}\"\n\n[action.tool]",
            "path = \"/things/{id}\"\n\n[action.tool]",
        ),
        ("methods = [\"GET\"]", "methods = [\"GET\", \"GET\"]"),
        (
            "methods = [\"GET\"]",
            "methods = [\"GET\"]\narguments = [\"size\"]",
        ),
        (
            "methods = [\"GET\"]",
            "methods = [\"GET\"]\nvalues = { size = \"header:size\" }",
        ),
        ("demo_things_read", "demo things"),
        (
            "method = \"GET\"\npath = \"/things/{thing}\"\n",
            "method = \"POST\"\npath = \"/things/{thing}\"\n",
        ),
        ("thing = { type", "other = { type"),
        ("method = \"GET\"\n", "method = \"GET\"\njson = { a = \"{b}\" }\n"),
        (
            "method = \"GET\"\n",
            "method = \"GET\"\njson = { a = \"x {thing}\" }\n",
        ),
    ];
    let mut shown = String::new();
    for (from, to) in cases {
        assert!(GOOD.contains(from), "{from}");
        let error = Connector::parse(&GOOD.replacen(from, to, 1)).expect_err(to);
        writeln!(shown, "{error}").unwrap();
    }
    insta::assert_snapshot!("refused manifests", shown);
}

#[test]
fn the_manifest_in_the_documentation_loads() {
    let guide = include_str!("../../../docs/connectors.md");
    let manifest = guide
        .split("```toml\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let connector = Connector::parse(manifest).unwrap();
    assert_eq!(
        listed(&connector),
        "tickets:tickets.create      write       queue     tool         tickets_create\n"
    );
}

#[test]
fn two_connectors_with_the_same_id_or_tool_do_not_go_together() {
    let mut catalogue = Catalogue::default();
    catalogue.add(Connector::parse(GOOD).unwrap()).unwrap();
    assert!(catalogue.add(Connector::parse(GOOD).unwrap()).is_err());
    let other = GOOD.replacen("id = \"demo\"", "id = \"other\"", 1);
    assert!(catalogue.add(Connector::parse(&other).unwrap()).is_err());
}

#[test]
fn a_manifest_over_its_bound_is_refused_by_its_length_whatever_is_in_it() {
    let fits = format!("{}\n", ".".repeat((256 << 10) - 1));
    let error = Connector::parse(&fits).unwrap_err().to_string();
    assert!(!error.contains("256 KiB"), "{error}");
    let error = Connector::parse(&format!("{fits}.")).unwrap_err().to_string();
    assert!(error.contains("larger than 256 KiB"), "{error}");
}
