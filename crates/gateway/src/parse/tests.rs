//! What the parser accepts and refuses, request by request.

use http_body_util::Full;

use super::*;

const IDLE: Duration = Duration::from_secs(5);

fn name(host: &str) -> Via {
    Via::Name {
        host: host.to_owned(),
        port: 443,
        sni: Some(host.to_owned()),
    }
}

fn request(headers: &[(&str, &str)]) -> http::Request<Full<Bytes>> {
    let mut builder = http::Request::builder().method("POST").uri("/api/x?y=1");
    for (key, value) in headers {
        builder = builder.header(*key, *value);
    }
    builder.body(Full::from("body")).unwrap()
}

async fn parsed(via: &Via, headers: &[(&str, &str)]) -> Result<Request, ParseError> {
    canonical(via, request(headers), 100, IDLE).await
}

#[tokio::test]
async fn a_plain_request_is_read_whole() {
    let request = parsed(&name("slack.com"), &[("host", "Slack.com:443")])
        .await
        .unwrap();
    assert_eq!(
        (
            request.host.as_str(),
            request.port,
            request.path.as_str(),
            request.query.as_deref()
        ),
        ("slack.com", 443, "/api/x", Some("y=1"))
    );
    assert_eq!(request.body, "body");
}

#[tokio::test]
async fn names_that_disagree_are_refused() {
    let via = Via::Name {
        host: "slack.com".to_owned(),
        port: 443,
        sni: Some("github.com".to_owned()),
    };
    for (via, host) in [
        (&via, "slack.com"),
        (&name("slack.com"), "github.com"),
        (&name("slack.com"), "slack.com:80"),
    ] {
        assert_eq!(
            parsed(via, &[("host", host)]).await.unwrap_err(),
            ParseError::Misdirected,
            "{host}"
        );
    }
    assert_eq!(
        parsed(&name("slack.com"), &[]).await.unwrap_err(),
        ParseError::NoHost
    );
}

#[tokio::test]
async fn headers_that_two_servers_could_read_in_two_ways_are_refused() {
    let host = ("host", "slack.com");
    for bad in [
        ("host", "slack.com"),
        ("x-http-method-override", "DELETE"),
        ("transfer-encoding", "gzip, chunked"),
        ("content-encoding", "br"),
        ("content-encoding", "gzip, gzip"),
        ("upgrade", "websocket"),
    ] {
        assert!(parsed(&name("slack.com"), &[host, bad]).await.is_err(), "{bad:?}");
    }
    let twice = [host, ("authorization", "a"), ("authorization", "b")];
    assert!(parsed(&name("slack.com"), &twice).await.is_err());
    let both = [host, ("content-length", "4"), ("transfer-encoding", "chunked")];
    assert!(parsed(&name("slack.com"), &both).await.is_err());
}

#[tokio::test]
async fn a_body_over_the_bound_is_refused() {
    let via = name("slack.com");
    let outcome = canonical(&via, request(&[("host", "slack.com")]), 3, IDLE).await;
    assert_eq!(outcome.unwrap_err(), ParseError::Body(BodyError::TooLarge(3)));
}

#[test]
fn hosts_are_split_from_ports_strictly() {
    assert_eq!(host_and_port("A.com", 80), Some(("a.com".to_owned(), 80)));
    assert_eq!(host_and_port("[::1]:8080", 80), Some(("::1".to_owned(), 8080)));
    for bad in [
        "",
        "a:b",
        "a.com:",
        "user@a.com",
        "::1",
        "[a.com]",
        "a.com:99999",
        "a..com",
        "a.com.",
    ] {
        assert_eq!(host_and_port(bad, 80), None, "{bad}");
    }
}
