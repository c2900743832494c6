//! The inbox under `SIGKILL`: a child process works on it and says what is durable; it is killed at arbitrary
//! points; what it had said must be true, and the inbox must open again each time.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use clawstaff_cage_contract::{Ack, AckResult};
use clawstaff_gateway::inbox::{Inbox, InboxKey, NewItem, Put};
use clawstaff_types::{ClawName, EventId, Secret};
use serde_json::json;

const DIR: &str = "CLAWSTAFF_TEST_INBOX";
const ROUND: &str = "CLAWSTAFF_TEST_ROUND";

fn open(dir: &Path) -> Inbox {
    Inbox::open(dir, InboxKey::new(&Secret::new(vec![7; 32])).unwrap()).unwrap()
}

fn claw() -> ClawName {
    "triage".parse().unwrap()
}

fn item(id: &str) -> NewItem {
    NewItem {
        id: id.parse().unwrap(),
        source: "message".into(),
        event: json!({ "text": "x".repeat(3000) }),
        on_behalf_of: None,
    }
}

fn done() -> Ack {
    Ack {
        result: AckResult::Done,
        note: String::new(),
    }
}

/// The child: puts three, takes and acknowledges one, for ever, saying so on a line each. Alone it does nothing.
#[tokio::test]
async fn child_works_until_it_is_killed() {
    let (Ok(dir), Ok(round)) = (std::env::var(DIR), std::env::var(ROUND)) else {
        return;
    };
    let inbox = open(Path::new(&dir));
    inbox.release(&claw()).await.unwrap();
    let mut out = std::io::stdout();
    for n in 0_u32.. {
        for part in 0..3 {
            let id = format!("r{round}-{n}-{part}");
            assert_eq!(inbox.put(&claw(), item(&id)).await.unwrap(), Put::Stored);
            writeln!(out, "\nput {id}").unwrap();
        }
        let leased = inbox.next(&claw(), Duration::ZERO).await.unwrap().unwrap();
        writeln!(out, "\ntaking {}", leased.id).unwrap();
        inbox.ack(&claw(), &leased.id, &done()).await.unwrap();
        writeln!(out, "\nacked {}", leased.id).unwrap();
    }
}

/// What the children have said so far.
#[derive(Default)]
struct Said {
    put: BTreeSet<String>,
    acked: BTreeSet<String>,
    /// Being acknowledged when the child died: it may or may not be.
    open: BTreeSet<String>,
}

impl Said {
    fn line(&mut self, line: &str) {
        match line.split_once(' ') {
            Some(("put", id)) => drop(self.put.insert(id.to_owned())),
            Some(("taking", id)) => drop(self.open.insert(id.to_owned())),
            Some(("acked", id)) => {
                self.open.remove(id);
                self.acked.insert(id.to_owned());
            }
            _ => {}
        }
    }
}

/// Runs the child until it has said `lines` things, and kills it.
fn work_and_kill(dir: &Path, round: usize, lines: usize, said: &mut Said) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_works_until_it_is_killed", "--nocapture"])
        .env(DIR, dir)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let mut heard = 0;
    for line in output.by_ref() {
        heard += usize::from(line.contains(' ') && !line.contains("running"));
        said.line(&line);
        if heard >= lines {
            break;
        }
    }
    child.kill().unwrap();
    // What it said before the signal came through.
    output.for_each(|line| said.line(&line));
    child.wait().unwrap();
}

fn ids_in(dir: &Path, folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(dir.join("triage").join(folder)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .map(|name| name.splitn(3, '.').last().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn nothing_stored_is_lost_and_nothing_done_comes_back_whenever_the_process_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut said = Said::default();
    for round in 0..12 {
        work_and_kill(dir.path(), round, 3 + round * 7, &mut said);
        let inbox = open(dir.path());
        let kept: BTreeSet<_> = ["new", "leased", "failed"]
            .iter()
            .flat_map(|f| ids_in(dir.path(), f))
            .collect();
        for id in said
            .put
            .difference(&said.acked)
            .filter(|id| !said.open.contains(*id))
        {
            assert!(kept.contains(id), "round {round}: {id} was stored and is lost");
        }
        for id in &said.acked {
            assert!(
                !kept.contains(id),
                "round {round}: {id} was acknowledged and is back"
            );
        }
        for id in &said.put {
            let id: EventId = id.parse().unwrap();
            let again = inbox.put(&claw(), item(id.as_str())).await.unwrap();
            assert_eq!(again, Put::Duplicate, "round {round}: {id} was forgotten");
        }
        assert_eq!(ids_in(dir.path(), "tmp").len(), 0);
    }
    assert!(
        said.put.len() > 100 && said.acked.len() > 20,
        "{} {}",
        said.put.len(),
        said.acked.len()
    );
}

#[tokio::test]
async fn a_torn_note_of_a_done_item_is_cut_off_and_the_item_comes_again() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(dir.path());
    for id in ["a", "b"] {
        inbox.put(&claw(), item(id)).await.unwrap();
    }
    inbox.next(&claw(), Duration::ZERO).await.unwrap().unwrap();
    inbox.ack(&claw(), &"a".parse().unwrap(), &done()).await.unwrap();
    drop(inbox);
    let notes = dir.path().join("triage/done");
    let day = fs::read_dir(&notes).unwrap().next().unwrap().unwrap().path();
    let mut file = fs::OpenOptions::new().append(true).open(&day).unwrap();
    file.write_all(b"b-and-the-power-fai").unwrap();
    let inbox = open(dir.path());
    let item_b = inbox.next(&claw(), Duration::ZERO).await.unwrap().unwrap();
    inbox.ack(&claw(), &item_b.id, &done()).await.unwrap();
    drop(inbox);
    assert_eq!(fs::read_to_string(&day).unwrap(), "a\nb\n");
    let inbox = open(dir.path());
    assert_eq!(inbox.put(&claw(), item("b")).await.unwrap(), Put::Duplicate);
}
