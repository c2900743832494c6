//! Whom to believe (C2SP tlog-policy): the keys of logs and witnesses, and how many witnesses must have cosigned.
//!
//! A policy is a text file that anybody can write and other people's tools can read. It decides one thing:
//! whether a checkpoint is good enough to check proofs against. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::{
    checkpoint::{Checkpoint, CheckpointError},
    cosignature::Cosigner,
    note::{Note, NoteError, VerifyingKey},
};

/// A longer policy is refused unread.
pub const MAX_POLICY_BYTES: usize = 64 * 1024;
/// Most lines that define something.
const MAX_DEFINITIONS: usize = 256;

/// Why a policy was refused, with the line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a policy: line {line}: {why}")]
pub struct PolicyError {
    /// The line, from 1; 0 for the whole.
    pub line: usize,
    /// What is wrong.
    pub why: String,
}

/// Why a checkpoint is not good enough.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// Not a checkpoint, or a signature on it is forged.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Its origin is none of the policy's logs.
    #[error("`{origin}` is none of the logs that the policy names")]
    UnknownLog {
        /// The origin.
        origin: String,
    },
    /// Too few witnesses have cosigned.
    #[error("too few witnesses have cosigned it: {}", if .have.is_empty() { "none".to_owned() } else { format!("only {}", .have.join(", ")) })]
    NoQuorum {
        /// Those that have.
        have: Vec<String>,
    },
}

impl From<NoteError> for Distrust {
    fn from(error: NoteError) -> Self {
        Self::Checkpoint(error.into())
    }
}

/// A log that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownLog {
    /// Its key; its name is the log's origin.
    pub key: VerifyingKey,
    /// Where it can be reached.
    pub url: Option<String>,
}

/// A witness that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// Its name within the policy.
    pub name: String,
    /// Its key.
    pub key: Cosigner,
    /// Its submission prefix (C2SP tlog-witness).
    pub url: Option<String>,
}

/// What must have cosigned.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    Witness(usize),
    AtLeast(usize, Vec<Rule>),
}

/// A checkpoint that is good enough, and who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vouched {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// The witnesses that cosigned it, by their names in the policy, each with its time.
    pub witnesses: Vec<(String, Timestamp)>,
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    logs: Vec<KnownLog>,
    witnesses: Vec<Witness>,
    quorum: Option<Rule>,
}

impl Policy {
    /// Believes one log by its key alone.
    pub fn of_log(key: VerifyingKey) -> Self {
        Self {
            logs: vec![KnownLog { key, url: None }],
            witnesses: Vec::new(),
            quorum: None,
        }
    }

    /// The logs.
    pub fn logs(&self) -> &[KnownLog] {
        &self.logs
    }

    /// The witnesses.
    pub fn witnesses(&self) -> &[Witness] {
        &self.witnesses
    }

