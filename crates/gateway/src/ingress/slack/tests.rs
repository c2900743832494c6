//! The signature and the event shapes, without a network.

use proptest::prelude::*;

use super::*;

// The example in Slack's own documentation of the v0 signature.
const DOC_SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";
const DOC_TIME: &str = "1531420618";
const DOC_BODY: &str = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
const DOC_SIGNATURE: &str = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";

fn headers(time: &str, signature: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(TIMESTAMP, time.parse().unwrap());
    headers.insert(SIGNATURE, signature.parse().unwrap());
    headers
}

fn check_at(seconds: i64, headers: &HeaderMap, body: &str) -> Result<(), Doubt> {
    let secret = Secret::new(DOC_SECRET.to_owned());
    check(
        headers,
        body.as_bytes(),
        &secret,
        Timestamp::from_second(seconds).unwrap(),
    )
}

#[test]
fn the_documented_example_is_believed() {
    let signed = headers(DOC_TIME, DOC_SIGNATURE);
    assert_eq!(check_at(1_531_420_618, &signed, DOC_BODY), Ok(()));
    assert_eq!(check_at(1_531_420_618 + 300, &signed, DOC_BODY), Ok(()));
}

#[test]
fn a_signature_is_good_for_five_minutes_and_for_its_own_body() {
    let signed = headers(DOC_TIME, DOC_SIGNATURE);
    assert_eq!(
        check_at(1_531_420_618 + 301, &signed, DOC_BODY),
        Err(Doubt::Stale)
    );
    assert_eq!(
        check_at(1_531_420_618 - 301, &signed, DOC_BODY),
        Err(Doubt::Stale)
    );
    assert_eq!(
        check_at(1_531_420_618, &signed, "token=other"),
        Err(Doubt::WrongSignature)
    );
    let later = headers("1531420619", DOC_SIGNATURE);
    assert_eq!(
        check_at(1_531_420_618, &later, DOC_BODY),
        Err(Doubt::WrongSignature)
    );
}

#[test]
fn headers_that_are_missing_doubled_or_malformed_are_unsigned() {
    for (time, signature) in [
        ("", DOC_SIGNATURE),
        ("+1531420618", DOC_SIGNATURE),
        ("-1", DOC_SIGNATURE),
        (DOC_TIME, "v1=00"),
        (DOC_TIME, "v0=zz"),
        (DOC_TIME, ""),
    ] {
        assert_eq!(
            check_at(1_531_420_618, &headers(time, signature), DOC_BODY),
            Err(Doubt::Unsigned)
        );
    }
    let mut doubled = headers(DOC_TIME, DOC_SIGNATURE);
    doubled.append(SIGNATURE, "v0=00".parse().unwrap());
    assert_eq!(check_at(1_531_420_618, &doubled, DOC_BODY), Err(Doubt::Unsigned));
    assert_eq!(
        check_at(1_531_420_618, &HeaderMap::new(), DOC_BODY),
        Err(Doubt::Unsigned)
    );
}

fn callback(event: Value) -> Value {
    json!({
        "type": "event_callback", "event_id": "Ev1", "team_id": "T1", "api_app_id": "A1",
        "authorizations": [{ "user_id": "UBOT" }], "event": event,
    })
}

fn parsed(body: Value) -> Result<Envelope, NotAnEvent> {
    parse(body.to_string().as_bytes())
}

fn post() -> Value {
    json!({ "type": "message", "channel": "C1", "user": "U1", "text": "hi <@UBOT>", "ts": "1.2" })
}

fn with(mut event: Value, key: &str, value: Value) -> Value {
    event[key] = value;
    event
}

#[test]
fn a_post_of_a_person_is_a_message() {
    let Ok(Envelope::Message(message)) = parsed(callback(post())) else {
        panic!("not a message");
    };
    assert_eq!(message.channel.to_string(), "channel:C1");
    assert!(message.mentions_app && message.posted);
    assert_eq!(
        message.for_inbox(),
        json!({
            "type": "message", "channel": "C1", "user": "U1", "text": "hi <@UBOT>", "ts": "1.2",
            "thread_ts": null, "team": "T1", "event_id": "Ev1",
        })
    );
}

#[test]
fn bots_edits_and_our_own_words_are_ignored() {
    for event in [
        with(post(), "bot_id", json!("B1")),
        with(post(), "bot_profile", json!({ "id": "B1" })),
        with(post(), "subtype", json!("message_changed")),
        with(post(), "subtype", json!("message_deleted")),
        with(post(), "subtype", json!("bot_message")),
        with(post(), "subtype", json!("channel_join")),
        with(post(), "app_id", json!("A1")),
        with(post(), "user", json!("UBOT")),
        with(post(), "user", Value::Null),
        with(post(), "type", json!("reaction_added")),
    ] {
        assert_eq!(parsed(callback(event.clone())), Ok(Envelope::Ignored), "{event}");
    }
}

#[test]
fn what_is_no_event_is_refused() {
    for body in [
        json!([]),
        json!({}),
        json!({ "type": "url_verification" }),
        json!({ "type": "event_callback" }),
        json!({ "type": "event_callback", "event": post() }),
        callback(with(post(), "channel", json!("C 1"))),
        callback(with(post(), "channel", json!(1))),
        callback(with(post(), "ts", json!("x"))),
        callback(with(post(), "ts", Value::Null)),
        with(callback(post()), "event_id", json!("../..")),
    ] {
        assert_eq!(parsed(body.clone()), Err(NotAnEvent), "{body}");
    }
}

proptest! {
    #[test]
    fn no_body_makes_the_parser_panic(body in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = parse(&body);
    }

    #[test]
    fn no_event_makes_the_parser_panic(key in "[a-z_]{1,12}", value in "\\PC{0,20}") {
        let _ = parsed(callback(with(post(), &key, json!(value))));
    }
}
