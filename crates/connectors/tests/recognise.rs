//! Requests as software in a cage sends them, and what they mean; and the tricks that must not work.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::fmt::Write;

use clawstaff_connectors::{Catalogue, Connector, Mapped, RequestView, Unmapped};
use clawstaff_types::ConnectorId;
use http::Method;

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

fn builtin(id: &str) -> Connector {
    let id: ConnectorId = id.parse().unwrap();
    Catalogue::builtin().unwrap().get(&id).unwrap().clone()
}

/// `target` is path and query; `body` is media type and text.
fn ask(
    connector: &Connector,
    method: &str,
    target: &str,
    body: Option<(&str, &str)>,
) -> Result<Mapped, Unmapped> {
    let (path, query) = target
        .split_once('?')
        .map_or((target, None), |(path, query)| (path, Some(query)));
    connector.recognise(&RequestView {
        method: &Method::from_bytes(method.as_bytes()).unwrap(),
        path,
        query,
        content_type: body.map(|(media_type, _)| media_type),
        body: body.map_or(b"", |(_, text)| text.as_bytes()),
    })
}

fn shown(answer: &Result<Mapped, Unmapped>) -> String {
    match answer {
        Ok(mapped) => {
            let resources: Vec<String> = mapped.resources.iter().map(ToString::to_string).collect();
            format!(
                "{} [{}] {:?}",
                mapped.action,
                resources.join(" < "),
                mapped.arguments
            )
        }
        Err(refusal) => format!("REFUSED {refusal}"),
    }
}

/// One case a line: method, target, and after a second space-separated `json` or `form` the body.
fn table(id: &str, cases: &str) -> String {
    let connector = builtin(id);
    let mut text = String::new();
    for case in cases.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut parts = case.splitn(4, ' ');
        let (method, target) = (parts.next().unwrap(), parts.next().unwrap());
        let kind = parts.next();
        let body = parts.next().unwrap_or_default();
        let body = kind.map(|kind| {
            if kind == "json" {
                (JSON, body)
            } else {
                (FORM, body)
            }
        });
        writeln!(
            text,
            "{case}\n    {}",
            shown(&ask(&connector, method, target, body))
        )
        .unwrap();
    }
    text
}

