//! Claims about loads: who causes them, who waits, what becomes of failures.

use super::*;

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
