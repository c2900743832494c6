//! A gateway in a directory of its own, with a real log, vault and inbox, and a desired state to taste.
#![expect(dead_code, reason = "each test program uses its own part")]

use std::{path::Path, sync::Arc};

use clawstaff_api::nodes::{GatewayClaw, GatewayState};
use clawstaff_audit::{Entry, Log, Options, SigningKey, log::MIN_SEGMENT_BYTES};
use clawstaff_gateway::{
    Gateway, Parts,
    approvals::Approvals,
    inbox::{Inbox, InboxKey},
    shared::Instance,
};
use clawstaff_types::{
    ClawName, Conditions, EventKind, Grant, Mode, Secret,
    spec::{ClawSpec, Connection, CredentialRef, SlackEvent, Trigger},
};
use clawstaff_vault::{Vault, seal::PrivateKey};

/// The app's signing secret.
pub(crate) const SIGNING_SECRET: &str = "shhh-signing-4711";
pub(crate) const CHANNEL: &str = "C0SUPPORT";

/// A gateway and the directory it lives in.
pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) log_key: SigningKey,
}

impl World {
    /// A gateway with nothing in it.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::generate("test").unwrap();
        let log_key = SigningKey::from_bytes("test", key.to_bytes().expose_secret()).unwrap();
        let log_vkey = key.vkey();
        let gateway = Gateway::new(Parts {
            log: open_log(dir.path(), key),
            vault: Vault::open(&dir.path().join("vault")).unwrap(),
            inbox: open_inbox(dir.path()),
            approvals: Approvals::open(dir.path().join("approvals")).unwrap(),
            seal_key: PrivateKey::generate(),
            doors_dir: dir.path().join("doors"),
            keys_dir: dir.path().join("keys"),
            own_dir: dir.path().to_owned(),
            instance: Instance {
                ingress: "http://127.0.0.1:1".into(),
                log_vkey,
                ..Instance::default()
            },
        })
        .unwrap();
        gateway
            .vault
            .set(
                &"slack-signing".parse().unwrap(),
                Secret::new(SIGNING_SECRET.to_owned()),
            )
            .unwrap();
        Self {
            dir,
            gateway,
            log_key,
        }
    }

    /// The records so far.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let stored = self.gateway.log.read(0, 10_000).unwrap();
        stored.iter().map(|stored| stored.entry().unwrap()).collect()
    }

    /// The kinds of the records so far.
    pub(crate) fn kinds(&self) -> Vec<EventKind> {
        self.entries().iter().map(|entry| entry.event.kind).collect()
    }
}

fn open_log(dir: &Path, key: SigningKey) -> Log {
    let options = Options {
        dir: dir.join("log"),
        anchor: None,
        origin: "test".into(),
        key,
        segment_bytes: MIN_SEGMENT_BYTES,
    };
    Log::open(options).unwrap().0
}

fn open_inbox(dir: &Path) -> Inbox {
    Inbox::open(
        &dir.join("inbox"),
        InboxKey::new(&Secret::new(vec![7; 32])).unwrap(),
    )
    .unwrap()
}

pub(crate) fn claw(name: &str) -> ClawName {
    name.parse().unwrap()
}

/// The Slack connection, whose signing secret is in the vault.
pub(crate) fn slack() -> Connection {
    let reference = |text: &str| CredentialRef::try_from(text.to_owned()).unwrap();
    Connection {
        name: "slack".parse().unwrap(),
        connector: "slack".parse().unwrap(),
        credential: reference("vault:slack-bot"),
        signing_secret: Some(reference("vault:slack-signing")),
        base_url: None,
    }
}

/// A Claw of this name, triggered by the channel.
pub(crate) fn triggered(name: &str, on: SlackEvent) -> GatewayClaw {
    let trigger = Trigger::Slack {
        connection: "slack".parse().unwrap(),
        channel: CHANNEL.into(),
        on,
    };
    GatewayClaw {
        cage: format!("{name}-00000000"),
        revision: 3,
        spec: ClawSpec {
            name: claw(name),
            node: None,
            description: String::new(),
            agent: clawstaff_types::spec::Agent::default(),
            model: None,
            instructions: None,
            limits: clawstaff_types::spec::Limits::default(),
            budget: clawstaff_types::spec::Budget::default(),
            triggers: vec![trigger],
        },
    }
}

/// Lets a Claw read messages in the channel.
pub(crate) fn may_read(name: &str) -> Grant {
    Grant {
        id: format!("gr_{name}").parse().unwrap(),
        claw: claw(name),
        connection: "slack".parse().unwrap(),
        actions: vec!["messages.read".parse().unwrap()],
        resources: vec![format!("channel:{CHANNEL}").parse().unwrap()],
        conditions: Conditions::default(),
        mode: Mode::Allow,
        expires: None,
        granted_by: "uid-0".parse().unwrap(),
    }
}

/// A desired state with the Slack connection.
pub(crate) fn state(revision: u64, claws: Vec<GatewayClaw>, grants: Vec<Grant>) -> GatewayState {
    GatewayState {
        revision,
        node: clawstaff_types::NodeName::local(),
        connections: vec![slack()],
        claws,
        grants,
        guardrails: Vec::new(),
        messages: Vec::new(),
        approvals: Vec::new(),
        sinks: Vec::new(),
    }
}
