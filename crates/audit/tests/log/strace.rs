//! A real process whose system calls fail, or which is killed, at every one of them: what it had told anybody is
//! in the log afterwards.
//!
//! `examples/one_shot.rs` runs under strace, which makes the Nth call of one kind fail (`EIO`, `ENOSPC`) or kills
//! the process at it. strace counts by thread, so the calls are told apart by the files they touch: those of the
//! journal, and those that are derived from it. A short write cannot be made this way, because strace can only
//! skip a call and lie about its result; `faults.rs` makes those. In CI every call on the journal of a new log is tried
//! and a sample of the others; `CLAWSTAFF_AUDIT_FAULTS=all` tries each of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use clawstaff_audit::{Log, Phase, verify};

use crate::support::{append, draft, key, options, scratch};

const FAULTS: [&str; 3] = ["error=EIO", "error=ENOSPC", "signal=KILL"];
/// One in so many calls on derived files is tried in CI.
const SAMPLE: usize = 9;

fn one_shot() -> PathBuf {
    let deps = env::current_exe().unwrap();
    let path = deps.ancestors().nth(2).unwrap().join("examples/one_shot");
    assert!(
        path.exists(),
        "there is no {}: build it with `cargo build -p clawstaff-audit --example one_shot`",
        path.display()
    );
    path
}

/// Runs the writer under strace with these arguments.
fn traced(root: &Path, lap: &str, arguments: &[String]) -> Output {
    let trace = root.with_extension("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-y", "-s", "0", "-o"]).arg(&trace);
    command.args(arguments).arg(one_shot()).arg(root).arg(lap);
    command
        .output()
        .expect("strace is missing: `apt-get install strace` (scripts/setup.sh does it)")
}

/// The calls of one kind that the writer makes on some of its files.
#[derive(Debug)]
struct Calls {
    syscall: String,
    /// The most that one thread makes.
    count: usize,
}

/// Files whose calls are counted together.
struct Group {
    paths: BTreeSet<String>,
    calls: Vec<Calls>,
}

impl Group {
    fn filter(&self) -> Vec<String> {
        let paths = self.paths.iter();
        paths.flat_map(|path| ["-P".to_owned(), path.clone()]).collect()
    }
}

/// Runs the writer unharmed and sorts its calls: those on the journal, and the others.
fn survey(root: &Path, template: &Path) -> [Group; 2] {
    let trace = root.with_extension("trace");
    fresh(root, template);
    traced(root, "survey", &["-e".into(), "trace=%file,%desc".into()]);
    let text = fs::read_to_string(&trace).unwrap();
    let prefix = root.to_str().unwrap();
    let mut paths: BTreeSet<String> = BTreeSet::new();
    for quoted in text.split(['"', '<', '>']) {
        if quoted.starts_with(prefix) {
            paths.insert(quoted.to_owned());
        }
    }
    let (journal, derived) = paths.into_iter().partition(|path| path.contains("/journal"));
    [journal, derived].map(|paths: BTreeSet<String>| {
        let mut group = Group {
            paths,
            calls: Vec::new(),
        };
        fresh(root, template);
        let mut arguments = vec!["-e".to_owned(), "trace=%file,%desc".to_owned()];
        arguments.extend(group.filter());
        traced(root, "survey", &arguments);
        group.calls = count(&fs::read_to_string(&trace).unwrap());
        group
    })
}

/// Lines are `PID name(…`; what was interrupted comes a second time as `PID <... name resumed>`.
fn count(trace: &str) -> Vec<Calls> {
    let mut by_thread: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for line in trace.lines() {
        let Some((thread, call)) = line.split_once(' ') else {
            continue;
        };
        if let Some((name, _)) = call.trim_start().split_once('(')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        {
            *by_thread.entry((name, thread)).or_default() += 1;
        }
    }
    let mut calls: BTreeMap<&str, usize> = BTreeMap::new();
    for ((name, _), count) in by_thread {
        let most = calls.entry(name).or_default();
        *most = count.max(*most);
    }
    let calls = calls.into_iter().map(|(name, count)| Calls {
        syscall: name.to_owned(),
        count,
    });
    calls.collect()
}

