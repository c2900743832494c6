//! Sinks against receivers that are not ours: rsyslog, OpenTelemetry's decoder, AWS' signer, and the script in the
//! documentation that checks a webhook's signature.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::expect_used,
    reason = "a failed step is a failed test"
)]

#[path = "ingress/support.rs"]
mod support;

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    net::TcpListener as StdListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use clawstaff_api::nodes::SinkStatus;
use clawstaff_audit::{Draft, Phase, Stream};
use clawstaff_gateway::sinks::{self, Places};
use clawstaff_types::{Actor, Digest, Event, EventKind, Secret, Sink, SinkKind, spec::CredentialRef};
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use support::{World, state};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_mins(1);
const HOSTILE: [&str; 4] = [
    "plain",
    "a\nb <14>1 forged\r\n{\"x\":1}",
    "u\u{2028}\u{0}|=\\\"]",
    "=1+1",
];

/// A gateway whose sinks run.
struct Running {
    world: World,
    revision: u64,
    stop: CancellationToken,
    sinks: Option<JoinHandle<()>>,
}

impl Running {
    fn new() -> Self {
        let mut running = Self {
            world: World::new(),
            revision: 0,
            stop: CancellationToken::new(),
            sinks: None,
        };
        running.start();
        running
    }

    fn places(&self) -> Places {
        let at = |name: &str| self.world.dir.path().join(name);
        Places {
            cursors: at("sinks"),
            exports: at("exports"),
            socket: at("nodes.sock"),
            token: at("node.token"),
        }
    }

    fn start(&mut self) {
        self.stop = CancellationToken::new();
        let gateway = Arc::clone(&self.world.gateway);
        self.sinks = Some(tokio::spawn(sinks::run(
            gateway,
            self.places(),
            self.stop.clone(),
        )));
    }

    async fn halt(&mut self) {
        self.stop.cancel();
        self.sinks.take().unwrap().await.unwrap();
    }

    async fn want(&mut self, sinks: &[Sink]) {
        self.revision += 1;
        let mut wanted = state(self.revision, Vec::new(), Vec::new());
        wanted.sinks = sinks.to_vec();
        self.world.gateway.adopt(wanted).await.unwrap();
    }

    fn secret(&self, name: &str, value: &str) {
        let name = name.parse().unwrap();
        self.world
            .gateway
            .vault
            .set(&name, Secret::new(value.to_owned()))
            .unwrap();
    }

    async fn append(&self, reason: &str) -> u64 {
        let mut event = Event::new(EventKind::ToolCall, Actor::System("test".to_owned()));
        event.reason = Some(reason.to_owned());
        let draft = Draft {
            stream: Stream::System("test".to_owned()),
            phase: Phase::Fact,
            call: Digest::of(reason.as_bytes()),
            event,
        };
        self.world.gateway.log.append(draft).await.unwrap().index()
    }

    /// What the gateway would report of its own log's part of the only sink.
    fn status(&self) -> Option<SinkStatus> {
        self.world.gateway.sinks.all().into_iter().next()
    }

    async fn caught_up(&self) {
        eventually("the sink has caught up", || {
            let size = self.world.gateway.log.size();
            self.status().is_some_and(|status| {
                status
                    .logs
                    .iter()
                    .any(|log| log.log == "gateway" && log.next == size)
            })
        })
        .await;
    }
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"));
}

fn sink(kind: SinkKind, address: &str, format: Option<&str>, credential: Option<&str>) -> Sink {
    Sink {
        name: "siem".parse().unwrap(),
        kind,
        address: address.to_owned(),
        format: format.map(str::to_owned),
        ca: None,
        credential: credential.map(|text| CredentialRef::try_from(text.to_owned()).unwrap()),
    }
}

/// The Python with the packages that `scripts/setup.sh` installs.
fn python() -> PathBuf {
    let usual = || {
        PathBuf::from(std::env::var("HOME").unwrap_or_default())
            .join(".cache/clawstaff/test-python/bin/python")
    };
    let python = std::env::var("CLAWSTAFF_TEST_PYTHON").map_or_else(|_| usual(), PathBuf::from);
    assert!(
        python.exists(),
        "{} is not there: run scripts/setup.sh",
        python.display()
    );
    python
}

