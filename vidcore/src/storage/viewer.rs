//! Who asks to play something, as far as a link may be bound to that.

use std::net::IpAddr;
use std::str::FromStr;

use url::Url;

use crate::network::Network;
use crate::storage::objects::sha256;

/// A network that a link is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddressPrefix(Network);

/// A text that is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a network such as 203.0.113.0/24 or 2001:db8::/64")]
pub struct BadPrefix;

impl AddressPrefix {
    /// Bytes of [`to_bytes`](Self::to_bytes).
    pub(crate) const LEN: usize = 17;

    /// Whether an address belongs to it; IPv4 and IPv4-mapped IPv6 are the same.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(address)
    }

    pub(crate) fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[0] = u8::try_from(self.0.prefix).unwrap_or(u8::MAX);
        bytes[1..].copy_from_slice(&self.0.bits.to_be_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8; Self::LEN]) -> Option<Self> {
        let (prefix, bits) = bytes.split_first()?;
        let bits = u128::from_be_bytes(bits.try_into().ok()?);
        (*prefix <= 128).then_some(Self(Network { bits, prefix: (*prefix).into() }))
    }
}

impl FromStr for AddressPrefix {
    type Err = BadPrefix;

    /// An address, or an address and a number of bits: `203.0.113.0/24`, `2001:db8::/64`, `203.0.113.7`.
    fn from_str(text: &str) -> Result<Self, BadPrefix> {
        Network::parse(text).map(Self).ok_or(BadPrefix)
    }
}

/// The origin (RFC 6454) of the page that a link is bound to, as a hash: tokens are short, origins need not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OriginRule([u8; 16]);

impl OriginRule {
    /// Bytes of it.
    pub(crate) const LEN: usize = 16;

    /// The rule for an origin such as `https://example.org`; `None` for anything with a path, a query or no scheme. The port a
    /// scheme has anyway, a dot after the host and upper case make no difference, in the rule and in what is
    /// compared with it.
    pub fn parse(origin: &str) -> Option<Self> {
        let (scheme, host) = origin.split_once("://")?;
        let is_host = !host.is_empty()
            && host.is_ascii()
            && !host.contains(|c: char| c.is_ascii_control() || matches!(c, '/' | '?' | '#' | '@' | ' ' | '\\'));
        let is_web = ["http", "https"].iter().any(|web| scheme.eq_ignore_ascii_case(web));
        if !is_host || !is_web {
            return None;
        }
        // Lower case, and without a default port (WHATWG URL).
        let url = Url::parse(origin).ok()?;
        let host = url.host_str()?.trim_end_matches('.');
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let hash = sha256(format!("{}://{host}{port}", url.scheme()).as_bytes());
        (!host.is_empty()).then(|| Self(hash[..Self::LEN].try_into().expect("16 of 32 bytes")))
    }

    pub(crate) fn to_bytes(self) -> [u8; Self::LEN] {
        self.0
    }

    pub(crate) fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }
}

/// Who asks, and from which page.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Visitor {
    /// The address, as limits count callers by it; `None` if it is not known.
    pub address: Option<IpAddr>,
    /// The origin of the page: what `Origin` says, or the origin of `Referer`.
    pub origin: Option<String>,
}

impl Visitor {
    /// Whether they are within the bounds of a link. Who does not say where they come from is outside.
    pub(crate) fn is_within(&self, address: Option<AddressPrefix>, origin: Option<OriginRule>) -> bool {
        address.is_none_or(|prefix| self.address.is_some_and(|address| prefix.contains(address)))
            && origin.is_none_or(|rule| self.origin.as_deref().and_then(OriginRule::parse) == Some(rule))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefix(text: &str) -> AddressPrefix {
        text.parse().expect("a network")
    }

    #[test]
    fn a_network_holds_its_addresses_and_no_other() {
        for (network, address, held) in [
            ("203.0.113.0/24", "203.0.113.255", true),
            ("203.0.113.9/24", "::ffff:203.0.113.1", true),
            ("203.0.113.0/24", "203.0.114.0", false),
            ("203.0.113.7", "203.0.113.7", true),
            ("203.0.113.7", "203.0.113.6", false),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "203.0.113.7", true),
        ] {
            assert_eq!(held, prefix(network).contains(address.parse().expect("an address")), "{network} {address}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "/", "1.2.3/8", "1.2.3.4/33", "::1/129", "1.2.3.4/-1", "1.2.3.4/+8", "1.2.3.4/", "example.org"]
        {
            assert_eq!(Err(BadPrefix), text.parse::<AddressPrefix>(), "{text}");
        }
    }

    #[test]
    fn an_origin_has_a_scheme_and_a_host_and_nothing_else() {
        for text in ["example.org", "https://", "https://a/", "https://a?x", "ftp://a", "https://u@a", "null", "*"] {
            assert_eq!(None, OriginRule::parse(text), "{text}");
        }
        let rule = OriginRule::parse("https://Example.org:8443");
        assert!(rule.is_some());
        assert_eq!(rule, OriginRule::parse("HTTPS://example.org:8443".to_ascii_lowercase().as_str()));
        assert_ne!(rule, OriginRule::parse("https://example.org"));
    }

    #[test]
    fn spellings_of_one_origin_are_one_rule_and_match_each_other() {
        let asks = |origin: &str| Visitor { address: None, origin: Some(origin.to_owned()) };
        for (scheme, port) in [("https", 443), ("http", 80)] {
            let plain = OriginRule::parse(&format!("{scheme}://example.org"));
            // What tokens that were given out before hold.
            let hash = sha256(format!("{scheme}://example.org").as_bytes());
            assert_eq!(plain, Some(OriginRule::from_bytes(hash[..16].try_into().expect("16 bytes"))));
            for spelling in [
                format!("{scheme}://example.org:{port}"),
                format!("{}://EXAMPLE.org", scheme.to_uppercase()),
                format!("{scheme}://example.org."),
                format!("{scheme}://Example.org.:{port}"),
            ] {
                assert_eq!(plain, OriginRule::parse(&spelling), "{spelling}");
                assert!(asks(&spelling).is_within(None, plain), "{spelling}");
                assert!(asks(&format!("{scheme}://example.org")).is_within(None, OriginRule::parse(&spelling)));
            }
            let other = if port == 443 { 80 } else { 443 };
            for stranger in [format!("{scheme}://example.org:{other}"), format!("{scheme}://example.org.evil.example")]
            {
                assert_ne!(plain, OriginRule::parse(&stranger), "{stranger}");
                assert!(!asks(&stranger).is_within(None, plain), "{stranger}");
            }
        }
        for nobody in
            ["null", "", "https://", "https://.", "https:example.org", "https://example.org:99999", "https://a\tb"]
        {
            assert_eq!(None, OriginRule::parse(nobody), "{nobody}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_as_an_origin_without_a_panic(text in ".{0,40}") {
            let _ = OriginRule::parse(&format!("https://{text}"));
        }

        #[test]
        fn a_network_is_read_back(address: std::net::Ipv6Addr, bits in 0_u8..=128) {
            let network = prefix(&format!("{address}/{bits}"));
            prop_assert_eq!(Some(network), AddressPrefix::from_bytes(&network.to_bytes()));
            prop_assert!(network.contains(address.into()));
        }
    }
}
