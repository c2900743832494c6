//! The grants without conditions, as a table in front of Cedar.
//!
//! Most grants say no more than a Claw, a connection, actions, resources and an end, and comparing those is all that
//! Cedar would do. They are looked up instead. A row is found by the hash of its scope's text; then the grant itself
//! is held against the call, part by part, so a hash never decides anything. Grants with conditions and all
//! guardrails are Cedar's. A property test holds every verdict against a policy in which everything is.

use clawstaff_types::{Conditions, Grant, ResourcePattern, ResourceRef};

use crate::{at, call::Call};

/// The rows of one Claw on one connection in one mode, in the order of their hashes.
#[derive(Debug, Default)]
pub(crate) struct Table(Box<[Row]>);

/// A grant under one of its scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    scope: ScopeHash,
    /// The grant's place in the policy's list.
    place: u32,
}

/// Hash of the text of a scope (FNV-1a). Whoever chooses texts that collide makes a lookup longer, nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ScopeHash(u32);

impl ScopeHash {
    const START: Self = Self(0x811C_9DC5);

    const fn and(self, byte: u8) -> Self {
        Self((self.0 ^ byte as u32).wrapping_mul(0x0100_0193))
    }

    fn and_all(self, text: &str) -> Self {
        text.bytes().fold(self, Self::and)
    }

    fn of_kind(resource: &ResourceRef) -> Self {
        Self::START.and_all(resource.kind().as_str()).and(b':')
    }

    fn of(pattern: &ResourcePattern) -> Self {
        match pattern {
            ResourcePattern::Any => Self::START.and(b'*'),
            ResourcePattern::Kind(kind) => Self::START.and_all(kind.as_str()).and(b':').and(b'*'),
            ResourcePattern::Below(kind, prefix) => {
                let kind = Self::START.and_all(kind.as_str()).and(b':');
                kind.and_all(prefix).and(b'*')
            }
            ResourcePattern::Exactly(one) => Self::of_kind(one).and_all(one.id()),
        }
    }

    /// The hashes of every text by which a grant could speak of these resources; see [`crate::words::scopes`].
    pub(crate) fn all(resources: &[ResourceRef]) -> Vec<Self> {
        let mut all = Vec::with_capacity(1 + 3 * resources.len());
        all.push(Self::START.and(b'*'));
        for resource in resources {
            let mut so_far = Self::of_kind(resource);
            all.push(so_far.and(b'*'));
            for byte in resource.id().bytes() {
                so_far = so_far.and(byte);
                if byte == b'/' {
                    all.push(so_far.and(b'*'));
                }
            }
            all.push(so_far);
        }
        all
    }
}

/// Whether the table can speak for a grant. What may be spent under it is counted elsewhere and decides nothing here.
pub(crate) const fn is_plain(grant: &Grant) -> bool {
    let Conditions {
        on_behalf_of,
        arguments,
        hours,
        budget: _,
    } = &grant.conditions;
    on_behalf_of.is_empty() && arguments.is_empty() && hours.is_empty()
}

impl Table {
    /// The rows of one grant.
    pub(crate) fn rows(grant: &Grant, place: u32) -> impl Iterator<Item = Row> {
        let scopes = grant.resources.iter().map(ScopeHash::of);
        scopes.map(move |scope| Row { scope, place })
    }

    pub(crate) fn new(mut rows: Vec<Row>) -> Self {
        rows.sort_unstable();
        rows.dedup();
        Self(rows.into())
    }

    /// The places of the grants that permit the call.
    pub(crate) fn permitting<'a>(
        &'a self,
        grants: &'a [Grant],
        call: &'a Call<'_>,
        scopes: &'a [ScopeHash],
    ) -> impl Iterator<Item = u32> + 'a {
        let found = scopes.iter().flat_map(|scope| self.under(*scope));
        let permits = |row: &&Row| {
            grants
                .get(at(row.place))
                .is_some_and(|grant| permits(grant, call))
        };
        found.filter(permits).map(|row| row.place)
    }

    fn under(&self, scope: ScopeHash) -> &[Row] {
        let start = self.0.partition_point(|row| row.scope < scope);
        let from = self.0.get(start..).unwrap_or_default();
        let count = from.iter().take_while(|row| row.scope == scope).count();
        from.get(..count).unwrap_or_default()
    }
}

/// Whether a plain grant permits the call. Everything that the grant says is compared, also what led to it.
fn permits(grant: &Grant, call: &Call<'_>) -> bool {
    is_plain(grant) && grant.claw == *call.claw && covers(grant, call) && !is_expired(grant, call)
}

/// Whether a grant of the Claw speaks of the call, leaving its conditions and its end aside.
pub(crate) fn covers(grant: &Grant, call: &Call<'_>) -> bool {
    grant.connection == *call.connection
        && grant.actions.iter().any(|pattern| pattern.matches(call.action))
        && grant.resources.iter().any(|pattern| reaches(pattern, call))
}

fn reaches(pattern: &ResourcePattern, call: &Call<'_>) -> bool {
    match pattern {
        ResourcePattern::Any => true,
        ResourcePattern::Kind(_) | ResourcePattern::Below(..) | ResourcePattern::Exactly(_) => {
            call.resources.iter().any(|resource| pattern.matches(resource))
        }
    }
}

/// To the microsecond, as Cedar counts.
pub(crate) fn is_expired(grant: &Grant, call: &Call<'_>) -> bool {
    let now = call.now.as_microsecond();
    grant
        .expires
        .is_some_and(|expires| now >= expires.as_microsecond())
}

#[cfg(test)]
mod tests;
