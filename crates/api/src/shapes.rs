//! How types of the `types` crate look on the wire, for the OpenAPI document. That crate knows no schemas.
//!
//! Nothing is made of these but their schemas. A test holds each against the JSON of the type that it describes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use utoipa::ToSchema;

/// An organization's own authenticated instance of a connector.
#[derive(Debug, ToSchema)]
#[schema(as = Connection)]
pub struct ConnectionShape {
    /// Its name.
    pub name: String,
    /// The connector's id.
    pub connector: String,
    /// Where the credential is found, never the credential: `vault:NAME`, `env:VAR`, `file:/path`, `exec:command`,
    /// `bao:STORE/PATH#FIELD`, `k8s:STORE/NAMESPACE/SECRET#KEY`.
    pub credential: String,
    /// Where the secret that signs inbound events is found.
    #[schema(nullable = false, required = false)]
    pub signing_secret: Option<String>,
    /// Another address for the same API; `http://` for loopback addresses only.
    #[schema(nullable = false, required = false)]
    pub base_url: Option<String>,
}

/// Where the gateway sends every record of the logs.
#[derive(Debug, ToSchema)]
#[schema(as = Sink)]
pub struct SinkShape {
    /// Its name.
    pub name: String,
    /// `syslog`, `webhook`, `otlp`, `s3` or `file`.
    pub kind: String,
    /// `host:port` for syslog, an URL for webhook, OTLP and S3, nothing for files.
    #[schema(required = false)]
    pub address: String,
    /// `jsonl`, `csv`, `cef`, `ocsf` or `ocsf-VERSION`.
    #[schema(nullable = false, required = false)]
    pub format: Option<String>,
    /// Certificate authorities (PEM) to trust there instead of the public ones.
    #[schema(nullable = false, required = false)]
    pub ca: Option<String>,
    /// Where its credential is found, never the credential: `vault:sink-NAME`.
    #[schema(nullable = false, required = false)]
    pub credential: Option<String>,
}

/// An organization-wide prohibition that no grant overrides.
#[derive(Debug, ToSchema)]
#[schema(as = Guardrail)]
pub struct GuardrailShape {
    /// Its name.
    pub name: String,
    /// Patterns of the actions it forbids: `github:*.write`.
    pub actions: Vec<String>,
    /// Patterns of the resources on which it forbids them: `repo:acme/production`, `channel:*`, `*`.
    pub resources: Vec<String>,
}

/// Further conditions of a grant; all present ones must hold.
#[derive(Debug, ToSchema)]
#[schema(as = Conditions)]
pub struct ConditionsShape {
    /// Only on behalf of one of these members.
    #[schema(required = false)]
    pub on_behalf_of: Vec<String>,
    /// An argument must have one of these values.
    #[schema(required = false)]
    pub arguments: Vec<ArgumentShape>,
    /// Only within one of these windows of the week: `mon-fri 09:00-17:00 Europe/Berlin`.
    #[schema(required = false)]
    pub hours: Vec<String>,
    /// What may be spent under the grant.
    #[schema(required = false)]
    pub budget: BudgetShape,
}

/// One argument of the call must have one of the listed values.
#[derive(Debug, ToSchema)]
#[schema(as = ArgumentIs)]
pub struct ArgumentShape {
    /// The argument's name in the connector.
    pub name: String,
    /// The values allowed.
    pub one_of: Vec<String>,
}

/// One explicit permission of one Claw.
#[derive(Debug, ToSchema)]
#[schema(as = Grant)]
pub struct GrantShape {
    /// Its id: `gr_…`.
    pub id: String,
    /// The Claw that holds it.
    pub claw: String,
    /// The connection it is about.
    pub connection: String,
    /// Patterns of the actions it allows: `messages.read`, `issues.*`.
    pub actions: Vec<String>,
    /// Patterns of the resources it reaches: `channel:C0SUPPORT`, `repo:acme/*`, `*`.
    pub resources: Vec<String>,
    /// What else must hold.
    pub conditions: ConditionsShape,
    /// `allow`, or `ask` for a human's consent.
    pub mode: String,
    /// After this instant it allows nothing.
    #[schema(value_type = Option<String>, format = DateTime, nullable = false, required = false)]
    pub expires: Option<Timestamp>,
    /// Who assigned it.
    pub granted_by: String,
}

