//! A value with its JSON and digest, built once and shared.

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Digits of a digest: SHA-256 in hexadecimal.
const DIGITS: usize = 64;

/// A value, its JSON and the digest of that: everything an answer needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cached<T> {
    /// The value.
    pub value: T,
    /// The value as compact JSON, UTF-8.
    pub json: Bytes,
    /// SHA-256 of `json`, 64 lower-case hexadecimal digits: fit for an entity tag.
    pub digest: String,
}

impl<T: Serialize> Cached<T> {
    /// Serializes `value` and digests the result.
    ///
    /// # Panics
    /// If `T` does not serialize to JSON, which no read model does: its map keys are text.
    pub fn new(value: T) -> Self {
        let json = Bytes::from(serde_json::to_vec(&value).expect("a read model serializes to JSON"));
        let digest = hex::encode(digest(&SHA256, &json));
        Self { value, json, digest }
    }
}

impl<T: DeserializeOwned> Cached<T> {
    /// Reads what was written as digest and JSON, and came back unharmed; `None` if it is not a `T`.
    pub(super) fn from_parts(mut bytes: Bytes) -> Option<Self> {
        if bytes.len() < DIGITS {
            return None;
        }
        let digest = String::from_utf8(bytes.split_to(DIGITS).into()).ok()?;
        Some(Self { value: serde_json::from_slice(&bytes).ok()?, json: bytes, digest })
    }
}

impl<T> Cached<T> {
    /// Whether these are its digest and JSON.
    pub(super) fn is_written_as(&self, bytes: &[u8]) -> bool {
        bytes
            .split_at_checked(DIGITS)
            .is_some_and(|(digest, json)| digest == self.digest.as_bytes() && json == self.json)
    }

    /// An estimate of the memory it takes, in bytes: its JSON twice, because the fields of the value
    /// hold about as much again.
    pub(super) fn weight(&self) -> usize {
        size_of::<Self>() + self.digest.len() + 2 * self.json.len()
    }
}
