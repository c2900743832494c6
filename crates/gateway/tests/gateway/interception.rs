//! Software that knows nothing of us: TLS to a name it dialled, or an HTTP proxy.

use std::sync::Arc;

use clawstaff_types::EventKind;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use serde_json::json;
use tokio::{io::AsyncWriteExt as _, net::UnixStream};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::world::{Client, World, post};

/// An ordinary TLS client that trusts the cage's authority and nothing else.
pub(crate) async fn tls<IO>(world: &World, io: IO, sni: &str, alpn: &[u8]) -> TlsStream<IO>
where
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(world.door().join("ca.pem")).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let name = ServerName::try_from(sni.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, io)
        .await
        .unwrap()
}

async fn world() -> World {
    let world = World::new().await;
    world.grant("slack", "messages.send", "channel:C1").await;
    world
}

fn message() -> Request<Full<bytes::Bytes>> {
    post(
        "slack.com",
        "/api/chat.postMessage",
        &json!({ "channel": "C1", "text": "x" }),
    )
}

#[tokio::test]
async fn an_ordinary_tls_client_that_trusts_the_cages_authority_works_unmodified() {
    let world = world().await;
    let stream = tls(
        &world,
        world.connect("name slack.com 443").await,
        "slack.com",
        b"http/1.1",
    )
    .await;
    let read = Client::over(stream).await.send(message()).await;
    assert_eq!(read.status, StatusCode::OK, "{}", read.text());
    assert_eq!(world.upstream.seen().len(), 1);
}

#[tokio::test]
async fn http2_works_too() {
    let world = world().await;
    let stream = tls(
        &world,
        world.connect("name slack.com 443").await,
        "slack.com",
        b"h2",
    )
    .await;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let request = Request::post("https://slack.com/api/chat.postMessage")
        .header("content-type", "application/json")
        .body(Full::<bytes::Bytes>::from(r#"{"channel":"C1","text":"x"}"#))
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    answer.into_body().collect().await.unwrap();
}

#[tokio::test]
async fn an_unknown_host_is_refused_readably_inside_tls() {
    let world = world().await;
    let stream = tls(
        &world,
        world.connect("name evil.example 443").await,
        "evil.example",
        b"http/1.1",
    )
    .await;
    let read = Client::over(stream)
        .await
        .send(post("evil.example", "/", &json!({})))
        .await;
    assert_eq!(read.status, StatusCode::FORBIDDEN);
    assert_eq!(
        world
            .last(EventKind::EgressDenied)
            .event
            .resource
            .unwrap()
            .to_string(),
        "host:evil.example"
    );
}

#[tokio::test]
async fn a_tls_name_that_is_not_the_dialled_name_is_refused() {
    let world = world().await;
    let stream = tls(
        &world,
        world.connect("name evil.example 443").await,
        "slack.com",
        b"http/1.1",
    )
    .await;
    let read = Client::over(stream).await.send(message()).await;
    assert_eq!(read.status, StatusCode::MISDIRECTED_REQUEST);
    let stream = tls(
        &world,
        world.connect("name slack.com 443").await,
        "slack.com",
        b"http/1.1",
    )
    .await;
    let read = Client::over(stream)
        .await
        .send(post("evil.example", "/", &json!({})))
        .await;
    assert_eq!(read.status, StatusCode::MISDIRECTED_REQUEST);
    assert!(world.upstream.seen().is_empty());
}

#[tokio::test]
async fn the_proxy_takes_absolute_addresses_and_tunnels() {
    let world = world().await;
    for scheme in ["http", "https"] {
        let mut request = message();
        *request.uri_mut() = format!("{scheme}://slack.com/api/chat.postMessage")
            .parse()
            .unwrap();
        let read = world.send("proxy", request).await;
        assert_eq!(read.status, StatusCode::OK, "{scheme}: {}", read.text());
    }
    let stream = tunnel(&world, "slack.com:443").await.unwrap();
    let stream = tls(&world, stream, "slack.com", b"http/1.1").await;
    assert_eq!(
        Client::over(stream).await.send(message()).await.status,
        StatusCode::OK
    );
    assert_eq!(world.upstream.seen().len(), 3);
}

#[tokio::test]
async fn the_proxy_refuses_hosts_and_ports_that_are_not_for_the_cage() {
    let world = world().await;
    for target in ["evil.example:443", "slack.com:22", "169.254.169.254:80"] {
        let answer = tunnel(&world, target).await.unwrap_err();
        assert!(answer.starts_with("HTTP/1.1 403"), "{target}: {answer}");
    }
    assert_eq!(world.entries().len(), 3);
    let mut request = message();
    *request.uri_mut() = "http://evil.example/".parse().unwrap();
    request.headers_mut().insert("host", "slack.com".parse().unwrap());
    assert_eq!(
        world.send("proxy", request).await.status,
        StatusCode::MISDIRECTED_REQUEST
    );
}

#[tokio::test]
async fn a_port_that_is_not_the_webs_is_closed_and_recorded() {
    let world = world().await;
    let mut stream = world.connect("name slack.com 22").await;
    let mut back = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut back)
        .await
        .unwrap();
    assert!(back.is_empty());
    world
        .until(|entry| entry.event.kind == EventKind::EgressDenied)
        .await;
}

/// A `CONNECT` tunnel, or what was answered instead.
pub(crate) async fn tunnel(world: &World, target: &str) -> Result<UnixStream, String> {
    let mut stream = world.connect("proxy").await;
    let connect = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n");
    stream.write_all(connect.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut byte)
            .await
            .unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    if head.starts_with("HTTP/1.1 200") {
        Ok(stream)
    } else {
        Err(head)
    }
}
