//! What every [`CacheTier`] promises, one claim per function.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::cache::EVERY_KEY;
use crate::cache::tier::{Batch, CacheTier, Claim, ClaimMode, Look, MAX_ENTRY_BYTES, Place, Stored, Ticket};
use crate::clock::ManualClock;
use crate::events::Change;

/// The caches of the claims.
pub const CACHE: &str = "tier";
const OTHER: &str = "other";

/// Longer than any test.
const LONG: Duration = Duration::from_secs(60);

/// Waited for by tests, and long enough to see what comes before its end.
const SHORT: Duration = Duration::from_millis(150);

/// How long something may take that has to happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A tier under test: new, and told that every change up to 0 is applied.
pub struct TierHarness {
    /// The tier.
    pub tier: Arc<dyn CacheTier>,
    time: Time,
    _kept: Box<dyn Any + Send + Sync>,
}

/// How time passes at the tier.
#[derive(Debug)]
enum Time {
    /// The test moves it.
    Manual(ManualClock),
    /// By itself.
    Real,
}

/// Makes a module with one test per claim. `$harness` is a future of `Option<TierHarness>`; `None` means
/// that a service is missing and its test says so itself.
#[macro_export]
macro_rules! cache_tier_contract {
    ($back_end:ident, $harness:expr) => {
        mod $back_end {
            #[allow(unused_imports, reason = "a harness may need nothing from its file")]
            use super::*;

            $crate::cache_tier_contract! { @claims $harness;
                what_was_stored_is_found,
                bytes_come_back_as_they_were,
                a_time_to_live_ends_an_entry,
                nothing_is_stored_without_a_time_to_live,
                a_stored_value_replaces_the_one_before,
                a_change_makes_its_key_stale_and_no_other,
                a_change_of_every_key_makes_its_whole_cache_stale_and_no_other,
                a_ticket_older_than_a_change_of_its_key_is_refused,
                a_ticket_older_than_a_change_of_its_whole_cache_is_refused,
                a_ticket_older_than_a_reset_is_refused,
                a_ticket_of_another_place_is_refused,
                one_lease_exists_per_place,
                of_many_who_claim_at_once_one_leads,
                a_lease_ends_with_its_time,
                a_lease_ends_with_what_is_stored,
                a_lease_ends_when_it_is_given_up,
                a_lease_ends_with_a_change_of_its_key,
                a_lease_is_ended_by_its_holder_alone,
                a_lease_of_another_place_is_free,
                who_waits_may_store_as_well,
                an_entry_that_is_there_is_returned_unless_it_is_to_be_refreshed,
                how_far_changes_are_applied_is_told_with_an_entry,
                changes_after_a_missing_one_are_not_applied,
                applying_twice_drops_nothing_stored_since,
                applying_what_is_partly_applied_drops_nothing_stored_since,
                several_changes_of_one_batch_are_all_applied,
                a_reset_makes_everything_stale_and_sets_the_mark,
                a_reset_may_set_the_mark_back,
                generations_grow,
                an_entry_too_large_is_refused_and_ends_the_lease,
                keys_of_any_bytes_and_length_do_not_collide,
            }

            #[tokio::test]
            async fn a_new_tier_does_not_know_how_far_it_is() {
                if let Some(harness) = $harness.await {
                    $crate::testkit::tier::a_new_tier_does_not_know_how_far_it_is(&harness).await;
                }
            }
        }
    };
    (@claims $harness:expr; $($claim:ident),+ $(,)?) => { $(
        #[tokio::test]
        async fn $claim() {
            if let Some(harness) = $harness.await {
                harness.begin().await;
                $crate::testkit::tier::$claim(&harness).await;
            }
        }
    )+ };
}

impl TierHarness {
    /// A tier whose time is `clock`'s.
    pub fn manual(tier: Arc<dyn CacheTier>, clock: ManualClock) -> Self {
        Self { tier, time: Time::Manual(clock), _kept: Box::new(()) }
    }

    /// A tier with a time of its own, which lives as long as `kept` does.
    pub fn real(tier: Arc<dyn CacheTier>, kept: impl Any + Send + Sync) -> Self {
        Self { tier, time: Time::Real, _kept: Box::new(kept) }
    }

