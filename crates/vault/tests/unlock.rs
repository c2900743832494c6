//! Where the master key may come from, and what happens when it does not.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use clawstaff_types::Secret;
use clawstaff_vault::{OpenError, Unlock, Vault};

fn opened(dir: &Path) -> Result<Vault, OpenError> {
    Vault::open_with(dir, Unlock::obtain(dir)?)
}

fn says(dir: &Path, text: &str) {
    fs::write(dir.join("unlock"), text).unwrap();
    fs::set_permissions(dir.join("unlock"), Permissions::from_mode(0o600)).unwrap();
}

fn refused(dir: &Path) -> String {
    let error = opened(dir).unwrap_err();
    let cause = std::error::Error::source(&error)
        .map(ToString::to_string)
        .unwrap_or_default();
    format!("{error} {cause}")
}

#[test]
fn a_passphrase_from_a_command_seals_the_key_and_opens_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    // A vault that was opened by its file before: its key is taken over, and lies nowhere in the open any more.
    opened(dir)
        .unwrap()
        .set(&"slack".parse().unwrap(), Secret::new("xoxb-1".to_owned()))
        .unwrap();
    says(
        dir,
        "# where the passphrase is\ncommand:echo correct horse battery staple\n",
    );
    let vault = opened(dir).unwrap();
    assert!(vault.list().unwrap().iter().all(|secret| secret.sealed.is_some()));
    assert!(!dir.join("master.key").exists());
    assert!(
        opened(dir)
            .unwrap()
            .list()
            .unwrap()
            .iter()
            .all(|secret| secret.sealed.is_some())
    );
    says(dir, "command:echo another\n");
    assert!(refused(dir).contains("does not open with this passphrase"));
    fs::remove_file(dir.join("unlock")).unwrap();
    assert!(refused(dir).contains("is sealed to a passphrase"));
    says(dir, "command:echo correct horse battery staple\n");
    fs::remove_file(dir.join("master.key.sealed")).unwrap();
    assert!(
        refused(dir).contains("master.key is gone"),
        "a lost key is said to be lost, and no new one made"
    );
}

#[test]
fn a_key_from_a_command_is_used_as_it_is_and_kept_nowhere() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    opened(elsewhere.path()).unwrap();
    let key = elsewhere.path().join("master.key");
    says(dir.path(), &format!("command:cat {}\n", key.display()));
    opened(dir.path())
        .unwrap()
        .set(&"slack".parse().unwrap(), Secret::new("xoxb-1".to_owned()))
        .unwrap();
    let mut names: Vec<String> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["slack.age", "unlock"]);
}

#[test]
fn what_cannot_be_had_is_said_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for (text, why) in [
        ("nonsense", "does not say where the master key comes from"),
        ("command:", "does not say where the master key comes from"),
        (
            "command:true\ncommand:true",
            "does not say where the master key comes from",
        ),
        (
            "credential:../key",
            "does not say where the master key comes from",
        ),
        ("credential:clawstaff", "no credential `clawstaff`"),
        ("command:/nonexistent/program", "cannot be started"),
        ("command:false", "ended with"),
        ("command:true", "printed nothing"),
    ] {
        says(dir, text);
        let said = refused(dir);
        assert!(said.contains(why), "{text}: {said}");
    }
    fs::set_permissions(dir.join("unlock"), Permissions::from_mode(0o644)).unwrap();
    assert!(refused(dir).contains("can be read by others"));
}
