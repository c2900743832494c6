//! How long it takes from nothing to the first word of a program in a cage, beside `bwrap`, `crun` and `docker run`
//! in the same run, and what an idle cage weighs.
//!
//! `cargo bench -p clawstaff-cage --bench start`, after `cargo build --release -p claw -p clawstaff-launcher`; as root
//! it runs once more as an ordinary user. Numbers are wall-clock on this machine as it is. A tool that is not
//! installed is said to be missing.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench prints, and stops when it cannot go on"
)]

#[path = "../tests/support/common.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod common;
#[path = "../tests/support/weight.rs"]
mod weight;

use std::{
    fs,
    io::Read as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use clawstaff_cage::{
    Backend, CageId, CageSpec, Enforcement, Feature, Image,
    builtin::Builtin,
    conformance::Setup,
    docker::{Docker, DockerConfig},
    native::{Native, NativeConfig},
};

const ROUNDS: u32 = 40;
const CONTAINERS: u32 = 8;
const IDLE: [&str; 4] = ["/sbin/claw", "probe", "actor", "idle"];
/// Says one word and ends: what killing the tool would leave behind needs no clearing up.
const SPEAK: [&str; 5] = ["/sbin/claw", "probe", "actor", "spin", "0"];
/// Says that this is the second run, as an ordinary user, with its programs in this directory.
const AGAIN: &str = "CLAWSTAFF_BENCH_AGAIN";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let dir = common::directory();
    let who = if common::is_root() {
        "root"
    } else {
        "an ordinary user"
    };
    println!(
        "{:34} {:>9} {:>9} {:>9}",
        format!("as {who}, ms"),
        "p50",
        "p90",
        "max"
    );
    let image = Builtin::new(&common::program("claw"))
        .and_then(|image| image.directory(&dir.path().join("images")))
        .unwrap();
    native(dir.path(), &image).await;
    if common::is_root() {
        let bundle = bundle(dir.path(), &image);
        compare("crun run, first word", ROUNDS, || crun(&bundle));
        docker(dir.path()).await;
        again(dir.path());
    }
}

/// Each round makes a cage and then a sandbox of `bwrap`, so that a busy machine is as busy for both.
async fn native(dir: &Path, image: &Path) {
    let backend = Native::new(NativeConfig {
        state_dir: dir.join("state"),
        launcher: common::program("clawstaff-launcher"),
        claw: common::program("claw"),
    })
    .unwrap();
    let [
        mut creates,
        mut starts,
        mut words,
        mut all_words,
        mut pauses,
        mut stops,
        mut destroys,
    ] = [const { vec![] }; 7];
    let mut others = Ok(Vec::new());
    let mut memory = Vec::new();
    let freeze = backend.capabilities().features.get(&Feature::Freeze).cloned();
    let freezes = freeze == Some(Enforcement::Enforced);
    // The first makes the storage template and the image; it is not counted.
    for number in 0..=ROUNDS {
        let spec = spec(dir, &backend, number);
        let id = &spec.id;
        let begin = Instant::now();
        backend.create(&spec).await.unwrap();
        let created = Instant::now();
        backend.start(id).await.unwrap();
        let started = Instant::now();
        let log = dir.join("state/cages").join(id.as_str()).join("log");
        while fs::metadata(&log).map_or(0, |log| log.len()) == 0 {
            std::thread::sleep(Duration::from_micros(50));
        }
        let spoken = Instant::now();
        let weight = weight::of(id, &backend.observe(id).await.unwrap());
        let times = [
            created - begin,
            started - created,
            spoken - created,
            spoken - begin,
            if freezes {
                let paused = time(backend.pause(id)).await;
                backend.resume(id).await.unwrap();
                paused
            } else {
                Duration::ZERO
            },
            time(backend.stop(id, Duration::from_secs(10))).await,
            time(backend.destroy(id)).await,
        ];
        if number > 0 {
            let all = [
                &mut creates,
                &mut starts,
                &mut words,
                &mut all_words,
                &mut pauses,
                &mut stops,
                &mut destroys,
            ];
            all.into_iter().zip(times).for_each(|(all, one)| all.push(one));
            memory.push(weight);
            if let Ok(times) = &mut others {
                match first_word(bwrap(image)) {
                    Ok(time) => times.push(time),
                    Err(why) => others = Err(why),
                }
            }
        }
    }
    for (name, times) in [
        ("native create", creates),
        ("native start", starts),
        ("native start, first word", words),
        ("native create, start, first word", all_words),
        ("native pause", pauses),
        ("native stop, the agent obeys", stops),
        ("native destroy", destroys),
    ] {
        row(name, times);
    }
    match others {
        Ok(times) => row("bwrap --unshare-all, first word", times),
        Err(why) => println!("{:34} {why}", "bwrap --unshare-all, first word"),
    }
    memory.sort_unstable();
    let middle = memory.get(memory.len() / 2).copied().unwrap_or_default();
    println!(
        "{:34} {middle:>9} KiB, PSS of init and parent, and the kernel's charge",
        "native, one more idle cage"
    );
}

async fn time<E: std::fmt::Debug>(act: impl Future<Output = Result<(), E>>) -> Duration {
    let begin = Instant::now();
    act.await.unwrap();
    begin.elapsed()
}

fn spec(dir: &Path, backend: &dyn Backend, number: u32) -> CageSpec {
    let mut limits = Setup::limits();
    limits.accept_unenforced = common::unenforced(backend);
    CageSpec {
        id: CageId::new(&"bench".parse().unwrap(), number),
        claw: "bench".parse().unwrap(),
        revision: 1,
        image: Image::Builtin,
        door_dir: common::door(dir),
        limits,
        command: IDLE.map(str::to_owned).to_vec(),
    }
}

