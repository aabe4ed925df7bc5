//! What the read-through promises, one claim per function.

mod ageing;
mod invalidating;
mod loading;
mod stale;

pub use ageing::*;
pub use invalidating::*;
pub use loading::*;
pub use stale::*;

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, broadcast};
use tokio::task::JoinHandle;

use crate::cache::{
    CacheOptions, CacheParts, CacheTier, Cached, Caches, EVERY_KEY, LoadError, MAX_SILENCE, ReadThrough, SharedTier,
};
use crate::clock::ManualClock;
use crate::entropy::SystemEntropy;
use crate::events::Change;
use crate::notify::{LocalNotify, Notice, Notify};
use crate::store::{CommitObserver, Committed};
use crate::testkit::changes::ChangeLog;

/// Life of a value in the harness.
pub(crate) const TTL: Duration = Duration::from_secs(10);

/// Life of the knowledge that there is none.
const NEGATIVE_TTL: Duration = Duration::from_secs(1);

/// How much longer a value of the lenient cache may be served.
pub(crate) const STALE: Duration = Duration::from_secs(30);

/// The names of the two caches.
pub const CACHE: &str = "harness";
/// See [`CACHE`].
pub const LENIENT: &str = "lenient";

/// Loads that may run at once while the tier is away.
pub(crate) const BYPASS_LOADS: usize = 8;

/// How long something may take that has to happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// The smallest step the claims move time by.
const STEP: Duration = Duration::from_millis(1);

