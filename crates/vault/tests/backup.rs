//! Backups of the vault: what is in them, who opens them, and that restoring is all or nothing.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use clawstaff_types::{Secret, SecretName, spec::CredentialRef};
use clawstaff_vault::{BackupError, Binding, Contents, OpenError, StoreError, Terms, Vault};

const CANARY: &str = "xoxb-canary-4711-0815";
const PASSPHRASE: &str = "correct horse battery staple";

fn name(text: &str) -> SecretName {
    text.parse().unwrap()
}

fn secret(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

/// A vault with a bound secret in its second version, and a reference.
fn filled(dir: &Path) -> Vault {
    let vault = Vault::open(dir).unwrap();
    let binding = Binding {
        connections: vec!["slack".parse().unwrap()],
        hosts: vec!["slack.example.com:8443".parse().unwrap()],
    };
    vault.set(&name("bot"), secret("first")).unwrap();
    let terms = Terms {
        binding: Some(binding),
        expires: Some("2030-01-31T00:00:00Z".parse().unwrap()),
    };
    vault.set_under(&name("bot"), secret(CANARY), terms).unwrap();
    let reference = CredentialRef::try_from("env:PATH".to_owned()).unwrap();
    vault.refer(&name("later"), reference, Terms::default()).unwrap();
    vault
}

/// Names and contents of all sealed files.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|end| end == "age"))
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

/// The value behind `reference`, by the one way that hands it out without a call.
async fn value(vault: &Vault, reference: &str) -> String {
    let reference = CredentialRef::try_from(reference.to_owned()).unwrap();
    let found = vault.signing_secret(&reference).await.unwrap();
    found.expose_secret().clone()
}

#[tokio::test]
async fn a_backup_to_a_recipient_brings_values_versions_and_bindings_back_under_another_master_key() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let vault = filled(one.path());
    let identity = age::x25519::Identity::generate();
    let recipient = Secret::new(identity.to_public().to_string());
    let (file, names) = vault.backup(&recipient).unwrap();
    assert_eq!(names, [name("bot"), name("later")]);
    assert!(!file.windows(CANARY.len()).any(|part| part == CANARY.as_bytes()));

    let fresh = Vault::open(other.path()).unwrap();
    let key = Secret::new(age::secrecy::ExposeSecret::expose_secret(&identity.to_string()).to_owned());
    let contents = Contents::read(&file, &key).unwrap();
    fresh.restore(&contents, false).unwrap();
    let sealed = |vault: &Vault| -> Vec<_> {
        let all = vault.list().unwrap();
        all.into_iter().map(|info| (info.name, info.sealed)).collect()
    };
    assert_eq!(sealed(&fresh), sealed(&vault));
    assert_eq!(sealed(&fresh)[0].1.as_ref().unwrap().version, 2);
    assert_eq!(value(&fresh, "vault:bot").await, CANARY);
    assert_ne!(files(one.path())[0].1, files(other.path())[0].1);
}

#[tokio::test]
async fn what_is_there_is_overwritten_only_when_told_and_then_its_version_rises() {
    let dir = tempfile::tempdir().unwrap();
    let vault = filled(dir.path());
    let (file, _) = vault.backup(&secret(PASSPHRASE)).unwrap();
    let contents = Contents::read(&file, &secret(PASSPHRASE)).unwrap();
    vault.rotate(&name("bot"), secret("third")).unwrap();
    vault.remove(&name("later")).unwrap();
    let before = files(dir.path());
    let refused = vault.restore(&contents, false).unwrap_err();
    assert!(
        matches!(&refused, BackupError::Exists(names) if *names == [name("bot")]),
        "{refused}"
    );
    assert_eq!(files(dir.path()), before);
    assert_eq!(value(&vault, "vault:bot").await, "third");

    vault.restore(&contents, true).unwrap();
    assert_eq!(value(&vault, "vault:bot").await, CANARY);
    let list = vault.list().unwrap();
    let versions: Vec<u32> = list
        .iter()
        .map(|info| info.sealed.as_ref().unwrap().version)
        .collect();
    assert_eq!(versions, [4, 1]);
}

