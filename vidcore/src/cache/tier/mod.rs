//! The tier behind a process's own memory: bytes by cache and key, shared by all processes that have
//! the same one.
//!
//! A tier knows nothing of what the bytes mean. What it must get right is which of them may still be
//! given out: it is told of committed [changes](crate::events) in their order, says how far it has been
//! told, and takes nothing that was loaded before a change it knows of.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::events::Change;
use crate::store::BoxError;

mod memory;
#[cfg(feature = "redis")]
mod redis;

pub use memory::MemoryCache;
#[cfg(feature = "redis")]
pub use redis::RedisCache;

/// The version of what caches keep, part of every name in a tier that outlives a process: processes
/// of different versions neither read nor invalidate each other's entries, nor need to.
pub const SCHEMA: u16 = 1;

/// The most bytes of one entry; larger ones are not kept.
pub const MAX_ENTRY_BYTES: usize = 1 << 20;

/// Why a tier did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TierError {
    /// It is known to be away and was not asked.
    #[error("cache tier is away")]
    Away,
    /// It was asked and did not answer, or refused (for example for want of memory).
    #[error("cache tier unavailable: {operation}")]
    Unavailable {
        /// What was being done, for the log.
        operation: &'static str,
        /// The back end's own words.
        #[source]
        source: BoxError,
    },
}

/// Where an entry stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place<'a> {
    /// Which cache: the topic of the changes that concern it.
    pub cache: &'a str,
    /// Which entry of it.
    pub key: &'a str,
}

/// What a tier knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Look {
    /// The entry, as it was stored.
    pub bytes: Option<Bytes>,
    /// The id up to which it has been told of every change; `None` if it does not know, for example
    /// because it has just started. Read at the same moment as the entry.
    pub applied: Option<i64>,
}

/// What a load has to show when its value is stored: the state of the entry when the load began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The entry's generation.
    pub generation: u64,
    /// The generation of the whole cache.
    pub all: u64,
    /// The lease's holder.
    pub holder: u64,
}

/// Whether a claim looks first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimMode {
    /// An entry that is there is returned instead.
    UnlessThere,
    /// An entry that is there is to be replaced.
    Refresh,
}

/// What came of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// There is an entry; nobody needs to load.
    There(Look),
    /// The caller holds the lease and should load.
    Lead(Ticket),
    /// Another one holds the lease. Whoever loads all the same may store with this ticket.
    Wait(Ticket),
}

/// What became of bytes that were to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// They are there.
    Kept,
    /// They were loaded before a change, or are too large.
    Refused,
}

/// Changes in the order of their ids, as one step.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// Every change up to this id must have been applied before.
    pub after: i64,
    /// Every change above that and up to the last one's id, oldest first; not empty.
    pub changes: &'a [Change],
}

impl Batch<'_> {
    /// The id up to which everything is applied afterwards.
    pub fn up_to(&self) -> i64 {
        self.changes.last().map_or(self.after, |change| change.id)
    }
}

/// Bytes shared between processes.
///
/// # Contract
/// * What was stored is there until its time to live ends, room is needed or a change makes it stale;
///   it may go at any time before.
/// * Once [`apply`](Self::apply) of a change has returned, no [`look`](Self::look) gives out what was
///   stored at its place before, and nothing is kept there whose ticket is older.
/// * `look` reads entry and `applied` at one moment. `applied` may fall back when the tier loses what
///   it had; then it has lost, or does not give out, what was stored since.
/// * At most one unexpired lease exists per place. It ends with its time, with
///   [`store`](Self::store) or [`give_up`](Self::give_up) by its holder, or with a change of its key.
/// * Generations of a place only grow, also where the tier forgets and begins anew.
/// * Nothing is kept without a time to live. Memory is bounded by the back end.
///
/// Every method is cancel safe: it has happened or it has not.
#[async_trait]
pub trait CacheTier: fmt::Debug + Send + Sync + 'static {
    /// What is known at `place`.
    ///
    /// # Errors
    /// [`TierError`].
    async fn look(&self, place: Place<'_>) -> Result<Look, TierError>;

    /// Asks for the duty to load `place`, for `lease` from now. `holder` tells this caller from all
    /// others.
    ///
    /// # Errors
    /// [`TierError`].
    async fn claim(&self, place: Place<'_>, mode: ClaimMode, holder: u64, lease: Duration) -> Result<Claim, TierError>;

    /// Stores what was loaded under `ticket` for `ttl`, unless a change came in between, and ends the
    /// lease if the ticket's holder has it.
    ///
    /// # Errors
    /// [`TierError`].
    async fn store(&self, place: Place<'_>, ticket: &Ticket, bytes: Bytes, ttl: Duration) -> Result<Stored, TierError>;

    /// Ends the lease if the ticket's holder has it, because there is nothing to store.
    ///
    /// # Errors
    /// [`TierError`].
    async fn give_up(&self, place: Place<'_>, ticket: &Ticket) -> Result<(), TierError>;

    /// The id up to which all changes are applied; `None` if that is not known.
    ///
    /// # Errors
    /// [`TierError`].
    async fn applied(&self) -> Result<Option<i64>, TierError>;

    /// Makes stale what the changes name, and returns up to where all are applied now. That is less
    /// than the batch's end, or `None`, if changes before the batch are missing: then nothing was done.
    /// Applying twice is harmless.
    ///
    /// # Errors
    /// [`TierError`].
    async fn apply(&self, batch: Batch<'_>) -> Result<Option<i64>, TierError>;

    /// Makes everything in `caches` stale and takes all changes up to `up_to` as applied.
    ///
    /// # Errors
    /// [`TierError`].
    async fn reset(&self, caches: &[&str], up_to: i64) -> Result<(), TierError>;
}
