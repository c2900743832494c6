//! What the uplink may do once it runs: read and write its own folder, make the socket, dial out. No programs, no
//! other files but those that names are looked up with.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, path_beneath_rules,
};

use crate::{failure::Failure, place::Place};

/// What the C library reads to look a name up.
const NAMES: [&str; 6] = [
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/host.conf",
    "/run/systemd/resolve",
];

/// Confines this thread and all that it starts; called while it is the only one.
pub(crate) fn confine(place: &Place, key_log: Option<&Path>) -> Result<(), Failure> {
    let failed =
        |error: &dyn std::fmt::Display| Failure::failed(format!("cannot confine the uplink: {error}"));
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(|error| failed(&error))?;
    let abi = ABI::V5;
    let own = [place.control(), place.run()];
    let log: Vec<PathBuf> = key_log
        .and_then(Path::parent)
        .map(PathBuf::from)
        .into_iter()
        .collect();
    let restrict = || {
        Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(abi))?
            .create()?
            .add_rules(path_beneath_rules(own.iter().chain(&log), rights()))?
            .add_rules(path_beneath_rules(NAMES, AccessFs::ReadFile | AccessFs::ReadDir))?
            .restrict_self()
    };
    restrict()
        .map(drop)
        .map_err(|error: landlock::RulesetError| failed(&error))
}

fn rights() -> landlock::BitFlags<AccessFs> {
    AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeSock
        | AccessFs::RemoveFile
}
