//! References to stores of secrets elsewhere, against doubles over real TLS: what is found, what each failure is called, for how long
//! a value is kept, and that only this host says which stores and entries there are.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

#[path = "../support/authority.rs"]
mod authority;
mod double;
#[path = "../support/process.rs"]
mod process;

use std::{path::Path, sync::Arc, time::Duration};

use clawstaff_gateway::{RunError, stores::Stores};
use clawstaff_types::{Secret, spec::CredentialRef};
use clawstaff_vault::{LookupError, ResolveError, Vault};
use double::{Double, Mood, private};
use process::config;
use tokio_util::sync::CancellationToken;

const EVERYTHING: &str = "allow = [\"*\"]";

/// A vault whose host knows the double's stores.
struct World {
    dir: tempfile::TempDir,
    double: Double,
    vault: Vault,
}

impl World {
    async fn new(lines: &str) -> Self {
        let (dir, double) = (tempfile::tempdir().unwrap(), Double::start().await);
        double.describe(dir.path(), lines);
        let vault = vault(dir.path());
        Self { dir, double, vault }
    }

    /// The value at `reference`, by the one public way that hands it out.
    async fn find(&self, reference: &str) -> Result<Secret<String>, ResolveError> {
        self.vault.signing_secret(&reference_of(reference)).await
    }

    async fn value(&self, reference: &str) -> String {
        self.find(reference).await.unwrap().expose_secret().clone()
    }

    async fn failure(&self, reference: &str) -> LookupError {
        match self.find(reference).await {
            Err(ResolveError::Lookup(error)) => error,
            other => panic!("{reference}: {other:?}"),
        }
    }
}

fn vault(own: &Path) -> Vault {
    let stores = Stores::load(own, None).unwrap();
    Vault::open(&own.join("vault"))
        .unwrap()
        .with_stores(Arc::new(stores))
}

fn reference_of(text: &str) -> CredentialRef {
    CredentialRef::try_from(text.to_owned()).unwrap()
}

#[tokio::test]
async fn a_field_of_a_kv_entry_and_a_key_of_a_kubernetes_secret_are_found() {
    let world = World::new(EVERYTHING).await;
    assert_eq!(world.value("bao:main/acme/slack#bot_token").await, "xoxb-1");
    assert_eq!(world.value("bao:main/acme/slack#quoted").await, "a\"b\\c");
    assert_eq!(
        world.value("k8s:cluster/agents/slack#token").await,
        "xoxb-cluster"
    );
}

