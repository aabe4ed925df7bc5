//! The client's address beside a slow reference: bits as text, and a chain that is taken apart by recursion.

use super::*;

/// What stands in a chain where an address should.
const NO_ADDRESSES: [&str; 8] =
    ["unknown", "_hidden", "", "1.2.3", "256.1.1.1", "[::1", "198.51.100.7:99999", "2001:db8::g"];

/// The 128 bits of an address as text, IPv4 as IPv4-mapped.
fn bits(address: IpAddr) -> String {
    let mapped = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    mapped.octets().iter().map(|byte| format!("{byte:08b}")).collect()
}

/// Whoever is trusted passes the question on to whom it heard from, if it says so.
fn reference(trusted: &[(IpAddr, usize)], current: IpAddr, chain: &[Option<IpAddr>]) -> IpAddr {
    let is_trusted = trusted.iter().any(|(block, prefix)| {
        let length = prefix + if block.is_ipv4() { 96 } else { 0 };
        bits(current).starts_with(&bits(*block)[..length])
    });
    match chain.split_last() {
        Some((Some(before), rest)) if is_trusted => reference(trusted, *before, rest),
        _ => current,
    }
}

/// Addresses that share many of their bits, so that blocks hold some and miss others.
fn near_address() -> impl Strategy<Value = IpAddr> {
    let v4 = (0_u8..2, 0_u8..4, any::<bool>()).prop_map(|(a, b, is_mapped)| {
        let v4 = std::net::Ipv4Addr::new(10, a, 255, b);
        if is_mapped { IpAddr::from(v4.to_ipv6_mapped()) } else { IpAddr::from(v4) }
    });
    let v6 = (0_u16..2, 0_u16..4).prop_map(|(a, b)| IpAddr::from([0x2001, 0xdb8, 0, a, 0, 0, 0, b]));
    prop_oneof![v4, v6]
}

fn block() -> impl Strategy<Value = (IpAddr, usize)> {
    (near_address(), any::<prop::sample::Index>()).prop_map(|(address, prefix)| {
        let width = if address.is_ipv4() { 32 } else { 128 };
        (address, prefix.index(width + 1))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_chain_leads_where_the_slow_reference_leads(
        trusted in proptest::collection::vec(block(), 0..4),
        peer in near_address(),
        hops in proptest::collection::vec((proptest::option::weighted(0.9, near_address()), any::<u8>(), any::<bool>()), 0..7),
    ) {
        let chain: Vec<_> = hops.iter().map(|(address, ..)| address.map(|address| address.to_canonical())).collect();
        let expected = reference(&trusted, peer.to_canonical(), &chain);

        let text = |address: &Option<IpAddr>, style: &u8| match address {
            Some(address) => spelled(*address, *style),
            None => NO_ADDRESSES[usize::from(*style) % NO_ADDRESSES.len()].to_owned(),
        };
        let entries = hops.iter().map(|(address, style, ends_line)| (text(address, style), *ends_line));
        let custom = lines(entries.clone());
        let standard = lines(entries.map(|(text, ends_line)| (format!("proto=https;for=\"{text}\""), ends_line)));
        let blocks: Vec<String> = trusted.iter().map(|(block, prefix)| format!("{block}/{prefix}")).collect();
        let (proxies, problems) = TrustedProxies::parse_all(&blocks);
        prop_assert!(problems.is_empty());
        let found = |forwarded: &[String], custom: &[String]| {
            let forwarded: Vec<&str> = forwarded.iter().map(String::as_str).collect();
            let custom: Vec<&str> = custom.iter().map(String::as_str).collect();
            proxies.client_address(peer, &forwarded, &custom)
        };
        prop_assert_eq!(expected, found(&[], &custom));
        prop_assert_eq!(expected, found(&standard, &[]));
        prop_assert_eq!(expected, found(&standard, &custom));
        prop_assert_eq!(peer.to_canonical(), TrustedProxies::default().client_address(peer, &[], &["1.1.1.1"]));
    }

    #[test]
    fn two_addresses_are_one_subject_if_their_network_is(a in near_address(), b in near_address()) {
        let network = |address: IpAddr| {
            let bits = bits(address);
            let is_v4 = bits.starts_with(&(String::from("0").repeat(80) + &"1".repeat(16)));
            if is_v4 { bits } else { bits[..64].to_owned() }
        };
        prop_assert_eq!(network(a) == network(b), IpSubject::from(a) == IpSubject::from(b));
    }
}

/// The entries, those after one that ends its line on a line of their own.
fn lines(entries: impl Iterator<Item = (String, bool)>) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut goes_on = false;
    for (text, ends_line) in entries {
        match lines.last_mut() {
            Some(line) if goes_on => line.push_str(&format!(", {text}")),
            _ => lines.push(text),
        }
        goes_on = !ends_line;
    }
    lines
}
