//! MCP tools: the requests they make, and that these are the tools' own actions and nothing else.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail like tests"
)]

use clawstaff_connectors::{ArgumentError, Built, Catalogue, Connector, Mapped, RequestView};
use clawstaff_types::ActionId;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn find(tool: &str) -> (Connector, ActionId) {
    let catalogue = Catalogue::builtin().unwrap();
    let of = |connector: &Connector| {
        let found = connector.tools().find(|(_, have)| have.name == tool);
        found.map(|(action, _)| (connector.clone(), action.id.clone()))
    };
    catalogue
        .iter()
        .find_map(of)
        .unwrap_or_else(|| panic!("no tool {tool}"))
}

fn build(tool: &str, arguments: &Value) -> Result<Built, ArgumentError> {
    let (connector, action) = find(tool);
    connector.build(&action, arguments.as_object().unwrap())
}

fn shown(tool: &str, arguments: &Value) -> String {
    match build(tool, arguments) {
        Ok(built) => {
            let body = std::str::from_utf8(&built.body).unwrap();
            format!(
                "{} {}\n{:?} {body}",
                built.method, built.path_and_query, built.content_type
            )
        }
        Err(error) => error.to_string(),
    }
}

fn recognised(connector: &Connector, built: &Built) -> Mapped {
    let (path, query) = match built.path_and_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (built.path_and_query.as_str(), None),
    };
    let view = RequestView {
        method: &built.method,
        path,
        query,
        content_type: built.content_type.as_deref(),
        body: &built.body,
    };
    connector.recognise(&view).unwrap()
}

