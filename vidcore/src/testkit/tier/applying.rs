//! Claims about changes that are applied, and about entries of any size and name.

use super::*;

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
