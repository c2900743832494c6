//! The control plane on one host, gateways and runners on others: joining, working, being cut off, catching up,
//! renewing, being turned away; and what the wire between them carried.

use std::{net::SocketAddr, sync::mpsc};

use base64::Engine as _;
use clawstaff_test_support::{github::GitHub, model::Model, notion::Notion, slack};
use serde_json::{Value, json};

use super::{
    hosts::Host,
    installation::{self, CHANNEL, DATABASE, SECRETS, SPEC},
    wire::{self, Capture},
};

/// The stand-ins on a node's own loopback: slack, notion, github, anthropic.
fn standins(node: &Host) -> [SocketAddr; 4] {
    let (sender, receiver) = mpsc::channel();
    let network = node.network();
    std::thread::spawn(move || {
        network.enter();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let routers = [
                slack::Slack::new(SECRETS[0].1, SECRETS[1].1).router(),
                Notion::new(SECRETS[2].1, vec![DATABASE.to_owned()]).router(),
                GitHub::new(SECRETS[3].1, "acme/site").router(),
                Model::new(SECRETS[4].1).router(),
            ];
            let mut addresses = Vec::new();
            for router in routers {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                addresses.push(listener.local_addr().unwrap());
                tokio::spawn(async move { axum::serve(listener, router).await });
            }
            sender.send(addresses.try_into().unwrap()).unwrap();
            std::future::pending::<()>().await;
        });
    });
    receiver.recv().unwrap()
}

/// The example's spec with the connections pointed at the stand-ins, and every Claw on this node.
fn spec(standins: [SocketAddr; 4], place: (&str, &str)) -> String {
    let mut spec: toml::Table = SPEC.parse().unwrap();
    for connection in spec["connection"].as_array_mut().unwrap() {
        let base = match connection["name"].as_str().unwrap() {
            "slack" => format!("http://{}/api", standins[0]),
            "notion" => format!("http://{}", standins[1]),
            "github" => format!("http://{}", standins[2]),
            _ => format!("http://{}", standins[3]),
        };
        connection
            .as_table_mut()
            .unwrap()
            .insert("base_url".to_owned(), base.into());
    }
    for claw in spec["claw"].as_array_mut().unwrap() {
        claw.as_table_mut()
            .unwrap()
            .insert(place.0.to_owned(), place.1.into());
    }
    spec.to_string()
}

struct Work<'a> {
    node: &'a Host,
    standins: [SocketAddr; 4],
    ingress: String,
}

impl Work<'_> {
    /// One support message through Slack.
    fn deliver(&self, number: usize, text: &str) {
        let event = json!({"event_id": format!("EvSplit{number}"), "user": "U0ANA",
            "ts": format!("17640000{number:02}.000100"), "text": text});
        let body = json!({"url": format!("{}/ingress/slack/slack", self.ingress), "channel": CHANNEL, "message": event});
        let answer = self
            .node
            .inside(|| installation::post(self.standins[0], "/_standin/deliver", &body));
        assert_eq!(answer["status"], 200, "{answer}");
    }

    /// How many tickets were really made.
    fn tickets(&self) -> usize {
        let journal = self
            .node
            .inside(|| installation::get(self.standins[1], "/_standin/journal"));
        let made = |line: &&Value| line["call"] == "POST /v1/pages" && line["status"] == 200;
        journal.as_array().unwrap().iter().filter(made).count()
    }

    /// Everything that the model was asked and answered.
    fn said(&self) -> Vec<String> {
        let journal = self
            .node
            .inside(|| installation::get(self.standins[3], "/_standin/journal"));
        let mut texts = Vec::new();
        sentences(&journal, &mut texts);
        texts
    }
}

fn sentences(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) if text.len() > 24 && text.contains(' ') => found.push(text.clone()),
        Value::Array(all) => all.iter().for_each(|one| sentences(one, found)),
        Value::Object(all) => all.values().for_each(|one| sentences(one, found)),
        _ => {}
    }
}

/// A text in the forms in which it could be on a wire.
fn forms(text: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = vec![
        text.to_vec(),
        hex::encode(text).into_bytes(),
        hex::encode_upper(text).into_bytes(),
    ];
    for skipped in 0..3 {
        let whole = &text[skipped..];
        let whole = &whole[..whole.len() / 3 * 3];
        forms.push(
            base64::engine::general_purpose::STANDARD_NO_PAD
                .encode(whole)
                .into_bytes(),
        );
        forms.push(
            base64::engine::general_purpose::URL_SAFE_NO_PAD
                .encode(whole)
                .into_bytes(),
        );
    }
    let percent = percent_encoding::percent_encode(text, percent_encoding::NON_ALPHANUMERIC);
    forms.push(percent.to_string().into_bytes());
    forms
}

/// Which of the texts are in these bytes, in any form; of long ones a piece from the middle.
fn found(bytes: &[u8], texts: &[String]) -> Vec<String> {
    let there = |text: &&String| {
        let start = text.len().saturating_sub(40) / 2;
        let piece = &text.as_bytes()[start..(start + 40).min(text.len())];
        forms(piece)
            .iter()
            .any(|form| memchr::memmem::find(bytes, form).is_some())
    };
    texts.iter().filter(there).cloned().collect()
}

