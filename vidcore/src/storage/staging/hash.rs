//! SHA-256 that can be put aside and gone on with, by another process if need be.

use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Digest, Sha256};

use crate::storage::staging::Batch;

/// SHA-256 (FIPS 180-4) of bytes that come over days.
#[derive(Debug, Clone, Default)]
pub struct RunningHash(Sha256);

impl RunningHash {
    /// Goes on from what [`state`](Self::state) gave; `None` if that is not such a state.
    pub fn from_state(state: &[u8]) -> Option<Self> {
        let state = SerializedState::<Sha256>::try_from(state).ok()?;
        Sha256::deserialize(&state).ok().map(Self)
    }

    /// Takes more bytes.
    pub fn update(&mut self, batch: &Batch) {
        for bytes in batch.iter() {
            self.0.update(bytes);
        }
    }

    /// What is to be kept to go on later: some 100 bytes, of use to this program alone.
    pub fn state(&self) -> Vec<u8> {
        self.0.serialize().to_vec()
    }

    /// The hash of all bytes so far.
    pub fn digest(&self) -> [u8; 32] {
        self.0.clone().finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::storage::objects::sha256;

    fn batch(bytes: &[u8]) -> Batch {
        Arc::new(vec![Bytes::copy_from_slice(bytes)])
    }

    proptest! {
        #[test]
        fn a_hash_put_aside_anywhere_is_the_hash_of_the_whole(bytes: Vec<u8>, at in 0_usize..4096) {
            let at = at.min(bytes.len());
            let mut hash = RunningHash::default();
            hash.update(&batch(&bytes[..at]));
            let mut later = RunningHash::from_state(&hash.state()).expect("its own state");
            later.update(&batch(&bytes[at..]));
            prop_assert_eq!(sha256(&bytes), later.digest());
        }

        #[test]
        fn bytes_that_are_no_state_are_refused_or_read_without_a_panic(bytes: Vec<u8>) {
            let _ = RunningHash::from_state(&bytes);
        }
    }
}
