//! `claw init` as pid 1 of its own user, pid, network and mount namespaces: the ports, names and signals of a cage.

use std::{
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{process::Command, time::timeout};

use crate::{
    agent::{claw_file, item},
    gateway::{Gateway, Script, closing, tool_use},
};

/// Makes the namespaces into a cage, as the launcher does: loopback up, DNS at the shim.
const ENTER: &str = r#"ip link set lo up && mount --bind "$1/resolv.conf" /etc/resolv.conf &&
    exec "$0" init --claw-dir "$1" --data "$1/data""#;

/// The cage's files.
fn cage(file: &Value) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("claw.json", &file.to_string());
    write("instructions.md", "Be good.");
    write("resolv.conf", "nameserver 127.0.0.1\n");
    std::fs::create_dir(dir.path().join("data")).unwrap();
    dir
}

fn data(dir: &TempDir, name: &str) -> String {
    std::fs::read_to_string(dir.path().join("data").join(name)).unwrap()
}

/// Runs the init until it exits.
async fn run(dir: &Path) -> Output {
    let mut unshare = Command::new("unshare");
    unshare
        .args(["--user", "--map-root-user", "--net", "--mount", "--pid", "--fork"])
        .args(["--kill-child", "--mount-proc", "sh", "-c", ENTER])
        .arg(env!("CARGO_BIN_EXE_claw"))
        .arg(dir)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    timeout(Duration::from_mins(1), unshare.output())
        .await
        .expect("the init did not end")
        .expect("unshare is missing: apt-get install util-linux iproute2 bash")
}

/// Runs the init with a shell script as the agent.
async fn run_script(gateway: &Gateway, script: &str) -> (TempDir, Output) {
    let dir = cage(&claw_file(&["bash", "-c", script], "anthropic"));
    gateway.open_door(&dir.path().join("door.sock"));
    let output = run(dir.path()).await;
    (dir, output)
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{output:?}"))
}

#[tokio::test]
async fn the_init_says_how_the_agent_is_and_ends_with_its_code() {
    let mut gateway = Gateway::new(Script::default());
    let dir = cage(&claw_file(
        &[
            "bash",
            "-c",
            r"exec 3<>/dev/tcp/127.0.0.1/7070
            printf 'GET /hold HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n' >&3
            cat <&3; exit 42",
        ],
        "anthropic",
    ));
    gateway.open_door(&dir.path().join("door.sock"));
    let path = dir.path().to_owned();
    let running = tokio::spawn(async move { run(&path).await });
    assert_eq!(
        gateway.asked("/claw/v1/health").await.body,
        json!({ "ready": true })
    );
    gateway.release();
    let output = running.await.unwrap();
    assert_eq!(code(&output), 42, "{output:?}");
    assert_eq!(
        gateway.asked("/claw/v1/health").await.body,
        json!({ "ready": false })
    );
}

#[tokio::test]
async fn unmodified_software_finds_names_and_reaches_the_door_with_them() {
    let gateway = Gateway::new(Script::default());
    let script = r#"for target in api.github.com/443 slack.com/80 localhost/80; do
            exec 3<>/dev/tcp/$target && read -r line <&3 && echo "$line" >> "$HOME/answers"
        done
        getent ahosts api.github.com | head -n 1 | cut -d ' ' -f 1 >> "$HOME/answers""#;
    let (dir, output) = run_script(&gateway, script).await;
    assert_eq!(code(&output), 0, "{output:?}");
    assert_eq!(
        data(&dir, "answers"),
        "you dialled api.github.com 443\nyou dialled slack.com 80\nyou dialled 127.0.0.1 80\n127.64.0.1\n"
    );
}

