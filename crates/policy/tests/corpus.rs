//! The golden corpus: readable cases of grants, guardrails and calls, with the decisions that they must give.
//!
//! Each file in `corpus/` is one subject. A call that says less than a full one takes the rest from `DEFAULTS`.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{collections::BTreeMap, fs, path::PathBuf};

use clawstaff_policy::{Call, Policy, Verdict};
use clawstaff_types::{Access, Decision, Digest, Grant, Guardrail};
use jiff::Timestamp;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// What the file is about, for people.
    #[expect(dead_code, reason = "read by people")]
    about: String,
    #[serde(default)]
    grant: Vec<Grant>,
    #[serde(default)]
    guardrail: Vec<Guardrail>,
    call: Vec<Asked>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(default = "claw")]
    claw: String,
    #[serde(default = "connection")]
    connection: String,
    action: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    arguments: BTreeMap<String, String>,
    on_behalf_of: Option<String>,
    #[serde(default = "now")]
    now: Timestamp,
    expect: Expected,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    decision: Decision,
    #[serde(default)]
    grants: Vec<String>,
    #[serde(default)]
    guardrails: Vec<String>,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    text: Option<String>,
}

fn claw() -> String {
    "triage".to_owned()
}

fn connection() -> String {
    "slack".to_owned()
}

fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn decide(policy: &Policy, asked: &Asked) -> Expected {
    let resources: Vec<_> = asked.resources.iter().map(|text| text.parse().unwrap()).collect();
    let on_behalf_of = asked.on_behalf_of.as_ref().map(|member| member.parse().unwrap());
    let verdict = policy.decide(&Call {
        claw: &asked.claw.parse().unwrap(),
        connection: &asked.connection.parse().unwrap(),
        action: &asked.action.parse().unwrap(),
        access: Access::Read,
        resources: &resources,
        arguments: &asked.arguments,
        on_behalf_of: on_behalf_of.as_ref(),
        now: asked.now,
        digest: Digest::of(b""),
    });
    let (reason, text) = match &verdict {
        Verdict::Allow(_) | Verdict::Ask(_) => (None, None),
        Verdict::Deny(denial) => (Some(denial.reason.as_str().to_owned()), Some(denial.text.clone())),
    };
    Expected {
        decision: verdict.decision(),
        grants: verdict.grants().iter().map(ToString::to_string).collect(),
        guardrails: verdict.guardrails().iter().map(ToString::to_string).collect(),
        reason,
        // Only compared where the case says what the text must be.
        text: asked.expect.text.as_ref().and(text),
    }
}

#[test]
fn every_case_of_the_corpus_is_decided_as_written() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 6, "the corpus is not where it should be");
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let case: Case = toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let policy = Policy::compile(1, &case.grant, &case.guardrail).unwrap();
        for (n, asked) in case.call.iter().enumerate() {
            let answer = decide(&policy, asked);
            assert_eq!(
                answer,
                asked.expect,
                "{}, call {}: {asked:#?}",
                file.display(),
                n + 1
            );
        }
    }
}