/// What the harness's loads fail with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("origin says {0}")]
pub struct OriginError(pub &'static str);

/// What a call for a value ends with.
pub type Loaded = Result<Option<Arc<Cached<String>>>, LoadError<OriginError>>;

/// The caches of one process under test with everything they go by.
#[derive(Debug)]
pub struct CacheHarness {
    /// The cache, empty: values live 10 s, absences 1 s, 64 KiB in all.
    pub cache: ReadThrough<String, OriginError>,
    /// Another, whose values may be served 30 s longer while they are refreshed.
    pub lenient: ReadThrough<String, OriginError>,
    /// What both are told of changes by.
    pub caches: Arc<Caches>,
    /// Its clock.
    pub clock: ManualClock,
    /// How long it has heard nothing.
    pub hearing: Arc<Hearing>,
    /// What was committed, by any process.
    pub log: Arc<ChangeLog>,
    /// Tells the tier of it.
    following: Option<JoinHandle<()>>,
    /// What the tier needs to live.
    service: Option<Box<dyn Any + Send + Sync>>,
}

impl Drop for CacheHarness {
    fn drop(&mut self) {
        if let Some(following) = &self.following {
            following.abort();
        }
    }
}

/// News that may fall silent.
#[derive(Debug, Default)]
pub struct Hearing {
    news: LocalNotify,
    silence_ms: AtomicU64,
}

/// Holds loads until it is opened, and knows how many came.
#[derive(Debug, Clone)]
pub struct Gate {
    permits: Arc<Semaphore>,
    arrivals: Arc<AtomicU64>,
}

/// Makes a module with one test per claim. `$harness` is a future of `Option<CacheHarness>`; `None`
/// means that a service is missing and its test says so itself.
#[macro_export]
macro_rules! cache_contract {
    ($tiers:ident, $harness:expr) => {
        mod $tiers {
            #[allow(unused_imports, reason = "a harness may need nothing from its file")]
            use super::*;

            $crate::cache_contract! { @claims $harness;
                a_hundred_callers_cause_one_load,
                a_fresh_value_is_served_without_a_load,
                a_value_comes_with_its_json_and_the_digest_of_that,
                keys_load_at_the_same_time,
                a_cancelled_leader_cancels_nothing,
                a_load_goes_on_when_nobody_waits_any_more,
                a_failed_load_fails_its_waiters_once,
                a_failed_load_is_not_kept,
                a_caller_told_of_a_failure_starts_a_new_load,
                a_panicking_load_fails_its_waiters_and_nothing_else,
                an_invalidated_value_is_loaded_anew,
                a_change_heard_of_twice_drops_once,
                a_change_heard_of_after_a_later_one_drops_its_key,
                invalidating_one_key_leaves_most_others,
                invalidating_everything_leaves_nothing,
                a_value_loaded_before_an_invalidation_is_not_kept,
                a_caller_after_an_invalidation_does_not_join_the_load_before_it,
                a_load_overtaken_by_invalidating_everything_is_not_kept,
                a_value_lives_within_a_tenth_of_its_time,
                values_loaded_together_do_not_expire_together,
                a_value_ages_from_the_start_of_its_load,
                an_expired_value_is_not_served_when_its_load_fails,
                an_absence_is_remembered_for_its_own_time,
                an_absence_ends_with_an_invalidation,
                bytes_are_bounded,
                a_value_larger_than_the_cache_is_served_and_not_kept,
                without_hearing_nothing_is_served_from_memory_or_kept,
                a_value_loaded_while_hearing_was_lost_is_not_kept,
                every_call_is_counted_once,
                a_value_past_its_time_is_served_while_one_load_refreshes_it,
                a_value_past_its_time_is_served_when_its_load_fails,
                a_refresh_that_failed_is_not_tried_again_at_once,
                a_value_is_not_served_past_its_last_time,
                a_value_is_not_served_past_its_last_time_while_its_refresh_goes_on,
                a_value_older_than_a_change_is_not_served_however_fresh,
                a_value_near_its_end_is_refreshed_before_it,
                a_value_far_from_its_end_is_not_refreshed,
                an_absence_is_not_served_past_its_time,
            }
        }
    };
    (@claims $harness:expr; $($claim:ident),+ $(,)?) => { $(
        #[tokio::test]
        async fn $claim() {
            if let Some(harness) = $harness.await {
                $crate::testkit::cache::$claim(&harness).await;
            }
        }
    )+ };
}

impl CacheHarness {
    /// Caches in this process's memory alone.
    pub fn process() -> Self {
        Self::build(None, ManualClock::default(), Arc::new(ChangeLog::new()))
    }

    /// The caches of one process before `tier`, which is told of what is in `log`.
    pub fn over(tier: Arc<dyn CacheTier>, clock: ManualClock, log: Arc<ChangeLog>) -> Self {
        let mut harness = Self::build(Some(SharedTier::new(tier, BYPASS_LOADS)), clock, log);
        harness.follow();
        harness
    }

    /// The same, with what the tier needs to live.
    #[must_use]
    pub fn with_service(mut self, service: impl Any + Send + Sync) -> Self {
        self.service = Some(Box::new(service));
        self
    }

    fn build(shared: Option<SharedTier>, clock: ManualClock, log: Arc<ChangeLog>) -> Self {
        let hearing = Arc::new(Hearing::default());
        let parts = CacheParts {
            clock: Arc::new(clock.clone()),
            // Processes draw different numbers: what tells their leases apart is one.
            entropy: Arc::new(SystemEntropy),
            notify: Arc::clone(&hearing) as _,
            shared: shared.clone(),
        };
        let options = CacheOptions {
            name: CACHE,
            max_bytes: 64 << 10,
            ttl: TTL,
            stale: Duration::ZERO,
            negative_ttl: NEGATIVE_TTL,
        };
        let lenient = CacheOptions { name: LENIENT, stale: STALE, ..options.clone() };
        let (cache, lenient) = (ReadThrough::new(options, parts.clone()), ReadThrough::new(lenient, parts));
        let caches = Arc::new(Caches::new(shared));
        caches.register(CACHE, &cache);
        caches.register(LENIENT, &lenient);
        caches.drop_all(log.last());
        Self { cache, lenient, caches, clock, hearing, log, following: None, service: None }
    }

    /// Tells the tier of changes from now on.
    pub fn follow(&mut self) {
        if let Some(shared) = self.caches.shared().cloned() {
            let log = Arc::clone(&self.log);
            self.following = Some(tokio::spawn(async move { shared.follow(&*log).await }));
        }
    }

    /// Tells the tier of no more changes, as a process that hangs or has ended.
    pub fn stop_following(&mut self) {
        if let Some(following) = self.following.take() {
            following.abort();
        }
    }

    /// Commits a change of `key` in this process: its caches act on it before this returns.
    pub fn change(&self, key: &str) {
        self.hear(vec![self.log.commit(CACHE, key), self.log.commit(LENIENT, key)]);
    }

    /// Makes what another process committed known to this one.
    pub fn hear(&self, changes: Vec<Change>) {
        self.caches.committed(&Committed { changes, jobs: Vec::new() });
    }

    /// Asks for `key` with a load that finds `value`.
    pub async fn get(&self, key: &str, value: &str) -> String {
        let value = value.to_owned();
        let loaded = self.cache.get_or_load(key, async move { Ok(Some(value)) }).await.expect("the load succeeds");
        loaded.expect("there is a value").value.clone()
    }

    /// Asks for `key`, which must be kept, and returns its value.
    pub async fn kept(&self, key: &str) -> Option<String> {
        let refuse = async { Err(OriginError("not kept")) };
        match self.cache.get_or_load(key, refuse).await {
            Ok(found) => Some(found.map_or_else(|| "absent".to_owned(), |found| found.value.clone())),
            Err(_) => None,
        }
    }

    /// Asks for `key` in a task of its own, with a load that waits at `gate` before it ends.
    pub fn ask(&self, key: &str, gate: &Gate, outcome: Result<Option<&str>, OriginError>) -> JoinHandle<Loaded> {
        let (cache, key, gate) = (self.cache.clone(), key.to_owned(), gate.clone());
        let outcome = outcome.map(|value| value.map(str::to_owned));
        let load = async move {
            gate.pass().await;
            outcome
        };
        tokio::spawn(async move { cache.get_or_load(&key, load).await })
    }
}

impl Hearing {
    /// From now on the last proof of hearing is this old.
    pub fn set_silence(&self, silence: Duration) {
        self.silence_ms.store(silence.as_millis() as u64, Ordering::SeqCst);
    }
}

impl Notify for Hearing {
    fn publish(&self, notice: Notice) {
        self.news.publish(notice);
    }

    fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.news.subscribe()
    }

    fn silence(&self) -> Duration {
        Duration::from_millis(self.silence_ms.load(Ordering::SeqCst))
    }
}

