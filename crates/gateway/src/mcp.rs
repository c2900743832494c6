//! `/mcp`: the granted actions as tools of the Model Context Protocol, over streamable HTTP.
//!
//! Both revisions that clients speak are served (2026-07-28 without sessions, 2025-11-25 with them). The
//! protocol is rmcp's, but for the commonest request ([`direct`]); which tools there are is the policy's; a call
//! walks the same line as any HTTP request. What MCP servers outside offer is served beside them ([`foreign`]),
//! whichever of the revisions these speak.

mod conversation;
pub(crate) mod definition;
mod direct;
mod exchange;
mod foreign;
mod reading;
pub(crate) mod servers;
pub(crate) mod survey;
mod tools;
mod updates;
mod wire;

use std::{sync::Arc, time::Duration};

use clawstaff_types::ClawName;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use rmcp::transport::streamable_http_server::{
    StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
};
use tokio_util::sync::CancellationToken;

use self::tools::Tools;
pub(crate) use self::{conversation::Talk, servers::Servers, wire::send};
use crate::{
    body::{self, Body},
    parse::MAX_BODY,
    problem::Refusal,
    shared::Gateway,
};

/// Sessions that one cage may hold open (revision 2025-11-25).
const MAX_SESSIONS: usize = 64;
/// The revision that has no sessions.
const STATELESS: HeaderValue = HeaderValue::from_static("2026-07-28");

/// One cage's MCP server.
pub(crate) struct Mcp {
    tools: Tools,
    service: StreamableHttpService<Tools, LocalSessionManager>,
    sessions: Arc<LocalSessionManager>,
    body_wait: Duration,
}

impl std::fmt::Debug for Mcp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mcp(…)")
    }
}

impl Mcp {
    pub(crate) fn new(gateway: &Arc<Gateway>, claw: &ClawName, stop: CancellationToken) -> Self {
        let tools = Tools::new(Arc::clone(gateway), claw.clone());
        let sessions = Arc::new(LocalSessionManager::default());
        // The cage may run a browser, and a page in it must not reach the tools by a name of its own.
        let config = StreamableHttpServerConfig::default()
            .with_allowed_origins(["http://127.0.0.1:*", "http://localhost:*", "http://[::1]:*"])
            .with_json_response(true)
            .with_max_request_body_bytes(MAX_BODY)
            .with_cancellation_token(stop);
        let offered = tools.clone();
        let service =
            StreamableHttpService::new(move || Ok(offered.for_another()), Arc::clone(&sessions), config);
        Self {
            tools,
            service,
            sessions,
            body_wait: gateway.waits.body,
        }
    }

    /// Answers one request at `/mcp`.
    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (parts, incoming) = request.into_parts();
        if self.opens_one_too_many(&parts.headers).await {
            let mut refusal = Refusal::new(
                StatusCode::TOO_MANY_REQUESTS,
                "sessions",
                "Too many sessions",
                "this cage has 64 MCP sessions open: end one (DELETE), or speak revision 2026-07-28, which has none",
            );
            refusal.retry_after = Some(60);
            return refusal.into_response();
        }
        let body = match body::read(incoming, MAX_BODY, self.body_wait).await {
            Ok(body) => body,
            Err(error) => return Refusal::malformed(error.to_string()).into_response(),
        };
        if let Some(call) = direct::tool_call(&parts, &body)
            && let Some(result) = self.tools.own(call.params).await
        {
            return direct::answer(call.id, result);
        }
        let answer = self
            .service
            .handle(Request::from_parts(parts, Full::new(body)))
            .await;
        answer.map(|body| body.map_err(|never| match never {}).boxed_unsync())
    }

    async fn opens_one_too_many(&self, headers: &http::HeaderMap) -> bool {
        let old = headers.get("mcp-protocol-version") != Some(&STATELESS);
        old && !headers.contains_key("mcp-session-id")
            && headers.contains_key(header::CONTENT_TYPE)
            && self.sessions.sessions.read().await.len() >= MAX_SESSIONS
    }
}
