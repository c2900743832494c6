//! Providers that hang, drip, break, lie or are not who they say: what the agent reads, what is on record, what its
//! budget is charged. The table of `docs/provider-faults.md` is made here, from what was observed.

use std::{fmt::Write as _, path::Path, time::Duration};

use clawstaff_gateway::waits::Waits;
use clawstaff_types::{EventKind, Outcome};
use http_body_util::BodyExt as _;
use rcgen::{CertificateParams, date_time_ymd};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::{
    authority::Authority,
    world::{Client, World, claw, connection, post},
};

/// Long enough for a busy machine to answer, short enough for a test that waits for nothing to come.
const PATIENCE: Duration = Duration::from_millis(700);

/// What the provider does once it has read the request.
#[derive(Clone)]
enum Act {
    Send(Vec<u8>),
    /// The same byte again and again, as slowly as is still in time.
    Drip(u8),
    Hang,
}

/// Who the provider shows itself to be.
#[derive(Clone, Copy)]
enum Certificate {
    /// None: it speaks in clear on loopback.
    Clear,
    Expired,
    OtherName,
    Unknown,
}

struct Fault {
    what: &'static str,
    certificate: Certificate,
    acts: Vec<Act>,
}

fn fault(what: &'static str, acts: Vec<Act>) -> Fault {
    Fault {
        what,
        certificate: Certificate::Clear,
        acts,
    }
}

fn shown(what: &'static str, certificate: Certificate) -> Fault {
    Fault {
        what,
        certificate,
        acts: vec![whole(200, GOOD)],
    }
}

const GOOD: &str = r#"{"id":"msg_1","type":"message","usage":{"input_tokens":12,"output_tokens":34}}"#;
const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
const BEGIN: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":12,\"output_tokens\":1}}}\n\n";
const END: &str = "event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":34}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

fn whole(status: u16, body: &str) -> Act {
    let length = body.len();
    Act::Send(format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}").into_bytes())
}

fn text(text: impl AsRef<str>) -> Act {
    Act::Send(text.as_ref().as_bytes().to_vec())
}

