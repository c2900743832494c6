//! The vault from outside: what is kept, what is refused, and what a release needs.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, path::Path};

use clawstaff_audit::{DEFAULT_SEGMENT_BYTES, Draft, Log, Options, Phase, Receipt, SigningKey, Stream};
use clawstaff_policy::{Call, Permit, Policy, Verdict};
use clawstaff_types::{
    Access, Actor, Conditions, Digest, Event, EventKind, Grant, Mode, ResourcePattern, Secret, SecretName,
    spec::{Connection, CredentialRef},
};
use clawstaff_vault::{
    Binding, Destination, Misuse, OpenError, ReleaseError, ResolveError, SealedInfo, SetOutcome, StoreError,
    Terms, Vault,
};

const CANARY: &str = "xoxb-canary-4711-0815";

fn name(text: &str) -> SecretName {
    text.parse().unwrap()
}

fn secret(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

fn connection(credential: &str) -> Connection {
    Connection {
        name: "slack".parse().unwrap(),
        connector: "slack".parse().unwrap(),
        credential: CredentialRef::try_from(credential.to_owned()).unwrap(),
        signing_secret: None,
        base_url: None,
    }
}

/// A permit of policy itself, for the call with this digest on this connection.
fn permit(connection: &str, digest: Digest) -> Permit {
    let claw = "triage".parse().unwrap();
    let connection = connection.parse().unwrap();
    let grant = Grant {
        id: "gr_1".parse().unwrap(),
        claw: "triage".parse().unwrap(),
        connection: "slack".parse().unwrap(),
        actions: vec!["messages.read".parse().unwrap()],
        resources: vec![ResourcePattern::Any],
        conditions: Conditions::default(),
        mode: Mode::Allow,
        expires: None,
        granted_by: "uid-0".parse().unwrap(),
    };
    let other = Grant {
        id: "gr_2".parse().unwrap(),
        connection: "other".parse().unwrap(),
        ..grant.clone()
    };
    let policy = Policy::compile(1, &[grant, other], &[]).unwrap();
    let call = Call {
        claw: &claw,
        connection: &connection,
        action: &"slack:messages.read".parse().unwrap(),
        access: Access::Read,
        resources: &["channel:C1".parse().unwrap()],
        arguments: &BTreeMap::new(),
        on_behalf_of: None,
        now: jiff::Timestamp::UNIX_EPOCH,
        digest,
    };
    match policy.decide(&call) {
        Verdict::Allow(permit) => permit,
        other => panic!("{other:?}"),
    }
}

/// A receipt of a real log for the call with this digest.
async fn receipt(dir: &Path, call: Digest) -> Receipt {
    let (log, _) = Log::open(Options {
        dir: dir.join("log"),
        anchor: None,
        origin: "test".to_owned(),
        key: SigningKey::generate("test").unwrap(),
        segment_bytes: DEFAULT_SEGMENT_BYTES,
    })
    .unwrap();
    let event = Event::new(EventKind::ToolCall, Actor::System("test".into()));
    let stream = Stream::System("test".into());
    log.append(Draft {
        stream,
        phase: Phase::Intent,
        call,
        event,
    })
    .await
    .unwrap()
}

/// The hosts of the connector `slack`.
const PUBLIC: [&str; 2] = ["slack.com", "*.slack.com"];

fn at(host: &str) -> Destination<'_> {
    Destination {
        host,
        port: 443,
        public: &PUBLIC,
    }
}

async fn released(vault: &Vault, credential: &str) -> Result<Secret<String>, ReleaseError> {
    released_for(vault, credential, "slack", "slack.com").await
}

async fn released_for(
    vault: &Vault,
    credential: &str,
    asking: &str,
    host: &str,
) -> Result<Secret<String>, ReleaseError> {
    let dir = tempfile::tempdir().unwrap();
    let call = Digest::of(b"call");
    let receipt = receipt(dir.path(), call).await;
    let permit = permit(asking, call);
    let connection = Connection {
        name: asking.parse().unwrap(),
        ..connection(credential)
    };
    vault.release(&permit, &receipt, &connection, at(host)).await
}