impl Gate {
    /// A closed gate.
    pub fn closed() -> Self {
        Self { permits: Arc::new(Semaphore::new(0)), arrivals: Arc::default() }
    }

    /// Lets everybody through from now on.
    pub fn open(&self) {
        self.permits.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    /// Waits until it is open.
    pub async fn pass(&self) {
        self.arrivals.fetch_add(1, Ordering::SeqCst);
        let _permit = self.permits.acquire().await;
    }

    /// How many loads have come to it.
    pub fn arrivals(&self) -> u64 {
        self.arrivals.load(Ordering::SeqCst)
    }

    /// Waits until a load has come to it, so that the load is known to have begun.
    pub async fn until_reached(&self) {
        until(|| self.arrivals() > 0).await;
    }
}

/// Lets other tasks run until `condition` holds; panics after a bound that no healthy run reaches.
pub async fn until(condition: impl Fn() -> bool) {
    let given_up = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < given_up, "the condition never came to hold");
        tokio::task::yield_now().await;
    }
}

pub(crate) fn text(loaded: &Loaded) -> &str {
    let value = loaded.as_ref().expect("the load succeeds").as_ref().expect("there is a value");
    &value.value
}

pub(crate) async fn joined(task: JoinHandle<Loaded>) -> Loaded {
    task.await.expect("the caller does not panic")
}
