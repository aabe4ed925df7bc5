//! The address of a client behind proxies: only what trusted ones say, read from the right.
//!
//! Anybody can send `Forwarded` (RFC 7239) or `X-Forwarded-For`; each proxy appends whom it heard
//! from. So the walk starts at the connection's peer and goes on to the next entry on the left only
//! while the current address is a trusted proxy. It stops at an entry that names no address
//! (`unknown`, an obfuscated identifier, garbage).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::network::Network;

/// Networks whose forwarding headers are believed. The default believes nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<Network>,
}

impl TrustedProxies {
    /// The proxies named by `texts`, each an address or a CIDR block such as `10.0.0.0/8` or
    /// `fd00::/8`, and one sentence for each text that is neither.
    pub fn parse_all(texts: &[String]) -> (Self, Vec<String>) {
        let mut networks = Vec::new();
        let mut problems = Vec::new();
        for text in texts {
            match Network::parse(text) {
                Some(network) => networks.push(network),
                None => problems.push(format!("trusted proxy {text:?}: not an address or CIDR block")),
            }
        }
        (Self { networks }, problems)
    }

    /// Whether `address` is a trusted proxy's.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(address))
    }

    /// The client's address, given the connection's peer and the values of the `Forwarded` and
    /// `X-Forwarded-For` header lines in the order they came. IPv4-mapped addresses become IPv4.
    ///
    /// If both headers are there and lead to different addresses, the peer's is returned: a proxy
    /// that writes one of them passes the other on as the client sent it, and nothing tells which.
    pub fn client_address(&self, peer: IpAddr, forwarded: &[&str], x_forwarded_for: &[&str]) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.contains(peer) {
            return peer;
        }
        let by_standard = || self.walk(peer, forwarded.iter().flat_map(|line| forwarded_hops(line)));
        let by_custom = || self.walk(peer, x_forwarded_for.iter().flat_map(|line| line.split(',').map(parse_hop)));
        match (forwarded.is_empty(), x_forwarded_for.is_empty()) {
            (true, true) => peer,
            (false, true) => by_standard(),
            (true, false) => by_custom(),
            (false, false) => Some(by_standard()).filter(|found| *found == by_custom()).unwrap_or(peer),
        }
    }

    fn walk(&self, peer: IpAddr, hops: impl Iterator<Item = Option<IpAddr>>) -> IpAddr {
        let mut current = peer;
        let hops: Vec<_> = hops.collect();
        for hop in hops.into_iter().rev() {
            if !self.contains(current) {
                break;
            }
            let Some(address) = hop else { break };
            current = address;
        }
        current
    }
}

/// One entry of `X-Forwarded-For`, or the value of a `for` parameter: an address, with or without
/// brackets and port.
fn parse_hop(text: &str) -> Option<IpAddr> {
    let text = text.trim_matches([' ', '\t']);
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    let with_port = || text.parse::<SocketAddr>().ok().map(|socket| socket.ip());
    text.parse().ok().or_else(bracketed).or_else(with_port).map(|address: IpAddr| address.to_canonical())
}

/// The entries of one `Forwarded` line from left to right; `None` for one that names no address. A
/// line with an unclosed quote is one such entry: where its entries end cannot be known.
fn forwarded_hops(line: &str) -> Vec<Option<IpAddr>> {
    match split_unquoted(line, ',') {
        Some(elements) => elements.into_iter().map(forwarded_for).collect(),
        None => vec![None],
    }
}

/// The address in the one `for` parameter of a forwarded-element (RFC 7239 §4).
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut found = None;
    for pair in split_unquoted(element, ';')? {
        let pair = pair.trim_matches([' ', '\t']);
        if pair.is_empty() {
            continue;
        }
        let (name, value) = pair.split_once('=')?;
        if name.eq_ignore_ascii_case("for") && found.replace(value).is_some() {
            return None;
        }
    }
    parse_hop(&unquote(found?)?)
}

/// Splits at `separator` outside quoted strings; `None` if a quote is never closed.
fn split_unquoted(text: &str, separator: char) -> Option<Vec<&str>> {
    let mut parts = Vec::new();
    let (mut start, mut is_quoted, mut is_escaped) = (0, false, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ if character == separator && !is_quoted => {
                parts.push(&text[start..at]);
                start = at + separator.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    (!is_quoted).then_some(parts)
}

/// A token as it is, or the inside of a quoted string (RFC 9110 §5.6.4) without its escapes.
fn unquote(value: &str) -> Option<String> {
    let Some(rest) = value.strip_prefix('"') else {
        return (!value.contains('"')).then(|| value.to_owned());
    };
    let inner = rest.strip_suffix('"')?;
    let mut plain = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => plain.push(characters.next()?),
            '"' => return None,
            other => plain.push(other),
        }
    }
    Some(plain)
}
