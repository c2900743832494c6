//! The spec file: TOML that people write, into the [`Spec`] that the API takes, and back.
//!
//! Strict on purpose: an unknown field, a wrong type or a name that no type of ours accepts is an error with
//! file, line and column, and a field whose feature does not exist yet is refused rather than ignored. The
//! text of instructions is content: [`Document`] holds it in plain only until [`Document::seal`].
//!
//! [`Spec`]: clawstaff_api::people::Spec

mod claw;
mod load;
mod parse;
mod reader;
mod seal;
mod write;

pub(crate) use load::{LoadError, load};
pub(crate) use parse::Document;
pub(crate) use reader::parse_instant;
pub(crate) use seal::SealFailure;
pub(crate) use write::to_toml;

#[cfg(test)]
mod tests;
