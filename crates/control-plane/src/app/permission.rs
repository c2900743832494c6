//! Who may do what: roles and permissions. Which route needs which permission is `http/table.rs`.

/// What a route needs. One per thing a role may be trusted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Permission {
    /// See who one is, the installation's state and the dashboard's own files.
    Look,
    /// See Claws, connections, connectors and guardrails.
    ReadFleet,
    /// Start, stop, pause, resume, restart and roll back Claws.
    OperateClaws,
    /// Apply a spec and destroy Claws: change what exists.
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
}

impl Role {
    pub(crate) const ALL: [Self; 7] = [
        Self::Owner,
        Self::Admin,
        Self::Operator,
        Self::Auditor,
        Self::Member,
        Self::Gateway,
        Self::Runner,
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
                P::BeGateway | P::BeRunner => false,
            },
            Self::Operator => match permission {
                P::Look
                | P::ReadFleet
                | P::OperateClaws
                | P::ReadGrants
                | P::DecideApprovals
                | P::TalkToClaws
                | P::ReadAudit => true,
                P::ChangeFleet | P::ChangeGrants | P::BeGateway | P::BeRunner => false,
            },
            Self::Auditor => match permission {
                P::Look | P::ReadFleet | P::ReadGrants | P::ReadAudit => true,
                P::OperateClaws
                | P::ChangeFleet
                | P::ChangeGrants
                | P::DecideApprovals
                | P::TalkToClaws
                | P::BeGateway
                | P::BeRunner => false,
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
                | P::BeRunner => false,
            },
            Self::Gateway => matches!(permission, P::BeGateway),
            Self::Runner => matches!(permission, P::BeRunner),
        }
    }
}