#[test]
fn slack_requests() {
    insta::assert_snapshot!(table(
        "slack",
        r##"
        GET /conversations.history?channel=C0SUPPORT&limit=5
        POST /conversations.history form channel=C0SUPPORT&limit=5
        POST /conversations.history json {"channel":"C0SUPPORT"}
        POST /conversations.replies?channel=C0SUPPORT form ts=1.2
        GET /conversations.list
        GET /conversations.info?channel=C0SUPPORT
        GET /users.info?user=U0ANA
        POST /chat.postMessage json {"channel":"C0SUPPORT","text":"hi","thread_ts":"1.2"}
        POST /chat.update json {"channel":"C0SUPPORT","ts":"1.2","text":"hi"}
        POST /chat.delete form channel=C0SUPPORT&ts=1.2
        POST /reactions.add json {"channel":"C0SUPPORT","timestamp":"1.2","name":"eyes"}
        POST /chat.postMessage json {"channel":"#general","text":"hi"}
        POST /chat.postMessage json {"channel":"general","text":"hi"}
        POST /chat.postMessage json {"text":"hi"}
        POST /chat.postMessage json {"channel":["C0SUPPORT"],"text":"hi"}
        POST /chat.postMessage json {"channel":"C0SUPPORT","channel":"C0OTHER"}
        POST /chat.postMessage json {"channel":"C0SUPPORT","Channel":"C0OTHER"}
        POST /chat.postMessage?channel=C0OTHER json {"channel":"C0SUPPORT"}
        POST /chat.postMessage form channel=C0SUPPORT&channel=C0OTHER
        POST /chat.postMessage form channel=C0SUPPORT&channel[]=C0OTHER
        POST /chat.postMessage form channel=C0SUPPORT&CHANNEL=C0OTHER
        POST /chat.postMessage form channel=C0SUPPORT&%63hannel=C0OTHER
        POST /chat.postMessage form channel=C0SUPPORT;channel=C0OTHER
        POST /chat.postMessage form channel=C0SUPPORT&token=xoxb-mine
        GET /conversations.history?channel=C0SUPPORT&token=xoxb-mine
        POST /chat.postMessage json {"channel":"C0SUPPORT","token":"xoxb-mine"}
        POST /chat.postMessage json [1]
        POST /chat.postMessage json {
        DELETE /chat.postMessage?channel=C0SUPPORT
        GET /files.upload?channel=C0SUPPORT
        GET /conversations.history/?channel=C0SUPPORT
        GET //conversations.history?channel=C0SUPPORT
        GET /x/../conversations.history?channel=C0SUPPORT
        GET /conversations%2ehistory?channel=C0SUPPORT
        GET /conversations%252ehistory?channel=C0SUPPORT
        GET /Conversations.History?channel=C0SUPPORT
        "##
    ));
}

#[test]
fn notion_requests() {
    insta::assert_snapshot!(table(
        "notion",
        r#"
        POST /v1/pages json {"parent":{"database_id":"2F26EE68-df30-4251-aad4-ddddc456ba3b"},"properties":{}}
        POST /v1/pages json {"parent":{"type":"page_id","page_id":"2f26ee68df304251aad4ddddc456ba3b"}}
        POST /v1/pages json {"parent":{"database_id":"2f26ee68df304251aad4ddddc456ba3b","page_id":"3f26ee68df304251aad4ddddc456ba3b"}}
        POST /v1/pages json {"parent":{"data_source_id":"2f26ee68df304251aad4ddddc456ba3b"}}
        POST /v1/pages json {"parent":{"database_id":null}}
        POST /v1/pages json {"properties":{}}
        POST /v1/pages json {"parent":{"Database_id":"2f26ee68df304251aad4ddddc456ba3b"}}
        POST /v1/pages
        GET /v1/pages/2f26ee68-df30-4251-aad4-ddddc456ba3b
        GET /v1/pages/roadmap-2f26ee68df304251aad4ddddc456ba3b
        PATCH /v1/pages/2f26ee68df304251aad4ddddc456ba3b json {"properties":{}}
        PATCH /v1/pages/2f26ee68df304251aad4ddddc456ba3b json {"archived":true}
        PATCH /v1/pages/2f26ee68df304251aad4ddddc456ba3b json {"in_trash":true,"archived":true}
        POST /v1/databases/2f26ee68df304251aad4ddddc456ba3b/query
        POST /v1/databases/2f26ee68df304251aad4ddddc456ba3b/query json {"page_size":5}
        GET /v1/databases/2f26ee68df304251aad4ddddc456ba3b
        POST /v1/search json {"query":"x"}
        GET /v1/blocks/2f26ee68df304251aad4ddddc456ba3b/children?page_size=5
        PATCH /v1/blocks/2f26ee68df304251aad4ddddc456ba3b/children json {"children":[]}
        DELETE /v1/blocks/2f26ee68df304251aad4ddddc456ba3b
        GET /v1/comments?block_id=2f26ee68df304251aad4ddddc456ba3b
        GET /v1/comments
        POST /v1/comments json {"parent":{"page_id":"2f26ee68df304251aad4ddddc456ba3b"},"rich_text":[]}
        POST /v1/comments json {"discussion_id":"2f26ee68df304251aad4ddddc456ba3b","rich_text":[]}
        GET /v1/users
        "#
    ));
}

#[test]
fn github_requests() {
    insta::assert_snapshot!(table(
        "github",
        r#"
        GET /repos/Acme/Site
        GET /repos/acme/site/issues?state=open
        GET /repos/acme/site/issues/7
        GET /repos/acme/site/issues/007
        GET /repos/acme/site/issues/7/comments
        POST /repos/acme/site/issues json {"title":"x"}
        PATCH /repos/acme/site/issues/7 json {"state":"closed"}
        PATCH /repos/acme/site/issues/7 json {"State":"closed"}
        POST /repos/acme/site/issues/7/comments json {"body":"x"}
        GET /repos/acme/site/contents
        GET /repos/acme/site/contents/docs/a%20b.md?ref=main
        GET /repos/acme/site/contents/docs%2fa.md
        GET /repos/acme/site/contents/../../../user
        PUT /repos/acme/site/contents/a.md json {"message":"x","content":"","branch":"main"}
        DELETE /repos/acme/site/contents/a.md json {"message":"x","sha":"y"}
        GET /repos/acme/site/pulls
        GET /repos/acme/site/pulls/7/files
        POST /repos/acme/site/pulls json {"title":"x","head":"a","base":"main"}
        PUT /repos/acme/site/pulls/7/merge json {}
        GET /repos/acme/site.git
        GET /repos/acme/site?access_token=x
        GET /repositories/1296269
        GET /user
        POST /graphql json {"query":"{viewer{login}}"}
        "#
    ));
}

#[test]
fn model_requests() {
    insta::assert_snapshot!(
        table(
            "anthropic",
            r#"
        POST /v1/messages json {"model":"claude-sonnet-5","max_tokens":10,"messages":[{"role":"user","content":"hi"}]}
        POST /v1/messages?beta=true json {"model":"claude-sonnet-5","tools":[{"name":"x","input_schema":{}},{"type":"custom","name":"y"}]}
        POST /v1/messages/count_tokens json {"model":"claude-sonnet-5","messages":[]}
        POST /v1/messages json {"messages":[]}
        POST /v1/messages json {"model":"claude-sonnet-5","model":"claude-opus-5"}
        POST /v1/messages json {"model":"claude-sonnet-5","tools":[{"type":"web_fetch_20250910","name":"web_fetch"}]}
        POST /v1/messages json {"model":"claude-sonnet-5","tools":[{"type":["custom"]}]}
        POST /v1/messages json {"model":"claude-sonnet-5","mcp_servers":[]}
        POST /v1/messages json {"model":"claude-sonnet-5","messages":[{"content":[{"type":"image","source":{"type":"url","url":"https://x"}}]}]}
        GET /v1/models
        GET /v1/models/claude-sonnet-5
        POST /v1/messages/batches json {"requests":[]}
        POST /v1/files json {}
        "#
        ) + &table(
            "openai",
            r#"
        POST /v1/chat/completions json {"model":"gpt-5","messages":[]}
        POST /v1/responses json {"model":"gpt-5","input":"hi"}
        POST /v1/responses json {"model":"gpt-5","tools":[{"type":"web_search"}]}
        POST /v1/chat/completions json {"model":"gpt-5","messages":[{"content":[{"type":"image_url","image_url":{"url":"https://x"}}]}]}
        POST /v1/chat/completions json {"model":"gpt-5","messages":[{"content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AA"}}]}]}
        GET /v1/models
        GET /v1/files
        "#
        )
    );
}

#[test]
fn a_body_is_judged_only_as_what_it_says_it_is() {
    let slack = builtin("slack");
    let send = |media_type: Option<&str>, body: &[u8]| {
        slack.recognise(&RequestView {
            method: &Method::POST,
            path: "/chat.postMessage",
            query: None,
            content_type: media_type,
            body,
        })
    };
    let json = br#"{"channel":"C0SUPPORT"}"#;
    assert!(send(Some("application/json; charset=utf-8"), json).is_ok());
    assert!(send(Some("Application/JSON"), json).is_ok());
    for media_type in [
        None,
        Some("text/plain"),
        Some("multipart/form-data; boundary=x"),
        Some("application/json; charset=utf-7"),
    ] {
        assert!(
            matches!(send(media_type, json), Err(Unmapped::Body(_))),
            "{media_type:?}"
        );
    }
    assert!(send(Some(FORM), b"channel=\xff").is_err());
    assert!(send(Some(JSON), b"\xff\xfe").is_err());
}
