//! No record, no change: the own log's disk fails at chosen moments, and the state is looked at afterwards.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use clawstaff_api::people::{AuditPage, AuditRecord};
use clawstaff_audit::{
    Environment,
    disk::{Disk, DiskFile, Guard, RealDisk},
};
use clawstaff_types::{Guardrail, Outcome};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{Config, RunError, run::run_in};

/// The real disk, on which only so many more writes to the journal succeed.
#[derive(Debug, Clone)]
struct Failing {
    writes_left: Arc<AtomicI64>,
    hangs: Arc<AtomicBool>,
}

#[derive(Debug)]
struct FailingFile {
    file: Box<dyn DiskFile>,
    writes_left: Option<Arc<AtomicI64>>,
    hangs: Arc<AtomicBool>,
}

impl Failing {
    fn wrap(&self, path: &Path, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        let journal = path.extension().is_some_and(|extension| extension == "seg");
        Box::new(FailingFile {
            file,
            writes_left: journal.then(|| Arc::clone(&self.writes_left)),
            hangs: Arc::clone(&self.hangs),
        })
    }
}

impl Disk for Failing {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(path)
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.wrap(path, RealDisk.open(path)?))
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.wrap(path, RealDisk.create(path)?))
    }
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        RealDisk.read(path, limit)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_dir_all(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_dir(path)
    }
    fn sync_below(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_below(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Guard>>> {
        RealDisk.lock(path)
    }
}

impl DiskFile for FailingFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        match &self.writes_left {
            Some(left) if left.fetch_sub(1, Ordering::SeqCst) <= 0 => {
                Err(io::Error::other("the disk is broken"))
            }
            Some(_) | None => self.file.write_at(bytes, offset),
        }
    }
    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.file.allocate(bytes)
    }
    fn sync_data(&self) -> io::Result<()> {
        while self.writes_left.is_some() && self.hangs.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.file.sync_data()
    }
}

struct Bench {
    dir: tempfile::TempDir,
    disk: Failing,
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), RunError>>,
}

impl Bench {
    async fn start(dir: tempfile::TempDir) -> Self {
        let disk = Failing {
            writes_left: Arc::new(AtomicI64::new(i64::MAX)),
            hangs: Arc::default(),
        };
        let config = Config {
            data: dir.path().to_owned(),
            listen: None,
            nodes: None,
            login_uids: Vec::new(),
            inspectable: false,
        };
        let environment = Environment {
            disk: Arc::new(disk.clone()),
            ..Environment::default()
        };
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(run_in(config, environment, shutdown.clone()));
        let socket = dir.path().join("run/api.sock");
        while UnixStream::connect(&socket).await.is_err() {
            assert!(
                !running.is_finished(),
                "the control plane ended: {:?}",
                running.await
            );
            tokio::task::yield_now().await;
        }
        let bench = Self {
            dir,
            disk,
            shutdown,
            running,
        };
        // The login is on record before the disk fails.
        assert_eq!(bench.send("GET", "/v1/whoami", "").await.0, 200);
        bench
    }

    async fn restart(self) -> Self {
        self.shutdown.cancel();
        self.running.await.unwrap().unwrap();
        Self::start(self.dir).await
    }

