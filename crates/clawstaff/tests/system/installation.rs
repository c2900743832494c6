//! A whole installation for one test: `clawstaff up` in a directory of its own, and stand-ins in this process.
//!
//! The stand-ins listen on loopback ports of their own; everything is ended when the value is dropped.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use clawstaff_test_support::{brain, github::GitHub, model::Model, notion::Notion, slack};
use serde_json::Value;

/// The channel, database and repository of `examples/demo.toml`.
pub(crate) const CHANNEL: &str = "C0SUPPORT";
pub(crate) const DATABASE: &str = "2f26ee68df304251aad4ddddc456ba3b";
pub(crate) const SPEC: &str = include_str!("../../../../examples/demo.toml");
pub(crate) const SECRETS: [(&str, &str); 5] = [
    ("slack-bot", "xoxb-system-test"),
    ("slack-signing", "signing-system-test"),
    ("notion", "ntn_system-test"),
    ("github", "ghp_system-test"),
    ("anthropic", "sk-ant-system-test"),
];

/// A running installation with its stand-ins.
#[derive(Debug)]
pub(crate) struct Installation {
    /// Its directory.
    pub(crate) data: PathBuf,
    /// `http://ADDRESS` of the gateway's ingress.
    pub(crate) ingress: String,
    /// `http://ADDRESS` of the dashboard.
    pub(crate) dashboard: String,
    standins: Standins,
    up: Child,
    _directory: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Debug)]
struct Standins {
    slack: SocketAddr,
    notion: SocketAddr,
    github: SocketAddr,
    anthropic: SocketAddr,
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Exit code.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

impl Installation {
    /// Starts everything and puts the secrets into the vault; no Claw yet.
    pub(crate) fn start() -> Self {
        let installation = Self::start_bare(|_| ());
        installation.set_secrets();
        installation
    }

    /// Starts everything; no secret, no Claw yet. `prepare` sees the directory first.
    pub(crate) fn start_bare(prepare: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("clawstaff-system-")
            .tempdir()
            .unwrap();
        // As root the parts run as users of their own, who must be able to pass through.
        let passable = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        std::fs::set_permissions(directory.path(), passable).unwrap();
        let data = directory.path().join("data");
        std::fs::create_dir_all(&data).unwrap();
        prepare(&data);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let standins = runtime.block_on(standins());
        let (up, ready) = start_up(&data);
        let word = |label: &str| {
            let mut words = ready.split_whitespace().skip_while(|word| *word != label);
            words.nth(1).unwrap_or_default().to_owned()
        };
        Self {
            ingress: word("ingress"),
            dashboard: word("dashboard"),
            data,
            standins,
            up,
            _directory: directory,
            _runtime: runtime,
        }
    }

    /// Puts the secrets into the vault.
    pub(crate) fn set_secrets(&self) {
        for (name, value) in SECRETS {
            self.must(&["secret", "set", name, "--host", "127.0.0.1"], Some(value));
        }
    }