/// Content sealed to a gateway's public key (RFC 9180 HPKE).
#[derive(Debug, ToSchema)]
#[schema(as = Sealed)]
pub struct SealedShape {
    /// Digest of the recipient's public key: `sha256:…`.
    pub recipient: String,
    /// Encapsulated key, base64.
    pub enc: String,
    /// Ciphertext, base64.
    pub ciphertext: String,
    /// Digest of the plaintext.
    pub digest: String,
}

/// The model a Claw thinks with.
#[derive(Debug, ToSchema)]
#[schema(as = Model)]
pub struct ModelShape {
    /// The connection to its provider.
    pub connection: String,
    /// The provider's name of the model.
    pub name: String,
    /// Calls that ask for more tokens in the answer, or do not say how many, are refused.
    #[schema(nullable = false, required = false)]
    pub max_output_tokens: Option<u64>,
    /// How often a call that the provider could not take is made again.
    #[schema(required = false)]
    pub retries: u8,
    /// The model that is asked when this one cannot answer after all retries.
    #[schema(nullable = false, required = false)]
    pub fallback: Option<String>,
}

/// The limits of a cage.
#[derive(Debug, ToSchema)]
#[schema(as = Limits)]
pub struct LimitsShape {
    /// Memory, swap included: `256MiB`.
    pub memory: String,
    /// Thousandths of a CPU.
    pub milli_cpus: u32,
    /// Processes and threads.
    pub pids: u32,
    /// Size of `/data`: `256MiB`.
    pub storage: String,
    /// Limits accepted unenforced: `memory`, `cpus`, `pids`, `storage`.
    #[schema(required = false)]
    pub accept_unenforced: Vec<String>,
}

/// What a Claw may spend, or may be spent under a grant; absent means no limit of that kind.
#[derive(Debug, ToSchema)]
#[schema(as = Budget)]
pub struct BudgetShape {
    /// Calls in any 60 seconds.
    #[schema(nullable = false, required = false)]
    pub requests_per_minute: Option<u32>,
    /// Model tokens per UTC day.
    #[schema(nullable = false, required = false)]
    pub tokens_per_day: Option<u64>,
    /// What model calls may cost per UTC day, in millionths of a US dollar.
    #[schema(nullable = false, required = false)]
    pub usd_micros_per_day: Option<u64>,
}

/// A Claw as asked for: one immutable revision of it.
#[derive(Debug, ToSchema)]
#[schema(as = ClawSpec)]
pub struct ClawSpecShape {
    /// Its name.
    pub name: String,
    /// The node that has its cage; absent, the control plane's own host.
    #[schema(nullable = false, required = false)]
    pub node: Option<String>,
    /// What it is for, in a line.
    #[schema(required = false)]
    pub description: String,
    /// `"builtin"`, or `{"image": {"image": …, "command": […], "env": {…}}}`.
    #[schema(value_type = Value, required = false)]
    pub agent: String,
    /// The model it thinks with.
    #[schema(nullable = false, required = false)]
    pub model: Option<ModelShape>,
    /// Its instructions, sealed to the gateway with the label `instructions`.
    #[schema(nullable = false, required = false)]
    pub instructions: Option<SealedShape>,
    /// The limits of its cage.
    #[schema(required = false)]
    pub limits: LimitsShape,
    /// What it may spend.
    #[schema(required = false)]
    pub budget: BudgetShape,
    /// What sets it to work: `{"slack": {"connection": …, "channel": …, "on": "message"}}`.
    #[schema(value_type = Vec<Object>, required = false)]
    pub triggers: Vec<String>,
}