    /// Status and body.
    async fn send(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = UnixStream::connect(self.dir.path().join("run/api.sock"))
            .await
            .unwrap();
        let text = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    async fn add_guardrail(&self, name: &str) -> (u16, String) {
        let body = format!(r#"{{"name":"{name}","actions":["slack:*"],"resources":["*"]}}"#);
        self.send("POST", "/v1/guardrails", &body).await
    }

    async fn guardrails(&self) -> Vec<String> {
        let (_, body) = self.send("GET", "/v1/guardrails", "").await;
        let all: Vec<Guardrail> = serde_json::from_str(&body).unwrap();
        all.into_iter().map(|one| one.name.to_string()).collect()
    }

    async fn records(&self) -> Vec<AuditRecord> {
        let (_, body) = self.send("GET", "/v1/audit?kind=config.changed", "").await;
        serde_json::from_str::<AuditPage>(&body).unwrap().records
    }
}

#[tokio::test]
async fn when_the_log_cannot_be_written_nothing_changes_and_the_answer_is_503() {
    let bench = Bench::start(tempfile::tempdir().unwrap()).await;
    assert_eq!(bench.add_guardrail("before").await.0, 200);
    bench.disk.writes_left.store(0, Ordering::SeqCst);
    let (status, body) = bench.add_guardrail("during").await;
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("nothing was changed"), "{body}");
    assert_eq!(bench.guardrails().await, ["before"]);
    let bench = bench.restart().await;
    assert_eq!(bench.guardrails().await, ["before"]);
    assert_eq!(bench.add_guardrail("after").await.0, 200);
    let records = bench.records().await;
    let unsettled = records
        .iter()
        .filter(|record| record.event.outcome.is_none())
        .count();
    assert_eq!(unsettled, 0, "{records:?}");
}

#[tokio::test]
async fn an_outcome_that_cannot_be_recorded_is_said_and_shows_as_unknown_after_the_next_start() {
    let bench = Bench::start(tempfile::tempdir().unwrap()).await;
    bench.disk.writes_left.store(1, Ordering::SeqCst);
    let (status, body) = bench.add_guardrail("made").await;
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("its outcome could not be recorded"), "{body}");
    let bench = bench.restart().await;
    assert_eq!(bench.guardrails().await, ["made"]);
    let records = bench.records().await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].event.outcome, Some(Outcome::Unknown));
    let (_, gaps) = bench.send("GET", "/v1/audit?kind=audit.gap", "").await;
    let gaps = serde_json::from_str::<AuditPage>(&gaps).unwrap().records;
    let unknown = gaps
        .iter()
        .filter_map(|gap| gap.event.facts.get("outcomes_unknown"));
    assert_eq!(unknown.collect::<Vec<_>>(), ["1"], "{gaps:?}");
}

#[tokio::test]
async fn while_the_disk_hangs_changes_are_refused_within_a_bound_and_reading_goes_on() {
    let bench = Bench::start(tempfile::tempdir().unwrap()).await;
    bench.disk.hangs.store(true, Ordering::SeqCst);
    let refused = tokio::time::timeout(Duration::from_secs(20), bench.add_guardrail("during")).await;
    let (status, body) = refused.unwrap();
    assert_eq!(status, 503, "{body}");
    assert!(
        body.contains("within 5 s") && body.contains("nothing was changed"),
        "{body}"
    );
    assert!(bench.guardrails().await.is_empty(), "reading goes on");
    bench.disk.hangs.store(false, Ordering::SeqCst);
    while bench.add_guardrail("after").await.0 != 200 {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.guardrails().await, ["after"]);
    let records = bench.records().await;
    let during = records
        .iter()
        .find(|record| record.event.guardrails[0].as_str() == "during");
    assert_eq!(
        during.unwrap().event.outcome,
        Some(Outcome::Refused),
        "{records:?}"
    );
}

#[tokio::test]
async fn once_a_broken_disk_can_be_written_the_process_starts_anew_and_tells_what_was_lost() {
    let bench = Bench::start(tempfile::tempdir().unwrap()).await;
    assert_eq!(bench.add_guardrail("before").await.0, 200);
    bench.disk.writes_left.store(0, Ordering::SeqCst);
    assert_eq!(bench.add_guardrail("during").await.0, 503);
    assert_eq!(bench.send("POST", "/logout", "").await.0, 503);
    assert_eq!(bench.guardrails().await, ["before"], "reading goes on");
    bench.disk.writes_left.store(i64::MAX, Ordering::SeqCst);
    let ended = tokio::time::timeout(Duration::from_mins(1), bench.running).await;
    let ended = ended.unwrap().unwrap();
    assert!(matches!(ended, Err(RunError::Again(_))), "{ended:?}");
    let bench = Bench::start(bench.dir).await;
    assert_eq!(bench.add_guardrail("after").await.0, 200);
    let (_, gaps) = bench.send("GET", "/v1/audit?kind=audit.gap", "").await;
    let gaps = serde_json::from_str::<AuditPage>(&gaps).unwrap().records;
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0].event.facts["lost"], "1");
}

#[tokio::test]
async fn without_the_logs_key_nothing_starts_and_no_other_key_is_made() {
    let bench = Bench::start(tempfile::tempdir().unwrap()).await;
    assert_eq!(bench.add_guardrail("before").await.0, 200);
    bench.shutdown.cancel();
    bench.running.await.unwrap().unwrap();
    let key = bench.dir.path().join("control/log.key");
    std::fs::remove_file(&key).unwrap();
    let config = Config {
        data: bench.dir.path().to_owned(),
        listen: None,
        nodes: None,
        login_uids: Vec::new(),
        inspectable: false,
    };
    let error = run_in(config, Environment::default(), CancellationToken::new())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("put the key back"), "{error}");
    assert!(!key.exists());
}
