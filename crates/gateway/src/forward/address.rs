//! Which addresses may be dialled. Pure.
//!
//! A public API never lives at a private address; a name that leads there is a mistake or an attack (DNS
//! rebinding, cloud metadata). An address that the organization named itself may be private, but never
//! link-local, where clouds keep their metadata services.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether `address` may be dialled; `named` when the organization itself named the host.
pub(super) fn may_dial(address: IpAddr, named: bool) -> bool {
    let address = match address {
        IpAddr::V6(six) => embedded(six).map_or(IpAddr::V6(six), IpAddr::V4),
        IpAddr::V4(_) => address,
    };
    match address {
        IpAddr::V4(four) => !never_v4(four) && (named || !private_v4(four)),
        IpAddr::V6(six) => !never_v6(six) && (named || !private_v6(six)),
    }
}

/// The IPv4 address inside a mapped (`::ffff:0:0/96`), NAT64 (`64:ff9b::/96`) or 6to4 (`2002::/16`) one.
fn embedded(six: Ipv6Addr) -> Option<Ipv4Addr> {
    let four = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        Ipv4Addr::new(a, b, c, d)
    };
    match six.segments() {
        [0, 0, 0, 0, 0, 0xFFFF, high, low]
        | [0x64, 0xFF9B, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => Some(four(high, low)),
        _ => None,
    }
}

fn never_v4(four: Ipv4Addr) -> bool {
    let [first, ..] = four.octets();
    first == 0 || first >= 224 || four.is_link_local()
}

fn private_v4(four: Ipv4Addr) -> bool {
    let [a, b, c, _] = four.octets();
    four.is_private()
        || four.is_loopback()
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19))
        || four.is_documentation()
}

/// AWS keeps its metadata service at a unique-local address too.
const EC2_METADATA: Ipv6Addr = Ipv6Addr::new(0xFD00, 0xEC2, 0, 0, 0, 0, 0, 0x254);

fn never_v6(six: Ipv6Addr) -> bool {
    six.is_unspecified() || six.is_multicast() || six.is_unicast_link_local() || six == EC2_METADATA
}

fn private_v6(six: Ipv6Addr) -> bool {
    let documentation = matches!(six.segments(), [0x2001, 0xDB8, ..]);
    let [first, ..] = six.segments();
    let site_local = first & 0xFFC0 == 0xFEC0;
    six.is_loopback() || six.is_unique_local() || site_local || documentation
}

#[cfg(test)]
mod tests {
    use super::may_dial;

    #[test]
    fn private_and_metadata_addresses_are_not_dialled_for_a_public_name() {
        for text in [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:127.0.0.1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "fec0::1",
        ] {
            assert!(!may_dial(text.parse().unwrap(), false), "{text}");
        }
        for text in ["1.1.1.1", "3.33.152.147", "2606:4700::1111"] {
            assert!(may_dial(text.parse().unwrap(), false), "{text}");
        }
    }

    #[test]
    fn a_named_address_may_be_private_but_never_link_local() {
        for text in ["127.0.0.1", "10.0.0.1", "::1", "fd00::1"] {
            assert!(may_dial(text.parse().unwrap(), true), "{text}");
        }
        for text in [
            "169.254.169.254",
            "fe80::1",
            "::ffff:169.254.169.254",
            "0.0.0.0",
            "fd00:ec2::254",
        ] {
            assert!(!may_dial(text.parse().unwrap(), true), "{text}");
        }
    }
}