#[tokio::test]
async fn every_way_in_which_a_store_does_not_give_a_value_has_its_own_error() {
    let world = World::new(EVERYTHING).await;
    let told = |error: &LookupError| match error {
        LookupError::Denied { status, .. } => format!("denied {status}"),
        LookupError::Deleted { destroyed, .. } => format!("deleted {destroyed}"),
        LookupError::Missing { .. } => "missing".to_owned(),
        LookupError::NoField { .. } => "no field".to_owned(),
        LookupError::NotText { .. } => "not text".to_owned(),
        LookupError::Malformed { .. } => "malformed".to_owned(),
        LookupError::NoStore { .. } => "no store".to_owned(),
        LookupError::Sealed { .. } => "sealed".to_owned(),
        LookupError::Status { status, .. } => format!("status {status}"),
        LookupError::TooLong { .. } => "too long".to_owned(),
        LookupError::Slow { .. } => "slow".to_owned(),
        other => format!("{other:?}"),
    };
    for (reference, expected) in [
        ("bao:main/acme/forbidden#f", "denied 403"),
        ("bao:main/acme/nothing#f", "missing"),
        ("bao:main/acme/deleted#f", "deleted false"),
        ("bao:main/acme/destroyed#f", "deleted true"),
        ("bao:main/acme/slack#other", "no field"),
        ("bao:main/acme/slack#port", "not text"),
        ("bao:main/acme/slack#nested", "not text"),
        ("k8s:cluster/agents/forbidden#token", "denied 403"),
        ("k8s:cluster/agents/nothing#token", "missing"),
        ("k8s:cluster/agents/slack#other", "no field"),
        ("k8s:cluster/agents/slack#broken", "malformed"),
        ("bao:other/acme/slack#bot_token", "no store"),
        ("bao:cluster/acme/slack#bot_token", "no store"),
        ("k8s:main/acme/slack#bot_token", "no store"),
    ] {
        assert_eq!(told(&world.failure(reference).await), expected, "{reference}");
    }
    let reference = "bao:main/acme/slack#bot_token";
    for (mood, expected) in [
        (Mood::Sealed, "sealed"),
        (Mood::Redirects, "status 307"),
        (
            Mood::Says(b"{\"data\":{\"data\":{\"bot_token\":\"canary".to_vec()),
            "malformed",
        ),
        (
            Mood::Says(b"{\"data\":{\"bot_token\":\"of version 1\"}}".to_vec()),
            "malformed",
        ),
        (Mood::Says(b"<html>hello".to_vec()), "malformed"),
        (Mood::Says(vec![b' '; 3 << 20]), "too long"),
        (Mood::Pours(48), "too long"),
        (Mood::Pours(8), "malformed"),
        (Mood::Hangs, "slow"),
    ] {
        world.double.mood(mood.clone());
        let error = world.failure(reference).await;
        assert_eq!(told(&error), expected);
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
    world.double.mood(Mood::Well);
    assert_eq!(world.value(reference).await, "xoxb-1");
}

#[tokio::test]
async fn only_entries_that_the_host_allows_are_asked_for() {
    let world = World::new("allow = [\"acme/*\", \"agents/slack\"]").await;
    assert_eq!(world.value("bao:main/acme/slack#bot_token").await, "xoxb-1");
    assert_eq!(
        world.value("k8s:cluster/agents/slack#token").await,
        "xoxb-cluster"
    );
    let asked = world.double.asked();
    for refused in [
        "bao:main/acme#f",
        "bao:main/acmeslack#f",
        "bao:main/other/acme/slack#f",
        "k8s:cluster/agents/slack2#token",
    ] {
        let error = world.failure(refused).await;
        assert!(matches!(error, LookupError::NotAllowed { .. }), "{error:?}");
    }
    assert_eq!(world.double.asked(), asked);
    let nothing = World::new("allow = []").await;
    assert!(nothing.find("bao:main/acme/slack#bot_token").await.is_err());
}

#[tokio::test]
async fn a_store_that_another_authority_vouches_for_or_that_nobody_runs_gets_no_token() {
    let world = World::new(EVERYTHING).await;
    let impostor = Double::start().await;
    std::fs::write(world.dir.path().join("store-ca.pem"), &impostor.authority).unwrap();
    let vault = vault(world.dir.path());
    let refused = vault
        .signing_secret(&reference_of("bao:main/acme/slack#bot_token"))
        .await;
    assert!(
        matches!(&refused, Err(ResolveError::Lookup(LookupError::Unreachable { why, .. })) if why.contains("certificate")),
        "{refused:?}"
    );
    assert_eq!(world.double.asked(), 0);
}

#[tokio::test]
async fn the_token_is_read_at_each_request_and_must_not_be_open_to_everybody() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new("allow = [\"*\"]\ncache_seconds = 0").await;
    let (reference, token) = (
        "bao:main/acme/slack#bot_token",
        world.dir.path().join("bao.token"),
    );
    private(&token, "another");
    assert!(matches!(
        world.failure(reference).await,
        LookupError::Denied { .. }
    ));
    private(&token, double::BAO_TOKEN);
    assert_eq!(world.value(reference).await, "xoxb-1");
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(
        world.failure(reference).await,
        LookupError::Token { .. }
    ));
    std::fs::remove_file(&token).unwrap();
    assert!(matches!(
        world.failure(reference).await,
        LookupError::Token { .. }
    ));
}

#[tokio::test]
async fn a_value_is_kept_for_the_seconds_that_the_host_says_and_no_longer() {
    let world = World::new("allow = [\"*\"]\ncache_seconds = 60").await;
    let reference = "bao:main/acme/slack#bot_token";
    assert_eq!(world.value(reference).await, "xoxb-1");
    world.double.rotate("xoxb-2");
    assert_eq!(world.value(reference).await, "xoxb-1");
    assert_eq!(world.double.asked(), 1);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    assert_eq!(world.value(reference).await, "xoxb-2");
    assert_eq!(world.double.asked(), 2);
}

#[tokio::test]
async fn without_keeping_each_use_asks_and_a_failure_is_never_kept() {
    let world = World::new("allow = [\"*\"]\ncache_seconds = 0").await;
    let reference = "bao:main/acme/slack#bot_token";
    assert_eq!(world.value(reference).await, "xoxb-1");
    world.double.rotate("xoxb-2");
    assert_eq!(world.value(reference).await, "xoxb-2");
    world.double.mood(Mood::Sealed);
    assert!(matches!(
        world.failure(reference).await,
        LookupError::Sealed { .. }
    ));
    world.double.mood(Mood::Well);
    assert_eq!(world.value(reference).await, "xoxb-2");
}