    /// Tells the tier that there were no changes yet.
    pub async fn begin(&self) {
        self.tier.reset(&[CACHE, OTHER], 0).await.expect("the tier answers");
    }

    /// What is found at `key`.
    pub async fn look(&self, key: &str) -> Look {
        self.tier.look(place(key)).await.expect("the tier answers")
    }

    /// The bytes of `key`.
    pub async fn bytes(&self, key: &str) -> Option<Bytes> {
        self.look(key).await.bytes
    }

    /// Claims `key` to be refreshed, for long.
    pub async fn claim(&self, key: &str, holder: u64) -> Claim {
        self.claim_for(key, holder, LONG).await
    }

    async fn claim_for(&self, key: &str, holder: u64, lease: Duration) -> Claim {
        self.tier.claim(place(key), ClaimMode::Refresh, holder, lease).await.expect("the tier answers")
    }

    /// The ticket of who leads at `key`.
    ///
    /// # Panics
    /// If somebody else does.
    pub async fn lead(&self, key: &str, holder: u64) -> Ticket {
        match self.claim(key, holder).await {
            Claim::Lead(ticket) => ticket,
            other => panic!("nobody else holds the lease of {key:?}: {other:?}"),
        }
    }

    /// Stores under `ticket`, for long.
    pub async fn store(&self, key: &str, ticket: &Ticket, bytes: &[u8]) -> Stored {
        self.store_for(key, ticket, bytes, LONG).await
    }

    async fn store_for(&self, key: &str, ticket: &Ticket, bytes: &[u8], ttl: Duration) -> Stored {
        let bytes = Bytes::copy_from_slice(bytes);
        self.tier.store(place(key), ticket, bytes, ttl).await.expect("the tier answers")
    }

    /// Loads and stores, as a process that is alone.
    ///
    /// # Panics
    /// If that is refused.
    pub async fn fill(&self, key: &str, bytes: &[u8]) {
        let ticket = self.lead(key, 1).await;
        assert_eq!(Stored::Kept, self.store(key, &ticket, bytes).await);
    }

    /// Applies changes of these keys, the first of which has the id `first`.
    pub async fn apply(&self, first: i64, keys: &[&str]) -> Option<i64> {
        let changes: Vec<Change> = (first..).zip(keys).map(|(id, key)| change(id, CACHE, key)).collect();
        self.tier.apply(Batch { after: first - 1, changes: &changes }).await.expect("the tier answers")
    }

    async fn is_wait(&self, key: &str, holder: u64) -> bool {
        matches!(self.claim(key, holder).await, Claim::Wait(_))
    }

    /// Lets `time` pass at the tier, where a test can.
    fn pass(&self, time: Duration) {
        if let Time::Manual(clock) = &self.time {
            clock.advance(time);
        }
    }
}

impl fmt::Debug for TierHarness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TierHarness").field("tier", &self.tier).field("time", &self.time).finish_non_exhaustive()
    }
}

/// A place in the cache of the claims.
pub fn place(key: &str) -> Place<'_> {
    Place { cache: CACHE, key }
}

/// A change of `key` in `cache`.
pub fn change(id: i64, cache: &str, key: &str) -> Change {
    Change { id, topic: cache.to_owned(), key: key.to_owned() }
}

/// Waits for what happens by itself, with a bound.
pub async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let given_up = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < given_up, "the condition never came to hold");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// See the name.
pub async fn a_new_tier_does_not_know_how_far_it_is(h: &TierHarness) {
    assert_eq!(None, h.tier.applied().await.expect("the tier answers"));
    assert_eq!(Look::default(), h.look("k").await);
    assert_eq!(None, h.apply(1, &["k"]).await);
    assert_eq!(None, h.tier.applied().await.expect("the tier answers"), "it was not told of what came before");
}