/// Times a command to its first word, and ends it.
fn compare(name: &str, rounds: u32, command: impl Fn() -> Command) {
    let mut times = Vec::new();
    for _ in 0..rounds {
        match first_word(command()) {
            Ok(time) => times.push(time),
            Err(why) => return println!("{name:34} {why}"),
        }
    }
    row(name, times);
}

fn first_word(mut command: Command) -> Result<Duration, String> {
    let begin = Instant::now();
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    let heard = child.stdout.take().unwrap().read(&mut [0; 8]).unwrap_or(0);
    let took = begin.elapsed();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (heard > 0)
        .then_some(took)
        .ok_or_else(|| said.lines().next().unwrap_or("said nothing").to_owned())
}

fn bwrap(image: &Path) -> Command {
    let mut command = Command::new("bwrap");
    command
        .args(["--unshare-all", "--die-with-parent", "--ro-bind"])
        .arg(image)
        .arg("/");
    command
        .args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--"])
        .args(SPEAK);
    command
}

/// An OCI bundle of the same image with the same command.
fn bundle(dir: &Path, image: &Path) -> PathBuf {
    let bundle = dir.join("bundle");
    fs::create_dir_all(&bundle).unwrap();
    let kinds =
        ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|kind| serde_json::json!({ "type": kind }));
    let config = serde_json::json!({
        "ociVersion": "1.0.0",
        "process": { "args": SPEAK, "cwd": "/", "user": { "uid": 65532, "gid": 65532 }, "noNewPrivileges": true },
        "root": { "path": image, "readonly": true },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" },
            { "destination": "/tmp", "type": "tmpfs", "source": "tmpfs" },
        ],
        "linux": { "namespaces": kinds },
    });
    fs::write(bundle.join("config.json"), config.to_string()).unwrap();
    bundle
}

/// In a mount namespace without a unified tree beside the old ones, which this version of it cannot take.
fn crun(bundle: &Path) -> Command {
    let mut command = Command::new("unshare");
    let name = format!("bench-{}", bundle.ancestors().count());
    let script = "umount /sys/fs/cgroup/unified 2>/dev/null; crun --root \"$0/crun\" delete -f \"$1\" 2>/dev/null; \
                  exec crun --root \"$0/crun\" run --bundle \"$0\" \"$1\"";
    command
        .args(["-m", "--propagation", "private", "sh", "-c", script])
        .arg(bundle)
        .arg(name);
    command
}

/// The docker back end beside `docker run` of the same container.
async fn docker(dir: &Path) {
    let host = std::env::var("DOCKER_HOST").ok();
    let config = DockerConfig {
        host: host.clone(),
        claw: common::program("claw"),
    };
    let backend = match Docker::connect(config).await {
        Ok(docker) => docker.storing_at(dir.join("storage")),
        Err(error) => return println!("{:34} {error}", "docker"),
    };
    let mut times = Vec::new();
    for number in 0..=CONTAINERS {
        let spec = spec(dir, &backend, number);
        let begin = Instant::now();
        backend.create(&spec).await.unwrap();
        backend.start(&spec.id).await.unwrap();
        let took = begin.elapsed();
        backend.destroy(&spec.id).await.unwrap();
        if number > 0 {
            times.push(took);
        }
    }
    row("docker back end, create and start", times);
    let reference = Builtin::new(&common::program("claw")).unwrap().reference();
    let data = dir.join("run-data");
    fs::create_dir_all(&data).unwrap();
    let door = common::door(dir);
    let mut times = Vec::new();
    for _ in 0..CONTAINERS {
        let mut command = Command::new("docker");
        command.args([
            "run",
            "-d",
            "--network",
            "none",
            "--read-only",
            "--cap-drop",
            "ALL",
        ]);
        command.args([
            "--security-opt",
            "no-new-privileges",
            "--memory",
            "128m",
            "--memory-swap",
            "128m",
        ]);
        command.args(["--cpus", "0.5", "--pids-limit", "48", "--tmpfs", "/tmp", "-v"]);
        command.arg(format!("{}:/data", data.display())).arg("-v");
        command
            .arg(format!("{}:/claw:ro", door.display()))
            .arg(&reference)
            .args(IDLE);
        let begin = Instant::now();
        let output = command.output().unwrap();
        times.push(begin.elapsed());
        let id = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Command::new("docker").args(["rm", "-f", &id]).output().unwrap();
    }
    row("docker run -d, the same container", times);
}

/// The whole once more as `nobody`, with copies of the programs where that user can read them.
fn again(dir: &Path) {
    if std::env::var_os(AGAIN).is_some() {
        return;
    }
    let (place, tmp) = (dir.join("deps"), dir.join("tmp"));
    fs::create_dir(&place).unwrap();
    fs::create_dir(&tmp).unwrap();
    fs::set_permissions(&tmp, std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
    let own = std::env::current_exe().unwrap();
    let programs = [common::program("claw"), common::program("clawstaff-launcher")];
    fs::copy(own, place.join("bench")).unwrap();
    for program in programs {
        fs::copy(&program, place.join(program.file_name().unwrap())).unwrap();
    }
    let mut command = Command::new(place.join("bench"));
    command
        .env(AGAIN, "1")
        .env("TMPDIR", &tmp)
        .uid(65534)
        .gid(65534)
        .current_dir("/");
    assert!(command.status().unwrap().success());
}

fn row(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: usize| {
        times
            .get(times.len().saturating_sub(1) * share / 100)
            .copied()
            .unwrap_or_default()
            .as_secs_f64()
            * 1000.0
    };
    println!("{name:34} {:>9.2} {:>9.2} {:>9.2}", at(50), at(90), at(100));
}
