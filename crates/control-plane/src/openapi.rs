//! The people's API as OpenAPI 3.1, generated from the handlers and committed as `openapi/clawstaff.json`.

use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

use crate::http::described;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "ClawStaff",
        description = "The people's API of the control plane. On the host it is served on `run/api.sock`, where the \
                       caller's uid is the login; over TCP it takes the token in `control/dashboard.token`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        described::whoami,
        described::status,
        described::apply,
        described::spec,
        described::list_claws,
        described::show_claw,
        described::claw_history,
        described::start_claw,
        described::stop_claw,
        described::restart_claw,
        described::pause_claw,
        described::resume_claw,
        described::rollback_claw,
        described::message_claw,
        described::destroy_claw,
        described::list_connectors,
        described::show_connector,
        described::list_connections,
        described::list_grants,
        described::add_grant,
        described::revoke_grant,
        described::check_grant,
        described::list_guardrails,
        described::add_guardrail,
        described::remove_guardrail,
        described::list_approvals,
        described::approve_call,
        described::grant_call,
        described::deny_call,
        described::query_audit,
        described::tail_audit,
        described::list_checkpoints,
        described::rebuild_index,
        described::export_audit,
        described::list_sinks,
        described::add_sink,
        described::remove_sink,
        described::list_nodes,
        described::invite_node,
        described::revoke_node,
        described::show_record,
    ),
    modifiers(&Token),
    security(("token" = []))
)]
struct Api;

struct Token;

impl Modify for Token {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        let components = openapi.components.get_or_insert_with(Default::default);
        components.add_security_scheme("token", scheme);
    }
}

/// The document, as it is committed: JSON, indented, with a newline at its end.
pub fn openapi() -> String {
    let mut text = Api::openapi().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::openapi;
    use crate::http::table::TABLE;

    #[test]
    fn the_committed_openapi_document_is_the_one_that_is_served() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../openapi/clawstaff.json");
        if std::env::var_os("UPDATE_OPENAPI").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, openapi()).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == openapi(),
            "openapi/clawstaff.json is stale: UPDATE_OPENAPI=1 cargo nextest run -p clawstaff-control-plane openapi"
        );
    }

    #[test]
    fn every_route_of_the_api_is_described_in_openapi_and_no_other() {
        let document: serde_json::Value = serde_json::from_str(&openapi()).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let described: BTreeSet<(String, String)> = paths
            .iter()
            .flat_map(|(path, item)| {
                item.as_object()
                    .unwrap()
                    .keys()
                    .map(|method| (method.to_uppercase(), path.clone()))
            })
            .collect();
        let api = TABLE.iter().filter(|row| row.path.starts_with("/v1/"));
        let served: BTreeSet<(String, String)> = api
            .map(|row| (row.method.to_owned(), row.path.to_owned()))
            .collect();
        assert_eq!(described, served);
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    }
}
