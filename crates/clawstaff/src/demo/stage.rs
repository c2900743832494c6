//! The stage: a fresh installation, four stand-ins, and `clawstaff up`, all ended again at the end.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use super::{cli::Cli, story::Story};

/// The Notion database of the example.
pub(super) const DATABASE: &str = "2f26ee68df304251aad4ddddc456ba3b";
/// The repository of the example.
pub(super) const REPOSITORY: &str = "acme/site";
/// The secrets of the example, by their names in the vault. Made anew for each run.
const SECRETS: [(&str, &str); 5] = [
    ("slack-bot", "xoxb-"),
    ("slack-signing", ""),
    ("notion", "ntn_"),
    ("github", "ghp_"),
    ("anthropic", "sk-ant-api03-"),
];

/// Everything that runs for the story.
#[derive(Debug)]
pub(super) struct Stage {
    /// The command line against the installation.
    pub(super) cli: Cli,
    /// Where the installation is.
    pub(super) data: PathBuf,
    /// Where the stand-ins' token files and the spec file are.
    pub(super) props: PathBuf,
    /// The secrets in use, by name.
    pub(super) secrets: BTreeMap<&'static str, String>,
    /// Where inbound events go.
    pub(super) ingress: String,
    /// Where the dashboard is.
    pub(super) dashboard: String,
    cage: String,
    own_directory: bool,
    standins: BTreeMap<&'static str, (Child, SocketAddr)>,
    up: Option<Child>,
}

impl Stage {
    /// Makes the directories and starts the stand-ins.
    pub(super) async fn set(story: &Story, data: Option<PathBuf>, cage: &str) -> anyhow::Result<Self> {
        story.chapter("Setting the stage");
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let own_directory = data.is_none();
        let data = match data {
            Some(data) => data,
            None => tempfile::Builder::new()
                .prefix("clawstaff-demo-")
                .tempdir()
                .context("cannot make a directory")?
                .keep(),
        };
        let props = data.join("demo");
        std::fs::create_dir_all(&props).with_context(|| format!("cannot make `{}`", props.display()))?;
        let secrets = SECRETS
            .iter()
            .map(|(name, prefix)| Ok((*name, format!("{prefix}{}", random_hex()?))));
        let secrets = secrets.collect::<anyhow::Result<BTreeMap<_, _>>>()?;
        story.note(format!("installation in {}", data.display()));
        let mut stage = Self {
            cli: Cli {
                program,
                data: data.clone(),
            },
            data,
            props,
            secrets,
            ingress: String::new(),
            dashboard: String::new(),
            cage: cage.to_owned(),
            own_directory,
            standins: BTreeMap::new(),
            up: None,
        };
        stage.start_standins(story).await?;
        Ok(stage)
    }

    async fn start_standins(&mut self, story: &Story) -> anyhow::Result<()> {
        let signing = self.prop("slack-signing", self.secret("slack-signing"))?;
        let signing = signing.display().to_string();
        let parts: [(&'static str, &str, Vec<&str>); 4] = [
            (
                "slack",
                "slack-bot",
                vec!["slack", "--signing-secret-file", &signing],
            ),
            ("notion", "notion", vec!["notion", "--database", DATABASE]),
            ("github", "github", vec!["github", "--repository", REPOSITORY]),
            ("anthropic", "anthropic", vec!["model"]),
        ];
        for (name, secret, args) in parts {
            let token = self.prop(secret, self.secret(secret))?;
            let started = start_standin(&self.cli.program, &token, &args).await;
            self.standins.insert(
                name,
                started.with_context(|| format!("the {name} stand-in did not start"))?,
            );
        }
        story.note("four stand-ins run on loopback: Slack, Notion, GitHub and a scripted model");
        Ok(())
    }

    /// The value of one of the run's secrets.
    pub(super) fn secret(&self, name: &str) -> &str {
        self.secrets.get(name).map(String::as_str).unwrap_or_default()
    }

    /// Writes a file for the stand-ins or the command line.
    pub(super) fn prop(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.props.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
        Ok(path)
    }

    /// `http://ADDRESS` of a stand-in.
    pub(super) fn standin(&self, name: &str) -> String {
        self.standins
            .get(name)
            .map(|(_, address)| format!("http://{address}"))
            .unwrap_or_default()
    }

    /// Starts `clawstaff up` and waits until it says that it is ready.
    pub(super) async fn start_processes(&mut self, story: &mut Story) -> anyhow::Result<()> {
        story.chapter("Three processes start, each confined");
        // Root can search the control plane's memory as it is; another user only if it lets itself be searched.
        let inspectable = (!rustix::process::geteuid().is_root()).then_some("--inspectable");
        let log = std::fs::File::create(self.props.join("up.log")).context("cannot make up.log")?;
        let mut up = Command::new(&self.cli.program)
            .args([
                "up",
                "--listen",
                "127.0.0.1:0",
                "--ingress",
                "127.0.0.1:0",
                "--cage",
                &self.cage,
                "--data",
            ])
            .arg(&self.data)
            .args(inspectable)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("cannot start `clawstaff up`")?;
        let lines = BufReader::new(up.stdout.take().context("`clawstaff up` has no output")?).lines();
        self.up = Some(up);
        let ready = tokio::time::timeout(Duration::from_secs(30), wait_ready(lines)).await;
        let ready = ready.map_err(|_| {
            anyhow::anyhow!(
                "`clawstaff up` was not ready within 30 s: see {}/up.log",
                self.props.display()
            )
        })??;
        self.ingress = word_after(&ready, "ingress");
        self.dashboard = word_after(&ready, "dashboard");
        for part in ["control", "gateway", "runner"] {
            let process = self.process(part)?;
            let confined = process.no_new_privs && process.seccomp;
            story.observe(confined, process.describe(part));
        }
        Ok(())
    }

    /// One of the three processes, as the kernel describes it.
    pub(super) fn process(&self, part: &str) -> anyhow::Result<Process> {
        let up = self
            .up
            .as_ref()
            .and_then(Child::id)
            .context("`clawstaff up` is not running")?;
        let children = std::fs::read_to_string(format!("/proc/{up}/task/{up}/children"))
            .context("cannot list the processes")?;
        let mut found = children
            .split_whitespace()
            .filter_map(|pid| pid.parse::<i32>().ok());
        let is_part = |pid: &i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).nth(1) == Some(part.as_bytes())
        };
        let pid = found
            .find(is_part)
            .with_context(|| format!("the {part} process is not running"))?;
        Process::read(pid)
    }

    /// Leaves everything running.
    pub(super) fn keep(&mut self, story: &Story) {
        story.chapter("Left running");
        let (program, data) = (self.cli.program.display(), self.data.display());
        let up = self.up.take().and_then(|up| up.id()).unwrap_or_default();
        story.note(format!(
            "dashboard      {}  (token in {data}/control/dashboard.token)",
            self.dashboard
        ));
        story.note(format!("look around    export CLAWSTAFF_DATA={data}"));
        for command in [
            "claw list",
            "audit query --claw support-triage",
            "audit tail -f",
            "grant list",
            "claw message github-triage 'What is open?'",
        ] {
            story.note(format!("               {program} {command}"));
        }
        let standins: Vec<String> = std::mem::take(&mut self.standins)
            .into_values()
            .filter_map(|(child, _)| Some(child.id()?.to_string()))
            .collect();
        story.note(format!("end it         kill {up} {}", standins.join(" ")));
    }

    /// Ends everything and removes what was made.
    pub(super) async fn strike(&mut self, story: &mut Story) {
        story.chapter("Striking the stage");
        if let Some(up) = self.up.take() {
            let clean = end(up, Duration::from_secs(30)).await;
            story.observe(clean, "the installation stopped cleanly on SIGTERM");
        }
        for (child, _) in std::mem::take(&mut self.standins).into_values() {
            end(child, Duration::from_secs(5)).await;
        }
        if self.own_directory {
            let gone = std::fs::remove_dir_all(&self.data);
            story.observe(gone.is_ok(), format!("{} is removed", self.data.display()));
        }
    }
}

