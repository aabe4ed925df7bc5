//! The leader's task: asks the shared tier, loads under its lease, keeps what may be kept, and answers
//! everybody who waits.

use std::error::Error;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cache::entry::{Entry, Freshness, Life};
use crate::cache::flight::{Answer, Leader};
use crate::cache::read_through::Inner;
use crate::cache::shared::SharedTier;
use crate::cache::stats::{LoadOutcome, SharedLookup};
use crate::cache::tier::{Claim, ClaimMode, Place, Stored, Ticket, TierError};
use crate::cache::wire::Parcel;
use crate::cache::{Cached, LEASE, LoadError};
use crate::clock::Timestamp;
use crate::entropy::EntropyExt;

/// How often it is looked whether another process's load has ended. Real time: it runs elsewhere.
const POLL: Duration = Duration::from_millis(20);

/// How long a refresh that failed is not tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What one look at the shared tier found.
pub(super) enum Glance<T> {
    /// A fresh value, or that there is none.
    Fresh(Option<Arc<Cached<T>>>),
    /// That the tier has nothing.
    Missing,
    /// That the tier does not answer.
    Away,
    /// Nothing that would do; or there is no tier.
    None,
}

/// What the leader has to do after the shared tier was asked.
enum Duty {
    /// Nothing: the tier had it, or another process is loading and what there was is good enough.
    None,
    /// Load; with a ticket, what is loaded is stored in the tier too.
    Load(Option<Ticket>),
    /// Load without the tier, as one of a few.
    Bypass,
}

