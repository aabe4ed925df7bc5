//! A tier in memory: for several platforms of one process, and for tests of what stands above a tier.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::cache::EVERY_KEY;
use crate::cache::tier::{Batch, CacheTier, Claim, ClaimMode, Look, MAX_ENTRY_BYTES, Place, Stored, Ticket, TierError};
use crate::clock::Clock;

/// What moka and this module keep per entry besides key and value, in bytes, as an estimate.
const ENTRY_OVERHEAD: usize = 192;

/// Bytes in this process's memory, bounded; what was not used for long goes first.
///
/// A place has a generation only while an entry or a lease is there; what is forgotten begins anew
/// with a number never used before.
pub struct MemoryCache {
    clock: Arc<dyn Clock>,
    entries: moka::sync::Cache<Key, Entry>,
    state: Mutex<State>,
}

type Key = (Box<str>, Box<str>);

#[derive(Debug, Clone)]
struct Entry {
    bytes: Bytes,
    all: u64,
    expires_at: Duration,
}

#[derive(Debug, Default)]
struct State {
    /// The last number given to any generation.
    last: u64,
    all: HashMap<Box<str>, u64>,
    /// Loads under way, and what has been changed under them.
    claims: HashMap<Key, Claimed>,
    applied: Option<i64>,
}

#[derive(Debug)]
struct Claimed {
    generation: u64,
    holder: Option<u64>,
    leased_until: Duration,
    /// Nobody can store under this generation any more after that.
    known_until: Duration,
}

/// How long a generation without an entry is remembered: longer than any load takes.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// Above this many remembered generations those whose time has ended are looked for.
const SWEEP_FROM: usize = 4096;

impl MemoryCache {
    /// An empty one of at most `max_bytes`, by this clock.
    pub fn new(max_bytes: u64, clock: Arc<dyn Clock>) -> Self {
        let entries = moka::sync::Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|key: &Key, entry: &Entry| {
                u32::try_from(ENTRY_OVERHEAD + key.0.len() + key.1.len() + entry.bytes.len()).unwrap_or(u32::MAX)
            })
            .build();
        Self { clock, entries, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entry, if it may be given out. The state is locked by the caller, so that no change comes
    /// in between.
    fn entry(&self, state: &State, key: &Key, now: Duration) -> Option<Bytes> {
        let entry = self.entries.get(key)?;
        (now < entry.expires_at && state.all.get(&key.0) == Some(&entry.all)).then_some(entry.bytes)
    }
}

impl State {
    fn all(&mut self, cache: &str) -> u64 {
        if let Some(all) = self.all.get(cache) {
            return *all;
        }
        self.last += 1;
        self.all.insert(cache.into(), self.last);
        self.last
    }

    fn claimed(&mut self, key: &Key, now: Duration) -> &mut Claimed {
        if self.claims.len() >= SWEEP_FROM {
            self.claims.retain(|_, claimed| now < claimed.known_until);
        }
        self.last += 1;
        let generation = self.last;
        let claimed = self.claims.entry(key.clone()).or_insert(Claimed {
            generation,
            holder: None,
            leased_until: Duration::ZERO,
            known_until: Duration::ZERO,
        });
        claimed.known_until = now + REMEMBERED;
        claimed
    }
}

#[async_trait]
impl CacheTier for MemoryCache {
    async fn look(&self, place: Place<'_>) -> Result<Look, TierError> {
        let (key, now) = (key(place), self.clock.monotonic());
        let state = self.state();
        Ok(Look { bytes: self.entry(&state, &key, now), applied: state.applied })
    }

    async fn claim(&self, place: Place<'_>, mode: ClaimMode, holder: u64, lease: Duration) -> Result<Claim, TierError> {
        let (key, now) = (key(place), self.clock.monotonic());
        let mut state = self.state();
        let all = state.all(place.cache);
        if mode == ClaimMode::UnlessThere
            && let Some(bytes) = self.entry(&state, &key, now)
        {
            return Ok(Claim::There(Look { bytes: Some(bytes), applied: state.applied }));
        }
        let claimed = state.claimed(&key, now);
        let ticket = Ticket { generation: claimed.generation, all, holder };
        if claimed.holder.is_some() && now < claimed.leased_until {
            return Ok(Claim::Wait(ticket));
        }
        (claimed.holder, claimed.leased_until) = (Some(holder), now + lease);
        Ok(Claim::Lead(ticket))
    }

    async fn store(&self, place: Place<'_>, ticket: &Ticket, bytes: Bytes, ttl: Duration) -> Result<Stored, TierError> {
        let (key, now) = (key(place), self.clock.monotonic());
        let mut state = self.state();
        let all = state.all.get(place.cache).copied();
        let Some(claimed) = state.claims.get_mut(&key) else { return Ok(Stored::Refused) };
        let is_current = claimed.generation == ticket.generation && all == Some(ticket.all);
        if claimed.holder == Some(ticket.holder) {
            claimed.holder = None;
        }
        if !is_current || bytes.len() > MAX_ENTRY_BYTES || ttl.is_zero() {
            return Ok(Stored::Refused);
        }
        self.entries.insert(key, Entry { bytes, all: ticket.all, expires_at: now + ttl });
        Ok(Stored::Kept)
    }

    async fn give_up(&self, place: Place<'_>, ticket: &Ticket) -> Result<(), TierError> {
        let mut state = self.state();
        if let Some(claimed) = state.claims.get_mut(&key(place))
            && claimed.holder == Some(ticket.holder)
        {
            claimed.holder = None;
        }
        Ok(())
    }

    async fn applied(&self) -> Result<Option<i64>, TierError> {
        Ok(self.state().applied)
    }

    async fn apply(&self, batch: Batch<'_>) -> Result<Option<i64>, TierError> {
        let mut state = self.state();
        match state.applied {
            Some(applied) if applied >= batch.after && applied < batch.up_to() => {}
            other => return Ok(other),
        }
        for change in batch.changes {
            if change.key == EVERY_KEY {
                state.all.remove(change.topic.as_str());
            } else {
                let key = key(Place { cache: &change.topic, key: &change.key });
                state.claims.remove(&key);
                self.entries.invalidate(&key);
            }
        }
        state.applied = Some(batch.up_to());
        Ok(state.applied)
    }

    async fn reset(&self, caches: &[&str], up_to: i64) -> Result<(), TierError> {
        let mut state = self.state();
        for cache in caches {
            state.all.remove(*cache);
        }
        state.applied = Some(up_to);
        Ok(())
    }
}

impl fmt::Debug for MemoryCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryCache").field("entries", &self.entries.entry_count()).finish_non_exhaustive()
    }
}

fn key(place: Place<'_>) -> Key {
    (place.cache.into(), place.key.into())
}
