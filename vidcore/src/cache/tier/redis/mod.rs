//! A tier in Redis.
//!
//! Per place three keys: the entry, its generation, the lease of whoever loads it; per cache one
//! generation of everything in it; and one mark for all: the id up to which changes are applied. An
//! entry begins with the cache's generation, so that making a whole cache stale is one step however
//! much is in it. Every key has a time to live, and losing any of them at any time (eviction, a flush,
//! a server that comes back with an older state) makes entries unusable, never stale:
//! * without the mark, or with an old one, a reader who knows of a later change does not take the entry;
//! * without a generation nothing can be stored, and a new one is made from the server's time in
//!   microseconds, which is above all that were made from an earlier time.
//!
//! A look is one `MGET`, of several looks where they come together; what has to decide and write is a
//! script. The keys of one script are named in no common hash slot: a cluster is not supported.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use redis::{RedisError, Script};

use crate::cache::EVERY_KEY;
use crate::cache::tier::{
    Batch, CacheTier, Claim, ClaimMode, Look, MAX_ENTRY_BYTES, Place, SCHEMA, Stored, Ticket, TierError,
};
use crate::clock::Clock;
use crate::redis::{Link, LinkError, RedisServer};

mod looks;

use looks::Looks;

/// How long a generation is remembered after it was last claimed: longer than any load takes.
const GENERATION_TTL: Duration = Duration::from_secs(3600);

/// How long the generation of a whole cache and the mark are: they are touched all the time.
const LASTING_TTL: Duration = Duration::from_secs(86_400);

/// Longer keys are hashed, and those that look as if they were.
const MAX_KEY_BYTES: usize = 160;

/// Between the generation at an entry's beginning and the rest.
const SEPARATOR: u8 = b':';

/// Bytes in a Redis. Clones share one connection.
#[derive(Debug, Clone)]
pub struct RedisCache {
    link: Link,
    /// What all its keys begin with.
    prefix: Arc<str>,
    mark: Arc<str>,
    looks: Arc<Looks>,
    scripts: Arc<Scripts>,
}

#[derive(Debug)]
struct Scripts {
    claim: Script,
    store: Script,
    give_up: Script,
    apply: Script,
    reset: Script,
}

impl RedisCache {
    /// A tier at this server, each of whose answers is waited for as long as `patience`. Connects when
    /// it is first asked. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`TierError::Unavailable`] if the client refuses its settings.
    pub fn new(server: &RedisServer, patience: Duration, clock: Arc<dyn Clock>) -> Result<Self, TierError> {
        let link = Link::new(server, "cache", patience, clock)
            .map_err(|error| TierError::Unavailable { operation: "connect", source: error.into() })?;
        let prefix = server.names().cache(SCHEMA);
        let mark: Arc<str> = format!("{prefix}:applied").into();
        Ok(Self {
            looks: Arc::new(Looks::new(link.clone(), Arc::clone(&mark))),
            link,
            mark,
            prefix: prefix.into(),
            scripts: Arc::new(Scripts {
                claim: Script::new(include_str!("claim.lua")),
                store: Script::new(include_str!("store.lua")),
                give_up: Script::new(include_str!("give_up.lua")),
                apply: Script::new(include_str!("apply.lua")),
                reset: Script::new(include_str!("reset.lua")),
            }),
        })
    }

    /// Ends the connection: from now on it is away.
    pub fn close(&self) {
        self.link.close();
    }

    /// Whether the server is asked as usual, or known to be away.
    pub fn is_answering(&self) -> bool {
        self.link.is_closed()
    }

    fn keys(&self, place: Place<'_>) -> Keys {
        let [entry, generation, lease] = [":e:", ":g:", ":l:"].map(|kind| self.name(place, kind));
        Keys { entry, generation, lease }
    }

    fn entry(&self, place: Place<'_>) -> String {
        self.name(place, ":e:")
    }

    fn name(&self, place: Place<'_>, kind: &str) -> String {
        let Place { cache, key } = place;
        let hashed;
        let key = if key.len() <= MAX_KEY_BYTES && !key.starts_with('\u{0}') {
            key
        } else {
            // What was hashed begins with a byte that nothing else does.
            hashed = format!("\u{0}{}", hex::encode(digest(&SHA256, key.as_bytes())));
            &hashed
        };
        [&self.prefix, ":", cache, kind, key].concat()
    }

    fn all(&self, cache: &str) -> String {
        [&self.prefix, ":", cache, ":all"].concat()
    }
}

/// The names of a place's keys.
struct Keys {
    entry: String,
    generation: String,
    lease: String,
}

#[async_trait]
impl CacheTier for RedisCache {
    async fn look(&self, place: Place<'_>) -> Result<Look, TierError> {
        self.looks.look(&self.entry(place), &self.all(place.cache)).await
    }