/// See the name.
pub async fn what_was_stored_is_found(h: &TierHarness) {
    assert_eq!(None, h.bytes("k").await);
    h.fill("k", b"value").await;
    assert_eq!(Some(Bytes::from("value")), h.bytes("k").await);
    assert_eq!(None, h.bytes("other").await);
    let elsewhere = h.tier.look(Place { cache: OTHER, key: "k" }).await.expect("the tier answers");
    assert_eq!(None, elsewhere.bytes);
}

/// See the name.
pub async fn bytes_come_back_as_they_were(h: &TierHarness) {
    let every: Vec<u8> = (0..=255).collect();
    for bytes in [&b""[..], b":", b"7:", &every, &[0xff; 1000], &vec![b'x'; MAX_ENTRY_BYTES]] {
        h.fill("k", bytes).await;
        assert!(h.bytes("k").await.is_some_and(|found| found == bytes), "{} bytes", bytes.len());
        let claim = h.tier.claim(place("k"), ClaimMode::UnlessThere, 2, LONG).await.expect("the tier answers");
        assert!(matches!(claim, Claim::There(look) if look.bytes.as_deref() == Some(bytes)));
    }
}

/// See the name.
pub async fn a_time_to_live_ends_an_entry(h: &TierHarness) {
    let ticket = h.lead("k", 1).await;
    h.store_for("k", &ticket, b"short", SHORT).await;
    h.fill("long", b"long").await;
    assert!(h.bytes("k").await.is_some());
    h.pass(SHORT - Duration::from_millis(1));
    if matches!(h.time, Time::Manual(_)) {
        assert!(h.bytes("k").await.is_some(), "not a moment before");
    }
    h.pass(Duration::from_millis(1));
    until(async || h.bytes("k").await.is_none()).await;
    let claim = h.tier.claim(place("k"), ClaimMode::UnlessThere, 2, LONG).await.expect("the tier answers");
    assert!(matches!(claim, Claim::Lead(_)));
    assert!(h.bytes("long").await.is_some());
}

/// See the name.
pub async fn nothing_is_stored_without_a_time_to_live(h: &TierHarness) {
    let ticket = h.lead("k", 1).await;
    assert_eq!(Stored::Refused, h.store_for("k", &ticket, b"value", Duration::ZERO).await);
    assert_eq!(None, h.bytes("k").await);
    assert!(!h.is_wait("k", 2).await, "the lease has ended");
}

/// See the name.
pub async fn a_stored_value_replaces_the_one_before(h: &TierHarness) {
    h.fill("k", b"the first one").await;
    h.fill("k", b"second").await;
    assert_eq!(Some(Bytes::from("second")), h.bytes("k").await);
}

/// See the name.
pub async fn a_change_makes_its_key_stale_and_no_other(h: &TierHarness) {
    h.fill("k", b"value").await;
    h.fill("other", b"value").await;
    let (ticket, elsewhere) = (h.lead("k", 1).await, Place { cache: OTHER, key: "k" });
    h.tier.give_up(place("k"), &ticket).await.expect("the tier answers");
    let claim = h.tier.claim(elsewhere, ClaimMode::Refresh, 1, LONG).await.expect("the tier answers");
    let Claim::Lead(ticket) = claim else { panic!("nobody else is there") };
    h.tier.store(elsewhere, &ticket, Bytes::from("value"), LONG).await.expect("the tier answers");
    assert_eq!(Some(1), h.apply(1, &["k"]).await);
    assert_eq!(None, h.bytes("k").await);
    assert!(h.bytes("other").await.is_some());
    assert!(h.tier.look(elsewhere).await.expect("the tier answers").bytes.is_some());
}

/// See the name.
pub async fn a_change_of_every_key_makes_its_whole_cache_stale_and_no_other(h: &TierHarness) {
    let elsewhere = Place { cache: OTHER, key: "k" };
    let claim = h.tier.claim(elsewhere, ClaimMode::Refresh, 1, LONG).await.expect("the tier answers");
    let Claim::Lead(ticket) = claim else { panic!("nobody else is there") };
    h.tier.store(elsewhere, &ticket, Bytes::from("value"), LONG).await.expect("the tier answers");
    for key in ["a", "b", "c"] {
        h.fill(key, b"value").await;
    }
    assert_eq!(Some(1), h.apply(1, &[EVERY_KEY]).await);
    for key in ["a", "b", "c"] {
        assert_eq!(None, h.bytes(key).await, "{key}");
    }
    assert!(h.tier.look(elsewhere).await.expect("the tier answers").bytes.is_some());
    h.fill("a", b"new").await;
    assert_eq!(Some(Bytes::from("new")), h.bytes("a").await);
}

