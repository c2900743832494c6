//! New ids: sortable ones and cages' ids. The one place of the application layer that draws randomness.

use clawstaff_types::{ClawName, GrantId, id::sortable};
use jiff::Timestamp;

use super::problem::Problem;

/// Makes ids as of one instant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mint {
    /// The instant.
    pub(crate) now: Timestamp,
}

impl Mint {
    /// `prefix` and 26 characters that sort by time.
    pub(crate) fn id(&self, prefix: &str) -> Result<String, Problem> {
        let millis = u64::try_from(self.now.as_millisecond()).unwrap_or(0);
        Ok(format!("{prefix}{}", sortable(millis, random()?)))
    }

    pub(crate) fn grant(&self) -> Result<GrantId, Problem> {
        Ok(self.id("gr_")?.parse()?)
    }
}

/// `<claw>-<8 hex>`: new for every Claw that is made, so that nothing of a destroyed one is taken for it.
pub(crate) fn cage(claw: &ClawName) -> Result<String, Problem> {
    let random: [u8; 4] = random()?;
    Ok(format!("{claw}-{}", hex::encode(random)))
}

/// Bytes from the operating system's generator.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Problem> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|error| Problem::internal(&error))?;
    Ok(bytes)
}