#[tokio::test]
async fn uses_at_the_same_time_share_one_request() {
    let world = World::new(EVERYTHING).await;
    let all = (0..20).map(|_| world.value("bao:main/acme/slack#bot_token"));
    let values = futures_util::future::join_all(all).await;
    assert!(values.iter().all(|value| value == "xoxb-1"));
    assert_eq!(world.double.asked(), 1);
}

#[tokio::test]
async fn a_description_that_is_not_understood_is_refused_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let row = |rest: &str| format!("[store.a]\ntoken_file = \"t\"\n{rest}");
    for (text, reason) in [
        ("[store.a]\n".to_owned(), "missing field"),
        (
            row("kind = \"openbao\"\naddress = \"https://b\"\nallow = []"),
            "mount",
        ),
        (
            row("kind = \"openbao\"\nmount = \"../sys\"\naddress = \"https://b\"\nallow = []"),
            "mount",
        ),
        (
            row("kind = \"kubernetes\"\nmount = \"x\"\naddress = \"https://b\"\nallow = []"),
            "`openbao`",
        ),
        (
            row("kind = \"kubernetes\"\naddress = \"http://b\"\nallow = []"),
            "loopback",
        ),
        (
            row("kind = \"kubernetes\"\naddress = \"https://b/path\"\nallow = []"),
            "host and port",
        ),
        (
            row("kind = \"kubernetes\"\naddress = \"https://b\"\nallow = [\"a/../b\"]"),
            "allow",
        ),
        (
            row("kind = \"kubernetes\"\naddress = \"https://b\"\nallow = []\ncache_seconds = 301"),
            "cache_seconds",
        ),
        (
            row("kind = \"kubernetes\"\naddress = \"https://b\"\nallow = []\nca_file = \"none.pem\""),
            "none.pem",
        ),
        (
            row("kind = \"kubernetes\"\naddress = \"https://b\"\nallow = []\ntoken = \"canary\""),
            "unknown field",
        ),
    ] {
        std::fs::write(dir.path().join("stores.toml"), &text).unwrap();
        let error = Stores::load(dir.path(), None).unwrap_err().to_string();
        assert!(
            error.contains(reason) && error.contains("stores.toml"),
            "{text}: {error}"
        );
    }
}

/// The confined process reaches the stores: names, token and authorities outside its own directory.
#[tokio::test]
async fn the_confined_gateway_takes_a_reference_that_leads_somewhere_and_refuses_one_that_does_not() {
    let (data, outside, double) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        Double::start().await,
    );
    let own = data.path().join("gateway");
    std::fs::create_dir(&own).unwrap();
    double.describe(outside.path(), EVERYTHING);
    let text = std::fs::read_to_string(outside.path().join("stores.toml")).unwrap();
    let text = ["bao.token", "k8s.token", "store-ca.pem"]
        .iter()
        .fold(text, |text, file| {
            text.replace(file, &outside.path().join(file).display().to_string())
        });
    std::fs::write(own.join("stores.toml"), text).unwrap();

    let stop = CancellationToken::new();
    let running = tokio::spawn(clawstaff_gateway::run(config(data.path()), stop.clone()));
    let (status, problem) = refer(data.path(), "bao:main/acme/slack#bot_token").await;
    assert_eq!(status, 204, "{problem}");
    let (status, problem) = refer(data.path(), "bao:main/acme/deleted#bot_token").await;
    assert_eq!(status, 400);
    assert!(problem.contains("was deleted"), "{problem}");
    stop.cancel();
    running.await.unwrap().unwrap();

    std::fs::write(own.join("stores.toml"), "nonsense").unwrap();
    let refused = clawstaff_gateway::run(config(data.path()), CancellationToken::new()).await;
    assert!(matches!(refused, Err(RunError::Stores(_))), "{refused:?}");
}

/// `secret ref slack-bot REFERENCE`, as soon as the gateway is there.
async fn refer(data: &Path, reference: &str) -> (u16, String) {
    use http_body_util::{BodyExt as _, Full};
    let socket = data.join("run/gateway.sock");
    let connected = async {
        loop {
            match tokio::net::UnixStream::connect(&socket).await {
                Ok(stream) => return stream,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let stream = tokio::time::timeout(Duration::from_mins(1), connected)
        .await
        .unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::put("/local/v1/secrets/slack-bot/reference")
        .header("host", "gateway")
        .body(Full::new(bytes::Bytes::from(reference.to_owned())))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}
