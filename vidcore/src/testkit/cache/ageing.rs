//! Claims about how long values live, how much room they take, and what is counted.

use super::*;

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
