//! Subscriptions: that a resource of an MCP server outside has changed, told to a client that wants to know.
//!
//! Listening is reading: it needs the grant that reading the resource needs, is on record, and ends when the grant does.
//! Servers and clients of both revisions are joined: `resources/subscribe` and the stream of a session here,
//! `subscriptions/listen` there.

use http::{Method, Response};
use http_body_util::{BodyExt as _, Full};
use rmcp::{Peer, RoleServer, model::ResourceUpdatedNotificationParam, service::SubscriptionSink};
use serde_json::{Value, json};
use tokio::sync::broadcast::{self, error::RecvError};

use super::{
    conversation::Talk,
    exchange::recognised,
    foreign::{Fault, Server, View},
    wire::{self, Era, Events},
};
use crate::body::Body;

/// Who wants to know of changes.
#[derive(Debug)]
pub(super) enum Listener {
    /// A client with a session (2025-11-25).
    Session(Peer<RoleServer>),
    /// A stream that was opened for it (2026-07-28).
    Stream(SubscriptionSink),
}

impl Listener {
    async fn tell(&self, uri: &str) {
        let _nobody_listens = match self {
            Self::Session(peer) => {
                let update = ResourceUpdatedNotificationParam::new(uri);
                peer.notify_resource_updated(update).await.is_ok()
            }
            Self::Stream(sink) => sink.notify_resource_updated(uri).await.is_ok(),
        };
    }
}

/// Opens the stream on which a server of 2026-07-28 says that `uri` has changed.
///
/// # Errors
/// See [`Fault`].
pub(super) async fn open(
    view: View<'_>,
    server: &Server,
    talk: Talk,
    uri: &str,
) -> Result<Response<Body>, Fault> {
    // Listening to a resource is reading it.
    let like = wire::message("resources/subscribe", &json!({ "uri": uri }));
    let of = recognised(server, like.as_bytes())?;
    let params =
        json!({ "notifications": { "resourceSubscriptions": [uri] }, "_meta": wire::meta(json!({})) });
    let body = wire::message("subscriptions/listen", &params);
    let mut request = http::Request::new(Full::from(body));
    *request.method_mut() = Method::POST;
    *request.headers_mut() = wire::headers(Era::Stateless, "subscriptions/listen", None);
    view.sent(server, talk, Some(of), request).await
}

/// Tells of every change of `uri` that a session's own stream speaks of, as long as it may be read.
pub(super) async fn hear(
    view: View<'_>,
    server: &Server,
    uri: &str,
    mut updates: broadcast::Receiver<String>,
    listener: Listener,
) {
    loop {
        match updates.recv().await {
            Ok(changed) if changed != uri => {}
            // What was missed may have been of this one.
            Ok(_) | Err(RecvError::Lagged(_)) => {
                if view.may_read(server, "resource", uri) {
                    listener.tell(uri).await;
                }
            }
            Err(RecvError::Closed) => return,
        }
    }
}

/// Reads such a stream to its end and tells of every change of `uri`, as long as it may be read.
pub(super) async fn follow(
    view: View<'_>,
    server: &Server,
    uri: &str,
    response: Response<Body>,
    listener: Listener,
) {
    if !response.status().is_success() || !wire::is_stream(&response) {
        return;
    }
    let (mut body, mut events) = (response.into_body(), Events::default());
    while let Some(Ok(frame)) = body.frame().await {
        let data = frame.into_data().unwrap_or_default();
        for message in events.piece(&data) {
            let says = |at: &str| message.pointer(at).and_then(Value::as_str);
            let is_it = says("/method") == Some("notifications/resources/updated")
                && says("/params/uri") == Some(uri);
            if is_it && view.may_read(server, "resource", uri) {
                listener.tell(uri).await;
            }
        }
    }
}