/// See the name.
pub async fn a_ticket_older_than_a_change_of_its_key_is_refused(h: &TierHarness) {
    let early = h.lead("k", 1).await;
    h.apply(1, &["k"]).await;
    assert_eq!(Stored::Refused, h.store("k", &early, b"old").await);
    assert_eq!(None, h.bytes("k").await);
    let late = h.lead("k", 2).await;
    assert_eq!(Stored::Refused, h.store("k", &early, b"old").await);
    assert_eq!(Stored::Kept, h.store("k", &late, b"new").await);
    assert_eq!(Stored::Refused, h.store("k", &early, b"old").await);
    assert_eq!(Some(Bytes::from("new")), h.bytes("k").await);
}

/// See the name.
pub async fn a_ticket_older_than_a_change_of_its_whole_cache_is_refused(h: &TierHarness) {
    let early = h.lead("k", 1).await;
    h.apply(1, &[EVERY_KEY]).await;
    assert_eq!(Stored::Refused, h.store("k", &early, b"old").await);
    assert_eq!(None, h.bytes("k").await);
    h.fill("k", b"new").await;
    assert_eq!(Stored::Refused, h.store("k", &early, b"old").await);
    assert_eq!(Some(Bytes::from("new")), h.bytes("k").await);
}

/// See the name.
pub async fn a_ticket_older_than_a_reset_is_refused(h: &TierHarness) {
    let early = h.lead("k", 1).await;
    h.tier.reset(&[CACHE], 7).await.expect("the tier answers");
    assert_eq!(Stored::Refused, h.store("k", &early, b"old").await);
    assert_eq!(None, h.bytes("k").await);
}

/// See the name.
pub async fn a_ticket_of_another_place_is_refused(h: &TierHarness) {
    // So that generations of the two places differ however they begin.
    h.fill("other", b"value").await;
    h.apply(1, &["other"]).await;
    let (ticket, _) = (h.lead("k", 1).await, h.lead("other", 2).await);
    h.apply(2, &["other"]).await;
    assert_eq!(Stored::Refused, h.store("other", &ticket, b"strange").await);
    assert_eq!(None, h.bytes("other").await);
}

/// See the name.
pub async fn one_lease_exists_per_place(h: &TierHarness) {
    h.lead("k", 1).await;
    assert!(h.is_wait("k", 2).await);
    assert!(h.is_wait("k", 1).await, "its holder has it already");
}

/// See the name.
pub async fn of_many_who_claim_at_once_one_leads(h: &TierHarness) {
    let claims = futures_util::future::join_all((0..50).map(|holder| h.claim("k", holder))).await;
    assert_eq!(1, claims.iter().filter(|claim| matches!(claim, Claim::Lead(_))).count());
}

/// See the name.
pub async fn a_lease_ends_with_its_time(h: &TierHarness) {
    assert!(matches!(h.claim_for("k", 1, SHORT).await, Claim::Lead(_)));
    assert!(h.is_wait("k", 2).await);
    h.pass(SHORT);
    until(async || matches!(h.claim("k", 3).await, Claim::Lead(_))).await;
}

/// See the name.
pub async fn a_lease_ends_with_what_is_stored(h: &TierHarness) {
    let ticket = h.lead("k", 1).await;
    h.store("k", &ticket, b"value").await;
    h.lead("k", 2).await;
}

/// See the name.
pub async fn a_lease_ends_when_it_is_given_up(h: &TierHarness) {
    let ticket = h.lead("k", 1).await;
    h.tier.give_up(place("k"), &ticket).await.expect("the tier answers");
    h.lead("k", 2).await;
}

/// See the name.
pub async fn a_lease_ends_with_a_change_of_its_key(h: &TierHarness) {
    h.lead("k", 1).await;
    h.apply(1, &["k"]).await;
    h.lead("k", 2).await;
}

