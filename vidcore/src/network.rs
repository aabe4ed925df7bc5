//! Address blocks.

use std::net::{IpAddr, Ipv6Addr};

/// An address block, with IPv4 as IPv4-mapped IPv6 so that both compare alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Network {
    pub(crate) bits: u128,
    /// How many of them count, at most 128.
    pub(crate) prefix: u32,
}

impl Network {
    /// An address or a CIDR block (RFC 4632 §3.1) such as `10.0.0.0/8` or `fd00::/8`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) if prefix.bytes().all(|byte| byte.is_ascii_digit()) => {
                (address, Some(prefix.parse::<u32>().ok()?))
            }
            Some(_) => return None,
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(width);
        (prefix <= width).then(|| Self { bits: mapped_bits(address), prefix: prefix + 128 - width })
    }

    /// Whether an address belongs to it; IPv4 and IPv4-mapped IPv6 are the same.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        // A shift by the whole width has no meaning, and /0 holds everything.
        self.prefix == 0 || (mapped_bits(address) ^ self.bits) >> (128 - self.prefix) == 0
    }
}

fn mapped_bits(address: IpAddr) -> u128 {
    let mapped: Ipv6Addr = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    mapped.to_bits()
}
