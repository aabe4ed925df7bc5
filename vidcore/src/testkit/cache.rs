//! What the read-through promises, one claim per function.

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

/// See the name.
pub async fn a_hundred_callers_cause_one_load(h: &CacheHarness) {
    let gate = Gate::closed();
    let callers: Vec<_> = (0..100).map(|_| h.ask("k", &gate, Ok(Some("v")))).collect();
    until(|| h.cache.stats().waits == 99).await;
    gate.open();
    for caller in callers {
        assert_eq!("v", text(&joined(caller).await));
    }
    let stats = h.cache.stats();
    assert_eq!((1, 1, 99), (stats.loads, stats.misses, stats.waits));
}

/// See the name.
pub async fn a_fresh_value_is_served_without_a_load(h: &CacheHarness) {
    assert_eq!("first", h.get("k", "first").await);
    assert_eq!("first", h.get("k", "second").await);
    assert_eq!(1, h.cache.stats().loads);
}

/// See the name.
pub async fn a_value_comes_with_its_json_and_the_digest_of_that(h: &CacheHarness) {
    let load = async { Ok(Some("ü\"".to_owned())) };
    let loaded = h.cache.get_or_load("k", load).await.expect("loads").expect("there is a value");
    assert_eq!("\"ü\\\"\"".as_bytes(), &loaded.json[..]);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &loaded.json);
    assert_eq!(hex::encode(digest), loaded.digest);
    let again = h.cache.get_or_load("k", async { Ok(None) }).await.expect("kept").expect("there is a value");
    assert!(Arc::ptr_eq(&loaded, &again), "it is built once");
}

/// See the name.
pub async fn keys_load_at_the_same_time(h: &CacheHarness) {
    let gate = Gate::closed();
    let slow = h.ask("slow", &gate, Ok(Some("v")));
    gate.until_reached().await;
    assert_eq!("quick", h.get("other", "quick").await);
    gate.open();
    assert_eq!("v", text(&joined(slow).await));
}

/// See the name.
pub async fn a_cancelled_leader_cancels_nothing(h: &CacheHarness) {
    let gate = Gate::closed();
    let leader = h.ask("k", &gate, Ok(Some("leader's")));
    gate.until_reached().await;
    let follower = h.ask("k", &gate, Ok(Some("follower's")));
    until(|| h.cache.stats().waits == 1).await;
    leader.abort();
    assert!(leader.await.expect_err("it was aborted").is_cancelled());
    gate.open();
    assert_eq!("leader's", text(&joined(follower).await));
    assert_eq!(1, h.cache.stats().loads);
}

/// See the name.
pub async fn a_load_goes_on_when_nobody_waits_any_more(h: &CacheHarness) {
    let gate = Gate::closed();
    let leader = h.ask("k", &gate, Ok(Some("v")));
    gate.until_reached().await;
    leader.abort();
    gate.open();
    until(|| h.cache.loads_under_way() == 0).await;
    assert_eq!(Some("v".to_owned()), h.kept("k").await);
}

/// See the name.
pub async fn a_failed_load_fails_its_waiters_once(h: &CacheHarness) {
    let gate = Gate::closed();
    let callers: Vec<_> = (0..10).map(|_| h.ask("k", &gate, Err(OriginError("no")))).collect();
    until(|| h.cache.stats().waits == 9).await;
    gate.open();
    for caller in callers {
        let failed = joined(caller).await.expect_err("the load fails");
        assert!(matches!(failed, LoadError::Failed(error) if *error == OriginError("no")));
    }
    assert_eq!((1, 1), (h.cache.stats().loads, h.cache.stats().load_errors));
}

/// See the name.
pub async fn a_failed_load_is_not_kept(h: &CacheHarness) {
    assert_eq!(None, h.kept("k").await);
    assert_eq!("v", h.get("k", "v").await);
}

/// See the name.
pub async fn a_caller_told_of_a_failure_starts_a_new_load(h: &CacheHarness) {
    for round in 1..=50 {
        assert_eq!(None, h.kept("k").await);
        assert_eq!(round, h.cache.stats().loads, "no caller joins a load that has ended");
    }
}

