//! What a record may say of a response.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use clawstaff_connectors::{Catalogue, Connector, Summary};
use serde_json::json;

fn builtin(id: &str) -> Connector {
    Catalogue::builtin()
        .unwrap()
        .get(&id.parse().unwrap())
        .unwrap()
        .clone()
}

fn sum(action: &str, status: u16, body: &serde_json::Value) -> Summary {
    let connector = builtin(action.split(':').next().unwrap());
    connector.summarise(&action.parse().unwrap(), status, body.to_string().as_bytes())
}

#[test]
fn slack_says_failure_with_status_200() {
    let failed = sum(
        "slack:messages.send",
        200,
        &json!({"ok": false, "error": "channel_not_found"}),
    );
    assert_eq!(
        (failed.succeeded, failed.error.as_deref()),
        (false, Some("channel_not_found"))
    );
    let sent = sum(
        "slack:messages.send",
        200,
        &json!({"ok": true, "channel": "C0", "ts": "1700000000.000100"}),
    );
    assert!(sent.succeeded);
    assert_eq!(sent.ids, ["1700000000.000100"]);
    assert!(
        !builtin("slack")
            .summarise(&"slack:messages.send".parse().unwrap(), 200, b"<html>")
            .succeeded
    );
}

#[test]
fn messages_that_were_read_are_counted_and_named_but_not_shown() {
    let messages: Vec<_> = (0..30)
        .map(|n| json!({"ts": format!("1.{n}"), "text": "secret words"}))
        .collect();
    let summary = sum(
        "slack:messages.read",
        200,
        &json!({"ok": true, "messages": messages}),
    );
    assert_eq!((summary.items, summary.ids.len()), (Some(30), 20));
    assert!(!format!("{summary:?}").contains("secret"));
}

#[test]
fn notion_and_github_name_what_was_made() {
    let page = sum(
        "notion:pages.create",
        200,
        &json!({"object": "page", "id": "2f26ee68-df30-4251-aad4-ddddc456ba3b"}),
    );
    assert_eq!(page.ids, ["2f26ee68-df30-4251-aad4-ddddc456ba3b"]);
    let refused = sum(
        "notion:pages.create",
        400,
        &json!({"code": "validation_error", "message": "words"}),
    );
    assert_eq!(
        (refused.succeeded, refused.error.as_deref()),
        (false, Some("validation_error"))
    );
    let issue = sum(
        "github:issues.create",
        201,
        &json!({"number": 7, "title": "words"}),
    );
    assert_eq!(issue.ids, ["7"]);
    let list = sum("github:issues.list", 200, &json!([{"number": 1}, {"number": 2}]));
    assert_eq!(
        (list.items, list.ids),
        (Some(2), vec!["1".to_owned(), "2".to_owned()])
    );
    let missing = sum(
        "github:issues.read",
        404,
        &json!({"message": "Not Found", "status": "404"}),
    );
    assert_eq!(missing.error.as_deref(), Some("404"));
}

#[test]
fn tokens_are_counted_whole_and_in_streams() {
    let usage = json!({"input_tokens": 10, "cache_read_input_tokens": 5, "output_tokens": 7});
    let answer = sum(
        "anthropic:messages.create",
        200,
        &json!({"id": "msg_1", "usage": usage}),
    );
    assert_eq!(
        (answer.tokens, answer.ids),
        (Some((15, 7)), vec!["msg_1".to_owned()])
    );
    let anthropic = builtin("anthropic");
    let start =
        json!({"type": "message_start", "message": {"usage": {"input_tokens": 10, "output_tokens": 1}}});
    assert_eq!(anthropic.usage(&start), Some((10, 1)));
    assert_eq!(
        anthropic.usage(&json!({"type": "message_delta", "usage": {"output_tokens": 20}})),
        Some((0, 20))
    );
    assert_eq!(anthropic.usage(&json!({"type": "ping"})), None);
    let chat = sum(
        "openai:chat.create",
        200,
        &json!({"usage": {"prompt_tokens": 3, "completion_tokens": 4}}),
    );
    assert_eq!(chat.tokens, Some((3, 4)));
    let done =
        json!({"type": "response.completed", "response": {"usage": {"input_tokens": 5, "output_tokens": 6}}});
    assert_eq!(builtin("openai").usage(&done), Some((5, 6)));
}

#[test]
fn an_error_in_words_is_not_a_code() {
    let failed = sum(
        "anthropic:messages.create",
        400,
        &json!({"error": {"type": "the prompt was: hello"}}),
    );
    assert_eq!(failed.error, None);
}
