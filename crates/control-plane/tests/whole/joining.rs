//! Hosts that join: one token, one join; a certificate that is nobody's as soon as the node is turned away or has a
//! newer one; and nothing of one node's for another.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clawstaff_api::{
    join::{Identity, JOIN, JoinRequest, JoinToken, RENEW, RenewRequest, SERVER_NAME},
    nodes::{
        GATEWAY_HELLO, GATEWAY_STATE, GATEWAY_STATUS, GatewayState, GatewayStatus, NodeTokens, RUNNER_STATE,
        RunnerState, Signed,
    },
    people::{NodeToken, NodeView},
};
use clawstaff_types::Digest;
use http::{Method, StatusCode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use serde::Serialize;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::bench::{Answer, Bench, request, send, triage};

pub(crate) const TOKENS: (&str, &str) = ("gateway-of-berlin", "runner-of-berlin");

/// A host with a key, and the certificate that it was given.
pub(crate) struct Host {
    authority: CertificateDer<'static>,
    key: KeyPair,
    certificate: Option<CertificateDer<'static>>,
}

impl Host {
    pub(crate) fn new(token: &JoinToken) -> Self {
        Self {
            authority: CertificateDer::from(STANDARD.decode(&token.authority).unwrap()),
            key: KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(),
            certificate: None,
        }
    }

    pub(crate) fn public_key(&self) -> String {
        STANDARD.encode(self.key.public_key_raw())
    }

    pub(crate) fn certified(&mut self, identity: &Identity) {
        let der = STANDARD.decode(&identity.certificate).unwrap();
        self.certificate = Some(CertificateDer::from(der));
    }

    /// A request over TLS, with the certificate if there is one.
    pub(crate) async fn ask(
        &self,
        bench: &Bench,
        token: Option<&str>,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Answer {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let config = match &self.certificate {
            None => builder.with_no_client_auth(),
            Some(certificate) => {
                let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
                builder
                    .with_client_auth_cert(vec![certificate.clone()], key)
                    .unwrap()
            }
        };
        let address = std::fs::read_to_string(bench.home("nodes.listen")).unwrap();
        let stream = TcpStream::connect(address.trim()).await.unwrap();
        let name = ServerName::try_from(SERVER_NAME).unwrap();
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .unwrap();
        let body = serde_json::to_vec(body).unwrap();
        send(stream, request(method, path, token, body)).await
    }
}

pub(crate) async fn invited(bench: &Bench, node: &str) -> JoinToken {
    let token: NodeToken = bench.post("/v1/nodes", &json!({ "node": node })).await;
    token.token.parse().unwrap()
}

pub(crate) fn request_of(node: &str, host: &Host) -> JoinRequest {
    JoinRequest {
        node: node.parse().unwrap(),
        public_key: host.public_key(),
        tokens: NodeTokens {
            gateway: Digest::of(TOKENS.0.as_bytes()),
            runner: Digest::of(TOKENS.1.as_bytes()),
        },
    }
}

pub(crate) async fn join(bench: &Bench, token: &JoinToken, node: &str) -> (Answer, Host) {
    let host = Host::new(token);
    let request = request_of(node, &host);
    let answer = host
        .ask(
            bench,
            Some(token.secret.expose_secret()),
            Method::POST,
            JOIN,
            &request,
        )
        .await;
    (answer, host)
}

/// A host that joined under this name.
pub(crate) async fn joined(bench: &Bench, node: &str) -> Host {
    let token = invited(bench, node).await;
    let (answer, mut host) = join(bench, &token, node).await;
    host.certified(&answer.json());
    host
}

async fn status(host: &Host, bench: &Bench, token: Option<&str>, path: &str) -> StatusCode {
    host.ask(bench, token, Method::GET, path, &()).await.status
}

#[tokio::test]
async fn a_join_token_is_good_for_one_join_of_its_own_node() {
    let bench = Bench::start().await;
    let token = invited(&bench, "berlin").await;
    let (wrong_name, _) = join(&bench, &token, "paris").await;
    assert_eq!(wrong_name.status, StatusCode::UNAUTHORIZED);
    let (first, _) = join(&bench, &token, "berlin").await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.text());
    let (second, _) = join(&bench, &token, "berlin").await;
    assert_eq!(second.status, StatusCode::UNAUTHORIZED, "{}", second.text());
    let again = bench
        .person(Method::POST, "/v1/nodes", &json!({ "node": "berlin" }))
        .await;
    assert_eq!(again.status, StatusCode::CONFLICT);
    let local = bench
        .person(Method::POST, "/v1/nodes", &json!({ "node": "local" }))
        .await;
    assert!(local.status.is_client_error());
    let failed = bench.audit("kind=auth.failed").await.records;
    assert_eq!(failed.len(), 2, "{failed:?}");
    let changed = bench.audit("kind=config.changed&text=berlin").await.records;
    assert_eq!(changed.len(), 2, "the invitation and the join: {changed:?}");
}

#[tokio::test]
async fn a_stranger_may_join_and_nothing_else() {
    let bench = Bench::start().await;
    let stranger = Host::new(&invited(&bench, "berlin").await);
    assert_eq!(
        status(&stranger, &bench, None, GATEWAY_STATE).await,
        StatusCode::UNAUTHORIZED
    );
    for token in [TOKENS.0, super::bench::GATEWAY_TOKEN] {
        let answer = status(&stranger, &bench, Some(token), GATEWAY_STATE).await;
        assert_eq!(answer, StatusCode::FORBIDDEN);
    }
    let people = status(&stranger, &bench, Some("x"), "/v1/status").await;
    assert_eq!(people, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_node_gets_its_own_state_and_a_token_without_its_certificate_gets_none() {
    let bench = Bench::start().await;
    let berlin = joined(&bench, "berlin").await;
    let paris = joined(&bench, "paris").await;
    let mut spec = triage();
    spec["claws"][0]["spec"]["node"] = "berlin".into();
    bench.apply(spec.clone()).await;
    let state = async |host: &Host| -> GatewayState {
        let answer = host
            .ask(&bench, Some(TOKENS.0), Method::GET, GATEWAY_STATE, &())
            .await;
        let signed: Signed = answer.json();
        serde_json::from_str(&signed.payload).unwrap()
    };
    let (here, there) = (state(&berlin).await, state(&paris).await);
    assert_eq!((here.node.as_str(), here.claws.len()), ("berlin", 1));
    assert!(!here.grants.is_empty());
    assert_eq!(
        (there.node.as_str(), there.claws.len(), there.grants.len()),
        ("paris", 0, 0)
    );
    assert!(
        bench.gateway_state(0).await.claws.is_empty(),
        "the control plane's own host has none"
    );
    let runner: RunnerState = berlin
        .ask(&bench, Some(TOKENS.1), Method::GET, RUNNER_STATE, &())
        .await
        .json();
    assert_eq!(runner.claws.len(), 1);
    let by_socket = bench.node(TOKENS.0, Method::GET, GATEWAY_STATE, &()).await;
    assert_eq!(by_socket.status, StatusCode::UNAUTHORIZED);
    let by_role = status(&berlin, &bench, Some(TOKENS.1), GATEWAY_STATE).await;
    assert_eq!(by_role, StatusCode::FORBIDDEN);

    spec["claws"][0]["spec"]["node"] = "paris".into();
    let moved = bench.try_apply(spec.clone(), false).await;
    assert!(moved.text().contains("cannot move"), "{}", moved.text());
    spec["claws"][0]["spec"]["name"] = "other".into();
    spec["claws"][0]["spec"]["node"] = "parris".into();
    let unknown = bench.try_apply(spec, false).await;
    assert!(
        unknown.text().contains("the nearest is `paris`"),
        "{}",
        unknown.text()
    );
}

#[tokio::test]
async fn what_a_node_says_of_claws_elsewhere_is_not_believed() {
    let bench = Bench::start().await;
    let berlin = joined(&bench, "berlin").await;
    bench.apply(triage()).await;
    let gateway = super::bench::Gateway::new();
    let hello =
        json!({ "log_vkey": gateway.key.vkey(), "seal_key": "AA==", "ingress": "http://127.0.0.1:9" });
    let answer = berlin
        .ask(&bench, Some(TOKENS.0), Method::POST, GATEWAY_HELLO, &hello)
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let status = GatewayStatus {
        ready: std::collections::BTreeMap::from([("triage".parse().unwrap(), true)]),
        ..GatewayStatus::default()
    };
    let told = berlin
        .ask(&bench, Some(TOKENS.0), Method::POST, GATEWAY_STATUS, &status)
        .await;
    assert_eq!(told.status, StatusCode::NO_CONTENT);
    assert!(!bench.claw("triage").await.ready);
    let nodes: Vec<NodeView> = bench.get("/v1/nodes").await;
    assert!(
        nodes
            .iter()
            .any(|node| node.name.as_str() == "berlin" && node.gateway.is_some())
    );
}

#[tokio::test]
async fn the_first_use_of_a_newer_certificate_ends_the_older_one() {
    let bench = Bench::start().await;
    let old = joined(&bench, "berlin").await;
    let mut new = Host {
        authority: old.authority.clone(),
        key: KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(),
        certificate: None,
    };
    let renew = RenewRequest {
        public_key: new.public_key(),
    };
    let by_gateway = old.ask(&bench, Some(TOKENS.0), Method::POST, RENEW, &renew).await;
    assert_eq!(
        by_gateway.status,
        StatusCode::FORBIDDEN,
        "the gateway is not the uplink"
    );
    let renewed = old.ask(&bench, None, Method::POST, RENEW, &renew).await;
    new.certified(&renewed.json());
    // Until the node has the new one for certain, the old one is good.
    assert_eq!(
        status(&old, &bench, Some(TOKENS.0), GATEWAY_STATE).await,
        StatusCode::OK
    );
    assert_eq!(
        status(&new, &bench, Some(TOKENS.0), GATEWAY_STATE).await,
        StatusCode::OK
    );
    assert_eq!(
        status(&old, &bench, Some(TOKENS.0), GATEWAY_STATE).await,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn a_node_that_is_turned_away_gets_nothing_more_not_even_what_it_waits_for() {
    let bench = Bench::start().await;
    let berlin = joined(&bench, "berlin").await;
    let revision: serde_json::Value = bench.get("/v1/status").await;
    let path = format!("{GATEWAY_STATE}?since={}", revision["revision"]);
    let waiting = berlin.ask(&bench, Some(TOKENS.0), Method::GET, &path, &());
    let away = async {
        let answer = bench.person(Method::DELETE, "/v1/nodes/berlin", &()).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT);
        // Something new: what waits is woken.
        bench.apply(triage()).await;
    };
    let (waited, ()) = tokio::join!(waiting, away);
    assert_eq!(waited.status, StatusCode::UNAUTHORIZED, "{}", waited.text());
    let refused = berlin
        .ask(&bench, Some(TOKENS.0), Method::GET, GATEWAY_STATE, &())
        .await;
    assert!(refused.text().contains("turned away"), "{}", refused.text());
    let nodes: Vec<NodeView> = bench.get("/v1/nodes").await;
    assert!(nodes[0].revoked.is_some());
    let again = joined(&bench, "berlin").await;
    assert_eq!(
        status(&again, &bench, Some(TOKENS.0), GATEWAY_STATE).await,
        StatusCode::OK
    );
}
