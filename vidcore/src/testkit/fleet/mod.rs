//! What the caches of several processes before one tier promise, one claim per function.

mod moody;

pub use moody::MoodyTier;

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::cache::tier::{CacheTier, Claim, ClaimMode, Place};
use crate::cache::{LEASE, MAX_AGE_IN_PROCESS};
use crate::clock::ManualClock;
use crate::events::{Change, EventStore};
use crate::testkit::cache::{BYPASS_LOADS, CACHE, CacheHarness, Gate, OriginError, STALE, TTL, joined, text, until};
use crate::testkit::changes::ChangeLog;
use crate::testkit::tier;

/// The smallest step the claims move time by.
const STEP: Duration = Duration::from_millis(1);

/// Makes an empty tier, by this clock where it has none of its own.
type Empty = Box<dyn Fn(&ManualClock) -> Arc<dyn CacheTier> + Send + Sync>;

/// One tier, one database and one clock, for as many processes as a claim needs.
pub struct FleetHarness {
    /// The tier, which a claim can take away.
    pub tier: Arc<MoodyTier>,
    /// What was committed.
    pub log: Arc<ChangeLog>,
    clock: ManualClock,
    empty: Empty,
    _service: Box<dyn Any + Send + Sync>,
}

/// Makes a module with one test per claim. `$harness` is a future of `Option<FleetHarness>`; `None` means
/// that a service is missing and its test says so itself.
#[macro_export]
macro_rules! cache_fleet_contract {
    ($back_end:ident, $harness:expr) => {
        mod $back_end {
            #[allow(unused_imports, reason = "a harness may need nothing from its file")]
            use super::*;

            $crate::cache_fleet_contract! { @claims $harness;
                a_process_takes_what_another_one_loaded,
                eight_processes_with_a_hundred_callers_each_cause_one_load,
                an_absence_is_shared_too,
                a_value_that_the_tier_still_has_is_believed_again_as_it_is,
                a_change_is_seen_at_once_where_it_was_committed_though_the_tier_was_not_told,
                a_change_is_seen_elsewhere_as_soon_as_it_is_heard_of,
                what_is_older_than_a_change_that_was_heard_of_is_neither_taken_nor_kept,
                what_was_loaded_before_a_change_is_not_stored_after_it,
                a_value_past_its_time_is_refreshed_by_one_of_several,
                a_value_near_its_end_is_refreshed_though_the_tier_has_it_still,
                a_leader_that_dies_is_followed_by_one_other,
                a_leader_that_fails_keeps_nobody_waiting_for_its_lease,
                an_entry_that_cannot_be_read_is_replaced,
                a_tier_that_lost_everything_is_filled_again,
                what_was_loaded_before_the_tier_lost_everything_is_not_stored,
                another_database_behind_the_same_tier_begins_anew,
                changes_pruned_unread_make_everything_stale,
                a_process_that_starts_after_a_crash_serves_nothing_stale,
                without_the_tier_reads_go_on_a_few_at_once,
                a_database_that_does_not_answer_the_follower_makes_nothing_stale_believed,
            }
        }
    };
    (@claims $harness:expr; $($claim:ident),+ $(,)?) => { $(
        #[tokio::test]
        async fn $claim() {
            if let Some(harness) = $harness.await {
                $crate::testkit::fleet::$claim(&harness).await;
            }
        }
    )+ };
}

impl FleetHarness {
    /// A fleet before what `empty` makes: a tier without anything in it, at every call, which needs
    /// `service` to live.
    pub fn new(
        empty: impl Fn(&ManualClock) -> Arc<dyn CacheTier> + Send + Sync + 'static,
        service: impl Any + Send + Sync,
    ) -> Self {
        let clock = ManualClock::default();
        let tier = MoodyTier::over(empty(&clock));
        Self {
            tier: Arc::new(tier),
            log: Arc::new(ChangeLog::new()),
            clock,
            empty: Box::new(empty),
            _service: Box::new(service),
        }
    }

