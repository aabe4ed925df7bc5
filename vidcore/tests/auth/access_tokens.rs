//! What an access token says, and every way in which one is refused.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Value, json};
use vidcore::auth::{BadToken, IssuedToken, LEEWAY_S, Role};
use vidcore::clock::Clock;
use vidcore::keys::{Purpose, SETTLE_TIME};

use crate::{ACCESS_TTL, Harness};

/// Header and claims of a token of ours, to be changed and signed again.
fn parts_of(token: &IssuedToken) -> (Header, Value) {
    let header = jsonwebtoken::decode_header(token.expose()).expect("it has a header");
    let payload = token.expose().split('.').nth(1).expect("it has claims");
    let json = URL_SAFE_NO_PAD.decode(payload).expect("base64url");
    (header, serde_json::from_slice(&json).expect("JSON"))
}

/// Signs any header and claims with the platform's own key.
fn forge(h: &Harness, header: &Header, claims: &Value) -> String {
    let keys = h.keys.live(Purpose::Jwt);
    let key = keys.iter().next().expect("a ring has a key");
    jsonwebtoken::encode(header, claims, &EncodingKey::from_ed_der(key.expose_secret())).expect("it is signed")
}

#[tokio::test]
async fn an_access_token_is_an_rfc_9068_token_that_the_published_key_verifies() {
    let h = Harness::new().await;
    let ada = h.register("ada").await;
    let actor = h.actor(&ada).await;
    let (header, claims) = parts_of(&ada.access_token);
    let jwks = h.auth.jwks().value.clone();
    let [jwk] = &jwks.keys[..] else { panic!("one key before any rotation") };
    assert_eq!((Some("at+jwt"), Algorithm::EdDSA), (header.typ.as_deref(), header.alg));
    assert_eq!(Some(&jwk.kid), header.kid.as_ref());
    assert_eq!(
        (claims["sub"].as_str(), claims["sid"].as_str()),
        (Some(&*actor.user.to_string()), Some(&*actor.session.to_string()))
    );
    assert_eq!(claims["exp"].as_i64(), claims["iat"].as_i64().map(|iat| iat + 600));
    assert_eq!((&claims["role"], &claims["auth_epoch"]), (&json!("user"), &json!(0)));

    // Through the published JSON alone, as another program would.
    let published = serde_json::to_value(&jwks).expect("it is JSON");
    assert_eq!("sig", published["keys"][0]["use"]);
    let foreign: jsonwebtoken::jwk::Jwk = serde_json::from_value(published["keys"][0].clone()).expect("RFC 7517");
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_audience(&["vidcore"]);
    validation.validate_exp = false;
    let decoding = DecodingKey::from_jwk(&foreign).expect("an Ed25519 key");
    assert!(jsonwebtoken::decode::<Value>(ada.access_token.expose(), &decoding, &validation).is_ok());
}

#[tokio::test]
async fn a_token_lives_until_the_end_of_the_leeway_and_not_longer() {
    let h = Harness::new().await;
    let ada = h.register("ada").await;
    let leeway = Duration::from_secs(LEEWAY_S.unsigned_abs());
    h.clock.advance(ACCESS_TTL + leeway - Duration::from_millis(1));
    h.actor(&ada).await;
    h.clock.advance(Duration::from_millis(1));
    assert_eq!(BadToken::Expired, h.refusal(ada.access_token.expose()).await);
}

#[tokio::test]
async fn a_token_with_any_wrong_header_is_refused() {
    let h = Harness::new().await;
    let ada = h.register("ada").await;
    let (header, claims) = parts_of(&ada.access_token);
    // The forgery itself works: the unchanged token is accepted.
    h.auth.authenticate(&forge(&h, &header, &claims)).await.expect("nothing was changed");
    let forgeries = [
        Header { typ: Some("JWT".to_owned()), ..header.clone() },
        Header { typ: None, ..header.clone() },
        Header { kid: None, ..header.clone() },
        Header { kid: Some("00000000".to_owned()), ..header.clone() },
        Header { kid: Some("../../etc/passwd".to_owned()), ..header.clone() },
        Header { crit: Some(vec!["exp".to_owned()]), ..header.clone() },
    ];
    for forged in forgeries {
        assert_eq!(BadToken::Invalid, h.refusal(&forge(&h, &forged, &claims)).await, "{forged:?}");
    }
}

