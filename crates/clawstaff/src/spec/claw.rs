//! The `[[claw]]` section and what is below it.

use std::{collections::BTreeMap, io::Read as _, path::Path};

use clawstaff_api::people::GrantInput;
use clawstaff_types::{
    ByteSize, Conditions, Digest, Mode, NodeName,
    grant::ArgumentIs,
    spec::{Agent, Budget, ClawSpec, Limit, Limits, Model, Sealed, SlackEvent, Trigger},
};

use super::{
    parse::{ClawDraft, Instructions, list_of},
    reader::{Fields, SpecError, Value},
};

/// The longest instructions, in bytes.
const MAX_INSTRUCTIONS: u64 = 256 * 1024;

const KNOWN: [&str; 13] = [
    "name",
    "node",
    "pool",
    "description",
    "agent",
    "model",
    "instructions",
    "instructions_file",
    "instructions_sealed",
    "limits",
    "budget",
    "trigger",
    "grant",
];

pub(super) fn claw(value: Value<'_>, folder: &Path) -> Result<ClawDraft, SpecError> {
    let unsupported = [(
        "audience",
        "leave it out: for now the owner of the installation alone may talk to a Claw",
    )];
    let fields = value.fields("[[claw]]", &KNOWN, &unsupported)?;
    let node = fields.get("node").map(|value| value.parse()).transpose()?;
    let pool = fields.get("pool").map(|value| value.parse()).transpose()?;
    if node.is_some() && pool.is_some() {
        return Err(fields.error("only one of `node` and `pool` can be given"));
    }
    let triggers = list_of(&fields, "trigger")?;
    let grants = list_of(&fields, "grant")?;
    let spec = ClawSpec {
        name: fields.need("name")?.parse()?,
        node: node.filter(|node: &NodeName| !node.is_local()),
        description: fields
            .get("description")
            .map_or_else(|| Ok(String::new()), |value| value.text_up_to(200))?,
        agent: fields.get("agent").map_or_else(|| Ok(Agent::Builtin), agent)?,
        model: fields.get("model").map(model).transpose()?,
        instructions: None,
        limits: fields
            .get("limits")
            .map_or_else(|| Ok(Limits::default()), limits)?,
        budget: fields
            .get("budget")
            .map_or_else(|| Ok(Budget::default()), budget)?,
        triggers: triggers.into_iter().map(trigger).collect::<Result<_, _>>()?,
    };
    Ok(ClawDraft {
        spec,
        pool,
        instructions: instructions(&fields, folder)?,
        grants: grants.into_iter().map(grant).collect::<Result<_, _>>()?,
    })
}

fn agent(value: Value<'_>) -> Result<Agent, SpecError> {
    if value.is_string() {
        return value.word(&[("builtin", ())]).map(|()| Agent::Builtin);
    }
    let fields = value.fields("`agent`", &["image", "command", "env"], &[])?;
    let command = list_of(&fields, "command")?;
    let env = fields
        .get("env")
        .map_or_else(|| Ok(Vec::new()), |env| env.entries())?;
    Ok(Agent::Image {
        image: fields.need("image")?.text_up_to(512)?,
        command: command
            .iter()
            .map(|word| word.text_up_to(4096))
            .collect::<Result<_, _>>()?,
        env: env
            .into_iter()
            .map(|(name, value)| Ok((name.to_owned(), value.text_up_to(4096)?)))
            .collect::<Result<BTreeMap<_, _>, SpecError>>()?,
    })
}

fn model(value: Value<'_>) -> Result<Model, SpecError> {
    let known = ["connection", "name", "max_output_tokens", "retries", "fallback"];
    let fields = value.fields("`model`", &known, &[])?;
    Ok(Model {
        connection: fields.need("connection")?.parse()?,
        name: fields.need("name")?.text_up_to(128)?,
        max_output_tokens: fields
            .get("max_output_tokens")
            .map(|value| value.count())
            .transpose()?,
        retries: fields.get("retries").map_or(Ok(0), |value| value.count())?,
        fallback: fields
            .get("fallback")
            .map(|value| value.text_up_to(128))
            .transpose()?,
    })
}

fn limits(value: Value<'_>) -> Result<Limits, SpecError> {
    let known = ["memory", "cpus", "pids", "storage", "accept_unenforced"];
    let fields = value.fields("`limits`", &known, &[])?;
    let default = Limits::default();
    let size = |name, default| {
        fields
            .get(name)
            .map_or(Ok(default), |value| positive_size(&value))
    };
    let names = [
        ("memory", Limit::Memory),
        ("cpus", Limit::Cpus),
        ("pids", Limit::Pids),
        ("storage", Limit::Storage),
    ];
    let accepted = list_of(&fields, "accept_unenforced")?;
    Ok(Limits {
        memory: size("memory", default.memory)?,
        milli_cpus: fields
            .get("cpus")
            .map_or(Ok(default.milli_cpus), |value| value.milli_cpus())?,
        pids: fields
            .get("pids")
            .map_or(Ok(default.pids), |value| value.count())?,
        storage: size("storage", default.storage)?,
        accept_unenforced: accepted
            .iter()
            .map(|value| value.word(&names))
            .collect::<Result<_, _>>()?,
    })
}

fn positive_size(value: &Value<'_>) -> Result<ByteSize, SpecError> {
    let size: ByteSize = value.parse()?;
    if size.0 == 0 {
        return Err(value.error("a size of nothing; leave the limit out for the default"));
    }
    Ok(size)
}