fn listening(host: &Host) -> Vec<String> {
    let table = host.inside(|| std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap());
    let rows = table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row[3] == "0A")
        .map(|row| row[1].to_owned())
        .collect()
}

fn node_json(control: &Host, name: &str) -> Value {
    let nodes = control.json(&["node", "list"]);
    nodes
        .into_iter()
        .find(|node| node["name"] == name)
        .unwrap_or_default()
}

#[test]
fn claws_work_on_hosts_that_joined_and_the_wire_carries_none_of_their_content() {
    let directory = tempfile::Builder::new()
        .prefix("clawstaff-split-")
        .tempdir()
        .unwrap();
    let passable = std::os::unix::fs::PermissionsExt::from_mode(0o711);
    std::fs::set_permissions(directory.path(), passable).unwrap();
    let mut control = Host::new(directory.path(), "control");
    let mut berlin = Host::new(directory.path(), "berlin");
    let mut paris = Host::new(directory.path(), "paris");
    control.cable(&berlin, 1);
    control.cable(&paris, 2);
    let capture = Capture::of(&control);
    let serve = ["control", "--nodes", "0.0.0.0:7412"];
    control.start(&serve);
    control.until("the control plane", || control.run(&["status"], None).code == 0);

    // Joining: a token that is good once, for one name, from a control plane that its authority vouches for.
    let token = control.must(&["node", "token", "berlin"], None);
    let other = control.must(&["node", "token", "paris", "--pool", "eu"], None);
    let nowhere = berlin.run(&["node", "join", "10.77.1.1:9"], Some(&token));
    assert_eq!(nowhere.code, 7, "{}", nowhere.err);
    berlin.must(&["node", "join", "10.77.1.1:7412"], Some(&token));
    let again = berlin.run(&["node", "join", "10.77.1.1:7412"], Some(&token));
    assert_eq!(again.code, 3, "{}", again.err);
    paris.must(&["node", "join", "10.77.2.1:7412"], Some(&other));

    let key_log = berlin.data.join("control/tls-keys");
    let up = ["node", "up", "--cage", "native", "--ingress", "127.0.0.1:0"];
    berlin.start(&[&up[..], &["--tls-key-log", key_log.to_str().unwrap()]].concat());
    paris.start(&up);
    let ready = berlin.ready();
    let ingress = ready.rsplit(' ').next().unwrap().to_owned();
    paris.ready();
    control.until("both nodes", || {
        ["berlin", "paris"].iter().all(|name| {
            let node = node_json(&control, name);
            node["gateway"]["connected"] == true && node["runner"]["connected"] == true
        })
    });
    for (name, value) in SECRETS {
        berlin.must(&["secret", "set", name, "--host", "127.0.0.1"], Some(value));
    }
    let standins = standins(&berlin);
    let work = Work {
        node: &berlin,
        standins,
        ingress,
    };

    // Work: Claws pinned to one node; nothing on it listens but the ingress.
    let file = directory.path().join("spec.toml");
    std::fs::write(&file, spec(standins, ("node", "berlin"))).unwrap();
    let apply = ["apply", "-f", file.to_str().unwrap(), "--wait", "--timeout", "60"];
    control.must(&apply, None);
    control.until("the agents", || {
        let claws = control.json(&["claw", "list"]);
        claws
            .iter()
            .filter(|claw| claw["ready"] == true && claw["node"] == "berlin")
            .count()
            == 3
    });
    assert!(
        listening(&berlin)
            .iter()
            .all(|address| address.starts_with("0100007F:")),
        "{:?}",
        listening(&berlin)
    );
    work.deliver(1, "Nobody at our office can log in since this morning");
    control.until("the first ticket", || work.tickets() == 1);

    // A Claw for a pool goes to a node of the pool.
    let pooled = directory.path().join("pooled.toml");
    std::fs::write(&pooled, "[[claw]]\nname = \"pooled\"\npool = \"eu\"\nmodel = { connection = \"anthropic\", name = \"claude-sonnet-5\" }\ninstructions = \"Wait for whatever may come, quietly\"\n").unwrap();
    control.must(
        &[
            "apply",
            "-f",
            pooled.to_str().unwrap(),
            "--wait",
            "--timeout",
            "60",
        ],
        None,
    );
    assert_eq!(control.json(&["claw", "show", "pooled"])[0]["node"], "paris");

    // The control plane is gone: cages work, records wait, nothing new is granted. It comes back: it catches up.
    control.stop();
    work.deliver(2, "Search is slow for everyone in the warehouse today");
    berlin.until("a ticket without a control plane", || work.tickets() == 2);
    let grant = [
        "grant",
        "add",
        "support-triage",
        "slack",
        "--action",
        "messages.send",
        "--resource",
        "channel:C0SUPPORT",
    ];
    let refused = control.run(&grant, None);
    assert_eq!(refused.code, 7, "{}", refused.err);
    control.start(&serve);
    let query = [
        "audit",
        "query",
        "--claw",
        "support-triage",
        "--action",
        "notion:pages.create",
        "--outcome",
        "succeeded",
    ];
    control.until("the records of that time", || {
        let ran = control.run(&[&query[..], &["-o", "json"]].concat(), None);
        ran.code == 0
            && ran
                .out
                .lines()
                .filter(|line| line.contains("gateway-berlin:"))
                .count()
                == 2
    });

    // The gateway is killed and comes back: nothing is lost.
    let before = berlin.pid("gateway").unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(before).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    berlin.until("another gateway", || {
        berlin.pid("gateway").is_some_and(|now| now != before)
            && berlin.run(&["secret", "list"], None).code == 0
    });
    work.deliver(3, "The invoice of last month shows the wrong address");
    berlin.until("a ticket by the new gateway", || work.tickets() == 3);

    // Renewed: the old certificate is nobody's.
    let identity = std::fs::read(berlin.data.join("control/identity.json")).unwrap();
    berlin.must(&["node", "rotate"], None);
    control.until("the node with its new certificate", || {
        node_json(&control, "berlin")["gateway"]["connected"] == true
    });
    work.deliver(4, "Please export all orders of the year for our audit");
    control.until("a record under the new certificate", || {
        work.tickets() == 4 && {
            let ran = control.run(&[&query[..], &["-o", "json"]].concat(), None);
            ran.out
                .lines()
                .filter(|line| line.contains("gateway-berlin:"))
                .count()
                == 4
        }
    });
    let copy = directory.path().join("copy");
    std::fs::create_dir_all(copy.join("control")).unwrap();
    std::fs::write(copy.join("control/identity.json"), identity).unwrap();
    let stale = berlin.run(&["node", "rotate", "--data", copy.to_str().unwrap()], None);
    assert_eq!(stale.code, 3, "{}", stale.err);

    // Turned away: it gets nothing more, and its cages work on.
    control.must(&["node", "revoke", "berlin"], None);
    let away = berlin.run(&["node", "rotate"], None);
    assert_eq!(away.code, 3, "{}", away.err);
    work.deliver(5, "Two of our users see the same dashboard by mistake");
    berlin.until("a ticket of a node that was turned away", || work.tickets() == 5);
    let verified = berlin.run(
        &[
            "audit",
            "verify",
            berlin.data.join("gateway/log").to_str().unwrap(),
        ],
        None,
    );
    assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);

    // A gateway comes back with another sealing key: nothing is sealed to it until it is pinned anew.
    let key_of = |name: &str| node_json(&control, name)["gateway"]["seal_key"].clone();
    let before = key_of("paris");
    let say = ["claw", "message", "pooled", "hello there"];
    control.must(&say, None);
    paris.stop();
    std::fs::remove_file(paris.data.join("gateway/keys/seal.key")).unwrap();
    paris.start(&up);
    control.until("the other key", || key_of("paris") != before);
    let refused = control.run(&say, None);
    assert_eq!(refused.code, 6, "{}", refused.err);
    assert!(refused.err.contains("nothing is sealed to it"), "{}", refused.err);
    let pins = control.data.join(".config/clawstaff/gateways.json");
    let kept = std::fs::read_to_string(&pins).unwrap();
    assert!(kept.contains(before.as_str().unwrap()), "{kept}");
    let mut anew: serde_json::Map<String, Value> = serde_json::from_str(&kept).unwrap();
    anew.retain(|name, _| !name.ends_with(" paris"));
    std::fs::write(&pins, Value::Object(anew).to_string()).unwrap();
    control.must(&say, None);

    // The wire: all that was said to and by the control plane, and in it no key, no prompt, no response, no message.
    let mut private = work.said();
    private.extend(SECRETS.map(|(_, value)| value.to_owned()));
    private.extend(
        spec(standins, ("node", "berlin")).parse::<toml::Table>().unwrap()["claw"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|claw| claw.get("instructions")?.as_str().map(str::to_owned)),
    );
    assert!(private.len() > 20, "{private:?}");
    berlin.stop();
    paris.stop();
    control.stop();
    let frames = capture.end();
    let raw: Vec<u8> = frames.concat();
    let (inside, connections) = wire::decrypted(&frames, &key_log);
    assert!(
        connections > 5 && inside.len() > 20_000,
        "{connections} connections, {} bytes",
        inside.len()
    );
    assert!(
        memchr::memmem::find(&inside, b"support-triage").is_some(),
        "the search finds what is there"
    );
    assert!(
        memchr::memmem::find(&inside, b"POST /nodes/v1/gateway/log").is_some(),
        "the log's records among it"
    );
    assert!(
        memchr::memmem::find(&raw, b"support-triage").is_none(),
        "the wire itself is encrypted"
    );
    assert_eq!(found(&inside, &private), Vec::<String>::new(), "inside TLS");
    assert_eq!(found(&raw, &private), Vec::<String>::new(), "on the wire");
}