/// See the name.
pub async fn a_panicking_load_fails_its_waiters_and_nothing_else(h: &CacheHarness) {
    let gate = Gate::closed();
    let (cache, held) = (h.cache.clone(), gate.clone());
    let panicking = async move {
        held.pass().await;
        panic!("a load that panics on purpose")
    };
    let leader = tokio::spawn(async move { cache.get_or_load("k", panicking).await });
    gate.until_reached().await;
    let follower = h.ask("k", &gate, Ok(Some("never run")));
    until(|| h.cache.stats().waits == 1).await;
    gate.open();
    for caller in [leader, follower] {
        assert!(matches!(joined(caller).await, Err(LoadError::CutOff)));
    }
    assert_eq!("v", h.get("k", "v").await);
}

/// See the name.
pub async fn an_invalidated_value_is_loaded_anew(h: &CacheHarness) {
    h.get("k", "old").await;
    h.change("k");
    assert_eq!("new", h.get("k", "new").await);
    assert_eq!(Some("new".to_owned()), h.kept("k").await);
}

/// See the name. A process hears of what it committed once more from the check of the database.
pub async fn a_change_heard_of_twice_drops_once(h: &CacheHarness) {
    for key in ["k", EVERY_KEY] {
        h.get("k", "old").await;
        let change = h.log.commit(CACHE, key);
        h.hear(vec![change.clone()]);
        assert_eq!("new", h.get("k", "new").await, "{key}");
        let before = h.cache.stats();
        h.hear(vec![change]);
        assert_eq!(Some("new".to_owned()), h.kept("k").await, "{key}");
        let after = h.cache.stats();
        assert_eq!((before.hits + 1, before.invalidations), (after.hits, after.invalidations), "{key}");
    }
}

/// See the name.
pub async fn a_change_heard_of_after_a_later_one_drops_its_key(h: &CacheHarness) {
    let keys: Vec<_> = (0..50).map(|n| format!("k{n}")).collect();
    for key in &keys {
        h.get(key, "old").await;
    }
    let changes: Vec<_> = keys.iter().map(|key| h.log.commit(CACHE, key)).collect();
    for change in changes.into_iter().rev() {
        h.hear(vec![change]);
    }
    for key in &keys {
        assert_eq!("new", h.get(key, "new").await, "{key}");
    }
}

/// See the name: keys share generations, so a few others may go too.
pub async fn invalidating_one_key_leaves_most_others(h: &CacheHarness) {
    for n in 0..50 {
        h.get(&format!("k{n}"), "v").await;
    }
    h.change("k0");
    let mut kept = 0;
    for n in 1..50 {
        kept += usize::from(h.kept(&format!("k{n}")).await.is_some());
    }
    assert!(kept >= 40, "{kept} of 49 are kept");
}

/// See the name.
pub async fn invalidating_everything_leaves_nothing(h: &CacheHarness) {
    for n in 0..20 {
        h.get(&format!("k{n}"), "v").await;
    }
    h.change(EVERY_KEY);
    for n in 0..20 {
        assert_eq!(None, h.kept(&format!("k{n}")).await);
    }
    assert_eq!("new", h.get("k0", "new").await);
    assert_eq!(Some("new".to_owned()), h.kept("k0").await);
}

/// See the name.
pub async fn a_value_loaded_before_an_invalidation_is_not_kept(h: &CacheHarness) {
    let gate = Gate::closed();
    let caller = h.ask("k", &gate, Ok(Some("old")));
    gate.until_reached().await;
    h.change("k");
    gate.open();
    // Who asked before the change may get what was true when it asked.
    assert_eq!("old", text(&joined(caller).await));
    assert_eq!(1, h.cache.stats().refused_sets);
    assert_eq!(None, h.kept("k").await);
}

/// See the name.
pub async fn a_caller_after_an_invalidation_does_not_join_the_load_before_it(h: &CacheHarness) {
    let gate = Gate::closed();
    let early = h.ask("k", &gate, Ok(Some("old")));
    gate.until_reached().await;
    h.change("k");
    let open = Gate::closed();
    open.open();
    let late = h.ask("k", &open, Ok(Some("new")));
    until(|| late.is_finished()).await;
    assert_eq!("new", text(&joined(late).await));
    gate.open();
    assert_eq!("old", text(&joined(early).await));
    assert_eq!(Some("new".to_owned()), h.kept("k").await, "the late set of the early load is refused");
    assert_eq!(0, h.cache.loads_under_way());
}

