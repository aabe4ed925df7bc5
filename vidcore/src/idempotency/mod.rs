//! `Idempotency-Key`: the same request sent twice has one effect and one answer.
//!
//! The key is bound to the caller and the route (its scope) and to the request (its fingerprint),
//! and its record is written in the transaction of the effect: there is no "in progress" state that
//! a crash could leave behind.

use std::fmt;

use async_trait::async_trait;

use crate::clock::Timestamp;
use crate::store::StoreError;

#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;

/// What a caller presents: made by the layer that saw the raw request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Who and what: the user's id and the route, or the route and the address of an anonymous caller.
    pub scope: String,
    /// The caller's own key, 1 to 255 visible characters.
    pub key: String,
    /// HMAC-SHA-256 of method, path and raw body.
    pub fingerprint: [u8; 32],
}

/// What is written beside the effect.
#[derive(Clone, PartialEq, Eq)]
pub struct IdempotencyRecord {
    /// What the caller presented.
    pub key: IdempotencyKey,
    /// When the record may be forgotten.
    pub expires_at: Timestamp,
    /// Secret parts of the answer, sealed by the service before the call; kept as they are.
    pub sealed: Option<Vec<u8>>,
}

impl fmt::Debug for IdempotencyRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyRecord")
            .field("key", &self.key)
            .field("expires_at", &self.expires_at)
            .field("sealed", &self.sealed.as_ref().map(Vec::len))
            .finish()
    }
}

/// Housekeeping of the records; writing and replaying them is part of every command.
#[async_trait]
pub trait IdempotencyStore: Send + Sync {
    /// Deletes up to `limit` records that expired by `now`, longest ago first, and returns how many went.
    async fn prune_idempotency(&self, now: Timestamp, limit: u16) -> Result<u64, StoreError>;
}