fn budget(value: Value<'_>) -> Result<Budget, SpecError> {
    let known = ["requests_per_minute", "tokens_per_day", "usd_per_day"];
    let fields = value.fields("`budget`", &known, &[])?;
    Ok(Budget {
        requests_per_minute: fields
            .get("requests_per_minute")
            .map(|value| value.count())
            .transpose()?,
        tokens_per_day: fields
            .get("tokens_per_day")
            .map(|value| value.count())
            .transpose()?,
        usd_micros_per_day: fields
            .get("usd_per_day")
            .map(|value| value.usd_micros())
            .transpose()?,
    })
}

fn trigger(value: Value<'_>) -> Result<Trigger, SpecError> {
    let unsupported = ["github", "schedule", "webhook"].map(|name| {
        (
            name,
            "of the triggers, `slack = { connection, channel, on }` works today",
        )
    });
    let fields = value.fields("[[claw.trigger]]", &["slack"], &unsupported)?;
    let slack = fields
        .need("slack")?
        .fields("`slack`", &["connection", "channel", "on"], &[])?;
    let events = [("message", SlackEvent::Message), ("mention", SlackEvent::Mention)];
    Ok(Trigger::Slack {
        connection: slack.need("connection")?.parse()?,
        channel: slack.need("channel")?.text_up_to(64)?,
        on: slack.need("on")?.word(&events)?,
    })
}

fn grant(value: Value<'_>) -> Result<GrantInput, SpecError> {
    let known = [
        "connection",
        "actions",
        "resources",
        "conditions",
        "mode",
        "expires",
    ];
    let fields = value.fields("[[claw.grant]]", &known, &[])?;
    let modes = [("allow", Mode::Allow), ("ask", Mode::Ask)];
    Ok(GrantInput {
        connection: fields.need("connection")?.parse()?,
        actions: fields.need("actions")?.some()?,
        resources: fields.need("resources")?.some()?,
        conditions: fields
            .get("conditions")
            .map_or_else(|| Ok(Conditions::default()), conditions)?,
        mode: fields
            .get("mode")
            .map_or(Ok(Mode::Allow), |value| value.word(&modes))?,
        expires: fields.get("expires").map(|value| value.instant()).transpose()?,
    })
}

fn conditions(value: Value<'_>) -> Result<Conditions, SpecError> {
    let known = ["on_behalf_of", "arguments", "hours", "budget"];
    let fields = value.fields("`conditions`", &known, &[])?;
    let members = list_of(&fields, "on_behalf_of")?;
    let arguments = list_of(&fields, "arguments")?;
    let hours = list_of(&fields, "hours")?;
    Ok(Conditions {
        on_behalf_of: members.iter().map(Value::parse).collect::<Result<_, _>>()?,
        arguments: arguments.into_iter().map(argument).collect::<Result<_, _>>()?,
        hours: hours.iter().map(Value::parse).collect::<Result<_, _>>()?,
        budget: fields.get("budget").map(budget).transpose()?.unwrap_or_default(),
    })
}

fn argument(value: Value<'_>) -> Result<ArgumentIs, SpecError> {
    let fields = value.fields("`arguments`", &["name", "one_of"], &[])?;
    Ok(ArgumentIs {
        name: fields.need("name")?.text_up_to(64)?,
        one_of: fields.need("one_of")?.some()?,
    })
}

fn instructions(fields: &Fields<'_>, folder: &Path) -> Result<Option<Instructions>, SpecError> {
    let plain = fields.get("instructions");
    let file = fields.get("instructions_file");
    let sealed = fields.get("instructions_sealed");
    match (plain, file, sealed) {
        (None, None, None) => Ok(None),
        (Some(plain), None, None) => {
            let text = plain.text()?;
            let fits = u64::try_from(text.len()).is_ok_and(|bytes| bytes <= MAX_INSTRUCTIONS);
            if fits {
                Ok(Some(Instructions::Plain(text.to_owned())))
            } else {
                Err(plain.error(too_long()))
            }
        }
        (None, Some(file), None) => read_instructions(&file, folder).map(Some),
        (None, None, Some(sealed)) => sealed_instructions(&sealed).map(Some),
        _ => Err(fields
            .error("only one of `instructions`, `instructions_file` and `instructions_sealed` can be given")),
    }
}

fn too_long() -> String {
    format!("instructions are longer than {} KiB", MAX_INSTRUCTIONS / 1024)
}

fn read_instructions(value: &Value<'_>, folder: &Path) -> Result<Instructions, SpecError> {
    let path = folder.join(value.text()?);
    let unreadable = |error: &std::io::Error| value.error(format!("cannot read {}: {error}", path.display()));
    let file = std::fs::File::open(&path).map_err(|error| unreadable(&error))?;
    let mut text = String::new();
    let read = file
        .take(MAX_INSTRUCTIONS + 1)
        .read_to_string(&mut text)
        .map_err(|error| unreadable(&error))?;
    if u64::try_from(read).is_ok_and(|bytes| bytes > MAX_INSTRUCTIONS) {
        return Err(value.error(too_long()));
    }
    Ok(Instructions::Plain(text))
}

fn sealed_instructions(value: &Value<'_>) -> Result<Instructions, SpecError> {
    let known = ["recipient", "enc", "ciphertext", "digest"];
    let fields = value.fields("`instructions_sealed`", &known, &[])?;
    Ok(Instructions::Sealed(Sealed {
        recipient: fields.need("recipient")?.parse::<Digest>()?,
        enc: fields.need("enc")?.text()?.to_owned(),
        ciphertext: fields.need("ciphertext")?.text()?.to_owned(),
        digest: fields.need("digest")?.parse::<Digest>()?,
    }))
}