    /// Reads a policy.
    ///
    /// Comments and names in another encoding than UTF-8, which the standard allows, are refused.
    ///
    /// # Errors
    /// With the line, when it is not one or has no meaning.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let whole = |why: &str| PolicyError {
            line: 0,
            why: why.to_owned(),
        };
        if text.len() > MAX_POLICY_BYTES {
            return Err(whole("it is too long"));
        }
        let mut reader = Reader::default();
        for (number, line) in text.split('\n').enumerate() {
            reader.line(line).map_err(|why| PolicyError {
                line: number + 1,
                why,
            })?;
        }
        let quorum = match reader.quorum.ok_or_else(|| whole("it has no quorum line"))? {
            Quorum::Nobody => None,
            Quorum::Rule(rule) => Some(rule),
        };
        Ok(Self {
            logs: reader.logs,
            witnesses: reader.witnesses,
            quorum,
        })
    }

    /// Reads a checkpoint and checks that one of the logs signed it, and enough of the witnesses.
    ///
    /// # Errors
    /// When it is malformed, of an unknown log, not signed by it, wrongly signed by a known key, or cosigned by too few.
    pub fn check(&self, note: &str) -> Result<Vouched, Distrust> {
        let parsed = Note::parse(note)?;
        let checkpoint = Checkpoint::from_note_body(parsed.text())?;
        let log = self.logs.iter().find(|log| log.key.name() == checkpoint.origin);
        let log = log.ok_or_else(|| Distrust::UnknownLog {
            origin: checkpoint.origin.clone(),
        })?;
        parsed.verify(&log.key)?;
        let mut witnesses = BTreeMap::new();
        for (at, witness) in self.witnesses.iter().enumerate() {
            match witness.key.verify(&parsed) {
                Ok(time) => drop(witnesses.insert(at, (witness.name.clone(), time))),
                Err(NoteError::Unsigned(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let have: BTreeSet<usize> = witnesses.keys().copied().collect();
        let witnesses: Vec<_> = witnesses.into_values().collect();
        if self.quorum.as_ref().is_none_or(|rule| rule.is_met(&have)) {
            return Ok(Vouched {
                checkpoint,
                witnesses,
            });
        }
        Err(Distrust::NoQuorum {
            have: witnesses.into_iter().map(|(name, _)| name).collect(),
        })
    }
}

impl Rule {
    fn is_met(&self, have: &BTreeSet<usize>) -> bool {
        match self {
            Self::Witness(at) => have.contains(at),
            Self::AtLeast(least, members) => {
                members.iter().filter(|member| member.is_met(have)).count() >= *least
            }
        }
    }
}

/// What the lines so far have defined.
#[derive(Default)]
struct Reader {
    logs: Vec<KnownLog>,
    witnesses: Vec<Witness>,
    /// Witnesses and groups by name, and whether they are members of a group.
    rules: BTreeMap<String, (Rule, bool)>,
    /// The rule of the quorum line, if there was one.
    quorum: Option<Quorum>,
}

/// What a quorum line asks for.
enum Quorum {
    Nobody,
    Rule(Rule),
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        if line.bytes().any(|b| (b < 0x20 && b != b'\t') || b == 0x7f) {
            return Err("it has control characters".to_owned());
        }
        let words: Vec<&str> = line.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
        if self.logs.len() + self.rules.len() > MAX_DEFINITIONS {
            return Err(format!("it defines more than {MAX_DEFINITIONS} things"));
        }
        match words.as_slice() {
            [] => Ok(()),
            [first, ..] if first.starts_with('#') => Ok(()),
            ["log", key] => self.log(key, None),
            ["log", key, url] => self.log(key, Some(url)),
            ["witness", name, key] => self.witness(name, key, None),
            ["witness", name, key, url] => self.witness(name, key, Some(url)),
            ["group", name, least, members @ ..] => self.group(name, least, members),
            ["quorum", name] => self.quorum(name),
            _ => Err("it is none of `log`, `witness`, `group`, `quorum` with what belongs to it".to_owned()),
        }
    }

    fn log(&mut self, key: &str, url: Option<&str>) -> Result<(), String> {
        let key = VerifyingKey::parse(key).map_err(|error| error.to_string())?;
        if self.logs.iter().any(|log| log.key.public() == key.public()) {
            return Err("the key is that of another log".to_owned());
        }
        let url = url.map(str::to_owned);
        self.logs.push(KnownLog { key, url });
        Ok(())
    }

    fn witness(&mut self, name: &str, key: &str, url: Option<&str>) -> Result<(), String> {
        let key = Cosigner::parse(key).map_err(|error| error.to_string())?;
        if self
            .witnesses
            .iter()
            .any(|other| other.key.public() == key.public())
        {
            return Err("the key is that of another witness".to_owned());
        }
        self.define(name, Rule::Witness(self.witnesses.len()))?;
        self.witnesses.push(Witness {
            name: name.to_owned(),
            key,
            url: url.map(str::to_owned),
        });
        Ok(())
    }

    fn group(&mut self, name: &str, least: &str, members: &[&str]) -> Result<(), String> {
        let least = match least {
            "all" => members.len(),
            "any" => 1,
            number => number
                .parse()
                .ok()
                .filter(|n: &usize| n.to_string() == number)
                .ok_or("a group has `all`, `any` or a number before its members")?,
        };
        if !(1..=members.len()).contains(&least) {
            return Err(format!("{least} of {} members is not possible", members.len()));
        }
        let mut rules = Vec::new();
        for member in members {
            let slot = self.rules.get_mut(*member);
            let (rule, taken) = slot.ok_or_else(|| format!("`{member}` is not defined above"))?;
            if std::mem::replace(taken, true) {
                return Err(format!("`{member}` is a member of a group already"));
            }
            rules.push(rule.clone());
        }
        self.define(name, Rule::AtLeast(least, rules))
    }

    fn define(&mut self, name: &str, rule: Rule) -> Result<(), String> {
        if name == "none" || self.rules.contains_key(name) {
            return Err(format!("the name `{name}` is taken"));
        }
        self.rules.insert(name.to_owned(), (rule, false));
        Ok(())
    }

    fn quorum(&mut self, name: &str) -> Result<(), String> {
        if self.quorum.is_some() {
            return Err("there is a quorum line already".to_owned());
        }
        self.quorum = Some(match name {
            "none" => Quorum::Nobody,
            name => {
                let known = self.rules.get(name);
                let (rule, _) = known.ok_or_else(|| format!("`{name}` is not defined above"))?;
                Quorum::Rule(rule.clone())
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;
    use crate::{cosignature::cosign, note::SigningKey, tree::empty_root};

    fn key(name: &str) -> SigningKey {
        SigningKey::from_bytes(name, clawstaff_types::Digest::of(name.as_bytes()).as_bytes()).unwrap()
    }

    fn vkey(name: &str) -> String {
        Cosigner::of(&key(name).verifying_key()).to_string()
    }

    fn text(lines: &str) -> String {
        let mut text = format!(
            "# whom we believe\nlog {}  https://log.example/\n",
            key("log").vkey()
        );
        for name in ["X1", "X2", "X3", "Y1"] {
            writeln!(text, "\twitness {name} {}", vkey(name)).unwrap();
        }
        text + lines
    }

    fn note(witnesses: &[&str]) -> String {
        let checkpoint = Checkpoint {
            origin: "log".into(),
            size: 0,
            root: empty_root(),
        };
        let signed = checkpoint.sign(&key("log")).unwrap();
        witnesses.iter().fold(signed, |note, name| {
            cosign(&note, &key(name), Timestamp::from_second(9).unwrap()).unwrap()
        })
    }

    #[test]
    fn a_quorum_of_groups_is_met_by_those_it_names_and_by_no_fewer() {
        let policy = Policy::parse(&text(
            "group X 2 X1 X2 X3\ngroup Y any Y1\n\ngroup both all X Y\nquorum both\n",
        ))
        .unwrap();
        for (witnesses, met) in [
            (vec!["X1", "X3", "Y1"], true),
            (vec!["Y1", "X3", "X2", "X1"], true),
            (vec!["X1", "Y1"], false),
            (vec!["X1", "X2", "X3"], false),
            (vec!["stranger", "X1", "Y1"], false),
            (vec![], false),
        ] {
            assert_eq!(policy.check(&note(&witnesses)).is_ok(), met, "{witnesses:?}");
        }
        let vouched = policy.check(&note(&["X1", "X3", "Y1"])).unwrap();
        assert_eq!(vouched.witnesses.len(), 3);
        assert_eq!(
            vouched.witnesses[0],
            ("X1".to_owned(), Timestamp::from_second(9).unwrap())
        );
        let refused = policy.check(&note(&["X1"])).unwrap_err();
        assert_eq!(refused.to_string(), "too few witnesses have cosigned it: only X1");
    }

    #[test]
    fn a_policy_without_quorum_asks_for_the_log_alone() {
        let policy = Policy::parse(&text("quorum none")).unwrap();
        assert!(policy.check(&note(&[])).is_ok());
        let other = Policy::of_log(key("other").verifying_key());
        assert!(matches!(
            other.check(&note(&[])),
            Err(Distrust::UnknownLog { .. })
        ));
        let forger = SigningKey::from_bytes("log", &[66; 32]).unwrap();
        let forged = Policy::of_log(forger.verifying_key());
        assert!(matches!(forged.check(&note(&[])), Err(Distrust::Checkpoint(_))));
    }

    #[test]
    fn a_forged_cosignature_spoils_the_checkpoint_though_the_rest_would_do() {
        let policy = Policy::parse(&text("quorum X1")).unwrap();
        let good = note(&["X1", "X2"]);
        let other = note(&[]).replace("\n0\n", "\n1\n");
        let line = cosign(&other, &key("X3"), Timestamp::from_second(9).unwrap()).unwrap();
        let line = line.lines().last().unwrap();
        assert!(policy.check(&good).is_ok());
        assert!(matches!(
            policy.check(&format!("{good}{line}\n")),
            Err(Distrust::Checkpoint(_))
        ));
    }

    #[test]
    fn policies_without_meaning_are_refused_with_their_line() {
        for (lines, line) in [
            ("", 0),
            ("quorum X", 7),
            ("quorum X1\nquorum X2", 8),
            ("group A 3 X1 X2\nquorum A", 7),
            ("group A 0 X1\nquorum A", 7),
            ("group A 01 X1\nquorum A", 7),
            ("group A all\nquorum A", 7),
            ("group A any X1 X1\nquorum A", 7),
            ("group A any X1\ngroup B any X1\nquorum A", 8),
            ("group A any B\ngroup B any X1\nquorum A", 7),
            ("group X1 any X2\nquorum X1", 7),
            ("group none any X2\nquorum none", 7),
            ("group A any none\nquorum A", 7),
            ("quorum X1\r", 7),
            ("quorum", 7),
            ("quorums X1", 7),
        ] {
            assert_eq!(Policy::parse(&text(lines)).unwrap_err().line, line, "{lines}");
        }
        let twice = format!("log {}\nquorum none", key("log").vkey());
        assert_eq!(Policy::parse(&text(&twice)).unwrap_err().line, 7);
        let wrong_type = format!("witness Z {}\nquorum none", key("Z").vkey());
        assert_eq!(Policy::parse(&text(&wrong_type)).unwrap_err().line, 7);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_panic(text in "((log|witness|group|quorum|#|none|any|all|[a-z0-9+]{1,4})[ \t\n]{1,2}){0,20}") {
            let _ = Policy::parse(&text);
        }
    }
}