/// See the name.
pub async fn a_lease_is_ended_by_its_holder_alone(h: &TierHarness) {
    let early = h.lead("k", 1).await;
    h.apply(1, &["k"]).await;
    h.lead("k", 2).await;
    h.tier.give_up(place("k"), &early).await.expect("the tier answers");
    assert!(h.is_wait("k", 3).await);
    h.store("k", &early, b"old").await;
    assert!(h.is_wait("k", 3).await);
    let Claim::Wait(ticket) = h.claim("k", 3).await else { panic!("another one holds the lease") };
    h.store("k", &ticket, b"new").await;
    assert!(h.is_wait("k", 4).await);
}

/// See the name.
pub async fn a_lease_of_another_place_is_free(h: &TierHarness) {
    h.lead("k", 1).await;
    h.lead("other", 1).await;
    let elsewhere = Place { cache: OTHER, key: "k" };
    let claim = h.tier.claim(elsewhere, ClaimMode::Refresh, 1, LONG).await.expect("the tier answers");
    assert!(matches!(claim, Claim::Lead(_)));
}

/// See the name.
pub async fn who_waits_may_store_as_well(h: &TierHarness) {
    h.lead("k", 1).await;
    let Claim::Wait(ticket) = h.claim("k", 2).await else { panic!("another one holds the lease") };
    assert_eq!(Stored::Kept, h.store("k", &ticket, b"value").await);
    assert_eq!(Some(Bytes::from("value")), h.bytes("k").await);
}

/// See the name.
pub async fn an_entry_that_is_there_is_returned_unless_it_is_to_be_refreshed(h: &TierHarness) {
    h.fill("k", b"value").await;
    let claim = h.tier.claim(place("k"), ClaimMode::UnlessThere, 2, LONG).await.expect("the tier answers");
    assert_eq!(Claim::There(Look { bytes: Some(Bytes::from("value")), applied: Some(0) }), claim);
    h.lead("k", 2).await;
    assert!(h.bytes("k").await.is_some(), "it serves until it is replaced");
}

/// See the name.
pub async fn how_far_changes_are_applied_is_told_with_an_entry(h: &TierHarness) {
    for id in 1..=3 {
        assert_eq!(Some(id), h.apply(id, &["k"]).await);
        assert_eq!(Some(id), h.look("other").await.applied);
        assert_eq!(Some(id), h.tier.applied().await.expect("the tier answers"));
    }
}

/// See the name.
pub async fn changes_after_a_missing_one_are_not_applied(h: &TierHarness) {
    h.fill("k", b"value").await;
    assert_eq!(Some(0), h.apply(2, &["k"]).await);
    let look = h.look("k").await;
    assert_eq!((true, Some(0)), (look.bytes.is_some(), look.applied));
    assert_eq!(Some(2), h.apply(1, &["other", "k"]).await);
    assert_eq!(None, h.bytes("k").await);
}

/// See the name.
pub async fn applying_twice_drops_nothing_stored_since(h: &TierHarness) {
    assert_eq!(Some(2), h.apply(1, &["k", EVERY_KEY]).await);
    h.fill("k", b"new").await;
    h.lead("k", 9).await;
    assert_eq!(Some(2), h.apply(1, &["k", EVERY_KEY]).await);
    assert_eq!(Some(2), h.apply(1, &["k"]).await);
    assert_eq!(Some(Bytes::from("new")), h.bytes("k").await);
    assert!(h.is_wait("k", 10).await, "nor does the lease end");
}

/// See the name: processes that read the tail of changes at different moments apply overlapping ones.
pub async fn applying_what_is_partly_applied_drops_nothing_stored_since(h: &TierHarness) {
    assert_eq!(Some(2), h.apply(1, &[EVERY_KEY, "k"]).await);
    h.fill("k", b"new").await;
    h.fill("other", b"old").await;
    let ticket = h.lead("k", 9).await;
    assert_eq!(Some(3), h.apply(1, &[EVERY_KEY, "k", "other"]).await);
    assert_eq!(Some(Bytes::from("new")), h.bytes("k").await);
    assert_eq!(None, h.bytes("other").await);
    assert_eq!(Stored::Kept, h.store("k", &ticket, b"newer").await);
}

