//! A value with its JSON and digest, built once and shared.

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use serde::Serialize;

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

impl<T> Cached<T> {
    /// An estimate of the memory it takes, in bytes: its JSON twice, because the fields of the value
    /// hold about as much again.
    pub(super) fn weight(&self) -> usize {
        size_of::<Self>() + self.digest.len() + 2 * self.json.len()
    }
}