    /// A process that starts now.
    pub fn node(&self) -> CacheHarness {
        self.node_of(&self.log)
    }

    /// A process of another database.
    fn node_of(&self, log: &Arc<ChangeLog>) -> CacheHarness {
        CacheHarness::over(Arc::clone(&self.tier) as _, self.clock.clone(), Arc::clone(log))
    }

    /// The tier loses everything.
    fn lose_everything(&self) {
        self.tier.replace((self.empty)(&self.clock));
    }

    /// Waits until the tier is told of every change.
    pub async fn told(&self) {
        tier::until(async || self.tier.applied().await.expect("the tier answers") == Some(self.log.last())).await;
    }

    /// Commits a change that no process hears of.
    fn commit_in_silence(&self) -> Vec<Change> {
        vec![self.log.commit(CACHE, "k"), self.log.commit(crate::testkit::cache::LENIENT, "k")]
    }
}

impl fmt::Debug for FleetHarness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetHarness").field("tier", &self.tier).field("log", &self.log).finish_non_exhaustive()
    }
}

fn place() -> Place<'static> {
    Place { cache: CACHE, key: "k" }
}

fn loads(nodes: &[CacheHarness]) -> u64 {
    nodes.iter().map(|node| node.cache.stats().loads).sum()
}

/// Waits until what `node` loaded for `key` has reached the tier.
async fn stored(h: &FleetHarness) {
    tier::until(async || h.tier.look(place()).await.expect("the tier answers").bytes.is_some()).await;
}

/// See the name.
pub async fn a_process_takes_what_another_one_loaded(h: &FleetHarness) {
    let nodes = [h.node(), h.node()];
    assert_eq!("v", nodes[0].get("k", "v").await);
    stored(h).await;
    assert_eq!(Some("v".to_owned()), nodes[1].kept("k").await);
    assert_eq!(1, loads(&nodes));
    assert_eq!(1, nodes[1].cache.stats().shared_hits);
}

/// See the name.
pub async fn eight_processes_with_a_hundred_callers_each_cause_one_load(h: &FleetHarness) {
    let nodes: Vec<_> = (0..8).map(|_| h.node()).collect();
    let gate = Gate::closed();
    let callers: Vec<_> = nodes.iter().flat_map(|node| (0..100).map(|_| node.ask("k", &gate, Ok(Some("v"))))).collect();
    until(|| nodes.iter().map(|node| node.cache.stats().shared_waits).sum::<u64>() == 7).await;
    gate.open();
    for caller in callers {
        assert_eq!("v", text(&joined(caller).await));
    }
    assert_eq!((1, 1), (loads(&nodes), gate.arrivals()));
    for node in &nodes {
        let stats = node.cache.stats();
        let looks = stats.shared_hits + stats.shared_misses + stats.shared_waits + stats.shared_behind;
        assert_eq!((1, 1), (stats.misses, looks), "each is counted once");
    }
}

/// See the name.
pub async fn an_absence_is_shared_too(h: &FleetHarness) {
    let nodes = [h.node(), h.node()];
    assert_eq!(None, nodes[0].cache.get_or_load("k", async { Ok(None) }).await.expect("loads"));
    stored(h).await;
    assert_eq!(Some("absent".to_owned()), nodes[1].kept("k").await);
}

/// See the name: asked for once per [`MAX_AGE_IN_PROCESS`], never built anew, and given up for another one.
pub async fn a_value_that_the_tier_still_has_is_believed_again_as_it_is(h: &FleetHarness) {
    let (node, other) = (h.node(), h.node());
    let read = async || node.cache.get_or_load("k", async { Ok(Some("v".to_owned())) }).await.expect("loads");
    let first = read().await.expect("there is a value");
    stored(h).await;
    h.clock.advance(MAX_AGE_IN_PROCESS.mul_f64(1.1) + STEP);
    for _ in 0..3 {
        assert!(Arc::ptr_eq(&first, &read().await.expect("there is a value")));
    }
    assert_eq!((1, 2), (node.cache.stats().shared_hits, node.cache.stats().hits));
    other.change("k");
    h.told().await;
    assert_eq!("w", other.get("k", "w").await);
    stored(h).await;
    h.clock.advance(MAX_AGE_IN_PROCESS.mul_f64(1.1) + STEP);
    assert_eq!("w", node.get("k", "x").await);
}

