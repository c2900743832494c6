//! HTTP to elsewhere: through the proxy, whatever the URL. An address literal is dialled directly first, so that
//! the cage's boundary is felt where it is: in the kernel.

use std::{
    fmt::Write,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use clawstaff_cage_contract::{ActReport, CageAct};
use http::{HeaderMap, StatusCode, Uri};
use http_body_util::Full;
use tokio::{net::TcpStream, time::timeout};

use super::{Done, arguments::HttpRequest, happened, prevented};
use crate::{
    agent::{
        doors::readable,
        tool::{MAX_RESULT, ToolOutcome},
    },
    client::{self, HttpError},
    errno,
};

/// For a direct connection: inside a cage it fails at once.
const CONNECT: Duration = Duration::from_secs(3);
/// For a request through the proxy.
const EXCHANGE: Duration = Duration::from_secs(30);
/// Response headers that are shown.
const SHOWN_HEADERS: [&str; 3] = ["content-type", "location", "retry-after"];

/// Makes the request.
pub(super) async fn request(proxy: SocketAddr, request: HttpRequest) -> Done {
    let mut acts = Vec::new();
    if let Some(address) = literal(&request.url) {
        acts.push(dial(address).await);
    }
    let outcome = match timeout(EXCHANGE, exchange(proxy, request)).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => ToolOutcome::refused(&error.to_string()),
        Err(_late) => ToolOutcome::refused(&format!("no answer within {} seconds", EXCHANGE.as_secs())),
    };
    (outcome, acts)
}

/// The address and port of a URL whose host is an address.
fn literal(url: &Uri) -> Option<SocketAddr> {
    let host = url.host()?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let address: IpAddr = host.parse().ok()?;
    let standard = if url.scheme_str() == Some("https") {
        443
    } else {
        80
    };
    Some(SocketAddr::new(address, url.port_u16().unwrap_or(standard)))
}

async fn dial(address: SocketAddr) -> ActReport {
    let target = address.to_string();
    match timeout(CONNECT, TcpStream::connect(address)).await {
        Ok(Ok(_stream)) => happened(CageAct::Connect, &target),
        Ok(Err(error)) => prevented(CageAct::Connect, &target, errno::io_name(&error)),
        Err(_late) => prevented(CageAct::Connect, &target, "ETIMEDOUT".to_owned()),
    }
}

async fn exchange(proxy: SocketAddr, request: HttpRequest) -> Result<ToolOutcome, HttpError> {
    let mut builder = client::proxied(request.method, &request.url);
    for (name, value) in request.headers {
        builder = builder.header(name, value);
    }
    let exchange = client::send(proxy, builder.body(Full::new(request.body.into()))?).await?;
    let (status, headers) = (exchange.status(), exchange.headers().clone());
    let (body, more) = exchange.first(MAX_RESULT).await?;
    Ok(outcome(status, &headers, &body, more))
}

fn outcome(status: StatusCode, headers: &HeaderMap, body: &[u8], more: bool) -> ToolOutcome {
    if status.is_client_error() || status.is_server_error() {
        return ToolOutcome::refused(&format!("HTTP {}: {}", status.as_u16(), readable(body)));
    }
    let mut text = format!("HTTP {}\n", status.as_u16());
    for name in SHOWN_HEADERS {
        if let Some(value) = headers.get(name).and_then(|value| value.to_str().ok()) {
            // Writing to a string cannot fail.
            let _written = writeln!(text, "{name}: {value}");
        }
    }
    text.push('\n');
    text.push_str(&String::from_utf8_lossy(body));
    if more {
        text.push_str("\n[cut]");
    }
    ToolOutcome::happened(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::tool::Verdict;

    #[test]
    fn address_literals_are_told_from_names() {
        let of = |url: &str| literal(&url.parse().unwrap()).map(|address| address.to_string());
        assert_eq!(
            of("http://169.254.169.254/latest"),
            Some("169.254.169.254:80".into())
        );
        assert_eq!(of("https://[::1]/"), Some("[::1]:443".into()));
        assert_eq!(of("http://10.0.0.1:8080/"), Some("10.0.0.1:8080".into()));
        assert_eq!(of("https://api.github.com/"), None);
    }

    #[test]
    fn a_refusal_is_told_by_its_detail() {
        let body =
            br#"{"type":"t","title":"Denied","status":403,"detail":"no connection serves evil.example"}"#;
        let outcome = outcome(StatusCode::FORBIDDEN, &HeaderMap::new(), body, false);
        assert_eq!(outcome.verdict, Verdict::Refused);
        assert_eq!(outcome.text, "HTTP 403: no connection serves evil.example");
    }

    #[tokio::test]
    async fn a_direct_connection_is_reported_with_its_error() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert!(dial(address).await.happened);
        drop(listener);
        let report = dial(address).await;
        assert_eq!((report.happened, report.error.as_str()), (false, "ECONNREFUSED"));
    }
}
