//! From `-f FILE|DIR|-` to one document: a file, all `*.toml` of a folder in the order of their names, or
//! standard input.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use super::{
    parse::{self, Document},
    reader::{Source, SpecError},
};

/// The largest spec file, in bytes.
const MAX_FILE: u64 = 8 * 1024 * 1024;

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which one.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A folder without spec files.
    #[error("there is no .toml file in {0}")]
    Nothing(String),
    /// A file was refused.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// Two files of a folder define the same thing.
    #[error("{what} is defined in {first} and again in {second}")]
    Twice {
        /// `connection slack`.
        what: String,
        /// The file that has it first.
        first: String,
        /// The other one.
        second: String,
    },
}

/// Reads what `-f` names.
pub(crate) fn load(path: &Path) -> Result<Document, LoadError> {
    if path == Path::new("-") {
        return one("-", Path::new("."), &mut std::io::stdin().lock());
    }
    if !path.is_dir() {
        return file(path);
    }
    let mut whole = Document::default();
    let mut owners: Vec<(String, String)> = Vec::new();
    for path in spec_files(path)? {
        let part = file(&path)?;
        claim(&mut owners, &part, &path.display().to_string())?;
        whole.connections.extend(part.connections);
        whole.guardrails.extend(part.guardrails);
        whole.claws.extend(part.claws);
    }
    Ok(whole)
}

fn spec_files(folder: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let unreadable = |source| LoadError::Read {
        path: folder.display().to_string(),
        source,
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    if paths.is_empty() {
        return Err(LoadError::Nothing(folder.display().to_string()));
    }
    Ok(paths)
}

fn claim(owners: &mut Vec<(String, String)>, part: &Document, file: &str) -> Result<(), LoadError> {
    let connections = part.connections.iter().map(|c| format!("connection {}", c.name));
    let guardrails = part.guardrails.iter().map(|g| format!("guardrail {}", g.name));
    let claws = part.claws.iter().map(|c| format!("claw {}", c.spec.name));
    for what in connections.chain(guardrails).chain(claws) {
        if let Some((_, first)) = owners.iter().find(|(owned, _)| *owned == what) {
            return Err(LoadError::Twice {
                what,
                first: first.clone(),
                second: file.to_owned(),
            });
        }
        owners.push((what, file.to_owned()));
    }
    Ok(())
}

fn file(path: &Path) -> Result<Document, LoadError> {
    let name = path.display().to_string();
    let mut file = std::fs::File::open(path).map_err(|source| LoadError::Read {
        path: name.clone(),
        source,
    })?;
    one(&name, path.parent().unwrap_or_else(|| Path::new(".")), &mut file)
}

fn one(name: &str, folder: &Path, from: &mut dyn std::io::Read) -> Result<Document, LoadError> {
    let unreadable = |source| LoadError::Read {
        path: name.to_owned(),
        source,
    };
    let mut text = String::new();
    let read = from
        .take(MAX_FILE + 1)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    if u64::try_from(read).is_ok_and(|bytes| bytes > MAX_FILE) {
        let message = format!("larger than {} MiB", MAX_FILE / 1024 / 1024);
        return Err(unreadable(std::io::Error::other(message)));
    }
    let source = Source {
        file: name,
        text: &text,
    };
    Ok(parse::parse(source, folder)?)
}

/// Reads a text as if it were the file `spec.toml`.
#[cfg(test)]
pub(super) fn from_text(text: &str) -> Result<Document, SpecError> {
    let source = Source {
        file: "spec.toml",
        text,
    };
    parse::parse(source, Path::new("/nonexistent"))
}
