//! One idempotency key: one effect, one answer, secrets included.

use std::time::Duration;

use vidcore::auth::AuthError;
use vidcore::keys::Purpose;
use vidcore::store::{Outcome, StoreError};

use crate::{GRACE, Harness, KEEP_KEYS, PASSWORD, input, key};

#[tokio::test]
async fn a_repeated_sign_up_gets_the_first_answer_secrets_included() {
    let h = Harness::new().await;
    let first = h.auth.register(input("ada"), key("k", 1)).await.expect("the account is made");
    let Outcome::Done(first) = first else { panic!("nothing to replay yet") };
    h.clock.advance(Duration::from_secs(60));
    let again = h.auth.register(input("ada"), key("k", 1)).await.expect("it is replayed");
    let Outcome::Replayed { value: again, sealed: None } = again else { panic!("it ran twice") };
    assert_eq!(first, again);
    h.actor(&again).await;
    let other = h.auth.register(input("eve"), key("k", 2)).await;
    assert!(matches!(other, Err(AuthError::Store(StoreError::KeyReused))));
}

#[tokio::test]
async fn a_repeated_sign_in_opens_one_session_and_needs_the_password_again() {
    let h = Harness::new().await;
    h.register("ada").await;
    let login = |password: &str| h.auth.login("ada@example.org", password.into(), key("k", 1));
    let first = login(PASSWORD).await.expect("it is right").into_inner();
    assert!(matches!(login("some other password").await, Err(AuthError::BadCredentials)));
    assert_eq!(first, login(PASSWORD).await.expect("it is replayed").into_inner());
    // The one of the sign-up and this one.
    assert_eq!(2, h.auth.logout_all(&h.actor(&first).await).await.expect("they are ended"));
}

#[tokio::test]
async fn a_repeated_refresh_gets_the_first_answer_and_is_no_reuse() {
    let h = Harness::new().await;
    let ada = h.register("ada").await;
    let refresh = || async {
        let token = ada.refresh_token.expose().into();
        h.auth.refresh(&token, key("k", 1)).await.map(Outcome::into_inner)
    };
    let first = refresh().await.expect("it is fresh");
    h.clock.advance(GRACE);
    assert_eq!(first, refresh().await.expect("it is replayed"));
    h.actor(&first).await;
}

#[tokio::test]
async fn a_repeated_twin_gets_its_own_answer_again() {
    let h = Harness::new().await;
    let ada = h.register("ada").await;
    let first = h.refresh(&ada.refresh_token).await.expect("it is fresh");
    let token = ada.refresh_token.expose().into();
    let twin = h.auth.refresh(&token, key("k", 1)).await.expect("it is a twin").into_inner();
    assert_eq!(first.refresh_token, twin.refresh_token);
    h.clock.advance(GRACE);
    assert_eq!(twin, h.auth.refresh(&token, key("k", 1)).await.expect("it is replayed").into_inner());
}

#[tokio::test]
async fn a_key_is_forgotten_in_time() {
    let h = Harness::new().await;
    h.register("ada").await;
    let login = || h.auth.login("ada@example.org", PASSWORD.into(), key("k", 1));
    let first = login().await.expect("it is right").into_inner();
    h.clock.advance(KEEP_KEYS - Duration::from_millis(1));
    assert_eq!(first, login().await.expect("it is replayed").into_inner());
    h.clock.advance(Duration::from_millis(1));
    assert!(matches!(login().await, Ok(Outcome::Done(_))));
}

#[tokio::test]
async fn an_answer_whose_sealing_key_is_gone_is_an_error_and_not_another_answer() {
    let h = Harness::new().await;
    h.register("ada").await;
    let login = || h.auth.login("ada@example.org", PASSWORD.into(), key("k", 1));
    login().await.expect("it is right");
    h.keys.rotate(Purpose::Idempotency).expect("keys in memory rotate");
    login().await.expect("the key before the newest still opens it");
    h.keys.rotate(Purpose::Idempotency).expect("keys in memory rotate");
    assert!(matches!(login().await, Err(AuthError::Key { .. })));
}
