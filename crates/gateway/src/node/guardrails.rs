//! The guardrails of this host: a file of the customer's that no control plane can override.
//!
//! ```toml
//! [[guardrail]]
//! name = "no-production-writes"
//! forbid = { actions = ["github:*.write"], resources = ["repo:acme/production"] }
//! ```

use std::{
    io,
    path::{Path, PathBuf},
};

use clawstaff_api::nodes::GatewayState;
use clawstaff_types::{ActionPattern, Guardrail, GuardrailName, ResourcePattern};
use serde::Deserialize;

const MAX_FILE: u64 = 1 << 20;

/// Why the host's guardrails cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GuardrailsError {
    /// The file cannot be read.
    #[error("cannot read the host's guardrails `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("the host's guardrails `{}` cannot be understood: {why}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        why: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    guardrail: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: GuardrailName,
    forbid: Forbid,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Forbid {
    actions: Vec<ActionPattern>,
    resources: Vec<ResourcePattern>,
}

/// The guardrails in `path`; none if there is no such file.
///
/// # Errors
/// When there is one that cannot be read or understood.
pub(super) fn load(path: &Path) -> Result<Vec<Guardrail>, GuardrailsError> {
    let unread = |source| GuardrailsError::Read {
        path: path.to_owned(),
        source,
    };
    let Some(bytes) = crate::inbox::read_if_present(path, MAX_FILE).map_err(unread)? else {
        return Ok(Vec::new());
    };
    let malformed = |why| GuardrailsError::Malformed {
        path: path.to_owned(),
        why,
    };
    let text = String::from_utf8(bytes).map_err(|e| malformed(e.to_string()))?;
    parse(&text).map_err(malformed)
}

fn parse(text: &str) -> Result<Vec<Guardrail>, String> {
    let file: File = toml::from_str(text).map_err(|e| e.to_string())?;
    file.guardrail
        .into_iter()
        .map(|entry| {
            if entry.forbid.actions.is_empty() || entry.forbid.resources.is_empty() {
                return Err(format!(
                    "guardrail `{}` forbids nothing: name actions and resources",
                    entry.name
                ));
            }
            Ok(Guardrail {
                name: entry.name,
                actions: entry.forbid.actions,
                resources: entry.forbid.resources,
            })
        })
        .collect()
}

/// Adds the host's guardrails to a desired state. Both sides' guardrails hold; a control plane that gives one
/// of the host's names to something else is refused, so that a decision's name says which rule it was.
///
/// # Errors
/// With the reason, when a name is taken by another rule.
pub(super) fn merge(state: &mut GatewayState, host: &[Guardrail]) -> Result<(), String> {
    for guardrail in host {
        match state.guardrails.iter().find(|sent| sent.name == guardrail.name) {
            None => state.guardrails.push(guardrail.clone()),
            Some(sent) if sent == guardrail => {}
            Some(_) => {
                return Err(format!(
                    "the guardrail name `{}` belongs to another rule on the gateway's own host",
                    guardrail.name
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_reads_as_documented() {
        let text = "[[guardrail]]\nname = \"a\"\nforbid = { actions = [\"github:*.write\"], resources = [\"repo:acme/production\"] }\n";
        let guardrails = parse(text).unwrap();
        assert_eq!(guardrails.len(), 1);
        assert_eq!(guardrails[0].name.as_str(), "a");
    }

    #[test]
    fn a_file_over_its_bound_is_refused_and_none_of_its_guardrails_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("guardrails.toml");
        let guardrail = |name: &str| {
            format!(
                "[[guardrail]]\nname = \"{name}\"\nforbid = {{ actions = [\"*\"], resources = [\"*\"] }}\n"
            )
        };
        let padding = "#".repeat(usize::try_from(MAX_FILE).unwrap() - guardrail("a").len() - 1);
        let full = format!("{}{padding}\n", guardrail("a"));
        std::fs::write(&path, &full).unwrap();
        assert_eq!(load(&path).unwrap().len(), 1);
        std::fs::write(&path, full + &guardrail("b")).unwrap();
        assert!(matches!(load(&path), Err(GuardrailsError::Read { .. })));
    }

    #[test]
    fn a_file_that_would_forbid_nothing_or_is_misspelt_is_refused() {
        for text in [
            "[[guardrail]]\nname = \"a\"\nforbid = { actions = [], resources = [\"*\"] }",
            "[[guardrail]]\nname = \"a\"\nforbid = { actions = [\"*\"], resources = [] }",
            "[[guardrails]]\nname = \"a\"\nforbid = { actions = [\"*\"], resources = [\"*\"] }",
            "[[guardrail]]\nname = \"a\"",
            "nonsense",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