fn faults() -> Vec<Fault> {
    let unfinished = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n";
    let usage = |usage: &str| {
        whole(
            200,
            &format!(r#"{{"id":"msg_1","type":"message","usage":{usage}}}"#),
        )
    };
    vec![
        fault("answers as it should", vec![whole(200, GOOD)]),
        fault("streams as it should", vec![text(STREAM), text(BEGIN), text(END)]),
        fault("accepts and says nothing", vec![Act::Hang]),
        fault("closes without an answer", vec![]),
        fault(
            "answers with something that is not HTTP",
            vec![text("SSH-2.0-OpenSSH_9.2\r\n")],
        ),
        fault(
            "begins its answer and hangs",
            vec![text(unfinished), text("{\"id\":"), Act::Hang],
        ),
        fault(
            "begins its answer and drips",
            vec![text(unfinished), Act::Drip(b' ')],
        ),
        fault(
            "begins its answer and closes",
            vec![text(unfinished), text("{\"id\":")],
        ),
        fault(
            "answers with a body larger than 32 MiB",
            vec![text(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99999999999\r\n\r\n",
            )],
        ),
        fault(
            "compresses although that was not asked for",
            vec![text(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nxxxx",
            )],
        ),
        fault(
            "redirects elsewhere",
            vec![text(
                "HTTP/1.1 307 X\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n",
            )],
        ),
        fault(
            "is overloaded (529)",
            vec![whole(
                529,
                r#"{"type":"error","error":{"type":"overloaded_error"}}"#,
            )],
        ),
        fault(
            "answers 200 with an error inside",
            vec![whole(
                200,
                r#"{"type":"error","error":{"type":"overloaded_error"}}"#,
            )],
        ),
        fault("answers 200 with no JSON", vec![whole(200, "<html>")]),
        fault(
            "says nothing of usage",
            vec![whole(200, r#"{"id":"msg_1","type":"message"}"#)],
        ),
        fault(
            "says that it used nothing",
            vec![usage(r#"{"input_tokens":0,"output_tokens":0}"#)],
        ),
        fault(
            "says that it used a number that nobody can believe",
            vec![usage(r#"{"input_tokens":9000000000000000,"output_tokens":1}"#)],
        ),
        fault(
            "says that it used something that is no number",
            vec![usage(r#"{"input_tokens":"many","output_tokens":-4}"#)],
        ),
        fault("stops streaming", vec![text(STREAM), text(BEGIN), Act::Hang]),
        fault(
            "drips a stream that never ends",
            vec![text(STREAM), text(BEGIN), Act::Drip(b':')],
        ),
        fault(
            "breaks off a stream that says its length",
            vec![
                text("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9999\r\n\r\n"),
                text(BEGIN),
            ],
        ),
        fault(
            "streams an error inside",
            vec![
                text(STREAM),
                text(BEGIN),
                text(
                    "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n",
                ),
            ],
        ),
        fault(
            "streams events that are not JSON",
            vec![
                text(STREAM),
                text("data: {\"usage\": nonsense\n\ndata\n\n:::\n\n\u{0}\n\n"),
            ],
        ),
        fault(
            "streams one event of 1 MiB",
            vec![
                text(STREAM),
                text(BEGIN),
                text(format!("data: {}\n\n", "x".repeat(1 << 20))),
                text(END),
            ],
        ),
        fault(
            "streams and says nothing of usage",
            vec![text(STREAM), text("data: {\"type\":\"message_stop\"}\n\n")],
        ),
        shown("shows a certificate that has expired", Certificate::Expired),
        shown("shows a certificate for another name", Certificate::OtherName),
        shown(
            "shows a certificate of an authority that nobody trusts",
            Certificate::Unknown,
        ),
    ]
}

fn expired(params: &mut CertificateParams) {
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
}

/// Reads a request and does what it is told.
async fn play<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, acts: Vec<Act>) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") || !request.ends_with(b"}") {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => request.extend_from_slice(&buffer[..count]),
        }
    }
    for act in acts {
        match act {
            Act::Send(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Act::Drip(byte) => {
                // Until whoever reads has had enough.
                while stream.write_all(&[byte]).await.is_ok() {
                    tokio::time::sleep(PATIENCE / 10).await;
                }
            }
            Act::Hang => {
                let _until_it_is_closed = stream.read(&mut buffer).await;
            }
        }
    }
    let _closed = stream.shutdown().await;
}

async fn serve(fault: &Fault, trusted: &Authority) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = match fault.certificate {
        Certificate::Clear => None,
        Certificate::Expired => Some(trusted.acceptor("localhost", expired)),
        Certificate::OtherName => Some(trusted.acceptor("elsewhere.example", |_| {})),
        Certificate::Unknown => Some(Authority::new().acceptor("localhost", |_| {})),
    };
    let acts = fault.acts.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acts, acceptor) = (acts.clone(), acceptor.clone());
            tokio::spawn(async move {
                match acceptor {
                    None => play(stream, acts).await,
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            play(stream, acts).await;
                        }
                    }
                }
            });
        }
    });
    port
}

/// What was observed of one fault.
struct Observed {
    agent: String,
    outcome: Outcome,
    charged: String,
}

async fn observe(world: &World, fault: &Fault, trusted: &Authority) -> Observed {
    let port = serve(fault, trusted).await;
    let base = match fault.certificate {
        Certificate::Clear => format!("http://127.0.0.1:{port}"),
        Certificate::Expired | Certificate::OtherName | Certificate::Unknown => {
            format!("https://localhost:{port}")
        }
    };
    let at = connection("anthropic", Some(base));
    world
        .change(|state| {
            let one = state
                .connections
                .iter_mut()
                .find(|one| one.name.as_str() == "anthropic");
            *one.unwrap() = at;
        })
        .await;
    let before = world.entries().len();
    let question = json!({ "model": "claude-sonnet-5", "max_tokens": 100, "messages": [{ "role": "user", "content": "hi" }] });
    let mut client = Client::over(world.connect("doors").await).await;
    let answer = client
        .start(post("localhost", "/anthropic/v1/messages", &question))
        .await;
    let (head, body) = answer.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes);
    let agent = match &body {
        Err(_) => format!("{}, then its stream broken off", head.status.as_u16()),
        Ok(bytes) => match serde_json::from_slice::<Value>(bytes) {
            Ok(problem)
                if problem["type"]
                    .as_str()
                    .is_some_and(|kind| kind.contains("/problems/")) =>
            {
                let detail = problem["detail"].as_str().unwrap_or_default();
                assert!(
                    !detail.contains(&port.to_string()),
                    "an address of the organization's own: {detail}"
                );
                format!("{} `upstream`: {}", head.status.as_u16(), detail)
            }
            Ok(_) | Err(_) => format!("{}, as the provider gave it", head.status.as_u16()),
        },
    };
    // Exactly an intent and its outcome, whatever happened.
    let outcome = world
        .until(|entry| entry.event.outcome.is_some() && !world.entries()[..before].contains(entry))
        .await;
    assert_eq!(world.entries().len(), before + 2, "{}", fault.what);
    let event = outcome.event;
    assert_eq!(event.kind, EventKind::ModelCall);
    let reserved = &event.facts["reserved_tokens"];
    let charged = &event.facts["charged_tokens"];
    Observed {
        agent: agent.replace(&format!("{} seconds", PATIENCE.as_secs()), "N seconds"),
        outcome: event.outcome.unwrap(),
        charged: if charged == reserved {
            "what was set aside".to_owned()
        } else {
            format!("{charged} tokens")
        },
    }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::Failed => "failed",
        Outcome::Refused => "refused",
        Outcome::Unknown => "unknown",
    }
}