    /// Runs the command line to its end.
    pub(crate) fn run(&self, args: &[&str], input: Option<&str>) -> Ran {
        let mut child = Command::new(env!("CARGO_BIN_EXE_clawstaff"))
            .args(args)
            .env("CLAWSTAFF_DATA", &self.data)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        if let Some(input) = input {
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        }
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran {
            code: output.status.code().unwrap_or(128),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    /// Runs a command that must succeed.
    pub(crate) fn must(&self, args: &[&str], input: Option<&str>) -> String {
        let ran = self.run(args, input);
        assert_eq!(ran.code, 0, "clawstaff {args:?}: {}", ran.err);
        ran.out
    }

    /// Runs a command with `-o json`.
    pub(crate) fn json(&self, args: &[&str]) -> Vec<Value> {
        let out = self.must(&[args, &["-o", "json"]].concat(), None);
        out.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Applies the example's spec file with the connections pointed at the stand-ins, and waits for the Claws.
    pub(crate) fn deploy(&self) {
        let path = self.data.with_file_name("spec.toml");
        std::fs::write(&path, self.spec()).unwrap();
        self.must(
            &["apply", "-f", path.to_str().unwrap(), "--wait", "--timeout", "60"],
            None,
        );
        self.until("the agents to be ready", || {
            self.json(&["claw", "list"])
                .iter()
                .filter(|claw| claw["ready"] == true)
                .count()
                == 3
        });
    }

    /// The example's spec file with the connections pointed at the stand-ins.
    pub(crate) fn spec(&self) -> String {
        let mut spec: toml::Table = SPEC.parse().unwrap();
        for connection in spec["connection"].as_array_mut().unwrap() {
            let base = match connection["name"].as_str().unwrap() {
                "slack" => format!("http://{}/api", self.standins.slack),
                "notion" => format!("http://{}", self.standins.notion),
                "github" => format!("http://{}", self.standins.github),
                _ => format!("http://{}", self.standins.anthropic),
            };
            connection
                .as_table_mut()
                .unwrap()
                .insert("base_url".to_owned(), base.into());
        }
        spec.to_string()
    }

    /// Delivers one support message through the Slack stand-in; answers the ingress's last status.
    pub(crate) fn deliver(&self, event_id: &str, ts: &str, text: &str) -> u64 {
        let message = serde_json::json!({"event_id": event_id, "user": "U0ANA", "ts": ts, "text": text});
        let body = serde_json::json!({"url": format!("{}/ingress/slack/slack", self.ingress), "channel": CHANNEL, "message": message});
        let answer = post(self.standins.slack, "/_standin/deliver", &body);
        answer["status"].as_u64().unwrap_or_default()
    }

    /// The pages that were really made in Notion.
    pub(crate) fn pages(&self) -> Vec<Value> {
        let made = |line: &&Value| line["call"] == "POST /v1/pages" && line["status"] == 200;
        get(self.standins.notion, "/_standin/journal")
            .as_array()
            .unwrap()
            .iter()
            .filter(made)
            .cloned()
            .collect()
    }

    /// Polls until it holds; fails the test after 60 s.
    pub(crate) fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_mins(1);
        while !holds() {
            assert!(
                Instant::now() < deadline,
                "waited in vain for {what}; {}",
                self.log_tail()
            );
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }

    fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.data.with_file_name("up.log")).unwrap_or_default();
        log.lines().rev().take(20).collect::<Vec<_>>().join("\n")
    }

    /// The process id of one of the three processes.
    pub(crate) fn pid(&self, part: &str) -> Option<i32> {
        let up = self.up.id();
        let children = std::fs::read_to_string(format!("/proc/{up}/task/{up}/children")).unwrap_or_default();
        children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .find(|pid: &i32| {
                let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                line.split(|byte| *byte == 0).nth(1) == Some(part.as_bytes())
            })
    }

    /// SIGKILL to one of the three processes; comes back once the supervisor has started it anew.
    pub(crate) fn kill(&self, part: &str) {
        let old = self.pid(part).unwrap();
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(old).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
        self.until(&format!("{part} to be started anew"), || {
            self.pid(part).is_some_and(|new| new != old)
        });
        self.until("the installation to answer", || {
            self.run(&["claw", "list"], None).code == 0
        });
    }
}

impl Installation {
    /// Ends it; its directory stays.
    pub(crate) fn end(&mut self) {
        if !matches!(self.up.try_wait(), Ok(None)) {
            return;
        }
        let pid = i32::try_from(self.up.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended by itself.
            let _gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        drop(self.up.wait());
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            eprintln!("the installation's own words:\n{}", self.log_tail());
        }
    }
}

async fn standins() -> Standins {
    let messages: Vec<(&str, axum::Router)> = vec![
        ("slack", slack::Slack::new(SECRETS[0].1, SECRETS[1].1).router()),
        (
            "notion",
            Notion::new(SECRETS[2].1, vec![DATABASE.to_owned()]).router(),
        ),
        ("github", GitHub::new(SECRETS[3].1, "acme/site").router()),
        ("anthropic", Model::new(SECRETS[4].1).router()),
    ];
    assert_eq!(brain::HIJACK_ATTEMPTS, 13);
    let mut addresses = Vec::new();
    for (_, router) in messages {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        addresses.push(listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
    }
    Standins {
        slack: addresses[0],
        notion: addresses[1],
        github: addresses[2],
        anthropic: addresses[3],
    }
}

fn start_up(data: &Path) -> (Child, String) {
    let log = std::fs::File::create(data.with_file_name("up.log")).unwrap();
    let mut up = Command::new(env!("CARGO_BIN_EXE_clawstaff"))
        .args([
            "up",
            "--listen",
            "127.0.0.1:0",
            "--ingress",
            "127.0.0.1:0",
            "--cage",
            "native",
            "--data",
        ])
        .arg(data)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    let (sender, receiver) = mpsc::channel();
    let lines = BufReader::new(up.stdout.take().unwrap()).lines();
    std::thread::spawn(move || {
        for line in lines
            .map_while(Result::ok)
            .filter(|line| line.starts_with("ready: "))
        {
            drop(sender.send(line));
        }
    });
    let ready = receiver
        .recv_timeout(Duration::from_mins(1))
        .expect("`clawstaff up` was not ready within 60 s");
    (up, ready)
}

/// A plain HTTP/1.0 exchange with a stand-in: enough for its control routes.
fn exchange(address: SocketAddr, request: &str) -> Value {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap()
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Value {
    exchange(
        address,
        &format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n"),
    )
}

pub(crate) fn post(address: SocketAddr, path: &str, body: &Value) -> Value {
    let body = body.to_string();
    exchange(
        address,
        &format!(
            "POST {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    )
}
