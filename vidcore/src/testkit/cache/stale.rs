//! Claims about values that are served past their time while they are refreshed.

use super::*;

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
