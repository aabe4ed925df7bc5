//! Claims about who loads for all.

use super::*;

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