fn run_python(script: &Path, arguments: &[&str], input: &[u8]) -> String {
    let mut child = Command::new(python())
        .arg(script)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/sinks")
        .join(name)
}

// --- receivers over HTTP

/// A request as it arrived.
#[derive(Debug, Clone)]
struct Arrived {
    method: String,
    path: String,
    headers: http::HeaderMap,
    body: Vec<u8>,
}

/// Takes requests, and refuses as many of the first ones as it is told.
struct Receiver {
    port: u16,
    arrived: Arc<Mutex<Vec<Arrived>>>,
    refuse: Arc<Mutex<usize>>,
}

impl Receiver {
    async fn start(refuse: usize) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self {
            port: listener.local_addr().unwrap().port(),
            arrived: Arc::default(),
            refuse: Arc::new(Mutex::new(refuse)),
        };
        let (arrived, refuse) = (Arc::clone(&receiver.arrived), Arc::clone(&receiver.refuse));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (arrived, refuse) = (Arc::clone(&arrived), Arc::clone(&refuse));
                let service =
                    service_fn(move |request| take(request, Arc::clone(&arrived), Arc::clone(&refuse)));
                let serving = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(serving);
            }
        });
        receiver
    }

    fn taken(&self) -> Vec<Arrived> {
        self.arrived.lock().unwrap().clone()
    }
}

async fn take(
    request: Request<Incoming>,
    arrived: Arc<Mutex<Vec<Arrived>>>,
    refuse: Arc<Mutex<usize>>,
) -> Result<Response<Full<bytes::Bytes>>, std::convert::Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    let mut left = refuse.lock().unwrap();
    if *left > 0 {
        *left -= 1;
        let mut answer = Response::new(Full::new("busy\nforged".into()));
        *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        return Ok(answer);
    }
    arrived.lock().unwrap().push(Arrived {
        method: head.method.to_string(),
        path: head.uri.to_string(),
        headers: head.headers,
        body,
    });
    Ok(Response::new(Full::default()))
}

