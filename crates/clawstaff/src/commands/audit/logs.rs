//! The files of a log on this machine, for commands that prove from them: its tiles, and the checkpoints that
//! somebody cosigned.

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use clawstaff_audit::{
    Checkpoint, Cosigner, Policy, VerifyingKey,
    note::{MAX_NOTE_BYTES, Note},
    published::Published,
};

use crate::{
    failure::{Exit, Failure},
    place::Place,
};

/// One log's files.
#[derive(Debug, Clone)]
pub(super) struct LogFiles {
    /// `gateway`, `control`, or `log` for one that was named by its folder.
    pub(super) name: String,
    folder: PathBuf,
    /// Where cosigned checkpoints of it may lie.
    cosigned: Vec<PathBuf>,
    /// Who cosigns it: a name and the folder of that party's own log.
    other: Option<(&'static str, PathBuf)>,
    /// The checkpoint that external witnesses have cosigned, and the policy that names them.
    witnessed: Option<(PathBuf, PathBuf)>,
}

/// A checkpoint to prove against, and the policy that says who has to have signed it.
#[derive(Debug, Clone)]
pub(super) struct Basis {
    pub(super) checkpoint: String,
    pub(super) size: u64,
    /// C2SP tlog-policy.
    pub(super) policy: String,
}

impl LogFiles {
    /// Both logs of an installation.
    pub(super) fn of(place: &Place) -> [Self; 2] {
        let (control, gateway) = (place.control(), place.gateway());
        [
            Self {
                name: "gateway".to_owned(),
                folder: gateway.join("log"),
                cosigned: vec![
                    control.join("gateway.checkpoint"),
                    gateway.join("cosigned.checkpoint"),
                ],
                other: Some(("control", control.join("log"))),
                witnessed: Some((
                    gateway.join("witnessed.checkpoint"),
                    gateway.join("witnesses.policy"),
                )),
            },
            Self {
                name: "control".to_owned(),
                folder: control.join("log"),
                cosigned: vec![gateway.join("control.checkpoint")],
                other: Some(("gateway", gateway.join("log"))),
                witnessed: Some((
                    gateway.join("control.witnessed.checkpoint"),
                    gateway.join("witnesses.policy"),
                )),
            },
        ]
    }

    /// A log by its folder.
    pub(super) fn in_folder(folder: PathBuf) -> Self {
        Self {
            name: "log".to_owned(),
            folder,
            cosigned: Vec::new(),
            other: None,
            witnessed: None,
        }
    }

    /// The log in its published form.
    pub(super) fn published(&self) -> Published {
        Published::new(&self.folder)
    }

    /// The log's key, as it lies in its folder.
    pub(super) fn key(&self) -> Result<VerifyingKey, Failure> {
        read_vkey(&self.folder)
    }

    /// The checkpoint that covers `least` entries and that most vouch for: external witnesses, as the operator's policy
    /// asks for; else the other party; else nobody but the log.
    pub(super) fn basis(&self, least: u64) -> Result<Basis, Failure> {
        let key = self.key()?;
        let published = read_note(&self.folder.join("checkpoint"))?;
        let published = published.ok_or_else(|| {
            let message = format!("{} has no published checkpoint", self.folder.display());
            Failure::new(Exit::NotFound, message).hint("a log has one as soon as it has an entry")
        })?;
        let newest = checked(&published, &key, &self.folder)?;
        if let Some(basis) = self.witnessed(least..=newest.size)? {
            return Ok(basis);
        }
        let mut notes = Vec::new();
        for path in &self.cosigned {
            let note = read_note(path)?;
            // One that does not verify is for `audit verify` to complain about; here it is of no use.
            notes.extend(note.filter(|note| Checkpoint::verify(note, &key).is_ok()));
        }
        if let Some((witness, cosigner)) = self.witness() {
            let size = |note: &String| Checkpoint::parse(note).map_or(0, |checkpoint| checkpoint.size);
            notes.retain(|note| {
                let signed = Note::parse(note).is_ok_and(|note| cosigner.verify(&note).is_ok());
                signed && (least..=newest.size).contains(&size(note))
            });
            if let Some(best) = notes.into_iter().max_by_key(size) {
                let policy = format!("log {key}\nwitness {witness} {cosigner}\nquorum {witness}\n");
                return Ok(Basis {
                    size: size(&best),
                    checkpoint: best,
                    policy,
                });
            }
        }
        Ok(Basis {
            size: newest.size,
            checkpoint: published,
            policy: format!("log {key}\nquorum none\n"),
        })
    }

    /// The checkpoint that external witnesses have cosigned, if it satisfies the policy and covers enough.
    fn witnessed(&self, sizes: RangeInclusive<u64>) -> Result<Option<Basis>, Failure> {
        let Some((note, policy)) = &self.witnessed else {
            return Ok(None);
        };
        let (Some(checkpoint), Some(policy)) = (read_note(note)?, read_note(policy)?) else {
            return Ok(None);
        };
        let vouched = Policy::parse(&policy)
            .ok()
            .and_then(|known| known.check(&checkpoint).ok());
        Ok(vouched
            .filter(|vouched| sizes.contains(&vouched.checkpoint.size))
            .map(|vouched| Basis {
                size: vouched.checkpoint.size,
                checkpoint,
                policy,
            }))
    }

    fn witness(&self) -> Option<(&'static str, Cosigner)> {
        let (name, folder) = self.other.as_ref()?;
        Some((name, Cosigner::of(&read_vkey(folder).ok()?)))
    }
}

fn checked(note: &str, key: &VerifyingKey, folder: &Path) -> Result<Checkpoint, Failure> {
    Checkpoint::verify(note, key).map_err(|error| {
        let message = format!("the checkpoint in {} does not verify: {error}", folder.display());
        Failure::new(Exit::Verification, message)
    })
}

fn read_vkey(folder: &Path) -> Result<VerifyingKey, Failure> {
    let path = folder.join("vkey");
    let text = read_note(&path)?.ok_or_else(|| {
        Failure::new(Exit::NotFound, format!("there is no log in {}", folder.display()))
            .hint("a log's folder holds `journal`, `tile`, `checkpoint` and `vkey`")
    })?;
    VerifyingKey::parse(text.trim_end())
        .map_err(|error| Failure::new(Exit::Verification, format!("{}: {error}", path.display())))
}

/// A short text file that may be absent.
fn read_note(path: &Path) -> Result<Option<String>, Failure> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(super::verify::unreadable(path, &error)),
    };
    if bytes.len() > MAX_NOTE_BYTES {
        return Err(Failure::failed(format!("{} is too long", path.display())));
    }
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|_| Failure::failed(format!("{} is not text", path.display())))
}

/// The policy to verify evidence with: the given one, or the given key alone.
pub(super) fn given_policy(policy: Option<&Path>, key: Option<&str>) -> Result<Option<Policy>, Failure> {
    match (policy, key) {
        (Some(_), Some(_)) => Err(Failure::usage("--policy and --key exclude each other")),
        (Some(path), None) => {
            let text = read_note(path)?
                .ok_or_else(|| Failure::new(Exit::NotFound, format!("there is no {}", path.display())))?;
            let policy = Policy::parse(&text);
            policy
                .map(Some)
                .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
        }
        (None, Some(key)) => {
            let key = VerifyingKey::parse(key).map_err(|error| Failure::usage(format!("--key: {error}")))?;
            Ok(Some(Policy::of_log(key)))
        }
        (None, None) => Ok(None),
    }
}
