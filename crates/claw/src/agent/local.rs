//! The agent's own tools. They act inside the cage for real, with no more power than the cage has; what holds
//! them back is the kernel, and what they did is reported to the gateway.

mod arguments;
mod files;
mod network;
mod processes;

use std::{net::SocketAddr, path::PathBuf};

use clawstaff_cage_contract::{ActReport, CageAct};
use serde_json::{Map, Value, json};

use super::tool::{ToolOutcome, ToolSpec};
use crate::options::Options;
use arguments::LocalCall;

/// What came of a local call, and the acts to report.
pub(super) type Done = (ToolOutcome, Vec<ActReport>);

/// The names of the local tools.
const NAMES: [&str; 7] = [
    "read_file",
    "write_file",
    "list_directory",
    "http_request",
    "list_processes",
    "send_signal",
    "show_environment",
];

/// The local tools, with the places they work on.
#[derive(Debug)]
pub(crate) struct Local {
    data_dir: PathBuf,
    proxy: SocketAddr,
}

impl Local {
    /// The tools of an agent in this cage.
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            data_dir: options.data_dir.clone(),
            proxy: options.proxy,
        }
    }

    /// Whether there is a local tool of that name.
    pub(crate) fn has(name: &str) -> bool {
        NAMES.contains(&name)
    }

    /// The local tools, as the model is told of them.
    pub(crate) fn specs() -> Vec<ToolSpec> {
        let path = || json!({ "type": "string", "description": "absolute, or relative to /data" });
        vec![
            spec(
                "read_file",
                "Reads a text file, at most 32 KiB of it.",
                json!({ "path": path() }),
                &["path"],
            ),
            spec(
                "write_file",
                "Writes a text file, replacing what was there. Your storage is /data.",
                json!({ "path": path(), "content": { "type": "string" } }),
                &["path", "content"],
            ),
            spec(
                "list_directory",
                "Lists a directory.",
                json!({ "path": path() }),
                &["path"],
            ),
            spec(
                "http_request",
                "Makes an HTTP request and returns status, headers and body.",
                json!({
                    "method": { "type": "string" },
                    "url": { "type": "string", "description": "http or https" },
                    "body": { "type": "string" },
                    "headers": { "type": "object", "additionalProperties": { "type": "string" } },
                }),
                &["method", "url"],
            ),
            spec(
                "list_processes",
                "Lists the processes of this machine.",
                json!({}),
                &[],
            ),
            spec(
                "send_signal",
                "Sends a signal to a process; pid -1 means every process there is.",
                json!({
                    "pid": { "type": "integer" },
                    "signal": { "type": "string", "description": "a name or number: TERM, SIGKILL, 15" },
                }),
                &["pid", "signal"],
            ),
            spec(
                "show_environment",
                "Shows the environment variables of this process.",
                json!({}),
                &[],
            ),
        ]
    }

    /// Makes a call of a local tool.
    pub(super) async fn call(&self, name: &str, arguments: &Map<String, Value>) -> Done {
        let call = match LocalCall::parse(name, arguments) {
            Ok(call) => call,
            Err(error) => return (ToolOutcome::nonsense(&error.to_string()), Vec::new()),
        };
        match call {
            LocalCall::ReadFile { path } => files::read(&self.data_dir.join(path)),
            LocalCall::WriteFile { path, content } => files::write(&self.data_dir.join(path), &content),
            LocalCall::ListDirectory { path } => files::list(&self.data_dir.join(path)),
            LocalCall::HttpRequest(request) => network::request(self.proxy, request).await,
            LocalCall::ListProcesses => processes::list(),
            LocalCall::SendSignal { pid, signal } => processes::signal(pid, signal),
            LocalCall::ShowEnvironment => environment(),
        }
    }
}

fn spec(name: &str, description: &str, properties: Value, required: &[&str]) -> ToolSpec {
    ToolSpec {
        name: name.to_owned(),
        description: description.to_owned(),
        input_schema: json!({
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": false,
        }),
    }
}

fn environment() -> Done {
    let mut lines: Vec<String> = std::env::vars_os()
        .map(|(name, value)| format!("{}={}", name.to_string_lossy(), value.to_string_lossy()))
        .collect();
    lines.sort();
    let act = happened(CageAct::ReadEnvironment, "environment");
    (ToolOutcome::happened(&lines.join("\n")), vec![act])
}

/// An act that happened.
fn happened(act: CageAct, target: &str) -> ActReport {
    ActReport {
        act,
        target: target.to_owned(),
        happened: true,
        error: String::new(),
    }
}

/// An act that did not, by the name of its error.
fn prevented(act: CageAct, target: &str, error: String) -> ActReport {
    ActReport {
        act,
        target: target.to_owned(),
        happened: false,
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_that_is_told_of_exists_and_the_other_way_round() {
        let specs = Local::specs();
        let told: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        assert_eq!(told, NAMES);
        for name in NAMES {
            let required =
                specs.iter().find(|spec| spec.name == name).unwrap().input_schema["required"].clone();
            let parsed = LocalCall::parse(name, &Map::new());
            assert_eq!(parsed.is_err(), required != json!([]), "{name}");
        }
    }

    #[test]
    fn the_environment_is_shown_and_reported() {
        let (outcome, acts) = environment();
        assert!(outcome.text.lines().any(|line| line.starts_with("PATH=")));
        assert_eq!(acts, [happened(CageAct::ReadEnvironment, "environment")]);
    }
}