/// See the name.
pub async fn a_load_overtaken_by_invalidating_everything_is_not_kept(h: &CacheHarness) {
    let gate = Gate::closed();
    let caller = h.ask("k", &gate, Ok(Some("old")));
    gate.until_reached().await;
    h.change(EVERY_KEY);
    gate.open();
    joined(caller).await.expect("the load succeeds");
    assert_eq!(None, h.kept("k").await);
}

/// See the name.
pub async fn a_value_lives_within_a_tenth_of_its_time(h: &CacheHarness) {
    for n in 0..50 {
        h.get(&format!("k{n}"), "v").await;
    }
    h.clock.advance(TTL.mul_f64(0.9) - STEP);
    for n in 0..50 {
        assert!(h.kept(&format!("k{n}")).await.is_some(), "k{n} is kept at least that long");
    }
    h.clock.advance(TTL.mul_f64(0.2) + STEP);
    for n in 0..50 {
        assert!(h.kept(&format!("k{n}")).await.is_none(), "k{n} is not kept longer");
    }
}

/// See the name.
pub async fn values_loaded_together_do_not_expire_together(h: &CacheHarness) {
    for n in 0..50 {
        h.get(&format!("k{n}"), "v").await;
    }
    h.clock.advance(TTL);
    let mut kept = 0;
    for n in 0..50 {
        kept += usize::from(h.kept(&format!("k{n}")).await.is_some());
    }
    assert!((5..=45).contains(&kept), "{kept} of 50 are kept");
}

/// See the name.
pub async fn a_value_ages_from_the_start_of_its_load(h: &CacheHarness) {
    let gate = Gate::closed();
    let caller = h.ask("k", &gate, Ok(Some("v")));
    gate.until_reached().await;
    h.clock.advance(TTL.mul_f64(1.1));
    gate.open();
    joined(caller).await.expect("the load succeeds");
    assert_eq!(None, h.kept("k").await, "what took longer than its life to load is not kept");
}

/// See the name.
pub async fn an_expired_value_is_not_served_when_its_load_fails(h: &CacheHarness) {
    h.get("k", "old").await;
    h.clock.advance(TTL.mul_f64(1.1));
    assert_eq!(None, h.kept("k").await);
}

/// See the name.
pub async fn an_absence_is_remembered_for_its_own_time(h: &CacheHarness) {
    assert_eq!(None, h.cache.get_or_load("k", async { Ok(None) }).await.expect("loads"));
    h.clock.advance(NEGATIVE_TTL.mul_f64(0.9) - STEP);
    assert_eq!(Some("absent".to_owned()), h.kept("k").await);
    assert_eq!(1, h.cache.stats().negative_hits);
    h.clock.advance(NEGATIVE_TTL.mul_f64(0.2) + STEP);
    assert_eq!("found", h.get("k", "found").await);
}

/// See the name.
pub async fn an_absence_ends_with_an_invalidation(h: &CacheHarness) {
    assert_eq!(None, h.cache.get_or_load("k", async { Ok(None) }).await.expect("loads"));
    h.change("k");
    assert_eq!("found", h.get("k", "found").await);
}

/// See the name.
pub async fn bytes_are_bounded(h: &CacheHarness) {
    let value = "x".repeat(1000);
    for n in 0..500 {
        h.get(&format!("k{n}"), &value).await;
    }
    let weight = h.cache.weight_bytes().await;
    assert!((1..=64 << 10).contains(&weight), "{weight} bytes");
}

/// See the name.
pub async fn a_value_larger_than_the_cache_is_served_and_not_kept(h: &CacheHarness) {
    let value = "x".repeat(128 << 10);
    assert_eq!(value, h.get("k", &value).await);
    assert!(h.cache.weight_bytes().await <= 64 << 10);
}

