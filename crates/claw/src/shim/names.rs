//! Which loopback address stands for which name. Pure: no clock, no IO.
//!
//! The table is bounded. When it is full the name that was used longest ago gives way, but its address is not
//! handed to another name until four million others have been: software that kept a stale address is refused
//! with a readable reason and never reaches a name that it did not mean.

use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv4Addr,
    sync::Arc,
};

use clawstaff_cage_contract::is_host;

/// 127.64.0.1, the first address that stands for a name.
const FIRST: u32 = 0x7F40_0001;
/// 127.127.255.254, the last one.
const LAST: u32 = 0x7F7F_FFFE;
/// Names held at one time.
const CAPACITY: usize = 4096;

/// A DNS name in lower case that the contract lets through the door.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct HostName(Arc<str>);

impl HostName {
    /// Reads a name in any case, with or without the root's dot.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let lower = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        is_host(&lower).then(|| Self(lower.into()))
    }

    /// Whether the name means this machine itself (RFC 6761, section 6.3).
    pub(crate) fn is_localhost(&self) -> bool {
        &*self.0 == "localhost" || self.0.ends_with(".localhost")
    }

    /// The name as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Debug)]
struct Entry {
    name: HostName,
    used: u64,
}

/// Names and their addresses, both ways.
#[derive(Debug)]
pub(crate) struct NameTable {
    capacity: usize,
    next: u32,
    /// Counts uses; the key of `by_use`, so never the same twice.
    uses: u64,
    by_name: HashMap<HostName, Ipv4Addr>,
    by_address: HashMap<Ipv4Addr, Entry>,
    by_use: BTreeMap<u64, Ipv4Addr>,
}

impl Default for NameTable {
    fn default() -> Self {
        Self::with_capacity(CAPACITY)
    }
}

impl NameTable {
    /// A table of at most `capacity` names (at least one).
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            next: FIRST,
            uses: 0,
            by_name: HashMap::new(),
            by_address: HashMap::new(),
            by_use: BTreeMap::new(),
        }
    }

    /// The address that stands for `name`: the same one for as long as the name is in the table.
    pub(crate) fn address_of(&mut self, name: &HostName) -> Ipv4Addr {
        if let Some(address) = self.by_name.get(name).copied() {
            self.touch(address);
            return address;
        }
        while self.by_name.len() >= self.capacity {
            self.forget_oldest();
        }
        let address = self.fresh();
        self.by_name.insert(name.clone(), address);
        self.by_address.insert(
            address,
            Entry {
                name: name.clone(),
                used: 0,
            },
        );
        self.touch(address);
        address
    }

    /// The name that `address` stands for.
    pub(crate) fn name_at(&mut self, address: Ipv4Addr) -> Option<HostName> {
        let name = self.by_address.get(&address)?.name.clone();
        self.touch(address);
        Some(name)
    }

    fn touch(&mut self, address: Ipv4Addr) {
        if let Some(entry) = self.by_address.get_mut(&address) {
            self.by_use.remove(&entry.used);
            self.uses += 1;
            entry.used = self.uses;
            self.by_use.insert(self.uses, address);
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, address)) = self.by_use.pop_first()
            && let Some(entry) = self.by_address.remove(&address)
        {
            self.by_name.remove(&entry.name);
        }
    }

    /// The next address in the range that is free. There are a thousand times more than the table holds.
    fn fresh(&mut self) -> Ipv4Addr {
        loop {
            let address = Ipv4Addr::from(self.next);
            self.next = if self.next >= LAST { FIRST } else { self.next + 1 };
            if !self.by_address.contains_key(&address) {
                return address;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> HostName {
        HostName::parse(text).unwrap()
    }

    #[test]
    fn addresses_are_handed_out_in_order_and_stay() {
        let mut table = NameTable::default();
        assert_eq!(table.address_of(&name("slack.com")), Ipv4Addr::new(127, 64, 0, 1));
        assert_eq!(
            table.address_of(&name("api.github.com")),
            Ipv4Addr::new(127, 64, 0, 2)
        );
        assert_eq!(
            table.address_of(&name("SLACK.com.")),
            Ipv4Addr::new(127, 64, 0, 1)
        );
        assert_eq!(
            table.name_at(Ipv4Addr::new(127, 64, 0, 2)),
            Some(name("api.github.com"))
        );
        assert_eq!(table.name_at(Ipv4Addr::LOCALHOST), None);
    }

    #[test]
    fn a_full_table_forgets_the_name_used_longest_ago_and_does_not_reuse_its_address() {
        let mut table = NameTable::with_capacity(2);
        let a = table.address_of(&name("a"));
        let b = table.address_of(&name("b"));
        assert_eq!(table.name_at(a), Some(name("a")));
        let c = table.address_of(&name("c"));
        assert_eq!(table.name_at(b), None);
        assert_eq!(table.name_at(a), Some(name("a")));
        assert!(c != a && c != b);
        assert!(table.address_of(&name("b")) != b);
    }

    #[test]
    fn the_range_wraps_around_without_taking_an_address_in_use() {
        let mut table = NameTable::with_capacity(2);
        let a = table.address_of(&name("a"));
        table.next = LAST;
        assert_eq!(table.address_of(&name("b")), Ipv4Addr::new(127, 127, 255, 254));
        table.address_of(&name("a"));
        assert!(table.address_of(&name("c")) != a);
    }

    #[test]
    fn only_the_contracts_names_are_names() {
        for text in ["", ".", "a..b", "a b", "a/b", "ä.com", "a\\.b"] {
            assert_eq!(HostName::parse(text), None, "{text:?}");
        }
        assert!(name("x.localhost").is_localhost());
    }

    proptest! {
        #[test]
        fn names_and_addresses_agree_whatever_is_asked(
            asked in proptest::collection::vec("[a-z]{1,2}", 1..200),
            capacity in 1_usize..20,
        ) {
            let mut table = NameTable::with_capacity(capacity);
            for text in &asked {
                let host = name(text);
                let address = table.address_of(&host);
                prop_assert_eq!(table.name_at(address), Some(host));
                prop_assert!(table.by_name.len() <= capacity);
                prop_assert_eq!(table.by_name.len(), table.by_address.len());
                prop_assert_eq!(table.by_name.len(), table.by_use.len());
            }
        }
    }
}