/// See the name.
pub async fn a_change_is_seen_at_once_where_it_was_committed_though_the_tier_was_not_told(h: &FleetHarness) {
    let mut node = h.node();
    node.get("k", "old").await;
    stored(h).await;
    node.stop_following();
    node.change("k");
    assert_eq!("new", node.get("k", "new").await);
    assert_eq!(1, node.cache.stats().shared_behind);
}

/// See the name.
pub async fn a_change_is_seen_elsewhere_as_soon_as_it_is_heard_of(h: &FleetHarness) {
    let (mut here, mut there) = (h.node(), h.node());
    here.get("k", "old").await;
    stored(h).await;
    assert_eq!(Some("old".to_owned()), there.kept("k").await);
    here.stop_following();
    there.stop_following();
    let changes = h.commit_in_silence();
    there.hear(changes);
    assert_eq!("new", there.get("k", "new").await);
    assert_eq!(Some("new".to_owned()), there.kept("k").await);
}

/// See the name.
pub async fn what_is_older_than_a_change_that_was_heard_of_is_neither_taken_nor_kept(h: &FleetHarness) {
    let (mut here, mut there) = (h.node(), h.node());
    here.get("k", "old").await;
    stored(h).await;
    here.stop_following();
    there.stop_following();
    there.hear(h.commit_in_silence());
    assert_eq!(None, there.kept("k").await, "the tier has it, and was not told");
    assert!(h.tier.look(place()).await.expect("the tier answers").bytes.is_some());
    there.follow();
    h.told().await;
    assert_eq!(None, there.kept("k").await);
    assert_eq!("new", there.get("k", "new").await);
}

/// See the name.
pub async fn what_was_loaded_before_a_change_is_not_stored_after_it(h: &FleetHarness) {
    let (slow, other) = (h.node(), h.node());
    let gate = Gate::closed();
    let caller = slow.ask("k", &gate, Ok(Some("old")));
    gate.until_reached().await;
    other.change("k");
    h.told().await;
    gate.open();
    // It has not heard of the change yet; who has must not find this.
    assert_eq!("old", text(&joined(caller).await));
    until(|| slow.cache.stats().shared_refused == 1).await;
    assert_eq!(None, other.kept("k").await);
    assert_eq!(None, h.node().kept("k").await);
}

/// See the name.
pub async fn a_value_past_its_time_is_refreshed_by_one_of_several(h: &FleetHarness) {
    let nodes: Vec<_> = (0..4).map(|_| h.node()).collect();
    let lenient = Place { cache: crate::testkit::cache::LENIENT, key: "k" };
    nodes[0].ask_lenient("k", Ok(Some("old"))).await;
    tier::until(async || h.tier.look(lenient).await.expect("the tier answers").bytes.is_some()).await;
    for node in &nodes {
        assert_eq!(Some("old".to_owned()), node.ask_lenient("k", Err(OriginError("not kept"))).await);
    }
    h.clock.advance(TTL.mul_f64(1.1) + STEP);
    let gate = Gate::closed();
    for node in &nodes {
        let held = gate.clone();
        let load = async move {
            held.pass().await;
            Ok(Some("new".to_owned()))
        };
        let served = node.lenient.get_or_load("k", load).await.expect("there is a value").expect("there is a value");
        assert_eq!("old", served.value);
    }
    gate.until_reached().await;
    until(|| nodes.iter().map(|node| node.lenient.loads_under_way()).sum::<usize>() == 1).await;
    gate.open();
    until(|| nodes.iter().all(|node| node.lenient.loads_under_way() == 0)).await;
    assert_eq!(1, gate.arrivals());
    h.clock.advance(STALE + TTL);
}

