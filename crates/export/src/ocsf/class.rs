//! Which class and activity each kind of event is.
//!
//! There is no class for an agent's own acts in OCSF yet; a tool or model call is API Activity, as other producers
//! of agent events have it.

use clawstaff_types::EventKind;

/// An event class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Class {
    Base = 0,
    Process = 1007,
    EventLog = 1008,
    Incident = 2005,
    Authentication = 3002,
    Entity = 3004,
    UserAccess = 3005,
    Network = 4001,
    Lifecycle = 6002,
    Api = 6003,
}

impl Class {
    pub(crate) const fn uid(self) -> u32 {
        self as u32
    }

    /// The caption, and its category's number and caption.
    pub(crate) const fn names(self) -> (&'static str, u32, &'static str) {
        match self {
            Self::Base => ("Base Event", 0, "Uncategorized"),
            Self::Process => ("Process Activity", 1, "System Activity"),
            Self::EventLog => ("Event Log Activity", 1, "System Activity"),
            Self::Incident => ("Incident Finding", 2, "Findings"),
            Self::Authentication => ("Authentication", 3, "Identity & Access Management"),
            Self::Entity => ("Entity Management", 3, "Identity & Access Management"),
            Self::UserAccess => ("User Access Management", 3, "Identity & Access Management"),
            Self::Network => ("Network Activity", 4, "Network Activity"),
            Self::Lifecycle => ("Application Lifecycle", 6, "Application Activity"),
            Self::Api => ("API Activity", 6, "Application Activity"),
        }
    }
}

/// A class and what was done in it. Number 99 is `Other`: the name is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Activity {
    pub(crate) class: Class,
    pub(crate) id: u32,
    pub(crate) name: &'static str,
}

/// `Other`.
pub(crate) const OTHER: u32 = 99;

impl Activity {
    pub(crate) const fn type_uid(self) -> u32 {
        self.class.uid() * 100 + self.id
    }
}

/// The class and activity of a kind.
pub(crate) const fn of(kind: EventKind) -> Activity {
    use EventKind as K;
    let (class, id, name) = match kind {
        K::MessageRead => (Class::Api, 2, "Read"),
        K::MessageSent => (Class::Api, 1, "Create"),
        K::ToolCall | K::ToolDenied => (Class::Api, OTHER, "Invoke"),
        K::ModelCall => (Class::Api, OTHER, "Invoke Model"),
        K::EgressDenied => (Class::Network, 5, "Refuse"),
        K::ApprovalRequested | K::SecretSet => (Class::Entity, 1, "Create"),
        K::ApprovalGranted | K::ApprovalDenied | K::ApprovalExpired | K::ConfigChanged | K::SecretRotated => {
            (Class::Entity, 3, "Update")
        }
        K::SecretRemoved => (Class::Entity, 4, "Delete"),
        K::GrantAdded => (Class::UserAccess, 1, "Assign Privileges"),
        K::GrantRevoked => (Class::UserAccess, 2, "Revoke Privileges"),
        K::ClawDeployed => (Class::Lifecycle, 1, "Install"),
        K::ClawUpdated => (Class::Lifecycle, 8, "Update"),
        K::ClawStarted => (Class::Lifecycle, 3, "Start"),
        K::ClawStopped | K::ClawFailed => (Class::Lifecycle, 4, "Stop"),
        K::ClawPaused => (Class::Lifecycle, OTHER, "Pause"),
        K::ClawResumed => (Class::Lifecycle, OTHER, "Resume"),
        K::ClawDestroyed => (Class::Lifecycle, 2, "Remove"),
        K::CageExec => (Class::Process, 1, "Launch"),
        K::AuthLogin | K::AuthFailed => (Class::Authentication, 1, "Logon"),
        K::AuthLogout => (Class::Authentication, 2, "Logoff"),
        K::AuditExport => (Class::EventLog, 3, "Export"),
        K::AuditErase => (Class::EventLog, OTHER, "Erase Content"),
        K::AuditHold => (Class::EventLog, OTHER, "Legal Hold"),
        K::AuditGap => (Class::EventLog, OTHER, "Gap"),
        K::IncidentOpened => (Class::Incident, 1, "Create"),
        K::IncidentContained => (Class::Incident, 2, "Update"),
        K::IncidentClosed => (Class::Incident, 3, "Close"),
    };
    Activity { class, id, name }
}
