//! Spec files: what is accepted, what is refused and where, and that what is written reads back.

use clawstaff_api::people::{ClawInput, GrantInput, Spec};
use clawstaff_types::{
    Conditions, Guardrail, Mode,
    grant::ArgumentIs,
    spec::{
        Agent, Budget, ClawSpec, Connection, CredentialRef, Limit, Limits, Model, Sealed, SlackEvent, Trigger,
    },
};
use proptest::{collection::vec, option, prelude::*};

use super::{
    load::from_text,
    parse::{Document, Instructions},
    to_toml,
};

/// The example of the command line's contract, without what does not exist yet.
const EXAMPLE: &str = r#"
[[connection]]
name = "slack"
connector = "slack"
credential = "vault:slack-bot"
signing_secret = "vault:slack-signing"
base_url = "http://127.0.0.1:9001/api"

[[connection]]
name = "anthropic"
connector = "anthropic"
credential = "vault:anthropic"

[[guardrail]]
name = "no-production-writes"
forbid = { actions = ["github:*.write"], resources = ["repo:acme/production"] }

[[claw]]
name = "support-triage"
description = "Turns support messages into tickets"
agent = "builtin"
model = { connection = "anthropic", name = "claude-sonnet-5" }
instructions = "Be kind."
limits = { memory = "256MiB", cpus = 0.5, pids = 64, storage = "256MiB" }
budget = { requests_per_minute = 60, tokens_per_day = 2_000_000 }

[[claw.trigger]]
slack = { connection = "slack", channel = "C0SUPPORT", on = "message" }

[[claw.grant]]
connection = "slack"
actions = ["messages.read"]
resources = ["channel:C0SUPPORT"]

[[claw.grant]]
connection = "notion"
actions = ["pages.create"]
resources = ["database:2f26ee68df304251aad4ddddc456ba3b"]
mode = "ask"
expires = 2027-01-31
conditions = { on_behalf_of = ["uid-1000"], arguments = [{ name = "icon", one_of = ["x", "y"] }] }

[[claw]]
name = "scripted"
agent = { image = "acme/agent:1.4", command = ["node", "main.js"], env = { MODE = "fast" } }
limits = { accept_unenforced = ["storage", "cpus"] }
"#;

#[test]
fn the_documented_example_is_understood_whole() {
    let document = from_text(EXAMPLE).unwrap();
    assert_eq!(
        document.connections[0].base_url.as_deref(),
        Some("http://127.0.0.1:9001/api")
    );
    assert_eq!(document.guardrails[0].actions[0].to_string(), "github:*.write");
    let claw = &document.claws[0];
    assert_eq!(
        claw.instructions,
        Some(Instructions::Plain("Be kind.".to_owned()))
    );
    assert_eq!(claw.spec.limits, Limits::default());
    assert_eq!(claw.spec.budget.tokens_per_day, Some(2_000_000));
    assert_eq!(claw.spec.triggers.len(), 1);
    assert_eq!(claw.grants[1].mode, Mode::Ask);
    assert_eq!(
        claw.grants[1].expires.unwrap().to_string(),
        "2027-01-31T00:00:00Z"
    );
    assert_eq!(claw.grants[1].conditions.arguments[0].one_of, ["x", "y"]);
    let scripted = &document.claws[1].spec;
    assert!(matches!(&scripted.agent, Agent::Image { command, .. } if command.len() == 2));
    assert_eq!(scripted.limits.accept_unenforced, [Limit::Storage, Limit::Cpus]);
}

#[test]
fn instructions_are_not_in_what_is_printed_of_a_document() {
    assert!(!format!("{:?}", from_text(EXAMPLE).unwrap()).contains("Be kind"));
}

/// A file and the refusal that it must get.
fn refused(text: &str, place: &str, words: &str) {
    let error = from_text(text).unwrap_err();
    let hint = error.hint.clone().unwrap_or_default();
    assert_eq!(
        format!("{}:{}", error.line, error.column),
        place,
        "{error} ({hint})"
    );
    assert!(format!("{error} ({hint})").contains(words), "{error} ({hint})");
}

