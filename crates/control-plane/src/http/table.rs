//! What permission each route needs, and what it leaves in the log. The whole of it; a security person reads
//! this file.
//!
//! The matrix of roles and routes that follows from it is committed as `policies/matrix.out` and compared by a
//! test, so that a change of access is a diff. Another test (`tests/whole/records.rs`) drives every row and looks
//! for its record.

use clawstaff_types::EventKind::{
    self, AuditExport, AuthLogout, ClawDeployed, ClawUpdated, ConfigChanged, GrantAdded, GrantRevoked,
};

use super::routes::Server::{self, Nodes, People};
use crate::app::permission::{
    Permission::{
        self, BeGateway, BeRunner, ChangeFleet, ChangeGrants, DecideApprovals, Join, Look, OperateClaws,
        ReadAudit, ReadFleet, ReadGrants, RenewNode, TalkToClaws,
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
    pub(crate) leaves: Leaves,
}

/// What a route leaves in the log when it does what it was asked. Logins and refusals are recorded for every route
/// (`logins.rs`) and are not said here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaves {
    /// A record of one of these kinds: its intent is durable before the act.
    Record(&'static [EventKind]),
    /// Nothing, for this reason.
    Nothing(&'static str),
}

/// What exists and what was recorded: names, ids, counts, digests.
const NO_CONTENT: Leaves = Leaves::Nothing("reads names, ids, counts and digests, never content");
const QUESTION: Leaves = Leaves::Nothing("answers a question about what would be, and changes nothing");
const OWN_FILE: Leaves = Leaves::Nothing("is a file of the dashboard's own");
const DESIRED: Leaves = Leaves::Nothing("hands a node what was recorded when it was wanted");
const REPORT: Leaves = Leaves::Nothing("takes a report that changes nothing anybody wanted");
const APPLIED: Leaves = record(&[ClawDeployed, ClawUpdated, GrantAdded, GrantRevoked, ConfigChanged]);
const ENDED: Leaves = record(&[ConfigChanged, GrantRevoked]);
const INTAKE: Leaves =
    Leaves::Nothing("takes in records; a push that does not fit leaves `audit.gap` and `incident.opened`");
const WITNESS: Leaves = Leaves::Nothing("shows the own log to the gateway and keeps its cosignature");

const fn row(
    server: Server,
    method: &'static str,
    path: &'static str,
    needs: Permission,
    leaves: Leaves,
) -> Row {
    Row {
        server,
        method,
        path,
        needs,
        leaves,
    }
}

/// Shorthand for [`Leaves::Record`].
const fn record(kinds: &'static [EventKind]) -> Leaves {
    Leaves::Record(kinds)
}

pub(crate) const TABLE: &[Row] = &[
    row(People, "GET", "/v1/whoami", Look, NO_CONTENT),
    row(People, "GET", "/v1/status", Look, NO_CONTENT),
    row(People, "POST", "/v1/apply", ChangeFleet, APPLIED),
    row(People, "GET", "/v1/spec", ReadGrants, NO_CONTENT),
    row(People, "GET", "/v1/claws", ReadFleet, NO_CONTENT),
    row(People, "GET", "/v1/claws/{name}", ReadFleet, NO_CONTENT),
    row(People, "GET", "/v1/claws/{name}/history", ReadFleet, NO_CONTENT),
    row(
        People,
        "POST",
        "/v1/claws/{name}/start",
        OperateClaws,
        record(&[ConfigChanged]),
    ),
    row(
        People,
        "POST",
        "/v1/claws/{name}/stop",
        OperateClaws,
        record(&[ConfigChanged]),
    ),
    row(
        People,
        "POST",
        "/v1/claws/{name}/restart",
        OperateClaws,
        record(&[ConfigChanged]),
    ),
    row(
        People,
        "POST",
        "/v1/claws/{name}/pause",
        OperateClaws,
        record(&[ConfigChanged]),
    ),
    row(
        People,
        "POST",
        "/v1/claws/{name}/resume",
        OperateClaws,
        record(&[ConfigChanged]),
    ),
    row(
        People,
        "POST",
        "/v1/claws/{name}/rollback",
        ChangeFleet,
        record(&[ClawUpdated]),
    ),
    row(
        People,
        "POST",
        "/v1/claws/{name}/messages",
        TalkToClaws,
        record(&[ConfigChanged]),
    ),
    row(People, "DELETE", "/v1/claws/{name}", ChangeFleet, ENDED),
    row(People, "GET", "/v1/connectors", ReadFleet, NO_CONTENT),
    row(People, "GET", "/v1/connectors/{id}", ReadFleet, NO_CONTENT),
    row(People, "GET", "/v1/connections", ReadFleet, NO_CONTENT),
    row(People, "GET", "/v1/grants", ReadGrants, NO_CONTENT),
    row(People, "POST", "/v1/grants", ChangeGrants, record(&[GrantAdded])),
    row(
        People,
        "DELETE",
        "/v1/grants/{id}",
        ChangeGrants,
        record(&[GrantRevoked]),
    ),
    row(People, "POST", "/v1/grants/check", ReadGrants, QUESTION),
    row(People, "GET", "/v1/guardrails", ReadFleet, NO_CONTENT),
    row(
        People,
        "POST",
        "/v1/guardrails",
        ChangeGrants,
        record(&[ConfigChanged]),
    ),
    row(
        People,
        "DELETE",
        "/v1/guardrails/{name}",
        ChangeGrants,
        record(&[ConfigChanged]),
    ),
    row(People, "GET", "/v1/approvals", ReadGrants, NO_CONTENT),
    row(
        People,
        "POST",
        "/v1/approvals/{id}/approve",
        DecideApprovals,
        record(&[ConfigChanged]),
    ),
    row(
        People,
        "POST",
        "/v1/approvals/{id}/grant",
        ChangeGrants,
        record(&[ConfigChanged, GrantAdded]),
    ),
    row(
        People,
        "POST",
        "/v1/approvals/{id}/deny",
        DecideApprovals,
        record(&[ConfigChanged]),
    ),
    row(People, "GET", "/v1/audit", ReadAudit, NO_CONTENT),
    row(People, "GET", "/v1/audit/tail", ReadAudit, NO_CONTENT),
    row(People, "GET", "/v1/audit/checkpoints", ReadAudit, NO_CONTENT),
    row(
        People,
        "POST",
        "/v1/audit/rebuild",
        ChangeFleet,
        record(&[ConfigChanged]),
    ),
    row(
        People,
        "GET",
        "/v1/audit/export",
        ReadAudit,
        record(&[AuditExport]),
    ),
    row(People, "GET", "/v1/audit/sinks", ReadAudit, NO_CONTENT),
    row(
        People,
        "POST",
        "/v1/audit/sinks",
        ChangeFleet,
        record(&[ConfigChanged]),
    ),
    row(
        People,
        "DELETE",
        "/v1/audit/sinks/{name}",
        ChangeFleet,
        record(&[ConfigChanged]),
    ),
    row(People, "GET", "/v1/audit/{id}", ReadAudit, NO_CONTENT),
    row(People, "GET", "/v1/nodes", ReadFleet, NO_CONTENT),
    row(People, "POST", "/v1/nodes", ChangeFleet, record(&[ConfigChanged])),
    row(
        People,
        "DELETE",
        "/v1/nodes/{name}",
        ChangeFleet,
        record(&[ConfigChanged]),
    ),
    row(People, "GET", "/", ReadAudit, NO_CONTENT),
    row(People, "GET", "/claws/{name}", ReadAudit, NO_CONTENT),
    row(People, "GET", "/records/{id}", ReadAudit, NO_CONTENT),
    row(People, "POST", "/logout", Look, record(&[AuthLogout])),
    row(People, "GET", "/static/style.css", Look, OWN_FILE),
    row(People, "GET", "/static/live.js", Look, OWN_FILE),
    row(Nodes, "GET", "/nodes/v1/gateway/state", BeGateway, DESIRED),
    row(
        Nodes,
        "POST",
        "/nodes/v1/gateway/hello",
        BeGateway,
        record(&[ConfigChanged]),
    ),
    row(Nodes, "POST", "/nodes/v1/gateway/log", BeGateway, INTAKE),
    row(Nodes, "POST", "/nodes/v1/gateway/status", BeGateway, REPORT),
    row(Nodes, "GET", "/nodes/v1/gateway/control-log", BeGateway, WITNESS),
    row(
        Nodes,
        "POST",
        "/nodes/v1/gateway/control-log/cosigned",
        BeGateway,
        WITNESS,
    ),
    row(
        Nodes,
        "GET",
        "/nodes/v1/gateway/control-entries",
        BeGateway,
        NO_CONTENT,
    ),
    row(Nodes, "GET", "/nodes/v1/runner/state", BeRunner, DESIRED),
    row(Nodes, "POST", "/nodes/v1/runner/status", BeRunner, REPORT),
    row(Nodes, "POST", "/nodes/v1/join", Join, record(&[ConfigChanged])),
    row(
        Nodes,
        "POST",
        "/nodes/v1/renew",
        RenewNode,
        record(&[ConfigChanged]),
    ),
];

/// Every route with its method, its path and what it leaves in the log, for the test that drives them all.
pub fn records_of_routes() -> impl Iterator<Item = (&'static str, &'static str, Leaves)> {
    TABLE.iter().map(|row| (row.method, row.path, row.leaves))
}

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
        "# Which role may use which route, and what it leaves in the log. Generated from crates/control-plane/src/http/table.rs:".to_owned(),
        "# UPDATE_MATRIX=1 cargo nextest run -p clawstaff-control-plane matrix".to_owned(),
        String::new(),
        format!("{:<40} {:<15} {}  leaves", "route", "permission", heads.join("  ")),
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
    let leaves = match row.leaves {
        Leaves::Record(kinds) => kinds
            .iter()
            .map(|kind| kind.as_str())
            .collect::<Vec<_>>()
            .join(" "),
        Leaves::Nothing(_) => "-".to_owned(),
    };
    format!("{route:<40} {needs:<15} {}  {leaves}", marks.join("  "))
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
