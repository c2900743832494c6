//! The gateway of the bench: a process of its own, so that its CPU time and its memory are nobody else's.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use clawstaff_api::nodes::{GatewayClaw, GatewayState};
use clawstaff_audit::{Log, SigningKey, log::Options};
use clawstaff_gateway::{
    Config, CustodyPolicy, Gateway, Parts,
    approvals::Approvals,
    inbox::{Inbox, InboxKey},
    shared::Instance,
};
use clawstaff_types::Secret;
use clawstaff_vault::{Binding, Vault, seal::PrivateKey};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{CLAWS, runtime};

/// By which a child process knows what it is to be: what, the directory, the service's port.
const ROLE: &str = "BENCH_LINE_ROLE";

/// A child process, ended when dropped.
pub(crate) struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

/// The role of this process, if it is a child.
pub(crate) fn play() -> bool {
    let Ok(role) = std::env::var(ROLE) else {
        return false;
    };
    let mut words = role.split(' ');
    let (what, dir, port) = (
        words.next().unwrap(),
        words.next().unwrap(),
        words.next().unwrap(),
    );
    let (dir, port) = (Path::new(dir).to_owned(), port.parse().unwrap());
    if what == "whole" {
        let config = Config {
            data: dir,
            node: clawstaff_types::NodeName::local(),
            ingress: "127.0.0.1:0".parse().unwrap(),
            extra_ca: None,
            local_uids: Vec::new(),
            custody: CustodyPolicy::default(),
        };
        runtime()
            .block_on(clawstaff_gateway::run(config, CancellationToken::new()))
            .unwrap();
    } else {
        runtime().block_on(async move {
            let _gateway = gateway(&dir, port).await;
            std::fs::write(dir.join("ready"), "").unwrap();
            std::future::pending::<()>().await;
        });
    }
    true
}

fn spawn(what: &str, dir: &Path, port: u16) -> Process {
    let child = Command::new(std::env::current_exe().unwrap())
        .arg("--bench")
        .env(ROLE, format!("{what} {} {port}", dir.display()))
        .stdin(Stdio::null())
        .spawn();
    Process(child.unwrap())
}

/// Waits for a file or socket.
fn until_there(path: &Path) {
    while !path.exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A gateway with its doors open.
pub(crate) fn start(dir: &Path, port: u16) -> Process {
    let process = spawn("line", dir, port);
    until_there(&dir.join("ready"));
    process
}

/// How long the whole gateway, as `clawstaff gateway` runs it, takes to listen; at the first start and at the second.
pub(crate) fn ready() -> [Duration; 2] {
    let dir = tempfile::tempdir().unwrap();
    [(), ()].map(|()| {
        let begun = Instant::now();
        let socket = dir.path().join("run/gateway.sock");
        let _process = spawn("whole", dir.path(), 0);
        until_there(&socket);
        let took = begun.elapsed();
        std::fs::remove_file(&socket).unwrap();
        took
    })
}

impl Process {
    /// CPU time of all its threads, by `/proc`.
    pub(crate) fn cpu(&self) -> Duration {
        let mut nanos = 0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.0.id())).unwrap() {
            let text = std::fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap_or_default();
            nanos += text.split(' ').next().unwrap().parse::<u64>().unwrap_or_default();
        }
        Duration::from_nanos(nanos)
    }

    /// The most memory it has had resident, in MiB.
    pub(crate) fn peak_mib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        let kib: f64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        kib / 1024.0
    }
}

async fn gateway(dir: &Path, port: u16) -> Arc<Gateway> {
    let at = |name: &str| dir.join(name);
    std::fs::create_dir_all(at("gateway/keys")).unwrap();
    let options = Options {
        dir: at("gateway/log"),
        anchor: None,
        origin: "gateway.bench".to_owned(),
        key: SigningKey::generate("gateway.bench").unwrap(),
        segment_bytes: 16 << 20,
    };
    let vault = Vault::open(&at("gateway/vault")).unwrap();
    let slack = "slack".parse().unwrap();
    vault.set(&slack, Secret::new("xoxb-real".to_owned())).unwrap();
    let here = Binding {
        connections: Vec::new(),
        hosts: vec!["127.0.0.1".parse().unwrap()],
    };
    vault.bind(&slack, here).unwrap();
    let key = InboxKey::load_or_create(&at("gateway/keys/inbox")).unwrap();
    let gateway = Gateway::new(Parts {
        log: Log::open(options).unwrap().0,
        vault,
        inbox: Inbox::open(&at("gateway/inbox"), key).unwrap(),
        approvals: Approvals::open(at("gateway/approvals")).unwrap(),
        seal_key: PrivateKey::generate(),
        doors_dir: at("doors"),
        keys_dir: at("gateway/keys"),
        own_dir: at("gateway"),
        instance: Instance::default(),
    })
    .unwrap();
    gateway.adopt(state(port)).await.unwrap();
    gateway
}

fn state(port: u16) -> GatewayState {
    let connection = json!({ "name": "slack", "connector": "slack", "credential": "vault:slack",
        "base_url": format!("http://127.0.0.1:{port}/api") });
    let claw = |name: &&str| GatewayClaw {
        cage: format!("{name}-00000001"),
        revision: 1,
        spec: serde_json::from_value(json!({ "name": name })).unwrap(),
    };
    let grant = |name: &&str| {
        let grant = json!({ "id": format!("gr_{name}"), "claw": name, "connection": "slack",
            "actions": ["messages.send"], "resources": ["channel:C1"], "granted_by": "uid-0" });
        serde_json::from_value(grant).unwrap()
    };
    GatewayState {
        revision: 1,
        node: clawstaff_types::NodeName::local(),
        connections: vec![serde_json::from_value(connection).unwrap()],
        claws: CLAWS.iter().map(claw).collect(),
        grants: CLAWS.iter().map(grant).collect(),
        guardrails: Vec::new(),
        messages: Vec::new(),
        approvals: Vec::new(),
        sinks: Vec::new(),
    }
}
