//! Whatever bytes arrive: an answer, never a panic; and no spelling of a request changes what it means unseen.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::sync::LazyLock;

use clawstaff_connectors::{Catalogue, Connector, RequestView};
use http::Method;
use proptest::prelude::*;

static BUILTIN: LazyLock<Catalogue> = LazyLock::new(|| Catalogue::builtin().unwrap());

fn connectors() -> impl Strategy<Value = Connector> {
    prop::sample::select(BUILTIN.iter().cloned().collect::<Vec<_>>())
}

fn methods() -> impl Strategy<Value = Method> {
    prop::sample::select(vec![
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ])
}

fn paths() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "/chat.postMessage",
        "/conversations.history",
        "/v1/pages",
        "/v1/messages",
        "/v1/chat/completions",
        "/repos/acme/site/contents/a",
        "/v1/comments",
    ]);
    prop_oneof![known.prop_map(String::from), "/[ -~]{0,30}", ".{0,30}"]
}

fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let json = r#"\{("(channel|model|parent|token|\\u0063hannel)":("[A-Z]{0,9}"|\{"database_id":"x"\}|\[\]|1|null),?){0,4}\}?"#;
    let form = "((channel|ts|token|channel%5B%5D)=[A-Z0-9%]{0,9}&?){0,4}";
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        json.prop_map(String::into_bytes),
        form.prop_map(String::into_bytes),
    ]
}

fn media_types() -> impl Strategy<Value = Option<String>> {
    let known = prop::sample::select(vec!["application/json", "application/x-www-form-urlencoded"]);
    prop::option::of(prop_oneof![known.prop_map(String::from), ".{0,20}"])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_request_gets_an_answer(
        connector in connectors(),
        method in methods(),
        path in paths(),
        query in prop::option::of("[ -~]{0,40}"),
        content_type in media_types(),
        body in bodies(),
    ) {
        let view = RequestView {
            method: &method,
            path: &path,
            query: query.as_deref(),
            content_type: content_type.as_deref(),
            body: &body,
        };
        if let Ok(mapped) = connector.recognise(&view) {
            prop_assert!(connector.action(&mapped.action).is_some());
        }
    }

    #[test]
    fn any_response_is_summed_up_within_bounds(
        connector in connectors(),
        status in any::<u16>(),
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            r#"\{"(ok|error|messages|results|usage)":(true|"\PC{0,100}"|\[(\{"(ts|id)":"\PC{0,80}"\},?){0,3}\])\}"#
                .prop_map(String::into_bytes),
        ],
    ) {
        for action in connector.actions() {
            let summary = connector.summarise(&action.id, status, &body);
            prop_assert!(summary.ids.len() <= 20);
            let printable = |text: &String| text.len() <= 64 && text.bytes().all(|b| b.is_ascii_graphic());
            prop_assert!(summary.ids.iter().chain(&summary.error).all(printable));
            prop_assert!(!summary.succeeded || (200..300).contains(&status));
        }
    }

    #[test]
    fn any_manifest_loads_or_is_refused(text in prop_oneof![".{0,200}", "[a-z_ =\\[\\]\"{}\n.0-9]{0,300}"]) {
        let _ = Connector::parse(&text);
    }

    #[test]
    fn a_second_channel_anywhere_is_refused(
        first in "C[A-Z0-9]{3,9}",
        second in "C[A-Z0-9]{3,9}",
        name in prop::sample::select(vec!["channel", "Channel", "channel[]", "channel[0]", "%63hannel", "+channel"]),
        in_query in any::<bool>(),
    ) {
        let slack = BUILTIN.get(&"slack".parse().unwrap()).unwrap();
        let (query, body) = if in_query {
            (Some(format!("{name}={second}")), format!("channel={first}"))
        } else {
            (None, format!("channel={first}&{name}={second}"))
        };
        let view = RequestView {
            method: &Method::POST,
            path: "/chat.postMessage",
            query: query.as_deref(),
            content_type: Some("application/x-www-form-urlencoded"),
            body: body.as_bytes(),
        };
        prop_assert!(slack.recognise(&view).is_err());
    }
}
