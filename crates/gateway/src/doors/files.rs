//! The files of a door: what a cage may know about itself. No secret is in them.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use clawstaff_api::nodes::GatewayClaw;
use clawstaff_cage_contract::{CA_FILE, ClawFile, DOORS_ADDR, ModelApi, ModelFile, PROXY_ADDR, VERSION};
use clawstaff_types::{Secret, spec::Agent};
use jiff::Timestamp;

use super::{DoorError, at};
use crate::{
    commit::Commitment,
    shared::Gateway,
    state::{Link, State},
};

/// Variables by which software finds the authorities to trust.
const CA_VARIABLES: [&str; 6] = [
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
    "AWS_CA_BUNDLE",
];

/// What the files of one door say.
#[derive(Debug)]
pub(super) struct Files {
    authority: String,
    claw: Vec<u8>,
    instructions: Secret<Vec<u8>>,
}

impl Files {
    pub(super) fn of(gateway: &Gateway, state: &State, known: &GatewayClaw) -> Result<Self, DoorError> {
        let name = &known.spec.name;
        let key = gateway.commitments.of(name)?;
        let instructions = match &known.spec.instructions {
            Some(sealed) => gateway.seal_key.open(sealed, "instructions")?,
            None => Secret::new(Vec::new()),
        };
        let (command, own) = match &known.spec.agent {
            Agent::Builtin => (Vec::new(), BTreeMap::new()),
            Agent::Image { command, env, .. } => (command.clone(), env.clone()),
        };
        let mut env = environment(state, known, &key);
        env.extend(own);
        let file = ClawFile {
            contract: VERSION,
            claw: name.clone(),
            revision: known.revision,
            command,
            env,
            model: model(state, known),
        };
        let claw = serde_json::to_vec_pretty(&file).map_err(|error| DoorError::File {
            path: "claw.json".into(),
            source: error.into(),
        })?;
        Ok(Self {
            authority: gateway.authorities.of(name)?.pem.clone(),
            claw,
            instructions,
        })
    }

    /// Writes the files that differ from `before`, each whole or not at all.
    pub(super) fn write(&self, dir: &Path, before: Option<&Self>) -> Result<(), DoorError> {
        let instructions = self.instructions.expose_secret();
        if before.is_none_or(|old| old.authority != self.authority) {
            put(dir, "ca.pem", self.authority.as_bytes())?;
        }
        if before.is_none_or(|old| old.instructions.expose_secret() != instructions) {
            put(dir, "instructions.md", instructions)?;
        }
        if before.is_none_or(|old| old.claw != self.claw) {
            put(dir, "claw.json", &self.claw)?;
        }
        Ok(())
    }
}

fn put(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), DoorError> {
    let (fresh, path) = (dir.join(format!(".{name}")), dir.join(name));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(&fresh)
        .map_err(at(&fresh))?;
    file.write_all(bytes).map_err(at(&fresh))?;
    file.set_permissions(fs::Permissions::from_mode(0o644))
        .map_err(at(&fresh))?;
    fs::rename(&fresh, &path).map_err(at(&path))
}

fn model(state: &State, known: &GatewayClaw) -> Option<ModelFile> {
    let model = known.spec.model.as_ref()?;
    let link = state.link(&model.connection)?;
    let api = match link.connector.id().as_str() {
        "anthropic" => ModelApi::Anthropic,
        "openai" => ModelApi::Openai,
        _ => return None,
    };
    Some(ModelFile {
        api,
        name: model.name.clone(),
    })
}

/// Base URLs, proxy, authorities to trust, and a placeholder for every credential that the Claw has a use for.
fn environment(state: &State, known: &GatewayClaw, key: &Commitment) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let mut set = |name: &str, value: String| {
        env.entry(name.to_owned()).or_insert(value);
    };
    for name in CA_VARIABLES {
        set(name, CA_FILE.to_owned());
    }
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
        set(name, format!("http://{PROXY_ADDR}"));
    }
    for name in ["NO_PROXY", "no_proxy"] {
        set(name, "localhost,127.0.0.1,::1".to_owned());
    }
    set("ANTHROPIC_BASE_URL", format!("http://{DOORS_ADDR}/anthropic"));
    set("OPENAI_BASE_URL", format!("http://{DOORS_ADDR}/openai/v1"));
    let placeholder = |link: &Link| key.placeholder(&link.connector.auth().placeholder_prefix, link.name());
    let claw = &known.spec.name;
    if let Some(link) = state.model_link(claw) {
        set(&usual_variable(link), placeholder(link));
    }
    for link in state.granted_links(claw, Timestamp::now()) {
        set(&usual_variable(link), placeholder(link));
        set(
            &format!("{}_TOKEN", shouted(link.name().as_str())),
            placeholder(link),
        );
    }
    for name in ["ANTHROPIC_API_KEY", "OPENAI_API_KEY"] {
        set(name, "placeholder".to_owned());
    }
    env
}

/// The variable in which software expects the credential of a connector.
fn usual_variable(link: &Link) -> String {
    match link.connector.id().as_str() {
        "anthropic" => "ANTHROPIC_API_KEY".to_owned(),
        "openai" => "OPENAI_API_KEY".to_owned(),
        "slack" => "SLACK_BOT_TOKEN".to_owned(),
        other => format!("{}_TOKEN", shouted(other)),
    }
}

fn shouted(name: &str) -> String {
    name.replace('-', "_").to_ascii_uppercase()
}
