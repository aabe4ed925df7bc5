//! Who is counted: users, addresses, and accounts that somebody tries to sign in to.

use std::hash::Hasher;
use std::net::{IpAddr, Ipv6Addr};

use crate::id::UserId;

/// An address as limits count it: IPv4 whole, IPv6 by its first 64 bits, IPv4-mapped IPv6 as IPv4.
///
/// One subscriber usually holds a whole /64, so its single addresses say nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpSubject(IpAddr);

impl IpSubject {
    /// The network of this address, or the address itself for IPv4.
    pub fn network(&self) -> IpAddr {
        self.0
    }
}

impl From<IpAddr> for IpSubject {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(v4) => IpAddr::V4(v4),
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
        })
    }
}

/// An account as an attempt names it, whether it exists or not: a keyed hash of its e-mail address,
/// so that no limiter ever holds the address itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountSubject([u8; 16]);

impl AccountSubject {
    /// The account with this hash.
    pub fn from_hash(hash: [u8; 16]) -> Self {
        Self(hash)
    }
}

/// Who is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A signed-in user.
    User(UserId),
    /// The address of a caller.
    Address(IpSubject),
    /// An account that somebody, anywhere, tries to sign in to or to register.
    Account(AccountSubject),
    /// The same, tried from one address.
    AccountAt(AccountSubject, IpSubject),
}

impl Subject {
    /// Its value without its kind, in as few steps as can be: a map that compares the whole subject needs no
    /// more, and each step costs.
    pub(super) fn hash_value<H: Hasher>(&self, state: &mut H) {
        let network = |address: &IpSubject, state: &mut H| match address.network() {
            IpAddr::V4(v4) => state.write_u32(v4.to_bits()),
            // The rest is zero.
            IpAddr::V6(v6) => state.write_u64((v6.to_bits() >> 64) as u64),
        };
        match self {
            Self::User(user) => state.write(user.as_bytes()),
            Self::Address(address) => network(address, state),
            Self::Account(account) => state.write(&account.0),
            Self::AccountAt(account, address) => {
                state.write(&account.0);
                network(address, state);
            }
        }
    }

    /// Its bytes for a key: a kind, then the value; no two subjects have the same.
    #[cfg(feature = "redis")]
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let network = |address: IpSubject| match address.network() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        match self {
            Self::User(user) => [b"u", user.as_bytes().as_slice()].concat(),
            Self::Address(address) => [b"i", network(address).as_slice()].concat(),
            Self::Account(account) => [b"a", account.0.as_slice()].concat(),
            Self::AccountAt(account, address) => [b"f", account.0.as_slice(), &network(address)].concat(),
        }
    }
}

/// Who a policy counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubjectKind {
    /// Each signed-in user.
    User,
    /// Each address.
    Address,
    /// Each account that is tried, by whomever.
    Account,
    /// Each account, tried from an address from which it was signed in to before.
    Familiar,
}

impl SubjectKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::User, Self::Address, Self::Account, Self::Familiar];

    /// The name after the dot of a policy's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Address => "address",
            Self::Account => "account",
            Self::Familiar => "familiar",
        }
    }

    /// The kind with this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}
