//! `stores.toml`: address, token, authorities and allowed entries of each store. Data of this host's.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use clawstaff_export::sink::Url;
use clawstaff_types::StoreName;
use serde::Deserialize;

const FILE: &str = "stores.toml";
const MAX_FILE: u64 = 64 * 1024;
/// For how long a value is kept where nothing is said, and at most.
const USUAL_KEEP: u64 = 30;
const LONGEST_KEEP: u64 = 300;

/// The stores of this host cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`{}` cannot be used: {why}", path.display())]
pub struct StoresError {
    path: PathBuf,
    why: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    store: BTreeMap<StoreName, Written>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    kind: Kind,
    address: String,
    mount: Option<String>,
    namespace: Option<String>,
    token_file: PathBuf,
    ca_file: Option<PathBuf>,
    allow: Vec<String>,
    cache_seconds: Option<u64>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Openbao,
    Kubernetes,
}

/// One store, understood.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) engine: Engine,
    /// Scheme, host and port; the path is `/`.
    pub(super) address: Url,
    pub(super) token_file: PathBuf,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) allow: Vec<Allowed>,
    pub(super) keep: Duration,
}

/// What speaks at the other end.
#[derive(Debug)]
pub(super) enum Engine {
    Bao {
        mount: String,
        namespace: Option<String>,
    },
    Kubernetes,
}

/// Which entries may be read: one, all below a folder, or all.
#[derive(Debug)]
pub(super) enum Allowed {
    Exactly(String),
    /// Ends in `/`.
    Below(String),
    Everything,
}

impl Allowed {
    pub(super) fn covers(&self, path: &str) -> bool {
        match self {
            Self::Exactly(own) => own == path,
            Self::Below(folder) => path.starts_with(folder),
            Self::Everything => true,
        }
    }
}

impl Row {
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        [Some(&self.token_file), self.ca_file.as_ref()]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
    }
}

/// The stores that `own/stores.toml` describes; none when it is not there. Files that it names are relative to `own`.
pub(super) fn read(own: &Path) -> Result<BTreeMap<StoreName, Row>, StoresError> {
    let path = own.join(FILE);
    let wrong = |why: String| wrong(own, why);
    let kept = crate::inbox::read_if_present(&path, MAX_FILE).map_err(|error| wrong(error.to_string()))?;
    let Some(bytes) = kept else {
        return Ok(BTreeMap::new());
    };
    let text = String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8".to_owned()))?;
    let file: File = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let rows = file.store.into_iter().map(|(name, written)| {
        let row = understood(own, written).map_err(|why| wrong(format!("store `{name}`: {why}")))?;
        Ok((name, row))
    });
    rows.collect()
}

pub(super) fn wrong(own: &Path, why: String) -> StoresError {
    StoresError {
        path: own.join(FILE),
        why,
    }
}

fn understood(own: &Path, written: Written) -> Result<Row, String> {
    let address = Url::parse(&written.address).map_err(|error| error.to_string())?;
    if address.path != "/" {
        return Err("`address` is scheme, host and port alone".to_owned());
    }
    let engine = match (written.kind, written.mount, written.namespace) {
        (Kind::Openbao, Some(mount), namespace) if mount.split('/').all(is_segment) => {
            Engine::Bao { mount, namespace }
        }
        (Kind::Openbao, _, _) => {
            return Err("`mount` is where its KV engine is mounted, such as `secret`".to_owned());
        }
        (Kind::Kubernetes, None, None) => Engine::Kubernetes,
        (Kind::Kubernetes, _, _) => return Err("`mount` and `namespace` are for `openbao`".to_owned()),
    };
    let keep = written.cache_seconds.unwrap_or(USUAL_KEEP);
    if keep > LONGEST_KEEP {
        return Err(format!("`cache_seconds` is at most {LONGEST_KEEP}"));
    }
    let allow = written.allow.iter().map(|text| allowed(text));
    Ok(Row {
        engine,
        address,
        token_file: own.join(written.token_file),
        ca_file: written.ca_file.map(|file| own.join(file)),
        allow: allow.collect::<Result<_, _>>()?,
        keep: Duration::from_secs(keep),
    })
}

fn allowed(text: &str) -> Result<Allowed, String> {
    if text == "*" {
        return Ok(Allowed::Everything);
    }
    let (path, below) = match text.strip_suffix("/*") {
        Some(path) => (path, true),
        None => (text, false),
    };
    if !path.split('/').all(is_segment) {
        return Err(format!(
            "`{text}` in `allow` is none of `path`, `folder/*` and `*`"
        ));
    }
    Ok(if below {
        Allowed::Below(format!("{path}/"))
    } else {
        Allowed::Exactly(path.to_owned())
    })
}

fn is_segment(text: &str) -> bool {
    !matches!(text, "" | "." | "..")
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}