#[test]
fn secrets_are_kept_sealed_listed_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::open(dir.path()).unwrap();
    assert_eq!(
        vault.set(&name("bot"), secret(CANARY)).unwrap(),
        SetOutcome::Created
    );
    assert_eq!(
        vault.set(&name("bot"), secret(CANARY)).unwrap(),
        SetOutcome::Replaced
    );
    vault.set(&name("another"), secret("x")).unwrap();
    let names: Vec<_> = vault.list().unwrap().into_iter().map(|info| info.name).collect();
    assert_eq!(names, [name("another"), name("bot")]);
    for entry in fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(
            entry.metadata().unwrap().permissions().mode() & 0o777,
            0o600,
            "{entry:?}"
        );
        let content = fs::read(entry.path()).unwrap();
        assert!(
            !content
                .windows(CANARY.len())
                .any(|window| window == CANARY.as_bytes())
        );
    }
    vault.remove(&name("bot")).unwrap();
    assert!(matches!(vault.remove(&name("bot")), Err(StoreError::Missing(_))));
    assert!(!vault.contains(&name("bot")));
}

#[test]
fn secrets_that_are_empty_or_too_long_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::open(dir.path()).unwrap();
    assert!(matches!(
        vault.set(&name("a"), secret("")),
        Err(StoreError::Empty(_))
    ));
    assert!(matches!(
        vault.set(&name("a"), secret("\n")),
        Err(StoreError::Empty(_))
    ));
    let long = "x".repeat(clawstaff_vault::MAX_SECRET + 1);
    assert!(matches!(
        vault.set(&name("a"), secret(&long)),
        Err(StoreError::TooLong(_))
    ));
    assert!(vault.list().unwrap().is_empty());
}

#[test]
fn a_master_key_that_others_can_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(Vault::open(dir.path()).unwrap());
    let key = dir.path().join("master.key");
    for mode in [0o640, 0o604] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        assert!(
            matches!(Vault::open(dir.path()), Err(OpenError::MasterKey(_))),
            "{mode:o}"
        );
    }
}

#[test]
fn a_lost_master_key_is_not_replaced_while_secrets_depend_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::open(dir.path()).unwrap();
    vault.set(&name("bot"), secret(CANARY)).unwrap();
    fs::remove_file(dir.path().join("master.key")).unwrap();
    assert!(matches!(Vault::open(dir.path()), Err(OpenError::KeyLost(_))));
}

#[tokio::test]
async fn the_credential_is_released_for_its_own_call_connection_and_host() {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::open(&dir.path().join("vault")).unwrap();
    vault.set(&name("bot"), secret(&format!("{CANARY}\n"))).unwrap();
    let again = Vault::open(&dir.path().join("vault")).unwrap();
    assert_eq!(
        released(&again, "vault:bot").await.unwrap().expose_secret(),
        CANARY
    );
}

#[tokio::test]
async fn no_credential_without_a_permit_and_a_receipt_of_the_same_call() {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::open(&dir.path().join("vault")).unwrap();
    vault.set(&name("bot"), secret(CANARY)).unwrap();
    let (call, other) = (Digest::of(b"call"), Digest::of(b"other"));
    let receipt = receipt(dir.path(), call).await;
    let slack = connection("vault:bot");
    let error = vault
        .release(&permit("slack", other), &receipt, &slack, at("slack.com"))
        .await;
    assert!(matches!(error, Err(ReleaseError::OtherCall)));
    let error = vault
        .release(&permit("other", call), &receipt, &slack, at("slack.com"))
        .await;
    assert!(matches!(error, Err(ReleaseError::OtherConnection { .. })));
    let error = vault
        .release(&permit("slack", call), &receipt, &slack, at("evil.example"))
        .await;
    assert!(matches!(error, Err(ReleaseError::Misuse(Misuse::Host { .. }))));
}

fn bound(connections: &[&str], hosts: &[&str]) -> Binding {
    Binding {
        connections: connections.iter().map(|name| name.parse().unwrap()).collect(),
        hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
    }
}

/// What the seal of `bot` says.
fn seal_of_bot(vault: &Vault) -> SealedInfo {
    vault.list().unwrap().remove(0).sealed.unwrap()
}