/// What an audit record says: who did what to what, why, allowed by which grant, and what came of it.
#[derive(Debug, ToSchema)]
#[schema(as = Event)]
pub struct EventShape {
    /// What kind of event: `tool.call`, `grant.added`, …
    pub kind: String,
    /// Who acted: `member:uid-0`, `claw:support-triage`, `system:runner`.
    pub actor: String,
    /// The Claw concerned.
    #[schema(nullable = false, required = false)]
    pub claw: Option<String>,
    /// The member on whose behalf a Claw acted.
    #[schema(nullable = false, required = false)]
    pub on_behalf_of: Option<String>,
    /// The inbound event that led to it.
    #[schema(nullable = false, required = false)]
    pub cause: Option<String>,
    /// The Claw's revision in force.
    #[schema(nullable = false, required = false)]
    pub claw_revision: Option<u32>,
    /// The policy snapshot in force.
    #[schema(nullable = false, required = false)]
    pub policy_revision: Option<u64>,
    /// The connection used or aimed at.
    #[schema(nullable = false, required = false)]
    pub connection: Option<String>,
    /// The action: `slack:messages.read`.
    #[schema(nullable = false, required = false)]
    pub action: Option<String>,
    /// The resource: `channel:C0SUPPORT`.
    #[schema(nullable = false, required = false)]
    pub resource: Option<String>,
    /// `allow`, `deny` or `ask`.
    #[schema(nullable = false, required = false)]
    pub decision: Option<String>,
    /// The grants that determined the decision.
    #[schema(required = false)]
    pub grants: Vec<String>,
    /// The guardrails that determined the decision.
    #[schema(required = false)]
    pub guardrails: Vec<String>,
    /// Why, in words.
    #[schema(nullable = false, required = false)]
    pub reason: Option<String>,
    /// `succeeded`, `failed`, `refused` or `unknown`; absent while it is under way.
    #[schema(nullable = false, required = false)]
    pub outcome: Option<String>,
    /// Digests of content, by label.
    #[schema(required = false)]
    pub digests: BTreeMap<String, String>,
    /// Ids, counts and statuses, by label.
    #[schema(required = false)]
    pub facts: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use clawstaff_types::{
        Actor, Digest, Event, EventKind, Grant, Guardrail, Outcome,
        spec::{Agent, Budget, ClawSpec, Connection, Limits, Sealed},
    };
    use serde::Serialize;
    use utoipa::PartialSchema;

    use super::*;

    fn check<S: PartialSchema, T: Serialize>(value: &T) {
        let schema = serde_json::to_value(S::schema()).unwrap();
        let json = serde_json::to_value(value).unwrap();
        let properties = schema["properties"].as_object().unwrap();
        for name in json.as_object().unwrap().keys() {
            assert!(properties.contains_key(name), "`{name}` is not in {schema}");
        }
        for required in schema["required"].as_array().into_iter().flatten() {
            assert!(
                json.get(required.as_str().unwrap()).is_some(),
                "{required} is not in {json}"
            );
        }
    }

    fn sealed() -> Sealed {
        Sealed {
            recipient: Digest::of(b"k"),
            enc: "AA==".into(),
            ciphertext: "AA==".into(),
            digest: Digest::of(b"t"),
        }
    }

    #[test]
    fn every_shape_has_the_fields_of_the_type_it_describes() {
        let grant: Grant = serde_json::from_str(
            r#"{"id":"gr_1","claw":"a","connection":"slack","actions":["*"],"resources":["*"],"granted_by":"uid-0",
                "expires":"2027-01-31T00:00:00Z","conditions":{"on_behalf_of":["uid-1"],"arguments":[{"name":"n","one_of":["v"]}],
                "hours":["09:00-17:00"],"budget":{"requests_per_minute":1}}}"#,
        )
        .unwrap();
        check::<GrantShape, _>(&grant);
        check::<ConditionsShape, _>(&grant.conditions);
        check::<ArgumentShape, _>(&grant.conditions.arguments[0]);
        let guardrail: Guardrail =
            serde_json::from_str(r#"{"name":"g","actions":["*"],"resources":["*"]}"#).unwrap();
        check::<GuardrailShape, _>(&guardrail);
        let connection: Connection = serde_json::from_str(
            r#"{"name":"s","connector":"slack","credential":"vault:x","signing_secret":"vault:y","base_url":"http://[::1]/"}"#,
        )
        .unwrap();
        check::<ConnectionShape, _>(&connection);
        check::<SealedShape, _>(&sealed());
    }

    #[test]
    fn the_shapes_of_claws_and_events_have_all_their_fields() {
        let spec: ClawSpec = serde_json::from_str(
            r#"{"name":"a","model":{"connection":"c","name":"m"},"budget":{"requests_per_minute":1,"tokens_per_day":1},
                "triggers":[{"slack":{"connection":"s","channel":"C","on":"message"}}]}"#,
        )
        .unwrap();
        let spec = ClawSpec {
            instructions: Some(sealed()),
            agent: Agent::Builtin,
            ..spec
        };
        check::<ClawSpecShape, _>(&spec);
        check::<LimitsShape, _>(&Limits::default());
        check::<BudgetShape, _>(&Budget::default());
        let mut event = Event::new(EventKind::ToolCall, Actor::System("gateway".into()));
        event.outcome = Some(Outcome::Succeeded);
        event.facts.insert("status".into(), "200".into());
        check::<EventShape, _>(&event);
    }
}