/// See the name: a load that takes a fifth of its value's life is begun early by most of a hundred calls.
pub async fn a_value_near_its_end_is_refreshed_though_the_tier_has_it_still(h: &FleetHarness) {
    let (node, clock) = (h.node(), h.clock.clone());
    let lenient = Place { cache: crate::testkit::cache::LENIENT, key: "k" };
    let slow = async move {
        clock.advance(TTL / 5);
        Ok(Some("old".to_owned()))
    };
    node.lenient.get_or_load("k", slow).await.expect("loads");
    tier::until(async || h.tier.look(lenient).await.expect("the tier answers").bytes.is_some()).await;
    // Its life is counted from the start of its load, and drawn from 9 s to 11 s.
    h.clock.advance(TTL.mul_f64(0.69));
    let mut read = String::new();
    for _ in 0..100 {
        read = node.ask_lenient("k", Ok(Some("new"))).await.expect("there is a value");
        until(|| node.lenient.loads_under_way() == 0).await;
    }
    assert_eq!("new", read);
    assert_eq!(2, node.lenient.stats().loads);
}

/// See the name.
pub async fn a_leader_that_dies_is_followed_by_one_other(h: &FleetHarness) {
    let nodes = [h.node(), h.node(), h.node()];
    h.told().await;
    let claim = h.tier.claim(place(), ClaimMode::UnlessThere, 1, LEASE).await.expect("the tier answers");
    assert!(matches!(claim, Claim::Lead(_)));
    let gate = Gate::closed();
    let callers: Vec<_> = nodes.iter().map(|node| node.ask("k", &gate, Ok(Some("v")))).collect();
    until(|| nodes.iter().all(|node| node.cache.stats().shared_waits == 1)).await;
    assert_eq!(0, gate.arrivals());
    h.clock.advance(LEASE);
    gate.until_reached().await;
    gate.open();
    for caller in callers {
        assert_eq!("v", text(&joined(caller).await));
    }
    assert_eq!(1, loads(&nodes));
}

/// See the name: the clock, by which leases in memory end, stands still.
pub async fn a_leader_that_fails_keeps_nobody_waiting_for_its_lease(h: &FleetHarness) {
    let nodes = [h.node(), h.node()];
    let (failing, open) = (Gate::closed(), Gate::closed());
    open.open();
    let leader = nodes[0].ask("k", &failing, Err(OriginError("no")));
    failing.until_reached().await;
    let other = nodes[1].ask("k", &open, Ok(Some("v")));
    until(|| nodes[1].cache.stats().shared_waits == 1).await;
    failing.open();
    joined(leader).await.expect_err("its load fails");
    assert_eq!("v", text(&joined(other).await));
}

/// See the name.
pub async fn an_entry_that_cannot_be_read_is_replaced(h: &FleetHarness) {
    let nodes = [h.node(), h.node()];
    h.told().await;
    let claim = h.tier.claim(place(), ClaimMode::UnlessThere, 1, LEASE).await.expect("the tier answers");
    let Claim::Lead(ticket) = claim else { panic!("nobody else is there") };
    h.tier.store(place(), &ticket, Bytes::from("junk"), TTL).await.expect("the tier answers");
    let read = tokio::time::timeout(TTL, nodes[0].get("k", "v")).await.expect("it is not looked at for ever");
    assert_eq!("v", read);
    tier::until(async || h.tier.look(place()).await.is_ok_and(|look| look.bytes != Some(Bytes::from("junk")))).await;
    assert_eq!(Some("v".to_owned()), nodes[1].kept("k").await);
}

