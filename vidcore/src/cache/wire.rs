//! An entry as bytes, as it stands in a shared tier.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::de::DeserializeOwned;

use crate::cache::Cached;
use crate::clock::Timestamp;

/// Begins every entry: something else, or another layout, is not read.
const MAGIC: u8 = 0xc2;

/// Magic, checksum of all that follows it.
const SEAL: usize = 1 + 4;

/// Kind, time of loading, three durations.
const HEADER: usize = 1 + 8 + 3 * 4;

const ABSENT: u8 = 0;
const PRESENT: u8 = 1;

/// A value, or the knowledge that there is none, with its age.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parcel<T> {
    pub(super) value: Option<Arc<Cached<T>>>,
    /// When its load began, by the clock of the process that loaded it.
    pub(super) loaded_at: Timestamp,
    /// How long it is fresh, and how long it may serve, both counted from then.
    pub(super) fresh_for: Duration,
    pub(super) usable_for: Duration,
    /// How long its load took.
    pub(super) load_time: Duration,
}

impl<T> Parcel<T> {
    pub(super) fn to_bytes(&self) -> Bytes {
        let (kind, json, digest) = match &self.value {
            Some(value) => (PRESENT, &value.json[..], value.digest.as_bytes()),
            None => (ABSENT, &[][..], &[][..]),
        };
        let mut bytes = BytesMut::with_capacity(SEAL + HEADER + digest.len() + json.len());
        bytes.put_u8(MAGIC);
        bytes.put_u32(0);
        bytes.put_u8(kind);
        bytes.put_i64(self.loaded_at.as_millis());
        for duration in [self.fresh_for, self.usable_for, self.load_time] {
            bytes.put_u32(u32::try_from(duration.as_millis()).unwrap_or(u32::MAX));
        }
        bytes.put_slice(digest);
        bytes.put_slice(json);
        let checksum = crc32fast::hash(&bytes[SEAL..]);
        bytes[1..SEAL].copy_from_slice(&checksum.to_be_bytes());
        bytes.freeze()
    }
}

impl<T: DeserializeOwned> Parcel<T> {
    /// `None` if these are not the bytes of an entry, or not as they were written.
    ///
    /// The checksum (CRC-32) finds what was cut or damaged. Who can write to the tier on purpose could write a
    /// right digest too, so that comparing that, which takes ten times as long, would find no more.
    ///
    /// A value that was written as `known` is that one, and is not read again.
    pub(super) fn from_bytes(mut bytes: Bytes, known: Option<&Arc<Cached<T>>>) -> Option<Self> {
        if bytes.len() < SEAL + HEADER || bytes.get_u8() != MAGIC {
            return None;
        }
        if bytes.get_u32() != crc32fast::hash(&bytes) {
            return None;
        }
        let kind = bytes.get_u8();
        let loaded_at = Timestamp::from_millis(bytes.get_i64());
        let [fresh_for, usable_for, load_time] = [(); 3].map(|()| Duration::from_millis(u64::from(bytes.get_u32())));
        let value = match kind {
            ABSENT if bytes.is_empty() => None,
            PRESENT => Some(match known.filter(|known| known.is_written_as(&bytes)) {
                Some(known) => Arc::clone(known),
                None => Arc::new(Cached::from_parts(bytes)?),
            }),
            _ => return None,
        };
        Some(Self { value, loaded_at, fresh_for, usable_for, load_time })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel(value: Option<&str>) -> Parcel<String> {
        Parcel {
            value: value.map(|value| Arc::new(Cached::new(value.to_owned()))),
            loaded_at: Timestamp::from_millis(1_234_567),
            fresh_for: Duration::from_millis(5001),
            usable_for: Duration::from_millis(35_001),
            load_time: Duration::from_millis(7),
        }
    }

    #[test]
    fn what_is_packed_is_unpacked_the_same() {
        for value in [Some("a \"value\""), Some(""), None] {
            assert_eq!(Some(parcel(value)), Parcel::from_bytes(parcel(value).to_bytes(), None));
        }
    }

    #[test]
    fn what_is_known_is_not_read_again_and_nothing_else_is_taken_for_it() {
        let (known, other) = (Arc::new(Cached::new("value".to_owned())), Arc::new(Cached::new("valuf".to_owned())));
        let read =
            |known| Parcel::from_bytes(parcel(Some("value")).to_bytes(), Some(known)).and_then(|read| read.value);
        assert!(read(&known).is_some_and(|read| Arc::ptr_eq(&read, &known)));
        assert!(read(&other).is_some_and(|read| !Arc::ptr_eq(&read, &other) && read.value == "value"));
    }

    #[test]
    fn bytes_that_were_changed_cut_or_are_something_else_are_not_read() {
        let whole = parcel(Some("value")).to_bytes();
        for length in 0..whole.len() {
            assert_eq!(None, Parcel::<String>::from_bytes(whole.slice(..length), None), "{length} bytes");
        }
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut changed = whole.to_vec();
                changed[at] ^= 1 << bit;
                assert_eq!(None, Parcel::<String>::from_bytes(changed.into(), None), "byte {at}, bit {bit}");
            }
        }
        assert_eq!(None, Parcel::<u64>::from_bytes(whole, None), "another type");
    }
}