impl<T, E> Inner<T, E>
where
    T: Serialize + DeserializeOwned + Send + Sync + 'static,
    E: Error + Send + Sync + 'static,
{
    /// One look at the shared tier, where `known` is what this process has and does not believe any more.
    pub(super) async fn glance(&self, leader: &Leader<T, E>, known: Option<Arc<Entry<T>>>) -> Glance<T> {
        let Some(shared) = self.parts.shared.as_ref().filter(|_| !self.is_deaf()) else { return Glance::None };
        let place = Place { cache: self.options.name, key: leader.key() };
        let required = self.generations.required(leader.stripe());
        let bytes = match shared.glance(place, required).await {
            Ok(Some(Some(bytes))) => bytes,
            Ok(Some(None)) => return Glance::Missing,
            Ok(None) => return Glance::None,
            Err(error) => {
                self.trouble(&error);
                return Glance::Away;
            }
        };
        let known_value = known.as_ref().and_then(|known| known.value.as_ref());
        let Some(parcel) = Parcel::<T>::from_bytes(bytes, known_value) else { return Glance::None };
        let life = self.life(&parcel);
        if !self.is_fresh(&life) {
            return Glance::None;
        }
        self.counters.shared(SharedLookup::Hit);
        match known.filter(|known| self.is_same(known, &parcel, leader)) {
            Some(known) => known.believe_until(self.look_again_at(self.now())),
            None => self.keep(leader, parcel.value.clone(), life).await,
        }
        Glance::Fresh(parcel.value)
    }

    /// Whether `known` is this parcel, taken before or loaded here, and may be served on.
    fn is_same(&self, known: &Entry<T>, parcel: &Parcel<T>, leader: &Leader<T, E>) -> bool {
        let is_same_value = match (&known.value, &parcel.value) {
            // A parcel with what is known holds that itself.
            (Some(known), Some(parcel)) => Arc::ptr_eq(known, parcel),
            (known, parcel) => known.is_none() && parcel.is_none(),
        };
        is_same_value
            && known.life.loaded_at == parcel.loaded_at
            && self.is_fresh(&known.life)
            && known.generation == leader.generation()
            && self.is_current(known.stripe, known.generation)
            && !self.is_deaf()
    }

    /// For callers who found nothing to be served.
    pub(super) async fn lead<F>(self: Arc<Self>, leader: Leader<T, E>, glance: Glance<T>, load: F)
    where
        F: Future<Output = Result<Option<T>, E>> + Send + 'static,
    {
        // A load that ended between this caller's look and its turn has left a fresh value behind.
        if !self.is_deaf()
            && let Some(entry) = self.kept(leader.key()).await
            && entry.is_believed(self.now())
            && entry.life.freshness(self.now()) == Freshness::Fresh
        {
            return leader.finish(Ok(entry.value.clone()));
        }
        if matches!(glance, Glance::Away) {
            return self.load_past_tier(leader, load).await;
        }
        self.find(leader, None, matches!(glance, Glance::Missing), load).await;
    }

    /// The same, where callers may have been answered already with what was loaded at `due`: that is not
    /// taken again.
    pub(super) async fn refresh_in_background<F>(self: Arc<Self>, leader: Leader<T, E>, due: Option<Timestamp>, load: F)
    where
        F: Future<Output = Result<Option<T>, E>> + Send + 'static,
    {
        self.find(leader, due, false, load).await;
    }

    /// From the shared tier, or by the load; `is_missing` if it was found a moment ago that the tier does not
    /// have it.
    async fn find<F>(&self, leader: Leader<T, E>, due: Option<Timestamp>, is_missing: bool, load: F)
    where
        F: Future<Output = Result<Option<T>, E>> + Send + 'static,
    {
        let duty = match &self.parts.shared {
            Some(shared) if !self.is_deaf() => self.ask(&leader, due, is_missing, shared).await,
            _ => Duty::Load(None),
        };
        match duty {
            Duty::None => {}
            Duty::Load(ticket) => self.load(leader, ticket, load).await,
            Duty::Bypass => self.load_past_tier(leader, load).await,
        }
    }

    /// Loads without the tier, as one of a few.
    async fn load_past_tier<F>(&self, leader: Leader<T, E>, load: F)
    where
        F: Future<Output = Result<Option<T>, E>>,
    {
        let _permit = match &self.parts.shared {
            Some(shared) => shared.bypass().await,
            None => None,
        };
        self.load(leader, None, load).await;
    }

    fn now(&self) -> Duration {
        self.parts.clock.monotonic()
    }

    /// Looks at the shared tier until it has the value, this process holds the lease, or there is no
    /// use in waiting.
    async fn ask(
        &self,
        leader: &Leader<T, E>,
        due: Option<Timestamp>,
        mut is_missing: bool,
        shared: &SharedTier,
    ) -> Duty {
        let place = Place { cache: self.options.name, key: leader.key() };
        let (holder, began) = (u64::from_le_bytes(self.parts.entropy.bytes()), self.now());
        let mut is_counted = false;
        let mut count = |lookup| {
            if !std::mem::replace(&mut is_counted, true) {
                self.counters.shared(lookup);
            }
        };
        loop {
            let required = self.generations.required(leader.stripe());
            let looked =
                if std::mem::take(&mut is_missing) { Ok(Some(None)) } else { shared.look(place, required).await };
            let found = match looked {
                Ok(Some(found)) => found,
                Ok(None) => {
                    count(SharedLookup::Behind);
                    return Duty::Bypass;
                }
                Err(error) => return self.trouble(&error),
            };
            let is_there = found.is_some();
            let life = self.take(leader, found).await;
            match life.as_ref().map(|life| life.freshness(self.now())) {
                Some(Freshness::Fresh | Freshness::DueEarly) => count(SharedLookup::Hit),
                Some(Freshness::Stale) => count(SharedLookup::StaleHit),
                Some(Freshness::Expired) => {}
                None if is_there => self.counters.shared(SharedLookup::Unreadable),
                None => {}
            }
            let mode = match life {
                Some(life) if self.is_fresh(&life) && due.is_none_or(|due| life.loaded_at > due) => return Duty::None,
                Some(_) => ClaimMode::Refresh,
                // What cannot be read is replaced: to look again would find it again.
                None if is_there => ClaimMode::Refresh,
                None => ClaimMode::UnlessThere,
            };
            match shared.tier().claim(place, mode, holder, LEASE).await {
                Err(error) => return self.trouble(&error),
                // It came just now: what it is and how old is looked at like any other.
                Ok(Claim::There(_)) => {}
                Ok(Claim::Lead(ticket)) => {
                    count(SharedLookup::Miss);
                    return Duty::Load(Some(ticket));
                }
                // Another process refreshes what was good enough here.
                Ok(Claim::Wait(_)) if leader.is_answered(self.now()) => return Duty::None,
                // Whoever has the lease fails again and again, or there are too many of them.
                Ok(Claim::Wait(ticket)) if self.now().saturating_sub(began) > 2 * LEASE => {
                    return Duty::Load(Some(ticket));
                }
                Ok(Claim::Wait(_)) => {
                    count(SharedLookup::Wait);
                    tokio::time::sleep(self.jitter(POLL)).await;
                }
            }
        }
    }

    fn is_fresh(&self, life: &Life) -> bool {
        life.freshness(self.now()) == Freshness::Fresh
    }

    /// Keeps what the shared tier had, and answers with it unless it is too old. `None` if there is
    /// nothing that can be read.
    async fn take(&self, leader: &Leader<T, E>, found: Option<Bytes>) -> Option<Life> {
        let parcel = Parcel::from_bytes(found?, None)?;
        let life = self.life(&parcel);
        if life.freshness(self.now()) != Freshness::Expired {
            leader.answer(Ok(parcel.value.clone()), life.usable_until);
            self.keep(leader, parcel.value, life).await;
        }
        Some(life)
    }

    /// How old it is here and now.
    fn life(&self, parcel: &Parcel<T>) -> Life {
        let now = self.now();
        // A clock that is behind the loader's makes it younger at most by that much, and the tier's own
        // time to live holds.
        let age = self.parts.clock.now().since(parcel.loaded_at);
        Life {
            loaded_at: parcel.loaded_at,
            fresh_until: now + parcel.fresh_for.saturating_sub(age),
            usable_until: now + parcel.usable_for.saturating_sub(age),
            load_time: parcel.load_time,
        }
    }

    /// Counts a failure of the tier, which is no failure of the read.
    fn trouble(&self, error: &TierError) -> Duty {
        self.counters.tier_error();
        if !matches!(error, TierError::Away) {
            tracing::debug!(%error, cache = self.options.name, "the shared cache did not answer");
        }
        Duty::Bypass
    }

    async fn load<F>(&self, leader: Leader<T, E>, ticket: Option<Ticket>, load: F)
    where
        F: Future<Output = Result<Option<T>, E>>,
    {
        let (started_at, loaded_at) = (self.now(), self.parts.clock.now());
        let answer = build(self.options.name, load).await;
        let load_time = self.now().saturating_sub(started_at);
        let outcome = if answer.is_ok() { LoadOutcome::Loaded } else { LoadOutcome::Failed };
        self.counters.load(outcome, load_time);
        let key = Arc::clone(leader.key());
        let place = Place { cache: self.options.name, key: &key };
        let tier = self.parts.shared.as_ref().map(SharedTier::tier).zip(ticket);
        let value = match answer {
            Ok(value) => value,
            Err(error) => {
                if let Some((tier, ticket)) = tier
                    && let Err(error) = tier.give_up(place, &ticket).await
                {
                    self.trouble(&error);
                }
                return self.load_failed(leader, error).await;
            }
        };
        let parcel = self.parcel(value, loaded_at, load_time);
        let life = Life {
            loaded_at,
            fresh_until: started_at + parcel.fresh_for,
            usable_until: started_at + parcel.usable_for,
            load_time,
        };
        self.keep(&leader, parcel.value.clone(), life).await;
        // Before the tier is asked, for which nobody needs to wait. Who asks from now on finds what is kept or
        // starts a new load: this value is not given to them whatever its age.
        leader.finish(Ok(parcel.value.clone()));
        if let Some((tier, ticket)) = tier {
            let ttl = parcel.usable_for.saturating_sub(self.now().saturating_sub(started_at));
            // Who has missed changes gives nothing to others.
            let ttl = if self.is_deaf() { Duration::ZERO } else { ttl };
            match tier.store(place, &ticket, parcel.to_bytes(), ttl).await {
                Ok(Stored::Kept) => {}
                Ok(Stored::Refused) => self.counters.shared_refused(),
                Err(error) => drop(self.trouble(&error)),
            }
        }
    }

    /// What there was serves on, if it is not too old.
    async fn load_failed(&self, leader: Leader<T, E>, error: LoadError<E>) {
        let kept = self.kept(leader.key()).await.filter(|_| !self.is_deaf());
        let Some(entry) = kept.filter(|entry| entry.life.freshness(self.now()) != Freshness::Expired) else {
            return leader.finish(Err(error));
        };
        entry.refresh_failed(self.now() + RETRY_AFTER);
        self.counters.stale_on_error();
        tracing::warn!(%error, cache = self.options.name, "a load failed; an older value is served");
        leader.finish(Ok(entry.value.clone()));
    }

    fn parcel(&self, value: Option<Arc<Cached<T>>>, loaded_at: Timestamp, load_time: Duration) -> Parcel<T> {
        let (ttl, stale) = match value {
            Some(_) => (self.options.ttl, self.options.stale),
            // That there is nothing is not served a moment longer than it is believed.
            None => (self.options.negative_ttl, Duration::ZERO),
        };
        let fresh_for = self.jitter(ttl);
        let usable_for = if ttl.is_zero() { Duration::ZERO } else { fresh_for + stale };
        Parcel { value, loaded_at, fresh_for, usable_for, load_time }
    }

    /// Keeps a value in this process, unless something was invalidated since its load began.
    async fn keep(&self, leader: &Leader<T, E>, value: Option<Arc<Cached<T>>>, life: Life) {
        let (stripe, generation) = (leader.stripe(), leader.generation());
        if self.is_deaf() || !self.is_current(stripe, generation) {
            return self.counters.refused_set();
        }
        let entry = Entry::new(value, stripe, generation, life, self.look_again_at(self.now()));
        self.entries.insert(Arc::clone(leader.key()), Arc::new(entry)).await;
    }
}

/// Runs the load and builds what is shared; a panic in either becomes an answer.
async fn build<T, E, F>(name: &'static str, load: F) -> Answer<T, E>
where
    T: Serialize,
    E: Error + 'static,
    F: Future<Output = Result<Option<T>, E>>,
{
    let built = async { load.await.map(|found| found.map(|value| Arc::new(Cached::new(value)))) };
    // What the load touched when it panicked is dropped with it; nothing of ours was half changed.
    match AssertUnwindSafe(built).catch_unwind().await {
        Ok(answer) => answer.map_err(|error| LoadError::Failed(Arc::new(error))),
        Err(_) => {
            tracing::error!(cache = name, "a load for the cache {name} panicked");
            Err(LoadError::CutOff)
        }
    }
}
