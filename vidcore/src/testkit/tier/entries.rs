//! Claims about what is stored and when it is stale.

use super::*;

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
pub async fn of_many_who_look_at_once_each_finds_its_own(h: &TierHarness) {
    const KEYS: usize = 100;
    let caches = [CACHE, OTHER, "a third one"];
    let name = |n: usize| format!("k{n}");
    let places: Vec<_> = (0..KEYS).map(|n| (caches[n % caches.len()], name(n))).collect();
    // Every fifth is missing.
    for (n, (cache, key)) in places.iter().enumerate().filter(|(n, _)| n % 5 != 0) {
        let place = Place { cache, key };
        let claim = h.tier.claim(place, ClaimMode::Refresh, 1, LONG).await.expect("the tier answers");
        let Claim::Lead(ticket) = claim else { panic!("nobody else is there") };
        let bytes = Bytes::from(format!("{cache} {key} {n}"));
        h.tier.store(place, &ticket, bytes, LONG).await.expect("the tier answers");
    }
    // One of the caches becomes stale.
    let every = [change(1, OTHER, EVERY_KEY)];
    h.tier.apply(Batch { after: 0, changes: &every }).await.expect("the tier answers");
    let looks = places.iter().map(|(cache, key)| h.tier.look(Place { cache, key }));
    for (n, look) in futures_util::future::join_all(looks).await.into_iter().enumerate() {
        let (cache, key) = &places[n];
        let is_there = n % 5 != 0 && *cache != OTHER;
        let bytes = is_there.then(|| Bytes::from(format!("{cache} {key} {n}")));
        assert_eq!(Look { bytes, applied: Some(1) }, look.expect("the tier answers"), "{n}");
    }
}
