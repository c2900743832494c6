//! `clawstaff whoami` and `clawstaff status`: who asks, and what is there.

use clawstaff_api::{
    local::{GatewayInfo, INFO},
    people::{ServerStatus, WhoAmI},
};

use crate::{
    context::Context,
    failure::Failure,
    fault,
    output::{self, Field},
};

/// Who the server takes you for
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  clawstaff whoami -o json")]
pub(crate) struct WhoAmIArgs {}

/// Which parts of the installation are there and connected
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  clawstaff status")]
pub(crate) struct StatusArgs {}

pub(crate) async fn whoami(context: &Context) -> Result<(), Failure> {
    let me: WhoAmI = context.api()?.get("/v1/whoami").await?;
    context.output.one(&me, |me| {
        vec![("member", me.member.clone()), ("role", me.role.clone())]
    })
}

pub(crate) async fn status(context: &Context) -> Result<(), Failure> {
    let status: ServerStatus = context.api()?.get("/v1/status").await?;
    context.output.one(&status, fields)?;
    for warning in warnings(context).await {
        output::note(&format!("warning: {warning}"));
    }
    Ok(())
}

/// What the gateway on this host wants to be done about something, or why it does not run.
async fn warnings(context: &Context) -> Vec<String> {
    let (Ok(place), Ok(gateway), false) = (context.place(), context.gateway(), context.is_remote()) else {
        return Vec::new();
    };
    match gateway.get::<GatewayInfo>(INFO).await {
        Ok(info) => info.warnings,
        Err(_) => fault::read(&place.gateway_fault()).into_iter().collect(),
    }
}

fn fields(status: &ServerStatus) -> Vec<Field> {
    let connected = |connected: bool| if connected { "connected" } else { "not connected" };
    let mut fields = vec![
        ("version", status.version.clone()),
        ("revision", status.revision.to_string()),
    ];
    match &status.gateway {
        None => fields.push(("gateway", "has never connected".to_owned())),
        Some(gateway) => fields.extend([
            (
                "gateway",
                format!("{}, revision {}", connected(gateway.connected), gateway.revision),
            ),
            ("refused", gateway.refused.clone().unwrap_or_default()),
            ("ingress", gateway.ingress.clone()),
            ("seal key", gateway.seal_key.clone()),
            ("log key", gateway.log_vkey.clone()),
        ]),
    }
    fields.push((
        "runner",
        status.runner.as_ref().map_or_else(
            || "has never connected".to_owned(),
            |runner| {
                let state = connected(runner.connected);
                format!("{state}, {} cages, revision {}", runner.backend, runner.revision)
            },
        ),
    ));
    for log in &status.logs {
        let name = if log.name == "gateway" {
            "gateway log"
        } else {
            "control log"
        };
        let each = match (log.bytes_per_entry, log.micros_per_entry) {
            (Some(bytes), Some(micros)) => format!(", {bytes} bytes and {micros} µs an entry"),
            (None, _) | (_, None) => String::new(),
        };
        let text = format!("{} entries, {} not searchable yet{each}", log.entries, log.behind);
        fields.push((name, text));
    }
    fields
}
