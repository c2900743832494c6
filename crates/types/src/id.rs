//! Ids that the system makes: sortable by the time of their making, readable by their prefix.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

use crate::name::{NameError, checked_name};

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// 26 characters of Crockford base 32: 48 bits of milliseconds since 1970, then 80 random bits (the ULID layout).
pub fn sortable(unix_millis: u64, random: [u8; 10]) -> String {
    let tail = random
        .iter()
        .fold(0_u128, |acc, byte| (acc << 8) | u128::from(*byte));
    let value = (u128::from(unix_millis & 0xFFFF_FFFF_FFFF) << 80) | tail;
    (0..26)
        .rev()
        .map(|place| {
            let digit = usize::try_from((value >> (5 * place)) & 31).unwrap_or_default();
            char::from(ALPHABET.get(digit).copied().unwrap_or(b'0'))
        })
        .collect()
}

fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-' || b == b'.')
}

const ID_RULE: &str = "1 to 64 of letters, digits, `_`, `-` and `.`";

checked_name!(
    /// The id of a grant, `gr_…`; a grant that follows from a Claw's `model` is `gr_model_<claw>`.
    GrantId, "grant id", ID_RULE, is_id
);
checked_name!(
    /// The id of a member: `uid-1000` for a local login, the identity provider's subject otherwise.
    MemberId, "member id", ID_RULE, is_id
);
checked_name!(
    /// The id of a call that waits for a human, `ap_…`.
    ApprovalId, "approval id", ID_RULE, is_id
);
checked_name!(
    /// The id of something that happened and caused a Claw to act: a Slack event id, a message's id.
    EventId, "event id", ID_RULE, is_id
);

#[cfg(test)]
mod tests {
    use super::sortable;

    #[test]
    fn ids_sort_by_time() {
        assert!(sortable(1, [255; 10]) < sortable(2, [0; 10]));
        assert_eq!(sortable(0, [0; 10]).len(), 26);
    }
}
