//! Sealing instructions to the key of the gateway that will have them, so that the control plane only ever carries ciphertext.

use std::collections::{BTreeMap, BTreeSet};

use clawstaff_api::people::{ClawInput, Spec};
use clawstaff_types::NodeName;
use clawstaff_vault::seal::{PublicKey, SealError, seal};

use super::parse::{ClawDraft, Document, Instructions};

/// HPKE info under which instructions are sealed.
const LABEL: &str = "instructions";

/// Why a document could not be sealed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SealFailure {
    /// There are instructions, but no key to seal them to.
    #[error("there are instructions to seal, but the gateway's key is not known")]
    NoKey,
    /// The instructions of one Claw could not be sealed.
    #[error("cannot seal the instructions of Claw `{claw}`: {source}")]
    Seal {
        /// Which one.
        claw: String,
        /// Why.
        source: SealError,
    },
}

impl Document {
    /// Whether there is anything to seal, and so a key is needed.
    pub(crate) fn has_plain_instructions(&self) -> bool {
        self.claws
            .iter()
            .any(|claw| matches!(claw.instructions, Some(Instructions::Plain(_))))
    }

    /// The nodes to whose gateways something is to be sealed.
    pub(crate) fn nodes_to_seal_for(&self) -> BTreeSet<NodeName> {
        let plain = self
            .claws
            .iter()
            .filter(|claw| matches!(claw.instructions, Some(Instructions::Plain(_))));
        plain.map(|claw| claw.spec.place()).collect()
    }

    /// The document as the API takes it, with the keys of the gateways.
    pub(crate) fn seal(self, keys: &BTreeMap<NodeName, PublicKey>) -> Result<Spec, SealFailure> {
        let claws = self.claws.into_iter().map(|claw| seal_claw(claw, keys));
        Ok(Spec {
            connections: self.connections,
            guardrails: self.guardrails,
            claws: claws.collect::<Result<_, _>>()?,
        })
    }
}

fn seal_claw(claw: ClawDraft, keys: &BTreeMap<NodeName, PublicKey>) -> Result<ClawInput, SealFailure> {
    let ClawDraft {
        mut spec,
        instructions,
        grants,
        pool: _,
    } = claw;
    spec.instructions = match instructions {
        None => None,
        Some(Instructions::Sealed(sealed)) => Some(sealed),
        Some(Instructions::Plain(text)) => {
            let key = keys.get(&spec.place()).ok_or(SealFailure::NoKey)?;
            let sealed = seal(key, LABEL, text.as_bytes()).map_err(|source| SealFailure::Seal {
                claw: spec.name.to_string(),
                source,
            })?;
            Some(sealed)
        }
    };
    Ok(ClawInput { spec, grants })
}
