//! What the fuzz targets of the connectors do with their input: manifests that strangers write, requests of a cage.
//!
//! Every function must return, whatever it is given; what it read once it reads again in the same way.
//! `crates/connectors/tests/corpus.rs` includes this file and runs it over `fuzz/corpus`.

use std::sync::OnceLock;

use clawstaff_connectors::{Catalogue, Connector, Mapped, RequestView};
use http::Method;

fn text(data: &[u8]) -> &str {
    str::from_utf8(data).unwrap_or_default()
}

fn builtin() -> &'static Catalogue {
    static BUILTIN: OnceLock<Catalogue> = OnceLock::new();
    BUILTIN.get_or_init(|| Catalogue::builtin().unwrap())
}

/// What is recognised has an action of its connector's, and the same one again.
fn recognised(connector: &Connector, view: &RequestView<'_>) {
    let read = |mapped: Mapped| (mapped.action, mapped.resources, mapped.arguments);
    let first = connector.recognise(view).map(read);
    let again = connector.recognise(view).map(read);
    match (first, again) {
        (Ok(first), Ok(again)) => {
            assert_eq!(first, again);
            let summary = connector.summarise(&first.0, 200, view.body);
            assert!(summary.ids.len() <= 20);
        }
        (first, again) => assert!(first.is_err() && again.is_err()),
    }
}

/// A manifest: taken, or refused with a line that it has. One that is taken reads requests without harm.
pub fn manifest(data: &[u8]) {
    let text = text(data);
    match Connector::parse(text) {
        Ok(connector) => {
            let view = RequestView {
                method: &Method::GET,
                path: "/a/b",
                query: Some("c=d"),
                content_type: None,
                body: b"",
            };
            recognised(&connector, &view);
            for (action, _) in connector.tools() {
                let _no_arguments = connector.build(&action.id, &serde_json::Map::new());
            }
        }
        Err(error) => {
            let lines = text.lines().count() + 1;
            assert!(
                (1..=lines).contains(&error.line),
                "line {} of {lines}",
                error.line
            );
            assert!(!error.what.is_empty());
        }
    }
}

/// A request, to every connector: a line `METHOD PATH?QUERY`, a line with the media type, an empty line, the body.
pub fn request(data: &[u8]) {
    let at = data.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = at.map_or((data, &b""[..]), |at| (&data[..at], &data[at + 2..]));
    let mut lines = text(head).lines();
    let (method, target) = lines
        .next()
        .unwrap_or_default()
        .split_once(' ')
        .unwrap_or_default();
    let Ok(method) = method.parse::<Method>() else {
        return;
    };
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let view = RequestView {
        method: &method,
        path,
        query,
        content_type: lines.next(),
        body,
    };
    for connector in builtin().iter() {
        recognised(connector, &view);
    }
}

fn posted(connector: &str, path: &str, body: &[u8]) {
    let view = RequestView {
        method: &Method::POST,
        path,
        query: None,
        content_type: Some("application/json"),
        body,
    };
    recognised(builtin().get(&connector.parse().unwrap()).unwrap(), &view);
}

/// The text of a GraphQL query.
pub fn graphql(data: &[u8]) {
    let body = serde_json::json!({ "query": text(data), "variables": { "o": "acme", "n": 7 } });
    posted("github", "/graphql", body.to_string().as_bytes());
}

/// A message to an MCP server.
pub fn mcp(data: &[u8]) {
    posted("mcp", "/", data);
}