#[tokio::test]
async fn the_agent_finds_its_environment() {
    let gateway = Gateway::new(Script::default());
    let (dir, output) = run_script(&gateway, r#"env > "$HOME/env"; pwd > "$HOME/pwd""#).await;
    assert_eq!(code(&output), 0, "{output:?}");
    let env = data(&dir, "env");
    let authority = format!("SSL_CERT_FILE={}/ca.pem", dir.path().display());
    for line in [
        "HTTPS_PROXY=http://127.0.0.1:3128",
        "CLAW_URL=http://127.0.0.1:7070",
        "SLACK_BOT_TOKEN=xoxb-placeholder",
        &authority,
    ] {
        assert!(env.lines().any(|known| known == line), "{line} is not in\n{env}");
    }
}

#[tokio::test]
async fn orphans_are_reaped() {
    let gateway = Gateway::new(Script::default());
    // Where it is not reaped the zombie stays in /proc, and the loop never ends.
    let script = "(sleep 0.1 &); while grep -qs '(sleep)' /proc/[0-9]*/stat; do :; done; exit 7";
    let (_dir, output) = run_script(&gateway, script).await;
    assert_eq!(code(&output), 7, "{output:?}");
}

#[tokio::test]
async fn a_request_to_end_is_passed_on_to_the_agent() {
    let gateway = Gateway::new(Script::default());
    let script = "trap 'exit 43' TERM; sleep infinity & kill -TERM 1; wait";
    let (_dir, output) = run_script(&gateway, script).await;
    assert_eq!(code(&output), 43, "{output:?}");
}

#[tokio::test]
async fn an_agent_ended_by_a_signal_shows_in_the_code() {
    let gateway = Gateway::new(Script::default());
    let (_dir, output) = run_script(&gateway, "kill -KILL $$").await;
    assert_eq!(code(&output), 128 + 9, "{output:?}");
}

#[tokio::test]
async fn the_init_is_small() {
    let gateway = Gateway::new(Script::default());
    let (dir, output) = run_script(
        &gateway,
        r#"grep -E 'VmRSS|RssAnon' /proc/1/status > "$HOME/memory""#,
    )
    .await;
    assert_eq!(code(&output), 0, "{output:?}");
    let memory = data(&dir, "memory");
    let anonymous = memory.lines().find(|line| line.starts_with("RssAnon")).unwrap();
    let kibibytes: u64 = anonymous.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kibibytes <= 2048, "more than 2 MiB of its own: {memory}");
}

#[tokio::test]
async fn the_built_in_agent_works_through_the_door_and_its_signals_stay_in_the_cage() {
    let script = Script {
        items: [item("Ev1")].into(),
        model: [
            tool_use(&[
                ("send_signal", json!({ "pid": 1, "signal": "KILL" })),
                ("send_signal", json!({ "pid": -1, "signal": "KILL" })),
                (
                    "http_request",
                    json!({ "method": "GET", "url": "http://169.254.169.254/latest/meta-data" }),
                ),
            ]),
            closing("I could not."),
            // The next item ends the cage: the init passes the signal on, and the agent ends of it.
            tool_use(&[("send_signal", json!({ "pid": 1, "signal": "TERM" }))]),
        ]
        .into(),
        ..Script::default()
    };
    let mut script = script;
    script.items.push_back(item("Ev2"));
    let mut gateway = Gateway::new(script);
    let dir = cage(&claw_file(&[], "anthropic"));
    gateway.open_door(&dir.path().join("door.sock"));
    let output = run(dir.path()).await;
    assert_eq!(code(&output), 128 + 15, "{output:?}");
    assert_eq!(
        gateway.asked("/claw/v1/inbox/Ev1/ack").await.body["note"],
        "I could not."
    );
    let acts: Vec<Value> = gateway
        .all("/claw/v1/acts")
        .into_iter()
        .map(|asked| json!([asked.body["target"], asked.body["happened"], asked.body["error"]]))
        .take(3)
        .collect();
    assert_eq!(
        acts,
        [
            json!(["1", false, "IGNORED"]),
            json!(["-1", false, "ESRCH"]),
            json!(["169.254.169.254:80", false, "ENETUNREACH"]),
        ]
    );
}

#[tokio::test]
async fn another_version_of_the_contract_is_refused() {
    let mut file = claw_file(&[], "anthropic");
    file["contract"] = json!(2);
    let dir = cage(&file);
    let output = run(dir.path()).await;
    assert_eq!(code(&output), 78);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("version 2 of the cage contract"), "{said}");
}

#[tokio::test]
async fn a_command_that_is_not_there_is_named() {
    let dir = cage(&claw_file(&["/no/such/agent"], "anthropic"));
    let output = run(dir.path()).await;
    assert_eq!(code(&output), 127);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("/no/such/agent"), "{said}");
}