#[test]
fn refusals_name_the_place_and_what_would_help() {
    for (text, place, words) in [
        (
            "[[connection]]\nname = \"slack\"\nconector = \"slack\"\n",
            "3:1",
            "did you mean `connector`?",
        ),
        ("[[claws]]\nname = \"a\"\n", "1:3", "did you mean `claw`?"),
        ("[[connection]]\nname = \"slack\"\n", "1:1", "has no `connector`"),
        ("[[claw]]\nname = \"A b\"\n", "2:8", "is not a Claw name"),
        (
            "[[claw]]\nname = 7\n",
            "2:8",
            "must be a string, not a whole number",
        ),
        ("claw = 1\n", "1:8", "must be a list"),
        (
            "[[claw]]\nname = \"a\"\nlimits = { memory = \"lots\" }\n",
            "3:21",
            "256MiB",
        ),
        (
            "[[claw]]\nname = \"a\"\nlimits = { pids = 0 }\n",
            "3:19",
            "at least 1",
        ),
        (
            "[[claw]]\nname = \"a\"\nlimits = { cpus = 0.001 }\n",
            "3:19",
            "0.01",
        ),
        (
            "[[claw]]\nname = \"a\"\nlimits = { accept_unenforced = [\"disk\"] }\n",
            "3:33",
            "storage",
        ),
        (
            "[[claw]]\nname = \"a\"\nagent = \"builtn\"\n",
            "3:9",
            "did you mean `builtin`?",
        ),
        (
            "[[claw]]\nname = \"a\"\naudience = { members = [\"x\"] }\n",
            "3:1",
            "not supported yet",
        ),
        (
            "[[claw]]\nname = \"a\"\nbudget = { usd_per_day = 0 }\n",
            "3:26",
            "must be more than 0",
        ),
        (
            "[[claw]]\nname = \"a\"\nnode = \"b\"\npool = \"c\"\n",
            "1:1",
            "only one of `node` and `pool`",
        ),
        (
            "[[claw]]\nname = \"a\"\n[[claw.trigger]]\nschedule = \"0 9 * * *\"\n",
            "4:1",
            "not supported yet",
        ),
        (
            "[[claw]]\nname = \"a\"\n[[claw.trigger]]\ngithub = {}\n",
            "4:1",
            "not supported yet",
        ),
        (
            "[[claw]]\nname = \"a\"\n[[claw.trigger]]\nwebhook = {}\n",
            "4:1",
            "not supported yet",
        ),
        (
            "[[claw]]\nname = \"a\"\n[[claw.grant]]\nconnection = \"s\"\nactions = []\nresources = [\"*\"]\n",
            "5:11",
            "empty",
        ),
        (
            "[[claw]]\nname = \"a\"\n[[claw.grant]]\nconnection = \"s\"\nactions = [\"x\"]\nresources = [\"chan nel\"]\n",
            "6:14",
            "resource pattern",
        ),
        (
            "[[claw]]\nname = \"a\"\n[[claw.grant]]\nconnection = \"s\"\nactions = [\"x\"]\nresources = [\"*\"]\nexpires = 2027-01-31T10:00:00\n",
            "7:11",
            "2027-01-31T12:00:00Z",
        ),
        (
            "[[claw]]\nname = \"a\"\n[[claw.grant]]\nconnection = \"s\"\nactions = [\"x\"]\nresources = [\"*\"]\nmode = \"always\"\n",
            "7:8",
            "allow, ask",
        ),
        (
            "[[claw]]\nname = \"a\"\n[[claw]]\nname = \"a\"\n",
            "3:1",
            "is there twice",
        ),
        (
            "[[claw]]\nname = \"a\"\ninstructions = \"x\"\ninstructions_file = \"y\"\n",
            "1:1",
            "only one of",
        ),
        (
            "[[claw]]\nname = \"a\"\ninstructions_file = \"none.md\"\n",
            "3:21",
            "cannot read",
        ),
        (
            "[[connection]]\nname = \"s\"\nconnector = \"slack\"\ncredential = \"xoxb-real\"\n",
            "4:14",
            "vault:NAME",
        ),
        (
            "[[connection]]\nname = \"s\"\nconnector = \"slack\"\ncredential = \"vault:x\"\nbase_url = \"http://10.0.0.1/api\"\n",
            "5:12",
            "loopback",
        ),
        (
            "[[guardrail]]\nname = \"g\"\nforbid = { actions = [\"*\"] }\n",
            "3:10",
            "has no `resources`",
        ),
        ("name = \"ä\" x\n", "1:12", ""),
    ] {
        refused(text, place, words);
    }
}

fn label() -> impl Strategy<Value = String> {
    "[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?"
}

prop_compose! {
    fn any_grant()(
        connection in label(),
        actions in vec("[a-z]{1,5}(\\.[a-z]{1,5}|\\.\\*)?", 1..3),
        resources in vec("[*]|[a-z]{1,5}:([*]|[A-Z0-9]{1,8})", 1..3),
        members in vec("uid-[0-9]{1,4}", 0..3),
        arguments in vec(("[a-z]{1,5}", vec("\\PC{0,6}", 1..3)), 0..2),
        hours in vec("(mon-fri |sun )?(0[0-9]:[0-5][0-9]-1[0-9]:[0-5][0-9])( Europe/Berlin)?", 0..3),
        budget in (option::of(1u32..), option::of(1u64..1 << 62)),
        ask: bool,
        expires in option::of(0i64..4_000_000_000),
    ) -> GrantInput {
        GrantInput {
            connection: connection.parse().unwrap(),
            actions: actions.iter().map(|text| text.parse().unwrap()).collect(),
            resources: resources.iter().map(|text| text.parse().unwrap()).collect(),
            conditions: Conditions {
                on_behalf_of: members.iter().map(|text| text.parse().unwrap()).collect(),
                arguments: arguments.into_iter().map(|(name, one_of)| ArgumentIs { name, one_of }).collect(),
                hours: hours.iter().map(|text| text.parse().unwrap()).collect(),
                budget: Budget { requests_per_minute: budget.0, tokens_per_day: budget.1, ..Budget::default() },
            },
            mode: if ask { Mode::Ask } else { Mode::Allow },
            expires: expires.map(|seconds| jiff::Timestamp::from_second(seconds).unwrap()),
        }
    }
}