#[test]
fn slack_tools() {
    let read = |arguments| shown("slack_messages_read", &arguments);
    insta::assert_snapshot!(read(json!({"channel": "C0", "limit": 5})), @r#"
    GET /conversations.history?channel=C0&limit=5
    None 
    "#);
    insta::assert_snapshot!(read(json!({"channel": "C0", "thread_ts": "1.2"})), @r#"
    GET /conversations.replies?channel=C0&ts=1.2
    None 
    "#);
    let send = |arguments| shown("slack_messages_send", &arguments);
    insta::assert_snapshot!(send(json!({"channel": "C0", "text": "a \"b\"", "thread_ts": ""})), @r#"
    POST /chat.postMessage
    Some("application/json") {"channel":"C0","text":"a \"b\""}
    "#);
}

#[test]
fn a_notion_page_gets_its_properties_and_paragraphs() {
    let arguments = json!({
        "database_id": "2f26ee68-df30-4251-aad4-ddddc456ba3b",
        "title": "Printer on fire",
        "priority": "High",
        "url": "https://acme.slack.com/archives/C0/p1",
        "content": "First.\n\nSecond.",
        "properties": {"Team": {"select": {"name": "Ops"}}, "Priority": {"select": {"name": "Low"}}},
    });
    let built = build("notion_pages_create", &arguments).unwrap();
    let body: Value = serde_json::from_slice(&built.body).unwrap();
    insta::assert_json_snapshot!("a Notion page", body);
}

#[test]
fn what_is_not_given_leaves_no_trace() {
    let arguments =
        json!({"database_id": "2f26ee68df304251aad4ddddc456ba3b", "title": "T", "priority": null, "url": ""});
    let built = build("notion_pages_create", &arguments).unwrap();
    let body: Value = serde_json::from_slice(&built.body).unwrap();
    let expected = json!({
        "parent": {"database_id": "2f26ee68df304251aad4ddddc456ba3b"},
        "properties": {"Name": {"title": [{"text": {"content": "T"}}]}},
    });
    assert_eq!(body, expected);
}

#[test]
fn github_tools() {
    let arguments = json!({"owner": "Acme", "repo": "site", "path": "docs/a b.md", "ref": "a/b"});
    insta::assert_snapshot!(shown("github_contents_read", &arguments), @r#"
    GET /repos/Acme/site/contents/docs/a%20b.md?ref=a%2Fb
    None 
    "#);
    let arguments = json!({"owner": "acme", "repo": "site", "number": 7, "body": "x"});
    insta::assert_snapshot!(shown("github_issues_comment", &arguments), @r#"
    POST /repos/acme/site/issues/7/comments
    Some("application/json") {"body":"x"}
    "#);
}

#[test]
fn arguments_that_are_wrong_are_refused_with_what_to_change() {
    for (tool, arguments, expected) in [
        (
            "slack_messages_read",
            json!({}),
            "the argument `channel` is required",
        ),
        (
            "slack_messages_read",
            json!({"channel": 7}),
            "the argument `channel` must be a string",
        ),
        (
            "slack_messages_read",
            json!({"channel": "C0", "limit": 0}),
            "the argument `limit` is out of its bounds",
        ),
        (
            "slack_messages_read",
            json!({"channel": "C0", "limit": 1.5}),
            "the argument `limit` must be a whole number",
        ),
        (
            "slack_messages_read",
            json!({"channel": "C0", "count": 1}),
            "there is no argument `count`; the arguments are `channel`, `limit`, `thread_ts`",
        ),
        (
            "slack_messages_read",
            json!({"channel": "#general"}),
            "the arguments do not make a request of this tool: `channel` must be the tool's own id, upper-case letters and digits; names are not accepted",
        ),
        (
            "github_issues_list",
            json!({"owner": "acme", "repo": "site", "state": "half"}),
            "the argument `state` must be one of open, closed, all",
        ),
        (
            "github_contents_read",
            json!({"owner": "acme", "repo": "site", "path": "../../../user"}),
            "the arguments do not make a request of this tool: the path is not canonical: a segment is `.` or `..`",
        ),
        (
            "github_issues_list",
            json!({"owner": "acme", "repo": "site/pulls"}),
            "the arguments do not make a request of this tool: the path is not canonical: a segment holds an encoded separator",
        ),
    ] {
        assert_eq!(build(tool, &arguments).unwrap_err().to_string(), expected);
    }
    let (slack, _) = find("slack_messages_read");
    let error = slack
        .build(&"slack:messages.delete".parse().unwrap(), &Map::new())
        .unwrap_err();
    assert_eq!(error.to_string(), "`slack:messages.delete` is not a tool");
}

/// A value for the argument `name`, often one that the manifest accepts.
fn value(name: &str, schema: &Value) -> BoxedStrategy<Value> {
    if let Some(listed) = schema["enum"].as_array() {
        return prop::sample::select(listed.clone()).boxed();
    }
    match (schema["type"].as_str().unwrap(), name) {
        ("integer", _) => {
            let (min, max) = (
                schema["minimum"].as_i64().unwrap_or(0),
                schema["maximum"].as_i64().unwrap_or(1 << 40),
            );
            (min..=max).prop_map(Value::from).boxed()
        }
        ("boolean", _) => any::<bool>().prop_map(Value::from).boxed(),
        ("object", _) => prop::collection::btree_map("[A-Za-z ]{1,8}", ".{0,8}", 0..3)
            .prop_map(|m| json!(m))
            .boxed(),
        (_, "channel") => "[CDG][A-Z0-9]{1,20}".prop_map(Value::from).boxed(),
        (_, "database_id" | "page" | "block") => "[0-9a-fA-F]{32}".prop_map(Value::from).boxed(),
        (_, "owner" | "repo") => "[A-Za-z0-9][A-Za-z0-9-]{0,20}".prop_map(Value::from).boxed(),
        (_, "path") => "[a-zA-Z0-9 _&=+-]{1,9}(/[a-zA-Z0-9é_-]{1,9}x){0,3}"
            .prop_map(Value::from)
            .boxed(),
        _ => "\\PC{1,40}".prop_map(Value::from).boxed(),
    }
}

/// A tool with arguments: all required ones and some of the others.
fn calls() -> BoxedStrategy<(Connector, ActionId, Map<String, Value>)> {
    let catalogue = Catalogue::builtin().unwrap();
    let all: Vec<_> = catalogue
        .iter()
        .flat_map(|connector| {
            connector
                .tools()
                .map(|(action, tool)| (connector.clone(), action.id.clone(), tool.clone()))
        })
        .collect();
    prop::sample::select(all)
        .prop_flat_map(|(connector, action, tool)| {
            let required = tool.input_schema["required"].as_array().unwrap().clone();
            let arguments: Vec<_> = tool.input_schema["properties"]
                .as_object()
                .unwrap()
                .iter()
                .map(|(name, schema)| {
                    let name = name.clone();
                    let given = if required.contains(&json!(name)) {
                        value(&name, schema).prop_map(Some).boxed()
                    } else {
                        prop::option::of(value(&name, schema)).boxed()
                    };
                    given.prop_map(move |value| (name.clone(), value))
                })
                .collect();
            (Just(connector), Just(action), arguments)
        })
        .prop_map(|(connector, action, arguments)| {
            let given = arguments
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)))
                .collect();
            (connector, action, given)
        })
        .boxed()
}

/// The resource that the arguments name, in its canonical form.
fn named(arguments: &Map<String, Value>) -> String {
    let text = |name: &str| arguments.get(name).and_then(Value::as_str).map(str::to_lowercase);
    match (
        text("owner"),
        text("repo"),
        text("database_id"),
        text("page"),
        text("block"),
    ) {
        (Some(owner), Some(repo), ..) => format!("repo:{owner}/{repo}"),
        (_, _, Some(database), ..) => format!("database:{database}"),
        (_, _, _, Some(page), _) => format!("page:{page}"),
        (.., Some(block)) => format!("block:{block}"),
        _ => format!("channel:{}", arguments["channel"].as_str().unwrap()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_tools_request_is_its_own_action_on_the_resource_it_names((connector, action, arguments) in calls()) {
        let built = connector.build(&action, &arguments).unwrap();
        let mapped = recognised(&connector, &built);
        prop_assert_eq!(&mapped.action, &action);
        prop_assert_eq!(mapped.resources[0].to_string(), named(&arguments));
    }
}