#[tokio::test]
async fn every_fault_of_a_provider_has_a_typed_answer_a_whole_record_and_a_right_charge() {
    let trusted = Authority::new();
    let waits = Waits {
        model: PATIENCE,
        piece: PATIENCE,
        stream: PATIENCE,
        whole: PATIENCE * 3,
        ..Waits::default()
    };
    let world = World::trusting(waits, &trusted.pem).await;
    world
        .grant("anthropic", "messages.create", "model:claude-sonnet-5")
        .await;
    let spec = json!({ "model": { "connection": "anthropic", "name": "claude-sonnet-5" }, "budget": { "tokens_per_day": 1_000_000 } });
    world.change(|state| state.claws = vec![claw("a", spec)]).await;
    let mut table = String::new();
    for fault in faults() {
        let seen = observe(&world, &fault, &trusted).await;
        writeln!(
            table,
            "| {} | {} | {} | {} |",
            fault.what,
            seen.agent,
            word(seen.outcome),
            seen.charged
        )
        .unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/provider-faults.md");
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    let (before, after) = page.split_once("|---|---|---|---|\n").unwrap_or((&page, ""));
    if std::env::var_os("UPDATE_FAULTS").is_some() {
        std::fs::write(&path, format!("{before}|---|---|---|---|\n{table}")).unwrap();
    } else {
        assert_eq!(
            after, table,
            "docs/provider-faults.md is stale: UPDATE_FAULTS=1 cargo nextest run -p clawstaff-gateway fault"
        );
    }
}

/// A provider that fails so often and then answers.
fn failing(world: &World, times: usize) {
    let left = std::sync::Mutex::new(times);
    world.upstream.answers_with(move |_| {
        let mut left = left.lock().unwrap();
        let fails = *left > 0;
        *left = left.saturating_sub(1);
        Box::pin(async move {
            if fails {
                crate::upstream::json(529, r#"{"error":{"type":"overloaded_error"}}"#)
            } else {
                crate::upstream::json(200, GOOD)
            }
        })
    });
}

/// A world in which the Claw may ask its model.
async fn with_grant() -> World {
    let world = World::new().await;
    world
        .grant("anthropic", "messages.create", "model:claude-sonnet-5")
        .await;
    world
}

fn with_model(more: Value) -> Value {
    let mut model = json!({ "connection": "anthropic", "name": "claude-sonnet-5" });
    model
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    json!({ "model": model })
}

fn question() -> Value {
    json!({ "model": "claude-sonnet-5", "max_tokens": 100, "messages": [] })
}

#[tokio::test]
async fn a_call_is_made_again_only_where_the_spec_says_so() {
    let world = with_grant().await;
    failing(&world, 1);
    let read = world.post("/anthropic/v1/messages", &question()).await;
    assert_eq!(read.status.as_u16(), 529, "no spec, no retry");
    failing(&world, 2);
    world
        .change(|state| state.claws = vec![claw("a", with_model(json!({ "retries": 2 })))])
        .await;
    let read = world.post("/anthropic/v1/messages", &question()).await;
    assert_eq!(read.status.as_u16(), 200, "{}", read.text());
    let calls = world
        .entries()
        .into_iter()
        .filter(|entry| entry.event.outcome.is_some())
        .count();
    assert_eq!(calls, 4, "every attempt has a record of its own");
}

#[tokio::test]
async fn the_fallback_model_is_asked_last_and_needs_a_grant_of_its_own() {
    let world = with_grant().await;
    failing(&world, 1);
    let spec = with_model(json!({ "fallback": "claude-haiku-5" }));
    world.change(|state| state.claws = vec![claw("a", spec)]).await;
    let read = world.post("/anthropic/v1/messages", &question()).await;
    assert_eq!(read.status.as_u16(), 403, "{}", read.text());
    failing(&world, 1);
    let other = crate::world::grant("a", "anthropic", "messages.create", "model:claude-haiku-5");
    world
        .change(|state| {
            state.grants.push(clawstaff_types::Grant {
                id: "gr_other".parse().unwrap(),
                ..other
            });
        })
        .await;
    let read = world.post("/anthropic/v1/messages", &question()).await;
    assert_eq!(read.status.as_u16(), 200, "{}", read.text());
    let asked: Value = serde_json::from_slice(&world.upstream.seen().last().unwrap().body).unwrap();
    assert_eq!(
        (&asked["model"], &asked["max_tokens"]),
        (&json!("claude-haiku-5"), &json!(100))
    );
}

#[tokio::test]
async fn a_call_that_asks_for_more_than_its_claw_may_is_refused_before_it_is_made() {
    let world = with_grant().await;
    failing(&world, 0);
    world
        .change(|state| state.claws = vec![claw("a", with_model(json!({ "max_output_tokens": 50 })))])
        .await;
    for asks in [json!({ "model": "claude-sonnet-5", "messages": [] }), question()] {
        let read = world.post("/anthropic/v1/messages", &asks).await;
        assert_eq!(read.status.as_u16(), 403, "{}", read.text());
        assert!(read.text().contains("problems/limit"), "{}", read.text());
    }
    assert!(world.upstream.seen().is_empty());
    assert_eq!(world.last(EventKind::ToolDenied).event.facts["denial"], "limit");
}

#[tokio::test]
async fn a_budget_in_money_holds_before_the_spend_and_survives_a_restart_of_the_gateway() {
    let world = with_grant().await;
    std::fs::write(
        world.data().join("gateway/prices.toml"),
        "[[price]]\nconnector = \"anthropic\"\nmodel = \"claude-sonnet-5\"\ninput = 1\noutput = 100\n",
    )
    .unwrap();
    let world = world.restarted().await;
    failing(&world, 0);
    // 100 tokens of answer at 100 dollars a million: a cent is set aside, and 34 of them are charged.
    let spec = json!({ "model": { "connection": "anthropic", "name": "claude-sonnet-5" },
        "budget": { "usd_micros_per_day": 16_800, "tokens_per_day": 300 } });
    world
        .change(|state| state.claws = vec![claw("a", spec.clone())])
        .await;
    assert_eq!(
        world
            .post("/anthropic/v1/messages", &question())
            .await
            .status
            .as_u16(),
        200
    );
    let charged = world.last(EventKind::ModelCall).event.facts["charged_usd_micros"].clone();
    assert_eq!(charged, "3412");
    assert_eq!(
        world
            .post("/anthropic/v1/messages", &question())
            .await
            .status
            .as_u16(),
        200
    );
    let world = world.restarted().await;
    world.change(|state| state.claws = vec![claw("a", spec)]).await;
    let refused = world.post("/anthropic/v1/messages", &question()).await;
    assert_eq!(refused.status.as_u16(), 429, "{}", refused.text());
    assert!(
        refused.text().contains("dollars per day, leaves 0.009976"),
        "{}",
        refused.text()
    );
    assert_eq!(world.upstream.seen().len(), 2);
}

#[tokio::test]
async fn the_responses_api_is_metered_whole_and_streamed() {
    let world = World::new().await;
    world.grant("openai", "responses.create", "model:gpt-5").await;
    let spec = json!({ "model": { "connection": "openai", "name": "gpt-5" } });
    world.change(|state| state.claws = vec![claw("a", spec)]).await;
    let ask = json!({ "model": "gpt-5", "max_output_tokens": 50, "input": "hi" });
    world.upstream.answers(200, r#"{"id":"resp_1","status":"completed","usage":{"input_tokens":3,"output_tokens":4,"total_tokens":7}}"#);
    assert_eq!(
        world.post("/openai/v1/responses", &ask).await.status.as_u16(),
        200
    );
    assert_eq!(
        world.last(EventKind::ModelCall).event.facts["charged_tokens"],
        "7"
    );
    world.upstream.answers_with(|_| {
        let body = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_2\",\"usage\":null}}\n\n\
            event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_2\",\"error\":null,\"usage\":{\"input_tokens\":5,\"output_tokens\":6}}}\n\n";
        let answer = http::Response::builder()
            .header("content-type", "text/event-stream")
            .body(http_body_util::Full::from(body).boxed_unsync())
            .unwrap();
        Box::pin(async move { answer })
    });
    assert_eq!(
        world.post("/openai/v1/responses", &ask).await.status.as_u16(),
        200
    );
    world
        .until(|entry| {
            entry
                .event
                .facts
                .get("charged_tokens")
                .is_some_and(|charged| charged == "11")
        })
        .await;
}
