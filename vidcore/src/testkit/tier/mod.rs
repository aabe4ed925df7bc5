//! What every [`CacheTier`] promises, one claim per function.

mod applying;
mod entries;
mod leases;

pub use applying::*;
pub use entries::*;
pub use leases::*;

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
                of_many_who_look_at_once_each_finds_its_own,
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
