//! Every public endpoint of a vendor is an action or refused, as the table in `docs/coverage` says; and every action
//! is of an endpoint that the vendor has.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::format_push_string,
    reason = "helpers of tests fail like tests"
)]

use std::{collections::BTreeSet, fs, path::PathBuf};

use clawstaff_connectors::{Catalogue, Connector};
use http::Method;

struct Row {
    method: Method,
    path: String,
    actions: String,
    why: String,
}

/// Of an endpoint that the vendor's newest package does not have any more.
const OLDER: &str = "in older versions of the API";

fn table(id: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../../docs/coverage/{id}.tsv"))
}

fn rows(text: &str) -> Vec<Row> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let [method, path, actions, why] = line.split('\t').collect::<Vec<_>>()[..] else {
                panic!("not four columns: {line}");
            };
            Row {
                method: method.parse().unwrap(),
                path: path.to_owned(),
                actions: actions.to_owned(),
                why: why.to_owned(),
            }
        })
        .collect()
}

fn actions(connector: &Connector, row: &Row) -> String {
    let found = connector.actions_at(&row.method, &row.path);
    let names: Vec<&str> = found.iter().map(|action| action.name()).collect();
    if names.is_empty() {
        "-".to_owned()
    } else {
        names.join(" ")
    }
}

/// Writes the column of actions anew.
fn update(id: &str, connector: &Connector) {
    let text = fs::read_to_string(table(id)).unwrap();
    let head = text.lines().next().unwrap();
    let mut out = format!("{head}\n");
    for row in rows(&text) {
        let actions = actions(connector, &row);
        let why = match (actions.as_str(), row.why.as_str()) {
            ("-", "") => "not offered by the connector",
            ("-", why) => why,
            (_, OLDER) => OLDER,
            _ => "",
        };
        out += &format!("{}\t{}\t{actions}\t{why}\n", row.method, row.path);
    }
    fs::write(table(id), out).unwrap();
}

#[test]
fn every_endpoint_of_a_vendor_is_an_action_or_refused_as_its_table_says() {
    let catalogue = Catalogue::builtin().unwrap();
    for (id, at_least) in [
        ("slack", 250),
        ("github", 1000),
        ("notion", 50),
        ("openai", 100),
        ("anthropic", 50),
    ] {
        let connector = catalogue.get(&id.parse().unwrap()).unwrap();
        if std::env::var_os("UPDATE_COVERAGE").is_some() {
            update(id, connector);
        }
        let rows = rows(&fs::read_to_string(table(id)).unwrap());
        assert!(rows.len() >= at_least, "{id}: only {} endpoints", rows.len());
        for row in &rows {
            let place = format!("{id}: {} {}", row.method, row.path);
            assert_eq!(
                row.actions,
                actions(connector, row),
                "{place}: UPDATE_COVERAGE=1 writes the table anew"
            );
            let reason = !row.why.is_empty() && row.why != OLDER;
            assert_eq!(
                row.actions == "-",
                reason,
                "{place}: a refusal has a reason, and nothing else"
            );
        }
        let seen: BTreeSet<&str> = rows.iter().flat_map(|row| row.actions.split(' ')).collect();
        let unseen: Vec<&str> = connector
            .actions()
            .iter()
            .map(|action| action.id.name())
            .filter(|name| !seen.contains(name))
            .collect();
        assert!(
            unseen.is_empty(),
            "{id}: actions of no endpoint that the vendor publishes: {unseen:?}"
        );
    }
}