/// Puts the writer's directory back to how it was before: nothing, or an earlier log.
fn fresh(root: &Path, template: &Path) {
    if root.exists() {
        fs::remove_dir_all(root).unwrap();
    }
    let copied = Command::new("cp").arg("-r").arg(template).arg(root).status();
    assert!(copied.unwrap().success());
}

/// What the writer said: entries by index with their calls, and whether the log opened.
fn told(output: &Output) -> Vec<(u64, String)> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().filter_map(|line| line.strip_prefix("acknowledged "));
    let entries = lines.filter_map(|line| line.split_once(' '));
    entries
        .map(|(index, call)| (index.parse().unwrap(), call.to_owned()))
        .collect()
}

/// The oracle: everything acknowledged is there, the log opens, goes on, and verifies.
fn assert_nothing_lost(root: &Path, acknowledged: &[(u64, String)], before: u64, what: &str) {
    let (log, recovery) = Log::open(options(root))
        .map_err(|error| format!("{what}: {error}"))
        .unwrap();
    assert!(recovery.size >= before, "{what}");
    for (index, call) in acknowledged {
        let stored = log.read(*index, 1).unwrap();
        let entry = stored.first().map(|stored| stored.entry().unwrap());
        let found = entry.map(|entry| entry.call.to_string());
        assert_eq!(found.as_ref(), Some(call), "{what}: entry {index}");
    }
    append(&log, draft("claw:after", Phase::Fact, "after"));
    drop(log);
    let report = verify::verify_dir(&root.join("log"), Some(&key().verifying_key()), None);
    assert!(report.is_clean(), "{what}: {:#?}", report.problems);
}

/// Tries every fault at every call (or every `stride`th one), and says how many it tried.
fn attack(root: &Path, template: &Path, before: u64, group: &Group, stride: usize) -> usize {
    let mut tried = 0;
    for calls in &group.calls {
        for at in (1..=calls.count).step_by(stride) {
            for fault in FAULTS {
                let what = format!("{fault} at {} {at}", calls.syscall);
                fresh(root, template);
                let mut arguments = vec![
                    "-e".to_owned(),
                    format!("trace={}", calls.syscall),
                    "-e".to_owned(),
                    format!("inject={}:{fault}:when={at}", calls.syscall),
                ];
                arguments.extend(group.filter());
                let output = traced(root, "attack", &arguments);
                let panicked = output.status.code() == Some(101);
                assert!(!panicked, "{what}: {}", String::from_utf8_lossy(&output.stderr));
                assert_nothing_lost(root, &told(&output), before, &what);
                tried += 1;
            }
        }
    }
    tried
}

fn attack_all(template: &Path, home: &Path, before: u64) {
    let root = home.join("victim");
    let groups = survey(&root, template);
    let all = env::var_os("CLAWSTAFF_AUDIT_FAULTS").is_some_and(|value| value == "all");
    for (name, group, stride) in [
        ("journal", &groups[0], if all || before == 0 { 1 } else { 2 }),
        ("derived", &groups[1], if all { 1 } else { SAMPLE }),
    ] {
        let has = |name: &str| group.calls.iter().any(|calls| calls.syscall == name);
        assert!(has("openat") && has("pwrite64"), "{name}: {:?}", group.calls);
        let calls: usize = group.calls.iter().map(|calls| calls.count).sum();
        let tried = attack(&root, template, before, group, stride);
        println!("{name}: {calls} calls, {tried} faults, lost: 0");
    }
}

#[test]
fn when_any_system_call_on_a_new_log_fails_nothing_acknowledged_is_lost() {
    let home = scratch();
    let template = home.path().join("template");
    fs::create_dir(&template).unwrap();
    attack_all(&template, home.path(), 0);
}

#[test]
fn when_any_system_call_on_an_earlier_log_fails_nothing_acknowledged_is_lost() {
    let home = scratch();
    let template = home.path().join("template");
    let (log, _) = Log::open(options(&template)).unwrap();
    for i in 0..30 {
        append(&log, draft("claw:before", Phase::Fact, &format!("{i}")));
    }
    drop(log);
    attack_all(&template, home.path(), 30);
}