/// See the name.
pub async fn without_hearing_nothing_is_served_from_memory_or_kept(h: &CacheHarness) {
    h.get("k", "old").await;
    h.hearing.set_silence(MAX_SILENCE);
    assert_eq!("old", h.get("k", "new").await, "a second of silence is still borne");
    h.hearing.set_silence(MAX_SILENCE + STEP);
    assert_eq!("new", h.get("k", "new").await);
    assert_eq!("newer", h.get("k", "newer").await);
    let stats = h.cache.stats();
    assert_eq!((2, 2), (stats.bypasses, stats.refused_sets));
}

/// See the name.
pub async fn a_value_loaded_while_hearing_was_lost_is_not_kept(h: &CacheHarness) {
    let gate = Gate::closed();
    let caller = h.ask("k", &gate, Ok(Some("v")));
    gate.until_reached().await;
    h.hearing.set_silence(MAX_SILENCE + STEP);
    gate.open();
    joined(caller).await.expect("the load succeeds");
    h.hearing.set_silence(Duration::ZERO);
    assert_eq!(None, h.kept("k").await);
}

/// See the name.
pub async fn every_call_is_counted_once(h: &CacheHarness) {
    h.get("k", "v").await;
    h.get("k", "v").await;
    h.get("k", "v").await;
    h.kept("failing").await;
    h.cache.get_or_load("absent", async { Ok(None) }).await.expect("loads");
    h.kept("absent").await;
    let gate = Gate::closed();
    let (one, two) = (h.ask("slow", &gate, Ok(Some("v"))), h.ask("slow", &gate, Ok(Some("v"))));
    until(|| h.cache.stats().waits == 1).await;
    gate.open();
    joined(one).await.expect("loads");
    joined(two).await.expect("loads");
    let stats = h.cache.stats();
    assert_eq!((2, 1, 4, 1), (stats.hits, stats.negative_hits, stats.misses, stats.waits));
    assert_eq!((4, 1, 0, 0), (stats.loads, stats.load_errors, stats.refused_sets, stats.bypasses));
}

impl CacheHarness {
    /// Asks the lenient cache for `key`.
    pub(crate) async fn ask_lenient(&self, key: &str, outcome: Result<Option<&str>, OriginError>) -> Option<String> {
        let outcome = outcome.map(|value| value.map(str::to_owned));
        let loaded = self.lenient.get_or_load(key, async move { outcome }).await;
        loaded.ok().flatten().map(|loaded| loaded.value.clone())
    }

    /// Waits until the lenient cache loads nothing any more.
    async fn settled(&self) {
        until(|| self.lenient.loads_under_way() == 0).await;
    }
}

/// See the name.
pub async fn a_value_past_its_time_is_served_while_one_load_refreshes_it(h: &CacheHarness) {
    h.ask_lenient("k", Ok(Some("old"))).await;
    h.clock.advance(TTL.mul_f64(1.1) + STEP);
    let gate = Gate::closed();
    for _ in 0..20 {
        let held = gate.clone();
        let load = async move {
            held.pass().await;
            Ok(Some("new".to_owned()))
        };
        let served = h.lenient.get_or_load("k", load).await.expect("there is a value").expect("there is a value");
        assert_eq!("old", served.value);
    }
    gate.open();
    h.settled().await;
    assert_eq!(Some("new".to_owned()), h.ask_lenient("k", Err(OriginError("not kept"))).await);
    let stats = h.lenient.stats();
    assert_eq!(2, stats.loads, "all of them caused one refresh");
    assert_eq!(20, stats.stale_hits + stats.misses + stats.waits - 1);
}

/// See the name.
pub async fn a_value_past_its_time_is_served_when_its_load_fails(h: &CacheHarness) {
    h.ask_lenient("k", Ok(Some("old"))).await;
    h.clock.advance(TTL + STALE / 2);
    assert_eq!(Some("old".to_owned()), h.ask_lenient("k", Err(OriginError("away"))).await);
    h.settled().await;
    let stats = h.lenient.stats();
    assert_eq!((1, 1), (stats.load_errors, stats.stale_on_error));
    assert_eq!(Some("old".to_owned()), h.ask_lenient("k", Err(OriginError("away"))).await);
}