/// A process, as `/proc` describes it.
#[derive(Debug)]
pub(super) struct Process {
    /// Its id.
    pub(super) pid: i32,
    uid: String,
    no_new_privs: bool,
    seccomp: bool,
}

impl Process {
    fn read(pid: i32) -> anyhow::Result<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
            .with_context(|| format!("process {pid} is gone"))?;
        let field = |name: &str| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|rest| rest.split_whitespace().next())
                .unwrap_or_default()
                .to_owned()
        };
        Ok(Self {
            pid,
            uid: field("Uid"),
            no_new_privs: field("NoNewPrivs") == "1",
            seccomp: field("Seccomp") == "2",
        })
    }

    fn describe(&self, part: &str) -> String {
        let mut how = vec![format!("uid {}", self.uid)];
        how.extend(self.no_new_privs.then(|| "no new privileges".to_owned()));
        how.extend(self.seccomp.then(|| "seccomp filter".to_owned()));
        format!("{part:<8} pid {} · {}", self.pid, how.join(" · "))
    }
}

fn random_hex() -> anyhow::Result<String> {
    let mut bytes = [0; 20];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .context("no random bytes to be had")?;
    Ok(hex::encode(bytes))
}

async fn start_standin(program: &Path, token: &Path, args: &[&str]) -> anyhow::Result<(Child, SocketAddr)> {
    let standins = program.with_file_name("clawstaff-standins");
    let mut child = Command::new(&standins)
        .arg("--token-file")
        .arg(token)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(false)
        .spawn()
        .with_context(|| {
            format!(
                "cannot run `{}`; build it with `cargo build --workspace`",
                standins.display()
            )
        })?;
    let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    let line = tokio::time::timeout(Duration::from_secs(10), lines.next_line())
        .await
        .context("it says nothing")??;
    let address = line
        .as_deref()
        .and_then(|line| line.strip_prefix("listening on "))
        .context("it does not say where it listens")?;
    Ok((child, address.parse()?))
}

async fn wait_ready(mut lines: Lines<BufReader<ChildStdout>>) -> anyhow::Result<String> {
    while let Some(line) = lines.next_line().await? {
        if line.starts_with("ready: ") {
            return Ok(line);
        }
    }
    anyhow::bail!("`clawstaff up` ended before it was ready")
}

/// The word after `label` in the readiness line.
fn word_after(line: &str, label: &str) -> String {
    let mut words = line.split_whitespace().skip_while(|word| *word != label);
    words.nth(1).unwrap_or_default().to_owned()
}

/// SIGTERM, then SIGKILL after the grace. Whether it obeyed and ended well.
async fn end(mut child: Child, grace: Duration) -> bool {
    if let Some(pid) = child
        .id()
        .and_then(|pid| i32::try_from(pid).ok())
        .and_then(Pid::from_raw)
    {
        // It may have ended by itself meanwhile.
        let _gone = kill_process(pid, Signal::TERM);
    }
    if let Ok(status) = tokio::time::timeout(grace, child.wait()).await {
        return status.is_ok_and(|status| status.success());
    }
    drop(child.kill().await);
    false
}