#[tokio::test]
async fn a_token_with_any_wrong_or_missing_claim_is_refused() {
    let h = Harness::new().await;
    let ada = h.register("ada").await;
    let (header, claims) = parts_of(&ada.access_token);
    let now = h.clock.now().as_secs();
    let wrong = [
        ("iss", json!("someone")),
        ("aud", json!("elsewhere")),
        ("sub", json!("video_00000000000000000000000001")),
        ("sid", json!("")),
        ("iat", json!(now + LEEWAY_S + 1)),
        ("exp", json!(now - 600)),
        ("exp", json!("2999-01-01")),
        ("role", json!("root")),
        ("auth_epoch", json!("0")),
    ];
    for (claim, value) in wrong {
        let mut forged = claims.clone();
        forged[claim] = value;
        assert_eq!(BadToken::Invalid, h.refusal(&forge(&h, &header, &forged)).await, "{forged}");
    }
    for claim in ["iss", "aud", "sub", "sid", "iat", "exp", "jti", "role", "auth_epoch"] {
        let mut forged = claims.clone();
        forged.as_object_mut().expect("claims are an object").remove(claim);
        assert_eq!(BadToken::Invalid, h.refusal(&forge(&h, &header, &forged)).await, "without {claim}");
    }
    let mut expired = claims.clone();
    (expired["iat"], expired["exp"]) = (json!(now - 1200), json!(now - 600));
    assert_eq!(BadToken::Expired, h.refusal(&forge(&h, &header, &expired)).await);
}

#[tokio::test]
async fn no_other_algorithm_is_believed() {
    let h = Harness::new().await;
    let ada = h.register("ada").await;
    let (header, claims) = parts_of(&ada.access_token);
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let unsigned = json!({"typ": "at+jwt", "alg": "none", "kid": header.kid});
    for signature in ["", "AAAA"] {
        let token = format!("{}.{}.{signature}", encode(&unsigned), encode(&claims));
        assert_eq!(BadToken::Invalid, h.refusal(&token).await);
    }
    // The public key, which everybody knows, used as an HMAC secret.
    let public = h.auth.jwks().value.keys[0].x.clone();
    for secret in [public.as_bytes().to_vec(), URL_SAFE_NO_PAD.decode(&public).expect("base64url")] {
        let hmac = Header { alg: Algorithm::HS256, ..header.clone() };
        let token = jsonwebtoken::encode(&hmac, &claims, &EncodingKey::from_secret(&secret)).expect("it is signed");
        assert_eq!(BadToken::Invalid, h.refusal(&token).await);
    }
}

#[tokio::test]
async fn a_token_of_another_key_or_changed_by_one_character_is_refused() {
    let h = Harness::new().await;
    let ada = h.register("ada").await;
    let (header, claims) = parts_of(&ada.access_token);
    let stranger = Harness::new().await;
    assert_eq!(BadToken::Invalid, h.refusal(&forge(&stranger, &header, &claims)).await);

    let mut admin = claims.clone();
    admin["role"] = json!("admin");
    let parts: Vec<_> = ada.access_token.expose().split('.').collect();
    let swapped = format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(admin.to_string()), parts[2]);
    assert_eq!(BadToken::Invalid, h.refusal(&swapped).await);
    for text in ["", ".", "..", "a.b.c", parts[0], &"a".repeat(5000), &format!("{}.x", ada.access_token.expose())] {
        assert_eq!(BadToken::Invalid, h.refusal(text).await, "{text:?}");
    }
}

#[tokio::test]
async fn tokens_outlive_one_rotation_of_the_key_and_not_two() {
    let h = Harness::new().await;
    let ada = h.register("ada").await;
    h.keys.rotate(Purpose::Jwt).expect("keys in memory rotate");
    h.actor(&ada).await;
    assert_eq!(2, h.auth.jwks().value.keys.len());
    h.clock.advance(SETTLE_TIME);
    let later = h.login("ada").await;
    assert_ne!(parts_of(&ada.access_token).0.kid, parts_of(&later.access_token).0.kid);
    h.keys.rotate(Purpose::Jwt).expect("keys in memory rotate");
    h.actor(&later).await;
    assert_eq!(BadToken::Invalid, h.refusal(ada.access_token.expose()).await);
}

#[tokio::test]
async fn a_role_forged_into_a_token_gives_no_rights() {
    let h = Harness::new().await;
    let ada = h.register("ada").await;
    let (header, mut claims) = parts_of(&ada.access_token);
    claims["role"] = json!("admin");
    let actor = h.auth.authenticate(&forge(&h, &header, &claims)).await.expect("its signature is good");
    assert_eq!(Role::User, actor.role);
}