/// See the name.
pub async fn a_refresh_that_failed_is_not_tried_again_at_once(h: &CacheHarness) {
    h.ask_lenient("k", Ok(Some("old"))).await;
    // Less than after which a process with a tier would look there again.
    h.clock.advance(TTL.mul_f64(1.1) + STEP);
    for _ in 0..10 {
        h.ask_lenient("k", Err(OriginError("away"))).await;
        h.settled().await;
    }
    assert_eq!(1, h.lenient.stats().load_errors);
    h.clock.advance(Duration::from_secs(1));
    h.ask_lenient("k", Ok(Some("new"))).await;
    h.settled().await;
    assert_eq!(Some("new".to_owned()), h.ask_lenient("k", Err(OriginError("away"))).await);
}

/// See the name.
pub async fn a_value_is_not_served_past_its_last_time(h: &CacheHarness) {
    h.ask_lenient("k", Ok(Some("old"))).await;
    h.clock.advance(TTL.mul_f64(1.1) + STALE);
    assert_eq!(None, h.ask_lenient("k", Err(OriginError("away"))).await);
}

/// See the name.
pub async fn a_value_is_not_served_past_its_last_time_while_its_refresh_goes_on(h: &CacheHarness) {
    h.ask_lenient("k", Ok(Some("old"))).await;
    h.clock.advance(TTL.mul_f64(1.1) + STEP);
    let (gate, cache) = (Gate::closed(), h.lenient.clone());
    let held = gate.clone();
    let slow = async move {
        held.pass().await;
        Ok(Some("new".to_owned()))
    };
    let served = cache.get_or_load("k", slow).await.expect("there is a value").expect("there is a value");
    assert_eq!("old", served.value);
    gate.until_reached().await;
    h.clock.advance(STALE);
    let late = tokio::spawn(async move { cache.get_or_load("k", async { Ok(Some("newer".to_owned())) }).await });
    until(|| h.lenient.stats().waits == 1).await;
    gate.open();
    assert_eq!("new", text(&joined(late).await));
}

/// See the name.
pub async fn a_value_older_than_a_change_is_not_served_however_fresh(h: &CacheHarness) {
    h.ask_lenient("k", Ok(Some("old"))).await;
    h.change("k");
    assert_eq!(None, h.ask_lenient("k", Err(OriginError("away"))).await);
    h.ask_lenient("k", Ok(Some("old"))).await;
    h.clock.advance(TTL * 2);
    h.change(EVERY_KEY);
    assert_eq!(None, h.ask_lenient("k", Err(OriginError("away"))).await);
}

/// See the name: a load that takes a fifth of its value's life is begun early by most of a hundred calls.
pub async fn a_value_near_its_end_is_refreshed_before_it(h: &CacheHarness) {
    let clock = h.clock.clone();
    let slow = async move {
        clock.advance(TTL / 5);
        Ok(Some("old".to_owned()))
    };
    h.lenient.get_or_load("k", slow).await.expect("loads");
    // Its life is counted from the start of its load, and drawn from 9 s to 11 s.
    h.clock.advance(TTL.mul_f64(0.69));
    for _ in 0..100 {
        assert_eq!(Some("old".to_owned()), h.ask_lenient("k", Err(OriginError("away"))).await);
        h.settled().await;
        h.clock.advance(STEP);
    }
    assert!(h.lenient.stats().early_refreshes > 0);
    assert_eq!(0, h.lenient.stats().stale_hits);
}

/// See the name.
pub async fn a_value_far_from_its_end_is_not_refreshed(h: &CacheHarness) {
    h.ask_lenient("k", Ok(Some("v"))).await;
    h.clock.advance(TTL / 3);
    for _ in 0..1000 {
        h.ask_lenient("k", Ok(Some("other"))).await;
    }
    let stats = h.lenient.stats();
    assert_eq!((1, 1000, 0), (stats.loads, stats.hits, stats.refreshes));
}

/// See the name.
pub async fn an_absence_is_not_served_past_its_time(h: &CacheHarness) {
    h.ask_lenient("k", Ok(None)).await;
    h.clock.advance(NEGATIVE_TTL.mul_f64(1.1) + STEP);
    assert_eq!(Some("found".to_owned()), h.ask_lenient("k", Ok(Some("found"))).await);
}
