//! What clients do with the store itself, by URLs that are signed for one request each.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use super::{ObjectError, Objects};
use crate::clock::Timestamp;

/// An object that is put in parts, which are gathered under an id of the store's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartsOf {
    /// The key that the object will have.
    pub key: String,
    /// The store's id for the parts.
    pub id: String,
}

/// A part that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPart {
    /// Its place, from 1.
    pub number: u32,
    /// Its bytes.
    pub size_bytes: u64,
    /// What the store calls its content.
    pub tag: String,
}

/// Parts that were neither completed nor given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// Which.
    pub parts: PartsOf,
    /// When they were begun, by the store's clock.
    pub begun: Timestamp,
}

/// How a signed URL answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answering<'a> {
    /// Its media type.
    pub content_type: &'a str,
    /// Its `Content-Disposition` (RFC 6266).
    pub disposition: &'a str,
    /// How long whoever fetched it may keep the answer.
    pub cache_control: &'a str,
}

/// A store that clients may be sent to.
///
/// # Contract
/// * A URL is good for one method on one object or part, until its time is over, for whoever has it.
/// * A part's URL takes exactly the announced number of bytes. A part that is put again replaces the one before.
/// * What has been completed or given up takes no more parts.
///
/// All errors are [`ObjectError::Unavailable`] or as said.
#[async_trait]
pub trait DirectStore: fmt::Debug + Send + Sync + 'static {
    /// Begins an object in parts; the store's id for them.
    async fn begin(&self, key: &str) -> Result<String, ObjectError>;

    /// A URL to `PUT` one part to.
    async fn part_url(
        &self,
        parts: &PartsOf,
        number: u32,
        size_bytes: u64,
        life: Duration,
    ) -> Result<String, ObjectError>;

    /// Parts that are there, in order, after `after` (0 for the first), at most 1,000; fewer only at the end.
    ///
    /// # Errors
    /// [`ObjectError::NotFound`] if they were completed or given up.
    async fn parts(&self, parts: &PartsOf, after: u32) -> Result<Vec<StoredPart>, ObjectError>;

    /// Makes the parts one object, which appears whole or not at all.
    ///
    /// # Errors
    /// [`ObjectError::NotFound`] if they were completed or given up.
    async fn complete(&self, parts: &PartsOf, stored: &[StoredPart]) -> Result<(), ObjectError>;

    /// Gives the parts up; if there are none, that is fine.
    async fn abort(&self, parts: &PartsOf) -> Result<(), ObjectError>;

    /// What was begun and not ended, in order of key and id, after `after`; at most 1,000, fewer only at the end.
    async fn unfinished(&self, after: Option<&PartsOf>) -> Result<Vec<Unfinished>, ObjectError>;

    /// A URL to `GET` or `HEAD` an object, in ranges too.
    async fn object_url(&self, key: &str, answering: Answering<'_>, life: Duration) -> Result<String, ObjectError>;
}

impl Objects {
    /// The store that clients may be sent to; `None` where bytes have to go through this program.
    pub fn direct(&self) -> Option<&dyn DirectStore> {
        self.direct.as_deref()
    }

    /// The same of this place and, while objects move, of the other one: parts that were begun there stay there.
    pub(crate) fn all_direct(&self) -> impl Iterator<Item = &dyn DirectStore> {
        std::iter::once(self).chain(self.fallback()).filter_map(Self::direct)
    }
}

/// Every part that is there.
///
/// # Errors
/// As for [`DirectStore::parts`].
pub(crate) async fn all_parts(store: &dyn DirectStore, parts: &PartsOf) -> Result<Vec<StoredPart>, ObjectError> {
    let mut all = Vec::new();
    loop {
        let after = all.last().map_or(0, |part: &StoredPart| part.number);
        let page = store.parts(parts, after).await?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}