fn lines(body: &[u8]) -> Vec<Value> {
    std::str::from_utf8(body)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn a_webhook_gets_every_record_signed_and_in_order_although_it_refuses_at_first() {
    let receiver = Receiver::start(2).await;
    let mut running = Running::new();
    running.secret("sink-hook", "hook-secret");
    for text in HOSTILE {
        running.append(text).await;
    }
    let address = format!("http://127.0.0.1:{}/audit", receiver.port);
    running
        .want(&[sink(
            SinkKind::Webhook,
            &address,
            Some("jsonl"),
            Some("vault:sink-hook"),
        )])
        .await;
    eventually("the refusal is shown", || {
        running
            .status()
            .and_then(|status| status.error)
            .is_some_and(|error| error.contains("503"))
    })
    .await;
    running.caught_up().await;
    for number in 0..150 {
        running.append(&format!("number {number}")).await;
    }
    running.caught_up().await;

    let taken = receiver.taken();
    let records: Vec<Value> = taken.iter().flat_map(|request| lines(&request.body)).collect();
    let indexes: Vec<u64> = records
        .iter()
        .map(|record| record["index"].as_u64().unwrap())
        .collect();
    assert_eq!(indexes, (0..running.world.gateway.log.size()).collect::<Vec<_>>());
    for (record, text) in records.iter().zip(HOSTILE) {
        assert_eq!(record["reason"], text);
    }
    // That the sink came into force, and that it gets a secret, is on record: once.
    let used = records
        .iter()
        .filter(|record| record["facts"]["sink"] == "siem" && record["facts"]["log"] == "gateway");
    assert_eq!(used.count(), 1);

    let checker = documented_checker();
    for request in &taken {
        let header = |name: &str| request.headers[name].to_str().unwrap();
        let arguments = [
            "hook-secret",
            header("x-clawstaff-timestamp"),
            header("x-clawstaff-delivery"),
            header("x-clawstaff-signature"),
        ];
        assert_eq!(run_python(&checker.1, &arguments, &request.body).trim(), "good");
        let mut altered = request.body.clone();
        altered[10] ^= 1;
        assert_eq!(run_python(&checker.1, &arguments, &altered).trim(), "bad");
    }
    let old = ["hook-secret", "1000000000", "d", "v1=00"];
    assert_eq!(run_python(&checker.1, &old, b"x").trim(), "bad");
    running.halt().await;
}

/// The script in `docs/audit-exports.md`.
fn documented_checker() -> (tempfile::TempDir, PathBuf) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/audit-exports.md");
    let page = fs::read_to_string(page).unwrap();
    let code = page
        .split("```python\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("check.py");
    fs::write(&path, code).unwrap();
    (dir, path)
}

#[tokio::test]
async fn a_collector_can_decode_what_an_otlp_sink_sends() {
    let receiver = Receiver::start(0).await;
    let mut running = Running::new();
    running.secret("sink-otel", "otel-token");
    for text in HOSTILE {
        running.append(text).await;
    }
    let address = format!("http://127.0.0.1:{}/v1/logs", receiver.port);
    running
        .want(&[sink(SinkKind::Otlp, &address, None, Some("vault:sink-otel"))])
        .await;
    running.caught_up().await;
    let mut records = Vec::new();
    for request in receiver.taken() {
        assert_eq!(request.headers["content-type"], "application/x-protobuf");
        assert_eq!(request.headers["authorization"], "Bearer otel-token");
        assert_eq!(
            (request.method.as_str(), request.path.as_str()),
            ("POST", "/v1/logs")
        );
        records.extend(lines(
            run_python(&script("otlp.py"), &[], &request.body).as_bytes(),
        ));
    }
    for (index, text) in HOSTILE.iter().enumerate() {
        assert_eq!(records[index]["uid"], format!("test:{index}"));
        assert_eq!(records[index]["kind"], "tool.call");
        assert_eq!(records[index]["event_name"], "clawstaff.tool.call");
        assert_eq!(records[index]["severity"], 9);
        assert_eq!(records[index]["reason"], *text);
        let time = running.world.entries()[index].time.as_nanosecond();
        assert_eq!(records[index]["nanoseconds"].as_u64().map(i128::from), Some(time));
    }
    running.halt().await;
}

#[tokio::test]
async fn an_s3_service_would_agree_with_the_signature_of_every_object() {
    let receiver = Receiver::start(1).await;
    let mut running = Running::new();
    running.secret("sink-s3", "AKIDEXAMPLE:secret/Example+Key");
    for text in HOSTILE {
        running.append(text).await;
    }
    let service = format!("http://127.0.0.1:{}", receiver.port);
    let address = format!("{service}/bucket/prod/?region=eu-west-1");
    running
        .want(&[sink(SinkKind::S3, &address, Some("csv"), Some("vault:sink-s3"))])
        .await;
    running.caught_up().await;
    let taken = receiver.taken();
    assert!(
        taken[0]
            .path
            .starts_with("/bucket/prod/gateway/00000000000000000000-"),
        "{}",
        taken[0].path
    );
    assert!(String::from_utf8_lossy(&taken[0].body).starts_with("\"id\",\"log\",\"index\""));
    for request in taken {
        assert_eq!(request.method, "PUT");
        let header = |name: &str| request.headers[name].to_str().unwrap();
        let asked = json!({
            "method": "PUT", "url": format!("{service}{}", request.path), "date": header("x-amz-date"),
            "body": String::from_utf8(request.body.clone()).unwrap(),
            "id": "AKIDEXAMPLE", "secret": "secret/Example+Key", "region": "eu-west-1",
        });
        let theirs = run_python(&script("sigv4.py"), &[], asked.to_string().as_bytes());
        let parts = |text: &str| {
            text.replace(' ', "")
                .trim()
                .split(',')
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(parts(header("authorization")), parts(&theirs));
    }
    running.halt().await;
}

#[tokio::test]
async fn a_file_sink_goes_on_where_it_was_after_a_restart() {
    let mut running = Running::new();
    running.append("first").await;
    let files = [sink(SinkKind::File, "", None, None)];
    running.want(&files).await;
    running.caught_up().await;
    running.halt().await;
    running.append("second").await;
    running.start();
    running.caught_up().await;
    let path = running
        .world
        .dir
        .path()
        .join("exports/siem")
        .join(format!("gateway-{:020}.jsonl", 0));
    let reasons: Vec<Value> = lines(&fs::read(&path).unwrap())
        .iter()
        .map(|record| record["reason"].clone())
        .collect();
    assert_eq!(reasons, [json!("first"), json!("second")]);
    // A sink that is taken away is forgotten; one of the same name begins anew.
    running.want(&[]).await;
    eventually("the cursor goes", || {
        !running.places().cursors.join("siem.gateway").exists()
    })
    .await;
    assert_eq!(running.world.gateway.sinks.all(), []);
    running.halt().await;
}

#[tokio::test]
async fn what_was_pruned_before_it_was_sent_is_on_record_as_a_gap() {
    let mut running = Running::new();
    for number in 0..12 {
        running.append(&format!("{number}{}", "x".repeat(50_000))).await;
    }
    let log = running.world.gateway.log.clone();
    eventually("everything is published", || log.published() == log.size()).await;
    tokio::task::spawn_blocking(move || log.prune(9))
        .await
        .unwrap()
        .unwrap();
    let first = running.world.gateway.log.first();
    assert!(first > 0, "nothing was pruned");
    running.want(&[sink(SinkKind::File, "", None, None)]).await;
    running.caught_up().await;
    let path = running
        .world
        .dir
        .path()
        .join("exports/siem")
        .join(format!("gateway-{first:020}.jsonl"));
    let records = lines(&fs::read(&path).unwrap());
    assert_eq!(records[0]["index"], first);
    let gap = records
        .iter()
        .find(|record| record["kind"] == "audit.gap")
        .unwrap();
    assert_eq!(
        (&gap["facts"]["from"], &gap["facts"]["to"]),
        (&json!("0"), &json!(first.to_string()))
    );
    running.halt().await;
}

#[tokio::test]
async fn a_sink_gets_no_secret_but_its_own() {
    let mut running = Running::new();
    running.secret("slack-bot", "xoxb-canary");
    let receiver = Receiver::start(0).await;
    let address = format!("http://127.0.0.1:{}/v1/logs", receiver.port);
    running
        .want(&[sink(SinkKind::Otlp, &address, None, Some("vault:slack-bot"))])
        .await;
    running.append("x").await;
    eventually("the refusal is shown", || {
        running
            .status()
            .and_then(|status| status.error)
            .is_some_and(|error| error.contains("sink-"))
    })
    .await;
    assert!(receiver.taken().is_empty());
    running.halt().await;
}

// --- rsyslog

/// A real rsyslog that takes TLS connections with client certificates of its own authority only.
struct Rsyslog {
    dir: tempfile::TempDir,
    port: u16,
    ca: String,
    identity: String,
    process: Option<Child>,
}

impl Rsyslog {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        ca.distinguished_name.push(rcgen::DnType::CommonName, "test CA");
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let issuer = rcgen::Issuer::from_params(&ca, &ca_key);
        let issued = |name: &str| {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            (
                params.signed_by(&key, &issuer).unwrap().pem(),
                key.serialize_pem(),
            )
        };
        let (certificate, key) = issued("localhost");
        let (client, client_key) = issued("gateway");
        for (name, text) in [("ca.pem", &ca_pem), ("cert.pem", &certificate), ("key.pem", &key)] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let port = StdListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut rsyslog = Self {
            dir,
            port,
            ca: ca_pem,
            identity: format!("{client}{client_key}"),
            process: None,
        };
        rsyslog.start();
        rsyslog
    }

    fn at(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn start(&mut self) {
        let config = format!(
            r#"
global(workDirectory="{dir}" maxMessageSize="64k"
       defaultNetstreamDriver="gtls" defaultNetstreamDriverCAFile="{ca}"
       defaultNetstreamDriverCertFile="{cert}" defaultNetstreamDriverKeyFile="{key}"
       parser.escapeControlCharactersOnReceive="off")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="x509/certvalid")
template(name="parsed" type="list" option.jsonf="on") {{
    property(outname="pri" name="pri" format="jsonf")
    property(outname="app" name="app-name" format="jsonf")
    property(outname="procid" name="procid" format="jsonf")
    property(outname="msgid" name="msgid" format="jsonf")
    property(outname="sd" name="structured-data" format="jsonf")
    property(outname="msg" name="msg" format="jsonf")
}}
input(type="imtcp" port="{port}" address="127.0.0.1" ruleset="out")
ruleset(name="out") {{ action(type="omfile" file="{out}" template="parsed" flushOnTXEnd="on" asyncWriting="off") }}
"#,
            dir = self.at(""),
            ca = self.at("ca.pem"),
            cert = self.at("cert.pem"),
            key = self.at("key.pem"),
            port = self.port,
            out = self.at("out.jsonl"),
        );
        fs::write(self.dir.path().join("rsyslog.conf"), config).unwrap();
        let child = Command::new("rsyslogd")
            .args(["-n", "-f", &self.at("rsyslog.conf"), "-i", &self.at("pid")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("rsyslog is needed: apt-get install rsyslog rsyslog-gnutls");
        self.process = Some(child);
    }

    /// SIGTERM, so that it writes what it has; then gone.
    fn stop(&mut self) {
        let mut child = self.process.take().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        child.wait().unwrap();
    }

    fn records(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.dir.path().join("out.jsonl")).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    fn indexes(&self) -> BTreeSet<u64> {
        self.records().iter().map(index).collect()
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        if let Some(mut child) = self.process.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// The OCSF event in a message that rsyslog has parsed.
fn event(record: &Value) -> Value {
    let message = record["msg"].as_str().unwrap();
    serde_json::from_str(message.trim_start().trim_start_matches('\u{feff}')).unwrap()
}

fn index(record: &Value) -> u64 {
    event(record)["metadata"]["sequence"].as_u64().unwrap()
}

#[tokio::test]
async fn rsyslog_takes_every_message_over_tls_and_none_is_lost_when_it_restarts() {
    let mut rsyslog = Rsyslog::new();
    let mut running = Running::new();
    running.secret("sink-siem", &rsyslog.identity);
    for text in HOSTILE {
        running.append(text).await;
    }
    let mut syslog = sink(
        SinkKind::Syslog,
        &format!("localhost:{}", rsyslog.port),
        Some("ocsf-1.5.0"),
        Some("vault:sink-siem"),
    );
    syslog.ca = Some(rsyslog.ca.clone());
    running.want(&[syslog]).await;
    let all = |running: &Running| (0..running.world.gateway.log.size()).collect::<BTreeSet<u64>>();
    eventually("rsyslog has everything", || rsyslog.indexes() == all(&running)).await;
    let records = rsyslog.records();
    for (position, text) in HOSTILE.iter().enumerate() {
        let event = event(&records[position]);
        assert_eq!(event["status_detail"], *text);
        assert_eq!(event["metadata"]["version"], "1.5.0");
        assert_eq!(records[position]["app"], "clawstaff");
        assert_eq!(records[position]["procid"], "gateway");
        assert_eq!(records[position]["msgid"], "tool.call");
        let data = records[position]["sd"].as_str().unwrap();
        assert!(
            data.contains(&format!("origin=\"test\" index=\"{position}\"")),
            "{data}"
        );
    }

    rsyslog.stop();
    for number in 0..30 {
        running.append(&format!("while it is away {number}")).await;
    }
    eventually("the lag is shown", || {
        running.status().is_some_and(|status| status.error.is_some())
    })
    .await;
    rsyslog.start();
    eventually("rsyslog has everything again", || {
        rsyslog.indexes() == all(&running)
    })
    .await;
    let order: Vec<u64> = rsyslog.records().iter().map(index).collect();
    let mut seen = BTreeSet::new();
    let first_times: Vec<u64> = order.into_iter().filter(|index| seen.insert(*index)).collect();
    assert!(first_times.is_sorted(), "{first_times:?}");
    running.halt().await;
}

#[tokio::test]
async fn rsyslog_is_not_believed_without_a_certificate_of_the_authority_that_was_named() {
    let rsyslog = Rsyslog::new();
    let other = Rsyslog::new();
    let mut running = Running::new();
    running.secret("sink-siem", &rsyslog.identity);
    running.append("x").await;
    let mut syslog = sink(
        SinkKind::Syslog,
        &format!("localhost:{}", rsyslog.port),
        None,
        Some("vault:sink-siem"),
    );
    syslog.ca = Some(other.ca.clone());
    running.want(&[syslog]).await;
    eventually("the refusal is shown", || {
        running
            .status()
            .and_then(|status| status.error)
            .is_some_and(|error| error.contains("ertificate"))
    })
    .await;
    assert!(rsyslog.records().is_empty());
    running.halt().await;
}