#[tokio::test]
async fn a_secret_goes_where_its_seal_says_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::open(dir.path()).unwrap();
    let binding = bound(&["slack"], &["ghe.acme.com:443"]);
    vault.set_bound(&name("bot"), secret(CANARY), binding).unwrap();
    let given = released_for(&vault, "vault:bot", "slack", "ghe.acme.com").await;
    assert_eq!(given.unwrap().expose_secret(), CANARY);
    let elsewhere = released_for(&vault, "vault:bot", "slack", "slack.com")
        .await
        .unwrap_err();
    assert_eq!(
        elsewhere.to_string(),
        "the secret `bot` is not sealed for the host `slack.com`: if the connection `slack` really lives there, \
         run `clawstaff secret bind bot --host slack.com` on the gateway's host"
    );
    let another = released_for(&vault, "vault:bot", "other", "ghe.acme.com").await;
    assert!(matches!(
        another,
        Err(ReleaseError::Misuse(Misuse::Connection { .. }))
    ));
}

#[tokio::test]
async fn the_first_use_binds_to_its_connection_and_the_connectors_own_hosts_never_to_an_address_it_was_sent_to()
 {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::open(dir.path()).unwrap();
    vault.set(&name("bot"), secret(CANARY)).unwrap();
    let sent_elsewhere = released_for(&vault, "vault:bot", "slack", "evil.example").await;
    assert!(matches!(
        sent_elsewhere,
        Err(ReleaseError::Misuse(Misuse::Host { .. }))
    ));
    assert_eq!(seal_of_bot(&vault).binding, Binding::default());
    released(&vault, "vault:bot").await.unwrap();
    let again = Vault::open(dir.path()).unwrap();
    assert_eq!(seal_of_bot(&again).binding, bound(&["slack"], &PUBLIC));
    let another = released_for(&again, "vault:bot", "other", "slack.com").await;
    assert!(matches!(
        another,
        Err(ReleaseError::Misuse(Misuse::Connection { .. }))
    ));
    again
        .bind(&name("bot"), bound(&["slack", "other"], &["evil.example"]))
        .unwrap();
    assert!(
        released_for(&again, "vault:bot", "other", "evil.example")
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_secret_sealed_before_there_were_bindings_is_bound_at_its_next_use() {
    use std::io::Write as _;
    let dir = tempfile::tempdir().unwrap();
    drop(Vault::open(dir.path()).unwrap());
    let key = fs::read_to_string(dir.path().join("master.key")).unwrap();
    let key: age::x25519::Identity = key.trim().parse().unwrap();
    let file = dir.path().join("bot.age");
    let to = key.to_public();
    let encryptor = age::Encryptor::with_recipients(std::iter::once(&to as &dyn age::Recipient)).unwrap();
    let mut sealed = encryptor.wrap_output(fs::File::create(&file).unwrap()).unwrap();
    sealed.write_all(b"clawstaff-secret/1\nbot\nxoxb-old").unwrap();
    sealed.finish().unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let vault = Vault::open(dir.path()).unwrap();
    assert_eq!(
        released(&vault, "vault:bot").await.unwrap().expose_secret(),
        "xoxb-old"
    );
    assert_eq!(seal_of_bot(&vault).binding, bound(&["slack"], &PUBLIC));
}

#[tokio::test]
async fn the_call_after_a_rotation_has_the_new_value_and_the_one_before_keeps_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::open(dir.path()).unwrap();
    assert!(matches!(
        vault.rotate(&name("bot"), secret("x")),
        Err(StoreError::Missing(_))
    ));
    vault.set(&name("bot"), secret("first")).unwrap();
    let under_way = released(&vault, "vault:bot").await.unwrap();
    vault.rotate(&name("bot"), secret("second")).unwrap();
    assert_eq!(
        released(&vault, "vault:bot").await.unwrap().expose_secret(),
        "second"
    );
    assert_eq!(under_way.expose_secret(), "first");
    let sealed = seal_of_bot(&vault);
    assert_eq!((sealed.version, sealed.binding), (2, bound(&["slack"], &PUBLIC)));
}

#[tokio::test]
async fn a_reference_that_the_control_plane_names_goes_to_the_connectors_own_hosts_only_unless_it_is_sealed()
{
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::open(&dir.path().join("own/vault")).unwrap();
    let file = dir.path().join("token");
    fs::write(&file, CANARY).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let direct = format!("file:{}", file.display());
    assert!(released(&vault, &direct).await.is_ok());
    let sent_elsewhere = released_for(&vault, &direct, "slack", "evil.example").await;
    assert!(matches!(sent_elsewhere, Err(ReleaseError::ForeignHost { .. })));
    let reference = CredentialRef::try_from(direct).unwrap();
    let binding = bound(&[], &["ghe.acme.com"]);
    vault
        .refer(
            &name("bot"),
            reference.clone(),
            Terms {
                binding: Some(binding),
                expires: None,
            },
        )
        .unwrap();
    let given = released_for(&vault, "vault:bot", "slack", "ghe.acme.com").await;
    assert_eq!(given.unwrap().expose_secret(), CANARY);
    assert_eq!(seal_of_bot(&vault).reference, Some(reference));
    let loops = CredentialRef::Vault(name("bot"));
    assert!(matches!(
        vault.refer(&name("x"), loops, Terms::default()),
        Err(StoreError::NoReference(_))
    ));
}

#[tokio::test]
async fn a_swapped_renamed_or_altered_file_opens_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::open(dir.path()).unwrap();
    vault.set(&name("bot"), secret(CANARY)).unwrap();
    vault.set(&name("other"), secret("other")).unwrap();
    fs::copy(dir.path().join("bot.age"), dir.path().join("other.age")).unwrap();
    let error = released(&vault, "vault:other").await.unwrap_err();
    assert!(!format!("{error:?} {error}").contains(CANARY));
    assert!(matches!(
        error,
        ReleaseError::Unresolved {
            source: ResolveError::Vault { .. },
            ..
        }
    ));
    let mut sealed = fs::read(dir.path().join("bot.age")).unwrap();
    *sealed.last_mut().unwrap() ^= 1;
    fs::write(dir.path().join("bot.age"), sealed).unwrap();
    assert!(released(&vault, "vault:bot").await.is_err());
}