fn any_agent() -> impl Strategy<Value = Agent> {
    let image = (
        "[a-z]{1,9}",
        vec("\\PC{0,9}", 0..3),
        proptest::collection::btree_map("[A-Z]{1,5}", "\\PC{0,9}", 0..3),
    );
    prop_oneof![
        Just(Agent::Builtin),
        image.prop_map(|(image, command, env)| Agent::Image { image, command, env }),
    ]
}

fn any_limits() -> impl Strategy<Value = Limits> {
    let accepted = prop_oneof![
        Just(vec![]),
        Just(vec![Limit::Memory, Limit::Cpus, Limit::Pids, Limit::Storage])
    ];
    (1u64..1 << 40, 10u32..1_024_000, 1u32..9999, accepted).prop_map(
        |(bytes, milli_cpus, pids, accept_unenforced)| Limits {
            memory: clawstaff_types::ByteSize(bytes),
            milli_cpus,
            pids,
            storage: clawstaff_types::ByteSize(bytes << 3),
            accept_unenforced,
        },
    )
}

prop_compose! {
    fn any_claw()(
        name in label(),
        description in "\\PC{0,30}",
        agent in any_agent(),
        model in option::of((label(), "\\PC{1,20}")),
        (sealed, node) in (any::<bool>(), any::<bool>()),
        limits in any_limits(),
        budget in (option::of(1u32..), option::of(1u64..1 << 62)),
        channels in vec(("C[A-Z0-9]{1,8}", any::<bool>()), 0..3),
        grants in vec(any_grant(), 0..3),
    ) -> ClawInput {
        let digest = clawstaff_types::Digest::of(b"x");
        ClawInput {
            spec: ClawSpec {
                name: name.parse().unwrap(),
                node: node.then(|| "berlin".parse().unwrap()),
                description,
                agent,
                model: model.map(|(connection, name)| Model { connection: connection.parse().unwrap(), name, max_output_tokens: budget.1, retries: 2, fallback: Some("other".into()) }),
                instructions: sealed.then(|| Sealed { recipient: digest, enc: "e".into(), ciphertext: "c".into(), digest }),
                limits,
                budget: Budget { requests_per_minute: budget.0, tokens_per_day: budget.1, usd_micros_per_day: budget.0.map(u64::from) },
                triggers: channels.into_iter().map(|(channel, mention)| Trigger::Slack {
                    connection: "slack".parse().unwrap(),
                    channel,
                    on: if mention { SlackEvent::Mention } else { SlackEvent::Message },
                }).collect(),
            },
            grants,
        }
    }
}

prop_compose! {
    fn any_spec()(
        claws in vec(any_claw(), 0..4),
        connections in proptest::collection::btree_set(label(), 0..3),
        guardrails in proptest::collection::btree_set(label(), 0..3),
    ) -> Spec {
        let mut claws = claws;
        claws.sort_by(|left, right| left.spec.name.cmp(&right.spec.name));
        claws.dedup_by(|left, right| left.spec.name == right.spec.name);
        Spec {
            connections: connections.iter().map(|name| Connection {
                name: name.parse().unwrap(),
                connector: "slack".parse().unwrap(),
                credential: CredentialRef::try_from(format!("vault:{name}")).unwrap(),
                signing_secret: None,
                base_url: Some("https://example.com/api".to_owned()),
            }).collect(),
            guardrails: guardrails.iter().map(|name| Guardrail {
                name: name.parse().unwrap(),
                actions: vec!["*.write".parse().unwrap()],
                resources: vec!["repo:acme/*".parse().unwrap()],
            }).collect(),
            claws,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_get_writes_can_be_applied_again_and_says_the_same(spec in any_spec()) {
        let text = to_toml(&spec);
        let document: Document = from_text(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        prop_assert!(!document.has_plain_instructions());
        prop_assert_eq!(document.seal(&std::collections::BTreeMap::default()).unwrap(), spec, "{}", text);
    }

    #[test]
    fn no_text_makes_the_parser_fall_over(text in "\\PC{0,200}") {
        drop(from_text(&text));
    }

    #[test]
    fn a_changed_byte_is_refused_with_a_place_in_the_file_or_understood(at in 0..EXAMPLE.len(), byte in 32u8..127) {
        let mut bytes = EXAMPLE.as_bytes().to_vec();
        bytes[at] = byte;
        let text = String::from_utf8(bytes).unwrap();
        if let Err(error) = from_text(&text) {
            prop_assert!(error.line >= 1 && error.line <= text.lines().count() + 1);
        }
    }
}
