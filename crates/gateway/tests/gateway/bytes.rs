//! What policy judged is what went out: however a request is dressed up, what reaches the service cannot be read, by
//! any reading that a lenient server might have, as another action or another resource than the ones granted.

use proptest::{prelude::*, sample::select, test_runner::TestRunner};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::world::World;

const OTHER: &str = "C2OTHER";

/// Ways to say a channel in a query or a form: the granted one, and the other in disguise.
const PAIRS: [&str; 13] = [
    "channel=C1",
    "channel=C2OTHER",
    "Channel=C2OTHER",
    "channel[]=C2OTHER",
    "channel[0]=C2OTHER",
    "%63hannel=C2OTHER",
    "%2563hannel=C2OTHER",
    "+channel=C2OTHER",
    "text=x;channel=C2OTHER",
    "channel=C%32OTHER",
    "channel=C1%00C2OTHER",
    "text=x",
    "",
];

const BODIES: [&str; 12] = [
    "",
    r#"{"channel":"C1","text":"x"}"#,
    r#"{"channel":"C2OTHER","text":"x"}"#,
    r#"{"channel":"C1","channel":"C2OTHER"}"#,
    r#"{"channel":"C1","\u0063hannel":"C2OTHER"}"#,
    r#"{"channel":"C1","Channel":"C2OTHER"}"#,
    r#"{"channel":["C1","C2OTHER"]}"#,
    r#"{"channel":"C1"}{"channel":"C2OTHER"}"#,
    "channel=C1&text=x",
    "channel=C1&channel=C2OTHER",
    "channel=C1&%63hannel=C2OTHER",
    "channel=C1;channel=C2OTHER",
];

const PATHS: [&str; 12] = [
    "/api/chat.postMessage",
    "/api/chat%2EpostMessage",
    "/api/chat%252EpostMessage",
    "/api//chat.postMessage",
    "/api/./chat.postMessage",
    "/api/x/../chat.delete",
    "/api/chat.postMessage/",
    "/api/chat.postMessage;x=1",
    "/api/chat.postMessage%2f..%2fchat.delete",
    "/api\\chat.delete",
    "/api/chat.delete",
    "/API/chat.delete",
];

const MEDIA: [&str; 5] = [
    "application/json",
    "application/x-www-form-urlencoded",
    "application/json; charset=utf-16",
    "text/plain",
    "multipart/form-data; boundary=x",
];

const HEADERS: [&str; 13] = [
    "",
    "X-HTTP-Method-Override: DELETE\r\n",
    "X-Original-URL: /api/chat.delete\r\n",
    "X-Rewrite-URL: /api/chat.delete\r\n",
    "Content-Length: 3\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: identity, chunked\r\n",
    "Content-Type: text/plain\r\n",
    "Host: evil.example\r\n",
    "Content-Encoding: deflate\r\n",
    "Expect: 100-continue\r\n",
    "Connection: upgrade\r\nUpgrade: websocket\r\n",
    "Trailer: Content-Length\r\n",
];

#[derive(Debug, Clone)]
struct Dressed {
    method: &'static str,
    path: &'static str,
    query: Vec<&'static str>,
    media: &'static str,
    header: &'static str,
    body: &'static str,
}

impl Dressed {
    fn bytes(&self) -> Vec<u8> {
        let query = match self.query.join("&") {
            query if query.is_empty() => query,
            query => format!("?{query}"),
        };
        let head = format!(
            "{} {}{query} HTTP/1.1\r\nHost: slack.com\r\nContent-Type: {}\r\nContent-Length: {}\r\n{}Connection: close\r\n\r\n",
            self.method,
            self.path,
            self.media,
            self.body.len(),
            self.header,
        );
        [head.as_bytes(), self.body.as_bytes()].concat()
    }
}

prop_compose! {
    fn dressed()(
        // The honest form of each part comes up often enough that whole requests get through.
        method in prop_oneof![6 => Just("POST"), 1 => select(vec!["GET", "PUT", "HEAD", "DELETE", "TRACE"])],
        path in prop_oneof![6 => Just(PATHS[0]), 1 => select(&PATHS[..])],
        query in prop_oneof![4 => Just(vec![]), 2 => prop::collection::vec(select(&PAIRS[..]), 1..3)],
        media in prop_oneof![5 => Just(MEDIA[0]), 1 => select(&MEDIA[..])],
        header in prop_oneof![4 => Just(HEADERS[0]), 2 => select(&HEADERS[..])],
        body in prop_oneof![3 => Just(BODIES[1]), 2 => select(&BODIES[..])],
    ) -> Dressed {
        Dressed { method, path, query, media, header, body }
    }
}

/// Everything that a lenient server could make of a text: decoded twice, escapes undone, in upper case.
fn lenient(text: &str) -> String {
    let once = percent_encoding::percent_decode_str(text)
        .decode_utf8_lossy()
        .into_owned();
    let twice = percent_encoding::percent_decode_str(&once)
        .decode_utf8_lossy()
        .into_owned();
    twice.replace("\\u0063", "c").to_uppercase()
}

#[test]
fn no_reading_of_what_went_out_is_of_another_action_or_resource_than_was_judged() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = runtime.block_on(async {
        let world = World::new().await;
        world.grant("slack", "messages.send", "channel:C1").await;
        world
    });
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let seen_before = std::cell::Cell::new(0);
    let outcome = runner.run(&dressed(), |request| {
        runtime.block_on(async {
            let mut stream = world.connect("name slack.com 80").await;
            let _refused_early = stream.write_all(&request.bytes()).await;
            let mut answer = Vec::new();
            let read = stream.read_to_end(&mut answer);
            let _reset = tokio::time::timeout(std::time::Duration::from_secs(20), read).await;
        });
        for seen in world.upstream.seen().iter().skip(seen_before.get()) {
            seen_before.set(seen_before.get() + 1);
            let body = String::from_utf8_lossy(&seen.body);
            let whole = lenient(&format!("{}\n{body}\n{:?}", seen.path_and_query, seen.headers));
            prop_assert!(!whole.contains(OTHER), "{whole}");
            prop_assert!(!whole.contains("DELETE") && !whole.contains("EVIL"), "{whole}");
            prop_assert_eq!(
                seen.path_and_query.split('?').next(),
                Some("/api/chat.postMessage")
            );
            prop_assert_eq!(body.as_ref(), request.body);
        }
        Ok(())
    });
    outcome.unwrap();
    assert!(
        seen_before.get() > 5,
        "only {} requests got through, so nothing was tried",
        seen_before.get()
    );
}
