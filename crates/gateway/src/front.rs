//! The fixed doors of a cage: which path leads where. No rule of its own.

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;

use crate::{accept::Cage, body::Body, claw_api, model, problem::Refusal};

/// Answers one request at the doors.
pub(crate) async fn answer(cage: Arc<Cage>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let (door, rest) = split(&path);
    let answered = match door {
        "mcp" if rest.is_empty() || rest == "/" => return cage.mcp.answer(request).await,
        "anthropic" | "openai" => model::answer(&cage, door, rest, request).await,
        "claw" => claw_api::answer(&cage, rest, request).await,
        _ => Err(Refusal::not_found(
            "the doors are /mcp, /anthropic, /openai and /claw/v1; there is nothing else here",
        )),
    };
    answered.unwrap_or_else(Refusal::into_response)
}

/// `/mcp/x` → (`mcp`, `/x`).
fn split(path: &str) -> (&str, &str) {
    let inner = path.strip_prefix('/').unwrap_or(path);
    let end = inner.find('/').unwrap_or(inner.len());
    inner.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn the_first_segment_is_the_door() {
        assert_eq!(split("/mcp"), ("mcp", ""));
        assert_eq!(split("/openai/v1/models"), ("openai", "/v1/models"));
        assert_eq!(split("/"), ("", ""));
    }
}
