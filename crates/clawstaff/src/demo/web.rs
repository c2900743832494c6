//! Plain HTTP to the stand-ins and the ingress, on loopback.

use anyhow::Context as _;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::Value;

/// Sends one request and reads the whole answer, at most 16 MiB.
pub(super) async fn send(request: Request<Full<Bytes>>) -> anyhow::Result<(StatusCode, Bytes)> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let url = request.uri().to_string();
    let response = client
        .request(request)
        .await
        .with_context(|| format!("no answer from {url}"))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), 16 << 20).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("the answer of {url} broke off: {error}"))?;
    Ok((status, body.to_bytes()))
}

/// `GET`, answered in JSON.
pub(super) async fn get(url: &str) -> anyhow::Result<Value> {
    let (_, body) = send(Request::get(url).body(Full::default())?).await?;
    serde_json::from_slice(&body).with_context(|| format!("{url} did not answer in JSON"))
}

/// `POST` of JSON, answered in JSON.
pub(super) async fn post(url: &str, body: &Value) -> anyhow::Result<Value> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(url)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.to_string())))?;
    let (_, body) = send(request).await?;
    serde_json::from_slice(&body).with_context(|| format!("{url} did not answer in JSON"))
}
