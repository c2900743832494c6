//! Who gets in, on each socket, on every route.

use clawstaff_api::{Code, people::WhoAmI};
use http::{
    Method, StatusCode,
    header::{AUTHORIZATION, COOKIE, LOCATION, SET_COOKIE},
};

use super::bench::{Bench, GATEWAY_TOKEN, RUNNER_TOKEN};

/// Every route, from the committed matrix.
fn routes() -> Vec<(Method, String)> {
    let matrix = clawstaff_control_plane::permission_matrix();
    let rows = matrix.lines().filter(|line| line.contains(" /"));
    let parse = |line: &str| {
        let mut words = line.split_whitespace();
        let method = words.next()?.parse().ok()?;
        let path = words
            .next()?
            .replace("{name}", "triage")
            .replace("{id}", "gateway:0");
        Some((method, path))
    };
    let routes: Vec<_> = rows
        .filter(|line| !line.starts_with('#'))
        .filter_map(parse)
        .collect();
    assert!(routes.len() > 30);
    routes
}

#[tokio::test]
async fn nobody_without_a_token_reaches_any_route_over_the_network() {
    let bench = Bench::start().await;
    for (method, path) in routes() {
        for headers in [vec![], vec![(AUTHORIZATION, "Bearer wrong".to_owned())]] {
            let answer = bench.network(method.clone(), &path, &headers).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path}");
        }
    }
    let unknown = bench.network(Method::GET, "/v1/nothing", &[]).await;
    assert_eq!(unknown.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn no_node_reaches_what_the_other_may_and_nobody_else_reaches_anything() {
    let bench = Bench::start().await;
    for (method, path) in routes() {
        let expected = |token: &str| match (
            path.contains("/nodes/v1/gateway/"),
            path.contains("/nodes/v1/runner/"),
        ) {
            // Joining and renewing are for hosts, which come over TLS.
            (false, false) if path.starts_with("/nodes/") => Some(StatusCode::FORBIDDEN),
            (false, false) => Some(StatusCode::NOT_FOUND),
            (true, _) if token == RUNNER_TOKEN => Some(StatusCode::FORBIDDEN),
            (_, true) if token == GATEWAY_TOKEN => Some(StatusCode::FORBIDDEN),
            _ => None,
        };
        for token in [GATEWAY_TOKEN, RUNNER_TOKEN] {
            if let Some(status) = expected(token) {
                let answer = bench.node(token, method.clone(), &path, &()).await;
                assert_eq!(answer.status, status, "{method} {path}");
            }
        }
        let answer = bench.node("wrong", method.clone(), &path, &()).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path}");
    }
}

#[tokio::test]
async fn the_uid_at_the_other_end_is_the_login() {
    let bench = Bench::start().await;
    let me: WhoAmI = bench.get("/v1/whoami").await;
    assert_eq!(me.member, format!("uid-{}", rustix::process::getuid().as_raw()));
    assert_eq!(me.role, "owner");
    let unknown = bench.person(Method::GET, "/v1/nothing", &()).await.problem();
    assert_eq!(unknown.code, Code::NotFound);
    let method = bench.person(Method::PUT, "/v1/apply", &()).await.problem();
    assert_eq!(method.code, Code::NotFound);
}

#[tokio::test]
async fn the_token_opens_the_api_and_by_link_the_dashboard_for_reading() {
    let bench = Bench::start().await;
    let token = bench.dashboard_token();
    let bearer = [(AUTHORIZATION, format!("Bearer {token}"))];
    let me: WhoAmI = bench.network(Method::GET, "/v1/whoami", &bearer).await.json();
    assert_eq!(me.member, "dashboard-token");
    let login = bench.network(Method::GET, &format!("/?token={token}"), &[]).await;
    assert_eq!(login.status, StatusCode::SEE_OTHER);
    assert_eq!(login.headers[LOCATION], "/");
    let cookie = login.headers[SET_COOKIE].to_str().unwrap().to_owned();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    let cookie = [(COOKIE, cookie.split(';').next().unwrap().to_owned())];
    assert_eq!(
        bench.network(Method::GET, "/", &cookie).await.status,
        StatusCode::OK
    );
    assert_eq!(
        bench.network(Method::POST, "/v1/apply", &cookie).await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        bench.network(Method::GET, "/?token=wrong", &[]).await.status,
        StatusCode::UNAUTHORIZED
    );
    let logins = bench.audit("kind=auth.login").await.records;
    let via: Vec<&str> = logins
        .iter()
        .map(|login| login.event.facts["via"].as_str())
        .collect();
    assert_eq!(via, ["token", "browser", "socket"]);
}

#[tokio::test]
async fn secrets_are_in_files_that_only_their_owner_reads() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::start().await;
    for name in [
        "policy.key",
        "log.key",
        "dashboard.token",
        "control.db",
        "nodes.ca",
    ] {
        let mode = std::fs::metadata(bench.home(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name}");
    }
}

#[tokio::test]
async fn without_node_tokens_no_node_gets_in() {
    let bench = Bench::start().await;
    std::fs::remove_file(bench.home("nodes.json")).unwrap();
    let answer = bench
        .node(GATEWAY_TOKEN, Method::GET, "/nodes/v1/gateway/state", &())
        .await;
    assert_eq!(answer.problem().code, Code::Unauthenticated);
}
