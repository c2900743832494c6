//! How much attention a record deserves, and each format's number for that.

use clawstaff_types::{Decision, EventKind, Outcome};

use crate::Item;

/// Rising attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Ordinary work.
    Informational,
    /// Something was refused or failed.
    Low,
    /// Somebody should look.
    Medium,
    /// Somebody should look now.
    High,
}

impl Severity {
    /// The severity of a record.
    pub fn of(item: &Item) -> Self {
        Self::of_kind(item.event.kind).max(Self::of_result(item))
    }

    const fn of_kind(kind: EventKind) -> Self {
        use EventKind as K;
        match kind {
            K::AuditGap | K::IncidentOpened => Self::High,
            K::ClawFailed | K::AuthFailed | K::AuditErase | K::IncidentContained => Self::Medium,
            K::ToolDenied | K::EgressDenied | K::ApprovalDenied | K::ApprovalExpired | K::CageExec => {
                Self::Low
            }
            K::MessageRead
            | K::MessageSent
            | K::ToolCall
            | K::ModelCall
            | K::ApprovalRequested
            | K::ApprovalGranted
            | K::GrantAdded
            | K::GrantRevoked
            | K::ConfigChanged
            | K::ClawDeployed
            | K::ClawUpdated
            | K::ClawStarted
            | K::ClawStopped
            | K::ClawPaused
            | K::ClawResumed
            | K::ClawDestroyed
            | K::SecretSet
            | K::SecretRotated
            | K::SecretRemoved
            | K::AuthLogin
            | K::AuthLogout
            | K::AuditExport
            | K::AuditHold
            | K::IncidentClosed => Self::Informational,
        }
    }

    const fn of_result(item: &Item) -> Self {
        match (item.event.outcome, item.event.decision) {
            (Some(Outcome::Unknown), _) => Self::Medium,
            (Some(Outcome::Failed | Outcome::Refused), _) | (_, Some(Decision::Deny)) => Self::Low,
            (Some(Outcome::Succeeded) | None, _) => Self::Informational,
        }
    }

    /// OCSF `severity_id` and its caption.
    pub const fn ocsf(self) -> (u8, &'static str) {
        match self {
            Self::Informational => (1, "Informational"),
            Self::Low => (2, "Low"),
            Self::Medium => (3, "Medium"),
            Self::High => (4, "High"),
        }
    }

    /// CEF: 0 to 10.
    pub const fn cef(self) -> u8 {
        match self {
            Self::Informational => 2,
            Self::Low => 4,
            Self::Medium => 6,
            Self::High => 8,
        }
    }

    /// RFC 5424 table 2: informational, notice, warning, error.
    pub const fn syslog(self) -> u8 {
        match self {
            Self::Informational => 6,
            Self::Low => 5,
            Self::Medium => 4,
            Self::High => 3,
        }
    }

    /// OpenTelemetry `SeverityNumber` and text.
    pub const fn otlp(self) -> (u8, &'static str) {
        match self {
            Self::Informational => (9, "INFO"),
            Self::Low => (10, "INFO2"),
            Self::Medium => (13, "WARN"),
            Self::High => (17, "ERROR"),
        }
    }
}
