//! What permission each route needs. The whole of it; a security person reads this file.
//!
//! The matrix of roles and routes that follows from it is committed as `policies/matrix.out` and compared by a
//! test, so that a change of access is a diff.

use super::routes::Server::{self, Nodes, People};
use crate::app::permission::{
    Permission::{
        self, BeGateway, BeRunner, ChangeFleet, ChangeGrants, Look, OperateClaws, ReadAudit, ReadFleet,
        ReadGrants, TalkToClaws,
    },
    Role,
};

/// One route and what it needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) server: Server,
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) needs: Permission,
}

const fn row(server: Server, method: &'static str, path: &'static str, needs: Permission) -> Row {
    Row {
        server,
        method,
        path,
        needs,
    }
}

pub(crate) const TABLE: &[Row] = &[
    row(People, "GET", "/v1/whoami", Look),
    row(People, "GET", "/v1/status", Look),
    row(People, "POST", "/v1/apply", ChangeFleet),
    row(People, "GET", "/v1/spec", ReadGrants),
    row(People, "GET", "/v1/claws", ReadFleet),
    row(People, "GET", "/v1/claws/{name}", ReadFleet),
    row(People, "GET", "/v1/claws/{name}/history", ReadFleet),
    row(People, "POST", "/v1/claws/{name}/start", OperateClaws),
    row(People, "POST", "/v1/claws/{name}/stop", OperateClaws),
    row(People, "POST", "/v1/claws/{name}/restart", OperateClaws),
    row(People, "POST", "/v1/claws/{name}/pause", OperateClaws),
    row(People, "POST", "/v1/claws/{name}/resume", OperateClaws),
    row(People, "POST", "/v1/claws/{name}/rollback", ChangeFleet),
    row(People, "POST", "/v1/claws/{name}/messages", TalkToClaws),
    row(People, "DELETE", "/v1/claws/{name}", ChangeFleet),
    row(People, "GET", "/v1/connectors", ReadFleet),
    row(People, "GET", "/v1/connectors/{id}", ReadFleet),
    row(People, "GET", "/v1/connections", ReadFleet),
    row(People, "GET", "/v1/grants", ReadGrants),
    row(People, "POST", "/v1/grants", ChangeGrants),
    row(People, "DELETE", "/v1/grants/{id}", ChangeGrants),
    row(People, "POST", "/v1/grants/check", ReadGrants),
    row(People, "GET", "/v1/guardrails", ReadFleet),
    row(People, "POST", "/v1/guardrails", ChangeGrants),
    row(People, "DELETE", "/v1/guardrails/{name}", ChangeGrants),
    row(People, "GET", "/v1/audit", ReadAudit),
    row(People, "GET", "/v1/audit/tail", ReadAudit),
    row(People, "GET", "/v1/audit/checkpoints", ReadAudit),
    row(People, "GET", "/v1/audit/{id}", ReadAudit),
    row(People, "GET", "/", ReadAudit),
    row(People, "GET", "/claws/{name}", ReadAudit),
    row(People, "GET", "/records/{id}", ReadAudit),
    row(People, "GET", "/static/style.css", Look),
    row(People, "GET", "/static/live.js", Look),
    row(Nodes, "GET", "/nodes/v1/gateway/state", BeGateway),
    row(Nodes, "POST", "/nodes/v1/gateway/hello", BeGateway),
    row(Nodes, "POST", "/nodes/v1/gateway/log", BeGateway),
    row(Nodes, "POST", "/nodes/v1/gateway/status", BeGateway),
    row(Nodes, "GET", "/nodes/v1/runner/state", BeRunner),
    row(Nodes, "POST", "/nodes/v1/runner/status", BeRunner),
];

/// What a route needs, if anybody has said so.
pub(crate) fn needs(server: Server, method: &str, path: &str) -> Option<Permission> {
    let found = TABLE
        .iter()
        .find(|row| row.server == server && row.method == method && row.path == path);
    found.map(|row| row.needs)
}

/// Which role may use which route, as a table for people: the text of `policies/matrix.out`.
pub fn permission_matrix() -> String {
    let heads: Vec<&str> = Role::ALL.iter().map(|role| role.name()).collect();
    let mut lines = vec![
        "# Which role may use which route. Generated from crates/control-plane/src/http/table.rs:".to_owned(),
        "# UPDATE_MATRIX=1 cargo nextest run -p clawstaff-control-plane matrix".to_owned(),
        String::new(),
        format!("{:<40} {:<13} {}", "route", "permission", heads.join("  ")),
    ];
    lines.extend(TABLE.iter().map(line));
    lines.push(String::new());
    lines.join("\n")
}

fn line(row: &Row) -> String {
    let mark = |role: &Role| {
        let mark = if role.may(row.needs) { "yes" } else { "-" };
        format!("{mark:<width$}", width = role.name().len())
    };
    let marks: Vec<String> = Role::ALL.iter().map(mark).collect();
    let (route, needs) = (format!("{} {}", row.method, row.path), format!("{:?}", row.needs));
    format!("{route:<40} {needs:<13} {}", marks.join("  "))
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::{TABLE, permission_matrix};

    #[test]
    fn the_committed_matrix_is_the_one_that_is_enforced() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/matrix.out");
        if std::env::var_os("UPDATE_MATRIX").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, permission_matrix()).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(
            committed,
            permission_matrix(),
            "policies/matrix.out is stale: UPDATE_MATRIX=1 cargo nextest run -p clawstaff-control-plane matrix"
        );
    }

    #[test]
    fn no_route_is_in_the_table_twice() {
        let distinct: BTreeSet<_> = TABLE.iter().map(|row| (row.method, row.path)).collect();
        assert_eq!(distinct.len(), TABLE.len());
    }
}