/// See the name.
pub async fn several_changes_of_one_batch_are_all_applied(h: &TierHarness) {
    let keys: Vec<String> = (0..500).map(|n| format!("k{n}")).collect();
    for key in &keys {
        h.fill(key, b"value").await;
    }
    let named: Vec<&str> = keys.iter().map(String::as_str).collect();
    assert_eq!(Some(500), h.apply(1, &named).await);
    for key in &keys {
        assert_eq!(None, h.bytes(key).await, "{key}");
    }
}

/// See the name.
pub async fn a_reset_makes_everything_stale_and_sets_the_mark(h: &TierHarness) {
    h.fill("a", b"value").await;
    h.fill("b", b"value").await;
    h.tier.reset(&[CACHE, OTHER], 40).await.expect("the tier answers");
    for key in ["a", "b"] {
        assert_eq!(Look { bytes: None, applied: Some(40) }, h.look(key).await);
    }
    assert_eq!(Some(41), h.apply(41, &["a"]).await);
    h.fill("a", b"new").await;
    assert_eq!(Some(Bytes::from("new")), h.bytes("a").await);
}

/// See the name: for another database behind the same tier.
pub async fn a_reset_may_set_the_mark_back(h: &TierHarness) {
    h.apply(1, &["k", "k", "k"]).await;
    h.fill("k", b"value").await;
    h.tier.reset(&[CACHE, OTHER], 1).await.expect("the tier answers");
    assert_eq!(Look { bytes: None, applied: Some(1) }, h.look("k").await);
    assert_eq!(Some(2), h.apply(2, &["k"]).await);
}

/// See the name.
pub async fn generations_grow(h: &TierHarness) {
    let mut last = h.lead("k", 0).await;
    for round in 1..=20 {
        let key = if round % 5 == 0 { EVERY_KEY } else { "k" };
        h.apply(round, &[key]).await;
        h.tier.give_up(place("k"), &last).await.expect("the tier answers");
        let next = h.lead("k", round.unsigned_abs()).await;
        assert!(next.generation >= last.generation && next.all >= last.all);
        assert!(next.generation > last.generation || next.all > last.all, "round {round}");
        last = next;
    }
}

/// See the name.
pub async fn an_entry_too_large_is_refused_and_ends_the_lease(h: &TierHarness) {
    let ticket = h.lead("k", 1).await;
    assert_eq!(Stored::Refused, h.store("k", &ticket, &vec![0; MAX_ENTRY_BYTES + 1]).await);
    assert_eq!(None, h.bytes("k").await);
    h.lead("k", 2).await;
}

/// See the name.
pub async fn keys_of_any_bytes_and_length_do_not_collide(h: &TierHarness) {
    let long = "x".repeat(10 << 10);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, long.as_bytes());
    let keys = [
        String::new(),
        " ".to_owned(),
        ":".to_owned(),
        "e:k".to_owned(),
        "k".to_owned(),
        "k\r\n".to_owned(),
        "\u{0}".to_owned(),
        "ключ {1}".to_owned(),
        "x".repeat(160),
        "x".repeat(161),
        "x".repeat(162),
        format!("{}y", &long[1..]),
        // What a tier might make of a long key, should it make one of a fixed length.
        hex::encode(digest),
        format!("\u{0}{}", hex::encode(digest)),
        long,
    ];
    for (number, key) in keys.iter().enumerate() {
        h.fill(key, number.to_string().as_bytes()).await;
    }
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(Some(Bytes::from(number.to_string())), h.bytes(key).await, "{key:.40?}");
    }
    for (number, key) in (1..).zip(&keys) {
        h.apply(number, &[key]).await;
        assert_eq!(None, h.bytes(key).await, "{key:.40?}");
        let left = keys.len() - number as usize;
        let mut found = 0;
        for key in &keys {
            found += usize::from(h.bytes(key).await.is_some());
        }
        assert_eq!(left, found, "{key:.40?}");
    }
}
