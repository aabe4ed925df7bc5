//! Checksums that a client sends along with bytes.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

use crate::storage::staging::Batch;

/// How a checksum is computed. None of them says who sent the bytes; they find bytes that were damaged on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChecksumAlgorithm {
    /// SHA-1 (RFC 3174), 20 bytes.
    Sha1,
    /// SHA-256 (RFC 6234), 32 bytes.
    Sha256,
    /// CRC-32 (ISO-HDLC, as in gzip, RFC 1952 §8), 4 bytes, the most significant first.
    Crc32,
}

impl ChecksumAlgorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sha1, Self::Sha256, Self::Crc32];

    /// Its name in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Crc32 => "crc32",
        }
    }

    /// The algorithm with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }

    /// How many bytes its checksums have.
    pub fn size(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Crc32 => 4,
        }
    }
}

/// What the bytes of a request are to come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum {
    algorithm: ChecksumAlgorithm,
    expected: Vec<u8>,
}

impl Checksum {
    /// A checksum; `None` if `expected` has another length than the algorithm's have.
    pub fn new(algorithm: ChecksumAlgorithm, expected: Vec<u8>) -> Option<Self> {
        (expected.len() == algorithm.size()).then_some(Self { algorithm, expected })
    }
}

/// A checksum of bytes as they come.
pub(crate) struct RunningChecksum {
    expected: Checksum,
    state: State,
}

enum State {
    Digest(Context),
    Crc(crc32fast::Hasher),
}

impl fmt::Debug for RunningChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningChecksum").field("expected", &self.expected).finish_non_exhaustive()
    }
}

impl RunningChecksum {
    pub(crate) fn new(expected: Checksum) -> Self {
        let state = match expected.algorithm {
            ChecksumAlgorithm::Sha1 => State::Digest(Context::new(&SHA1_FOR_LEGACY_USE_ONLY)),
            ChecksumAlgorithm::Sha256 => State::Digest(Context::new(&SHA256)),
            ChecksumAlgorithm::Crc32 => State::Crc(crc32fast::Hasher::new()),
        };
        Self { expected, state }
    }

    pub(crate) fn update(&mut self, batch: &Batch) {
        for bytes in batch.iter() {
            match &mut self.state {
                State::Digest(digest) => digest.update(bytes),
                State::Crc(crc) => crc.update(bytes),
            }
        }
    }

    /// Whether the bytes so far come to what was expected.
    pub(crate) fn matches(&self) -> bool {
        match &self.state {
            State::Digest(digest) => digest.clone().finish().as_ref() == self.expected.expected,
            State::Crc(crc) => crc.clone().finalize().to_be_bytes().as_slice() == self.expected.expected,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;

    /// Known answers for "123456789": CRC-32's check value, and SHA-1 and SHA-256 as sha1sum and sha256sum print them.
    #[test]
    fn known_bytes_come_to_known_checksums() {
        for (algorithm, expected) in [
            (ChecksumAlgorithm::Crc32, "cbf43926"),
            (ChecksumAlgorithm::Sha1, "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
            (ChecksumAlgorithm::Sha256, "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"),
        ] {
            let expected = Checksum::new(algorithm, hex::decode(expected).expect("hex")).expect("its length");
            let mut running = RunningChecksum::new(expected);
            running.update(&Arc::new(vec![Bytes::from_static(b"1234"), Bytes::from_static(b"5678")]));
            assert!(!running.matches(), "{algorithm:?}");
            running.update(&Arc::new(vec![Bytes::from_static(b"9")]));
            assert!(running.matches(), "{algorithm:?}");
        }
    }

    #[test]
    fn a_checksum_of_another_length_is_none() {
        assert_eq!(None, Checksum::new(ChecksumAlgorithm::Crc32, vec![0; 20]));
    }
}