/// See the name.
pub async fn a_tier_that_lost_everything_is_filled_again(h: &FleetHarness) {
    let (here, there) = (h.node(), h.node());
    here.get("k", "old").await;
    stored(h).await;
    here.change("k");
    h.told().await;
    h.lose_everything();
    assert_eq!("new", there.get("k", "new").await);
    // Whoever asks next tells it how far changes are, and what is loaded then is shared again.
    tier::until(async || {
        there.cache.invalidate("k");
        there.get("k", "new").await;
        h.tier.look(place()).await.is_ok_and(|look| look.bytes.is_some())
    })
    .await;
    assert_eq!(Some("new".to_owned()), here.kept("k").await);
}

/// See the name.
pub async fn what_was_loaded_before_the_tier_lost_everything_is_not_stored(h: &FleetHarness) {
    let (slow, other) = (h.node(), h.node());
    let gate = Gate::closed();
    let caller = slow.ask("k", &gate, Ok(Some("old")));
    gate.until_reached().await;
    h.lose_everything();
    other.change("k");
    assert_eq!("new", other.get("k", "new").await);
    gate.open();
    joined(caller).await.expect("the load succeeds");
    until(|| slow.cache.stats().shared_refused == 1).await;
    assert_eq!("new", h.node().get("k", "new").await);
}

/// See the name: its ids are lower.
pub async fn another_database_behind_the_same_tier_begins_anew(h: &FleetHarness) {
    let node = h.node();
    for _ in 0..5 {
        node.change("k");
    }
    node.get("k", "of the first database").await;
    h.told().await;
    stored(h).await;
    drop(node);
    let other = h.node_of(&Arc::new(ChangeLog::new()));
    assert_eq!("of the second", other.get("k", "of the second").await);
}

/// See the name.
pub async fn changes_pruned_unread_make_everything_stale(h: &FleetHarness) {
    let mut node = h.node();
    node.get("k", "old").await;
    stored(h).await;
    node.stop_following();
    h.commit_in_silence();
    h.log.prune(h.log.last());
    node.follow();
    h.told().await;
    assert_eq!(None, h.tier.look(place()).await.expect("the tier answers").bytes);
    assert_eq!("new", h.node().get("k", "new").await);
}

/// See the name: the one before it has committed, and told nobody.
pub async fn a_process_that_starts_after_a_crash_serves_nothing_stale(h: &FleetHarness) {
    let mut crashing = h.node();
    crashing.get("k", "old").await;
    stored(h).await;
    crashing.stop_following();
    h.commit_in_silence();
    drop(crashing);
    let next = h.node();
    assert_eq!("new", next.get("k", "new").await);
    h.told().await;
    assert_eq!("new", h.node().get("k", "new").await);
}

/// See the name.
pub async fn without_the_tier_reads_go_on_a_few_at_once(h: &FleetHarness) {
    let node = h.node();
    node.get("k", "v").await;
    h.tier.set_away(true);
    let gate = Gate::closed();
    let callers: Vec<_> = (0..3 * BYPASS_LOADS).map(|n| node.ask(&format!("key {n}"), &gate, Ok(Some("v")))).collect();
    until(|| gate.arrivals() == BYPASS_LOADS as u64).await;
    until(|| node.cache.stats().tier_errors == callers.len() as u64).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(BYPASS_LOADS as u64, gate.arrivals());
    assert_eq!(Some("v".to_owned()), node.kept("k").await, "what is kept in the process is served");
    gate.open();
    for caller in callers {
        assert_eq!("v", text(&joined(caller).await));
    }
    assert_eq!(0, node.cache.stats().load_errors);
    h.tier.set_away(false);
    node.get("later", "v").await;
}

/// See the name.
pub async fn a_database_that_does_not_answer_the_follower_makes_nothing_stale_believed(h: &FleetHarness) {
    let node = h.node();
    node.get("k", "old").await;
    stored(h).await;
    h.log.set_away(true);
    node.hear(h.commit_in_silence());
    assert_eq!("new", node.get("k", "new").await);
    h.log.set_away(false);
    assert!(h.log.change_bounds().await.is_ok());
    node.caches.shared().expect("it has one").changed();
    h.told().await;
    assert_eq!(None, h.tier.look(place()).await.expect("the tier answers").bytes);
}
