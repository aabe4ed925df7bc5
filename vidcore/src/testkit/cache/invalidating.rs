//! Claims about what is dropped, and what is not kept because of it.

use super::*;

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