#[tokio::test]
async fn a_value_in_memory_is_good_only_for_the_file_it_came_from() {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::open(dir.path()).unwrap();
    let file = dir.path().join("slack-bot.age");
    let value = async || {
        released(&vault, "vault:slack-bot")
            .await
            .map(|s| s.expose_secret().clone())
    };

    vault.set(&name("slack-bot"), secret("first")).unwrap();
    assert_eq!(value().await.unwrap(), "first");
    let first = fs::read(&file).unwrap();
    vault.set(&name("slack-bot"), secret("second")).unwrap();
    assert_eq!(value().await.unwrap(), "second");

    // Somebody else puts an older file back, then one that others can read, then none.
    let restored = dir.path().join("restored");
    fs::write(&restored, first).unwrap();
    fs::set_permissions(&restored, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(&restored, &file).unwrap();
    assert_eq!(value().await.unwrap(), "first");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(value().await.is_err());
    fs::remove_file(&file).unwrap();
    assert!(value().await.is_err());
}

#[tokio::test]
async fn a_file_reference_must_not_be_readable_by_everybody() {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::open(&dir.path().join("gateway/vault")).unwrap();
    let file = dir.path().join("token");
    fs::write(&file, format!("{CANARY}\r\n")).unwrap();
    let reference = format!("file:{}", file.display());
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(
        released(&vault, &reference).await.unwrap().expose_secret(),
        CANARY
    );
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let error = released(&vault, &reference).await.unwrap_err();
    assert!(
        matches!(
            error,
            ReleaseError::Unresolved {
                source: ResolveError::File(_),
                ..
            }
        ),
        "{error:?}"
    );
    assert!(released(&vault, "file:/nonexistent").await.is_err());
    assert!(
        released(&vault, &format!("file:{}", dir.path().display()))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn the_gateways_own_keys_are_no_credentials() {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::open(&dir.path().join("gateway/vault")).unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(dir.path().join("gateway/vault/master.key"), &link).unwrap();
    for path in [dir.path().join("gateway/vault/master.key"), link] {
        let error = released(&vault, &format!("file:{}", path.display()))
            .await
            .unwrap_err();
        assert!(
            matches!(
                error,
                ReleaseError::Unresolved {
                    source: ResolveError::OwnFile(_),
                    ..
                }
            ),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn variables_are_read_when_they_are_used() {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::open(dir.path()).unwrap();
    let path = released(&vault, "env:PATH").await.unwrap();
    assert_eq!(path.expose_secret(), &std::env::var("PATH").unwrap());
    let error = released(&vault, "env:CLAWSTAFF_NO_SUCH_VARIABLE")
        .await
        .unwrap_err();
    assert!(matches!(
        error,
        ReleaseError::Unresolved {
            source: ResolveError::NoVariable(_),
            ..
        }
    ));
}

fn failure(result: Result<Secret<String>, ReleaseError>) -> ResolveError {
    match result {
        Err(ReleaseError::Unresolved { source, .. }) => source,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn only_commands_that_the_host_allows_are_run() {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::open(dir.path()).unwrap();
    let refused = failure(released(&vault, "exec:echo hello").await);
    assert!(matches!(refused, ResolveError::CommandNotAllowed(_)));
    let vault = vault.with_commands(vec!["echo hello".to_owned()]);
    assert_eq!(
        released(&vault, "exec:echo hello").await.unwrap().expose_secret(),
        "hello"
    );
    let refused = failure(released(&vault, "exec:echo hello there").await);
    assert!(matches!(refused, ResolveError::CommandNotAllowed(_)));
}

#[tokio::test]
async fn commands_have_no_environment_and_their_failures_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let commands = ["env", "false", "/nonexistent/program", "true", "yes", "sleep 60"];
    let vault = Vault::open(dir.path())
        .unwrap()
        .with_commands(commands.map(str::to_owned).to_vec());
    let environment = released(&vault, "exec:env").await.unwrap();
    let variables: Vec<_> = environment
        .expose_secret()
        .lines()
        .filter(|l| !l.starts_with("PATH="))
        .collect();
    assert_eq!(variables.len(), 0);
    assert!(matches!(
        failure(released(&vault, "exec:false").await),
        ResolveError::ExecFailed { .. }
    ));
    assert!(matches!(
        failure(released(&vault, "exec:/nonexistent/program").await),
        ResolveError::Exec { .. }
    ));
    assert!(matches!(
        failure(released(&vault, "exec:true").await),
        ResolveError::Empty
    ));
    assert!(matches!(
        failure(released(&vault, "exec:yes").await),
        ResolveError::TooLong
    ));
    assert!(matches!(
        failure(released(&vault, "exec:sleep 60").await),
        ResolveError::ExecTime { .. }
    ));
}

#[test]
fn nothing_that_is_printed_holds_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::open(dir.path()).unwrap();
    vault.set(&name("bot"), secret(CANARY)).unwrap();
    let key = fs::read_to_string(dir.path().join("master.key")).unwrap();
    let printed = format!("{vault:?} {:?}", vault.list().unwrap());
    assert!(!printed.contains(CANARY) && !printed.contains(key.trim()));
}

#[tokio::test]
async fn when_a_value_ends_is_sealed_with_it_survives_its_first_use_and_goes_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::open(dir.path()).unwrap();
    let expires: jiff::Timestamp = "2020-01-31T00:00:00Z".parse().unwrap();
    let terms = Terms {
        binding: None,
        expires: Some(expires),
    };
    vault.set_under(&name("bot"), secret(CANARY), terms).unwrap();
    // It is told, not enforced.
    released(&vault, "vault:bot").await.unwrap();
    assert_eq!(seal_of_bot(&vault).expires, Some(expires));
    assert_eq!(seal_of_bot(&vault).binding.connections.len(), 1);
    vault.rotate(&name("bot"), secret("second")).unwrap();
    assert_eq!(seal_of_bot(&vault).expires, None);
}