    async fn claim(&self, place: Place<'_>, mode: ClaimMode, holder: u64, lease: Duration) -> Result<Claim, TierError> {
        let keys = self.keys(place);
        let mut call = self.scripts.claim.prepare_invoke();
        call.key(keys.entry).key(keys.generation).key(self.all(place.cache)).key(keys.lease).key(&*self.mark);
        call.arg(holder.to_string()).arg(millis(lease)).arg(millis(GENERATION_TTL)).arg(millis(LASTING_TTL));
        call.arg(u8::from(mode == ClaimMode::UnlessThere));
        let (outcome, generation, all, entry, applied): (u8, u64, u64, Vec<u8>, Option<i64>) = self
            .link
            .run(async |connection| call.invoke_async(connection).await)
            .await
            .map_err(|error| failed("claim", error))?;
        let ticket = Ticket { generation, all, holder };
        Ok(match outcome {
            0 => Claim::There(Look { bytes: unwrap_entry(entry, all.to_string().as_bytes()), applied }),
            1 => Claim::Lead(ticket),
            _ => Claim::Wait(ticket),
        })
    }

    async fn store(&self, place: Place<'_>, ticket: &Ticket, bytes: Bytes, ttl: Duration) -> Result<Stored, TierError> {
        if bytes.len() > MAX_ENTRY_BYTES || ttl < Duration::from_millis(1) {
            return self.give_up(place, ticket).await.map(|()| Stored::Refused);
        }
        let keys = self.keys(place);
        let mut call = self.scripts.store.prepare_invoke();
        call.key(keys.entry).key(keys.generation).key(self.all(place.cache)).key(keys.lease);
        call.arg(ticket.generation).arg(ticket.all).arg(ticket.holder.to_string()).arg(millis(ttl)).arg(&*bytes);
        let kept: bool = self
            .link
            .run(async |connection| call.invoke_async(connection).await)
            .await
            .map_err(|error| failed("store", error))?;
        Ok(if kept { Stored::Kept } else { Stored::Refused })
    }

    async fn give_up(&self, place: Place<'_>, ticket: &Ticket) -> Result<(), TierError> {
        let mut call = self.scripts.give_up.prepare_invoke();
        call.key(self.keys(place).lease).arg(ticket.holder.to_string());
        self.link
            .run(async |connection| call.invoke_async(connection).await)
            .await
            .map_err(|error| failed("give up", error))
    }

    async fn applied(&self) -> Result<Option<i64>, TierError> {
        // Reading it keeps it.
        let command = redis::cmd("GETEX").arg(&*self.mark).arg("PX").arg(millis(LASTING_TTL)).take();
        self.link
            .run(async |connection| command.query_async(connection).await)
            .await
            .map_err(|error| failed("read the mark", error))
    }

    async fn apply(&self, batch: Batch<'_>) -> Result<Option<i64>, TierError> {
        let mut call = self.scripts.apply.prepare_invoke();
        call.key(&*self.mark).arg(batch.after).arg(batch.up_to()).arg(millis(LASTING_TTL));
        for change in batch.changes {
            if change.key == EVERY_KEY {
                call.key(self.all(&change.topic)).arg("all");
            } else {
                let keys = self.keys(Place { cache: &change.topic, key: &change.key });
                call.key(keys.generation).key(keys.entry).key(keys.lease).arg("key");
            }
        }
        self.link
            .run(async |connection| call.invoke_async(connection).await)
            .await
            .map_err(|error| failed("apply changes", error))
    }

    async fn reset(&self, caches: &[&str], up_to: i64) -> Result<(), TierError> {
        let mut call = self.scripts.reset.prepare_invoke();
        call.key(&*self.mark).arg(up_to).arg(millis(LASTING_TTL));
        for cache in caches {
            call.key(self.all(cache));
        }
        self.link
            .run(async |connection| call.invoke_async(connection).await)
            .await
            .map_err(|error| failed("reset", error))
    }
}

/// What was stored, if it was under the cache's generation `all`.
fn unwrap_entry(entry: Vec<u8>, all: &[u8]) -> Option<Bytes> {
    let rest = entry.strip_prefix(all)?.strip_prefix(&[SEPARATOR])?;
    let start = entry.len() - rest.len();
    Some(Bytes::from(entry).slice(start..))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn failed(operation: &'static str, error: LinkError) -> TierError {
    match error {
        LinkError::Open => TierError::Away,
        LinkError::Redis(error) => unavailable(operation, error),
    }
}

fn unavailable(operation: &'static str, error: RedisError) -> TierError {
    TierError::Unavailable { operation, source: error.into() }
}
