//! Who may do what: roles and permissions. Which route needs which permission is `http/table.rs`.

/// What a route needs. One per thing a role may be trusted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Permission {
    /// See who one is, the installation's state and the dashboard's own files.
    Look,
    /// See Claws, nodes, connections, connectors and guardrails.
    ReadFleet,
    /// Start, stop, pause, resume, restart and roll back Claws.
    OperateClaws,
    /// Apply a spec, destroy Claws, let nodes in and turn them away: change what exists.
    ChangeFleet,
    /// See grants and ask what they allow.
    ReadGrants,
    /// Give and take grants and guardrails.
    ChangeGrants,
    /// Say yes or no to calls that wait for a human, one at a time.
    DecideApprovals,
    /// Say something to a Claw.
    TalkToClaws,
    /// Search the audit log.
    ReadAudit,
    /// Be the gateway.
    BeGateway,
    /// Be the runner.
    BeRunner,
    /// Join as a node, with a join token.
    Join,
    /// Get the next certificate of the node that one is.
    RenewNode,
}

/// What a caller is. Local logins and the dashboard's token are owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    Owner,
    Admin,
    Operator,
    Auditor,
    Member,
    Gateway,
    Runner,
    /// A host that shows no certificate: it may join, if it has a join token.
    Stranger,
    /// A host that shows its certificate, for itself.
    Uplink,
}

impl Role {
    pub(crate) const ALL: [Self; 9] = [
        Self::Owner,
        Self::Admin,
        Self::Operator,
        Self::Auditor,
        Self::Member,
        Self::Gateway,
        Self::Runner,
        Self::Stranger,
        Self::Uplink,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
            Self::Member => "member",
            Self::Gateway => "gateway",
            Self::Runner => "runner",
            Self::Stranger => "stranger",
            Self::Uplink => "uplink",
        }
    }

    /// Whether this role has this permission. Every pair is decided by name.
    pub(crate) const fn may(self, permission: Permission) -> bool {
        use Permission as P;
        match self {
            Self::Owner | Self::Admin => match permission {
                P::Look
                | P::ReadFleet
                | P::OperateClaws
                | P::ChangeFleet
                | P::ReadGrants
                | P::ChangeGrants
                | P::DecideApprovals
                | P::TalkToClaws
                | P::ReadAudit => true,
                P::BeGateway | P::BeRunner | P::Join | P::RenewNode => false,
            },
            Self::Operator => match permission {
                P::Look
                | P::ReadFleet
                | P::OperateClaws
                | P::ReadGrants
                | P::DecideApprovals
                | P::TalkToClaws
                | P::ReadAudit => true,
                P::ChangeFleet | P::ChangeGrants | P::BeGateway | P::BeRunner | P::Join | P::RenewNode => {
                    false
                }
            },
            Self::Auditor => match permission {
                P::Look | P::ReadFleet | P::ReadGrants | P::ReadAudit => true,
                P::OperateClaws
                | P::ChangeFleet
                | P::ChangeGrants
                | P::DecideApprovals
                | P::TalkToClaws
                | P::BeGateway
                | P::BeRunner
                | P::Join
                | P::RenewNode => false,
            },
            Self::Member => match permission {
                P::Look | P::ReadFleet | P::TalkToClaws => true,
                P::OperateClaws
                | P::ChangeFleet
                | P::ReadGrants
                | P::ChangeGrants
                | P::DecideApprovals
                | P::ReadAudit
                | P::BeGateway
                | P::BeRunner
                | P::Join
                | P::RenewNode => false,
            },
            Self::Gateway => matches!(permission, P::BeGateway),
            Self::Runner => matches!(permission, P::BeRunner),
            Self::Stranger => matches!(permission, P::Join),
            Self::Uplink => matches!(permission, P::RenewNode),
        }
    }
}
