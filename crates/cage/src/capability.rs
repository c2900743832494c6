//! What a host can enforce, and what to do about the rest: the table of `clawstaff doctor`, and the ground on which
//! a cage is refused.

use std::collections::BTreeMap;

use clawstaff_types::spec::{Limit, Limits};

use crate::{backend::CageError, id::CageId, reached::Reached};

/// Whether the host enforces one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enforcement {
    /// It does.
    Enforced,
    /// It does not.
    NotEnforced {
        /// The reason, in a sentence.
        why: String,
        /// What an operator can do, in a sentence.
        remedy: String,
    },
}

impl Enforcement {
    /// Not enforced, and why, and what would help.
    pub fn missing(why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::NotEnforced {
            why: why.into(),
            remedy: remedy.into(),
        }
    }
}

/// Parts of the boundary that are not limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    /// The cage's user is a user of its own on the host, shared with no other cage.
    OwnUser,
    /// The system-call allow-list.
    Seccomp,
    /// Landlock rules on top of the mounts.
    Landlock,
    /// Freezing and thawing all processes at once.
    Freeze,
}

/// What a back end on this host can enforce. Every [`Limit`] and [`Feature`] has a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// The limits.
    pub limits: BTreeMap<Limit, Enforcement>,
    /// The rest.
    pub features: BTreeMap<Feature, Enforcement>,
    /// Which limits are told when they are met. What is not in here is told.
    pub told: BTreeMap<Reached, Enforcement>,
}

impl Capabilities {
    /// Refuses limits that this host cannot enforce and that `limits` does not accept unenforced.
    ///
    /// # Errors
    /// [`CageError::Unenforceable`] for the first such limit.
    pub fn admit(&self, id: &CageId, limits: &Limits) -> Result<(), CageError> {
        for limit in [Limit::Memory, Limit::Cpus, Limit::Pids, Limit::Storage] {
            let (why, remedy) = match self.limits.get(&limit) {
                Some(Enforcement::Enforced) => continue,
                Some(Enforcement::NotEnforced { why, remedy }) => (why.clone(), remedy.clone()),
                None => (
                    "the back end says nothing about it".into(),
                    "report this as a defect".into(),
                ),
            };
            if !limits.accept_unenforced.contains(&limit) {
                return Err(CageError::Unenforceable {
                    id: id.clone(),
                    limit,
                    why,
                    remedy,
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_cannot_be_enforced_refuses_the_cage_unless_it_is_accepted_by_name() {
        let mut limits: BTreeMap<_, _> = [Limit::Memory, Limit::Cpus, Limit::Pids]
            .map(|limit| (limit, Enforcement::Enforced))
            .into();
        limits.insert(
            Limit::Storage,
            Enforcement::missing("no loop device", "run as root"),
        );
        let capabilities = Capabilities {
            limits,
            features: BTreeMap::new(),
            told: BTreeMap::new(),
        };
        let id: CageId = "a-00000000".parse().unwrap();

        let mut wanted = Limits::default();
        let refused = capabilities.admit(&id, &wanted).unwrap_err().to_string();
        assert!(
            refused.contains("no loop device") && refused.contains("run as root"),
            "{refused}"
        );

        wanted.accept_unenforced = vec![Limit::Memory];
        assert!(capabilities.admit(&id, &wanted).is_err());
        wanted.accept_unenforced = vec![Limit::Storage];
        assert!(capabilities.admit(&id, &wanted).is_ok());
    }
}
