//! Hosts for a test: network namespaces, each with a cable to the control plane's host and no other way out.
//!
//! Needs root and iproute2. Everything is taken away when the value is dropped.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

use super::installation::Ran;

/// One host.
#[derive(Debug)]
pub(crate) struct Host {
    name: String,
    /// Its data directory.
    pub(crate) data: PathBuf,
    running: Option<Child>,
}

impl Host {
    /// A fresh host without a cable.
    pub(crate) fn new(directory: &Path, name: &str) -> Self {
        let unique = format!("cs{}-{name}", std::process::id());
        ip(&["netns", "add", &unique]);
        ip(&["-n", &unique, "link", "set", "lo", "up"]);
        let data = directory.join(name);
        std::fs::create_dir_all(&data).unwrap();
        Self {
            name: unique,
            data,
            running: None,
        }
    }

    /// A cable from here to `other`: 10.77.NUMBER.1 here, 10.77.NUMBER.2 there.
    pub(crate) fn cable(&self, other: &Self, number: u8) {
        let (near, far) = (format!("to{number}"), "up0".to_owned());
        ip(&[
            "-n",
            &self.name,
            "link",
            "add",
            &near,
            "type",
            "veth",
            "peer",
            "name",
            &far,
            "netns",
            &other.name,
        ]);
        for (host, link, last) in [(self, &near, 1), (other, &far, 2)] {
            ip(&[
                "-n",
                &host.name,
                "addr",
                "add",
                &format!("10.77.{number}.{last}/24"),
                "dev",
                link,
            ]);
            ip(&["-n", &host.name, "link", "set", link, "up"]);
        }
    }

    /// Runs the command line on this host to its end.
    pub(crate) fn run(&self, args: &[&str], input: Option<&str>) -> Ran {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // It may end without reading.
        let _unread = stdin.write_all(input.unwrap_or_default().as_bytes());
        drop(stdin);
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
        assert_eq!(
            ran.code,
            0,
            "clawstaff {args:?}: {}\n{}",
            ran.err,
            self.log_tail()
        );
        ran.out
    }

    /// Runs a command with `-o json`.
    pub(crate) fn json(&self, args: &[&str]) -> Vec<Value> {
        let out = self.must(&[args, &["-o", "json"]].concat(), None);
        out.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name));
        command.arg(env!("CARGO_BIN_EXE_clawstaff")).args(args);
        command
            .env("CLAWSTAFF_DATA", &self.data)
            .env("HOME", &self.data)
            .env_remove("XDG_CONFIG_HOME");
        command
    }

    /// Starts a part that stays, with its words in `NAME.log`.
    pub(crate) fn start(&mut self, args: &[&str]) {
        let log = File::options()
            .append(true)
            .create(true)
            .open(self.log())
            .unwrap();
        let child = self
            .command(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn();
        self.running = Some(child.unwrap());
    }

    /// Waits for the line that says that it is ready.
    pub(crate) fn ready(&mut self) -> String {
        let out = self.running.as_mut().unwrap().stdout.take().unwrap();
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                drop(sender.send(line));
            }
        });
        receiver
            .recv_timeout(Duration::from_mins(1))
            .unwrap_or_else(|_| panic!("not ready\n{}", self.log_tail()))
    }

    /// Ends what stays.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.running.take() {
            let pid = rustix::process::Pid::from_child(&child);
            // It may have ended by itself.
            let _gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            drop(child.wait());
        }
    }

    /// The process of a part that `node up` started.
    pub(crate) fn pid(&self, part: &str) -> Option<i32> {
        let text = std::fs::read_to_string(self.data.join("run/pids")).ok()?;
        let pids: Value = serde_json::from_str(&text).ok()?;
        pids[part].as_i64().and_then(|pid| i32::try_from(pid).ok())
    }

    /// Its network, for a thread to enter.
    pub(crate) fn network(&self) -> Network {
        Network(File::open(format!("/run/netns/{}", self.name)).unwrap())
    }

    /// Does something in this host's network.
    pub(crate) fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let network = self.network();
        std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                network.enter();
                act()
            });
            inside.join().unwrap()
        })
    }

    /// Polls until it holds; fails the test after a minute.
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

    fn log(&self) -> PathBuf {
        self.data.with_extension("log")
    }

    fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let mut lines: Vec<&str> = log.lines().rev().take(25).collect();
        lines.reverse();
        lines.join("\n")
    }
}

/// A host's network.
pub(crate) struct Network(File);

impl Network {
    /// Moves this thread into it.
    pub(crate) fn enter(&self) {
        move_into_link_name_space(
            std::os::fd::AsFd::as_fd(&self.0),
            Some(LinkNameSpaceType::Network),
        )
        .unwrap();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop();
        drop(Command::new("ip").args(["netns", "del", &self.name]).status());
    }
}

fn ip(args: &[&str]) {
    let made = Command::new("ip").args(args).output();
    let made = made.expect("this test needs `ip`: apt-get install iproute2");
    let words = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(
        made.status.success(),
        "ip {args:?} (this test needs root): {words}"
    );
}
