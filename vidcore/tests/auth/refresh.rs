//! Rotation of refresh tokens, twins and reuse.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use vidcore::auth::{AuthError, BadToken};

use crate::{ACCESS_TTL, GRACE, Harness};

#[tokio::test]
async fn a_refresh_token_rotates_and_its_session_goes_on() {
    let h = Harness::new().await;
    let ada = h.register("ada").await;
    h.clock.advance(ACCESS_TTL);
    let next = h.refresh(&ada.refresh_token).await.expect("it is fresh");
    assert_ne!(ada.refresh_token, next.refresh_token);
    assert_eq!(next.refresh_expires_at, ada.refresh_expires_at.plus(ACCESS_TTL));
    assert_eq!(h.actor(&ada).await.session, h.actor(&next).await.session);
    h.clock.advance(ACCESS_TTL);
    h.refresh(&next.refresh_token).await.expect("the successor is fresh");
}

#[tokio::test]
async fn twins_within_the_grace_get_the_same_successor() {
    let h = Harness::new().await;
    let ada = h.register("ada").await;
    let first = h.refresh(&ada.refresh_token).await.expect("it is fresh");
    h.clock.advance(GRACE - Duration::from_millis(1));
    let twin = h.refresh(&ada.refresh_token).await.expect("it is a twin");
    assert_eq!((&first.refresh_token, first.refresh_expires_at), (&twin.refresh_token, twin.refresh_expires_at));
    h.actor(&twin).await;
    h.refresh(&twin.refresh_token).await.expect("the successor is good");
}

#[tokio::test]
async fn concurrent_refreshes_of_one_token_all_get_the_same_successor() {
    let h = Harness::new().await;
    let ada = h.register("ada").await;
    let signed_in = futures_util::future::join_all((0..32).map(|_| h.refresh(&ada.refresh_token))).await;
    let tokens: std::collections::BTreeSet<String> = signed_in
        .into_iter()
        .map(|outcome| outcome.expect("all are served").refresh_token.expose().to_owned())
        .collect();
    assert_eq!(1, tokens.len());
}

#[tokio::test]
async fn reuse_after_the_grace_kills_the_session_for_thief_and_owner_alike() {
    let h = Harness::new().await;
    let ada = h.register("ada").await;
    let next = h.refresh(&ada.refresh_token).await.expect("it is fresh");
    h.clock.advance(GRACE);
    assert!(matches!(h.refresh(&ada.refresh_token).await, Err(AuthError::RefreshRefused)));
    assert!(matches!(h.refresh(&next.refresh_token).await, Err(AuthError::RefreshRefused)));
    assert_eq!(BadToken::Revoked, h.refusal(next.access_token.expose()).await);
}

#[tokio::test]
async fn reuse_once_the_successor_was_used_kills_the_session_even_within_the_grace() {
    let h = Harness::new().await;
    let ada = h.register("ada").await;
    let next = h.refresh(&ada.refresh_token).await.expect("it is fresh");
    let last = h.refresh(&next.refresh_token).await.expect("it is fresh");
    assert!(matches!(h.refresh(&ada.refresh_token).await, Err(AuthError::RefreshRefused)));
    assert_eq!(BadToken::Revoked, h.refusal(last.access_token.expose()).await);
}

#[tokio::test]
async fn what_is_no_refresh_token_is_refused() {
    let h = Harness::new().await;
    let ada = h.register("ada").await;
    let unknown = format!("vrt_{}", URL_SAFE_NO_PAD.encode([5; 32]));
    for text in ["", "vrt_", &unknown, ada.access_token.expose(), &"x".repeat(100_000)] {
        assert!(matches!(h.auth.refresh(&text.into(), None).await, Err(AuthError::RefreshRefused)), "{text:?}");
    }
    h.refresh(&ada.refresh_token).await.expect("the real one is untouched");
}
