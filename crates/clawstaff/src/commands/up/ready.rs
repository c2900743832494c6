//! When everything is ready: all sockets answer and the control plane hears of both nodes.

use std::time::Duration;

use clawstaff_api::{
    local::{GatewayInfo, INFO},
    people::ServerStatus,
};
use tokio::net::UnixStream;

use crate::{client::Client, place::Place};

/// How often to look.
const PACE: Duration = Duration::from_millis(50);

/// Waits until everything is ready; returns the ingress' address.
pub(super) async fn ready(place: &Place) -> String {
    let api = Client::local(place.api_socket(), place.control(), "the control plane");
    let gateway = Client::local(place.gateway_socket(), place.gateway(), "the gateway");
    loop {
        if let Some(ingress) = look(place, &api, &gateway).await {
            return ingress;
        }
        tokio::time::sleep(PACE).await;
    }
}

/// Waits until a node's own parts are ready, with or without a control plane; returns the ingress' address.
pub(super) async fn node(place: &Place) -> String {
    let gateway = Client::local(place.gateway_socket(), place.gateway(), "the gateway");
    loop {
        if let Some(ingress) = look_at_node(place, &gateway).await {
            return ingress;
        }
        tokio::time::sleep(PACE).await;
    }
}

async fn look_at_node(place: &Place, gateway: &Client) -> Option<String> {
    let info: GatewayInfo = gateway.get(INFO).await.ok()?;
    UnixStream::connect(place.nodes_socket()).await.ok()?;
    UnixStream::connect(place.runner_socket()).await.ok()?;
    Some(info.ingress)
}

async fn look(place: &Place, api: &Client, gateway: &Client) -> Option<String> {
    let status: ServerStatus = api.get("/v1/status").await.ok()?;
    let info: GatewayInfo = gateway.get(INFO).await.ok()?;
    UnixStream::connect(place.nodes_socket()).await.ok()?;
    UnixStream::connect(place.runner_socket()).await.ok()?;
    let gateway = status.gateway.is_some_and(|gateway| gateway.connected);
    let runner = status.runner.is_some_and(|runner| runner.connected);
    (gateway && runner).then_some(info.ingress)
}