#[test]
fn a_backup_that_is_damaged_or_opened_with_the_wrong_key_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let vault = filled(dir.path());
    let identity = age::x25519::Identity::generate();
    let key = Secret::new(age::secrecy::ExposeSecret::expose_secret(&identity.to_string()).to_owned());
    let (file, _) = vault
        .backup(&Secret::new(identity.to_public().to_string()))
        .unwrap();
    let unopenable = |file: &[u8], key: &Secret<String>| {
        let error = Contents::read(file, key).unwrap_err();
        assert!(matches!(error, BackupError::Unopenable), "{error}");
    };
    let stranger = age::x25519::Identity::generate().to_string();
    unopenable(
        &file,
        &Secret::new(age::secrecy::ExposeSecret::expose_secret(&stranger).to_owned()),
    );
    for at in (0..file.len()).step_by(7) {
        let mut altered = file.clone();
        altered[at] ^= 1;
        unopenable(&altered, &key);
        unopenable(&file[..at], &key);
    }
    unopenable(b"", &key);
    let sealed_file = &files(dir.path())[0].1;
    unopenable(sealed_file, &key);
    for wrong in ["", " \n"] {
        assert!(matches!(
            Contents::read(&file, &secret(wrong)),
            Err(BackupError::NoKey)
        ));
        assert!(matches!(vault.backup(&secret(wrong)), Err(BackupError::NoKey)));
    }
    assert!(matches!(vault.backup(&key), Err(BackupError::PrivateKey)));
    assert!(matches!(
        vault.backup(&secret("age1notone")),
        Err(BackupError::BadRecipient)
    ));
}

#[test]
fn a_secret_that_cannot_be_read_fails_the_backup_instead_of_missing_from_it() {
    let dir = tempfile::tempdir().unwrap();
    let vault = filled(dir.path());
    fs::copy(dir.path().join("bot.age"), dir.path().join("copied.age")).unwrap();
    let refused = vault.backup(&secret(PASSPHRASE)).unwrap_err();
    assert!(
        matches!(refused, BackupError::Store(StoreError::Unopenable(_))),
        "{refused}"
    );
}

#[tokio::test]
async fn a_restoring_that_a_crash_cut_short_is_undone_before_it_was_decided_and_finished_after() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let vault = filled(one.path());
    let dir = other.path();
    drop(Vault::open(dir).unwrap());
    // The files of a vault with the same master key are what a restoring puts there.
    fs::copy(one.path().join("master.key"), dir.join("master.key")).unwrap();
    let stage = |folder: &str| {
        fs::create_dir(dir.join(folder)).unwrap();
        for (path, content) in files(one.path()) {
            fs::write(dir.join(folder).join(path.file_name().unwrap()), content).unwrap();
        }
    };
    stage(".restore-new");
    let undecided = Vault::open(dir).unwrap();
    assert!(undecided.list().unwrap().is_empty() && !dir.join(".restore-new").exists());
    drop(undecided);
    // Decided, and one of the two files was moved already.
    stage(".restore");
    fs::rename(dir.join(".restore/bot.age"), dir.join("bot.age")).unwrap();
    let decided = Vault::open(dir).unwrap();
    assert_eq!(decided.list().unwrap().len(), vault.list().unwrap().len());
    assert!(!dir.join(".restore").exists());
}

#[test]
fn a_lost_master_key_is_said_at_once_and_a_backup_can_still_be_made() {
    let dir = tempfile::tempdir().unwrap();
    let vault = filled(dir.path());
    vault.check_key().unwrap();
    fs::remove_file(dir.path().join("master.key")).unwrap();
    let refused = vault.set(&name("new"), secret("x")).unwrap_err();
    assert!(
        refused.to_string().contains("clawstaff secret backup"),
        "{refused}"
    );
    assert!(!vault.contains(&name("new")));
    let (file, names) = vault.backup(&secret(PASSPHRASE)).unwrap();
    assert_eq!(names.len(), 2);
    drop(vault);
    let lost = Vault::open(dir.path()).unwrap_err();
    assert!(
        matches!(lost, OpenError::KeyLost(_)) && lost.to_string().contains("secret restore"),
        "{lost}"
    );
    for (path, _) in files(dir.path()) {
        fs::remove_file(path).unwrap();
    }
    let fresh = Vault::open(dir.path()).unwrap();
    fresh
        .restore(&Contents::read(&file, &secret(PASSPHRASE)).unwrap(), false)
        .unwrap();
    assert_eq!(fresh.list().unwrap().len(), 2);
}
