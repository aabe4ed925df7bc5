//! Sign-up, sign-in, access tokens and refresh, over a SQLite file in a temporary folder.

#![cfg(feature = "sqlite")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Value, json};
use vidcore::auth::{
    AccountRef, Actor, Auth, AuthError, BadToken, IssuedToken, LEEWAY_S, RegisterInput, Role, SignedIn,
};
use vidcore::clock::{Clock, ManualClock};
use vidcore::entropy::SystemEntropy;
use vidcore::id::UserId;
use vidcore::idempotency::IdempotencyKey;
use vidcore::keys::{KeyRing, Purpose, SETTLE_TIME};
use vidcore::page::PageLimit;
use vidcore::platform::settings::AuthSettings;
use vidcore::store::sqlite::{FILE_NAME, SqliteOptions, SqliteStore};
use vidcore::store::{Outcome, StoreError};

const PASSWORD: &str = "correct horse battery staple";
const ACCESS_TTL: Duration = Duration::from_secs(600);
const GRACE: Duration = Duration::from_secs(10);
const KEEP_KEYS: Duration = Duration::from_secs(24 * 3600);

struct Harness {
    auth: Auth,
    clock: ManualClock,
    keys: KeyRing,
    folder: tempfile::TempDir,
}

impl Harness {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let clock = ManualClock::default();
        let keys = KeyRing::ephemeral(Arc::new(clock.clone()), Arc::new(SystemEntropy));
        let options = SqliteOptions::new(folder.path().join(FILE_NAME));
        let store_clock = Arc::new(clock.clone());
        let store = tokio::task::spawn_blocking(move || SqliteStore::open(&options, store_clock, Vec::new()))
            .await
            .expect("opening does not panic")
            .expect("the database opens");
        let auth = Auth::over(
            Arc::new(store),
            keys.clone(),
            Arc::new(clock.clone()),
            Arc::new(SystemEntropy),
            &AuthSettings::default(),
            KEEP_KEYS,
        );
        // Keys that have settled sign; the harness's rotations then behave like those of a running server.
        clock.advance(SETTLE_TIME);
        Self { auth, clock, keys, folder }
    }

    async fn register(&self, name: &str) -> SignedIn {
        self.auth.register(input(name), None).await.expect("the account is made").into_inner()
    }

    async fn login(&self, name: &str) -> SignedIn {
        let email = format!("{name}@example.org");
        self.auth.login(&email, PASSWORD.into(), None).await.expect("the password is right").into_inner()
    }

    async fn refresh(&self, token: &IssuedToken) -> Result<SignedIn, AuthError> {
        self.auth.refresh(&token.expose().into(), None).await.map(Outcome::into_inner)
    }

    async fn actor(&self, signed_in: &SignedIn) -> Actor {
        self.auth.authenticate(signed_in.access_token.expose()).await.expect("the token is good")
    }

    async fn refusal(&self, token: &str) -> BadToken {
        match self.auth.authenticate(token).await {
            Err(AuthError::BadToken(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    /// Signs any header and claims with the platform's own key.
    fn forge(&self, header: &Header, claims: &Value) -> String {
        let keys = self.keys.live(Purpose::Jwt);
        let key = keys.iter().next().expect("a ring has a key");
        jsonwebtoken::encode(header, claims, &EncodingKey::from_ed_der(key.expose_secret())).expect("it is signed")
    }

    fn database_bytes(&self) -> Vec<u8> {
        let files = std::fs::read_dir(self.folder.path()).expect("the folder is there");
        let paths: Vec<PathBuf> = files.map(|file| file.expect("it is listed").path()).collect();
        assert!(paths.iter().any(|path| path.ends_with(FILE_NAME)));
        paths.iter().flat_map(|path| std::fs::read(path).expect("it is read")).collect()
    }
}

fn input(name: &str) -> RegisterInput {
    RegisterInput {
        email: format!("{name}@example.org"),
        handle: name.to_owned(),
        display_name: None,
        password: PASSWORD.into(),
    }
}

fn key(text: &str, fingerprint: u8) -> Option<IdempotencyKey> {
    Some(IdempotencyKey { scope: "route".to_owned(), key: text.to_owned(), fingerprint: [fingerprint; 32] })
}

/// Header and claims of a token of ours, to be changed and signed again.
fn parts_of(token: &IssuedToken) -> (Header, Value) {
    let header = jsonwebtoken::decode_header(token.expose()).expect("it has a header");
    let payload = token.expose().split('.').nth(1).expect("it has claims");
    let json = URL_SAFE_NO_PAD.decode(payload).expect("base64url");
    (header, serde_json::from_slice(&json).expect("JSON"))
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[tokio::test]
async fn a_new_account_is_signed_in_and_known_by_its_token() {
    let h = Harness::new().await;
    let ada = h.register("ada").await;
    assert_eq!((Role::User, "ada", "ada"), (ada.user.role, ada.user.handle.as_str(), ada.user.display_name.as_str()));
    assert_eq!(ACCESS_TTL.as_secs(), ada.expires_in);
    let actor = h.actor(&ada).await;
    assert_eq!((ada.user.id, Role::User), (actor.user, actor.role));
    assert_eq!(ada.user, h.auth.me(&actor).await.expect("the account is there"));
    let json = serde_json::to_value(&ada).expect("it is JSON");
    assert_eq!(json["token_type"], "Bearer");
    assert!(json["refresh_token"].as_str().is_some_and(|token| token.starts_with("vrt_")));
}

#[tokio::test]
async fn a_taken_address_or_handle_is_refused_in_any_case() {
    let h = Harness::new().await;
    h.register("ada").await;
    let email = RegisterInput { email: " ADA@example.org".to_owned(), handle: "other".to_owned(), ..input("ada") };
    assert!(matches!(h.auth.register(email, None).await, Err(AuthError::EmailTaken)));
    let handle = RegisterInput { email: "other@example.org".to_owned(), handle: "ADA".to_owned(), ..input("ada") };
    assert!(matches!(h.auth.register(handle, None).await, Err(AuthError::HandleTaken)));
}

#[tokio::test]
async fn the_right_password_signs_in_and_no_other() {
    let h = Harness::new().await;
    let ada = h.register("ada").await;
    let again = h.auth.login(" Ada@Example.org ", PASSWORD.into(), None).await.expect("it is right").into_inner();
    assert_eq!(ada.user, again.user);
    assert_ne!(h.actor(&ada).await.session, h.actor(&again).await.session);
    for wrong in ["correct horse battery stapl", "", &"x".repeat(100_000)] {
        let outcome = h.auth.login("ada@example.org", wrong.into(), None).await;
        assert!(matches!(outcome, Err(AuthError::BadCredentials)));
    }
}

#[tokio::test]
async fn an_unknown_address_costs_the_same_work_and_gets_the_same_answer() {
    let h = Harness::new().await;
    h.register("ada").await;
    let mut answers = Vec::new();
    for (count, email) in [(1, "ada@example.org"), (2, "eve@example.org"), (3, "no address"), (4, &"x".repeat(300))] {
        let refused = h.auth.login(email, "some other password".into(), None).await.expect_err("it is refused");
        answers.push(refused.to_string());
        assert_eq!(count, h.auth.passwords().verifications(), "{email}");
    }
    answers.dedup();
    assert_eq!(1, answers.len());
}

#[tokio::test]
async fn an_access_token_is_an_rfc_9068_token_that_the_published_key_verifies() {
    let h = Harness::new().await;
    let ada = h.register("ada").await;
    let actor = h.actor(&ada).await;
    let (header, claims) = parts_of(&ada.access_token);
    let jwks = h.auth.jwks();
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
    h.auth.authenticate(&h.forge(&header, &claims)).await.expect("nothing was changed");
    let forgeries = [
        Header { typ: Some("JWT".to_owned()), ..header.clone() },
        Header { typ: None, ..header.clone() },
        Header { kid: None, ..header.clone() },
        Header { kid: Some("00000000".to_owned()), ..header.clone() },
        Header { kid: Some("../../etc/passwd".to_owned()), ..header.clone() },
        Header { crit: Some(vec!["exp".to_owned()]), ..header.clone() },
    ];
    for forged in forgeries {
        assert_eq!(BadToken::Invalid, h.refusal(&h.forge(&forged, &claims)).await, "{forged:?}");
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
        assert_eq!(BadToken::Invalid, h.refusal(&h.forge(&header, &forged)).await, "{forged}");
    }
    for claim in ["iss", "aud", "sub", "sid", "iat", "exp", "jti", "role", "auth_epoch"] {
        let mut forged = claims.clone();
        forged.as_object_mut().expect("claims are an object").remove(claim);
        assert_eq!(BadToken::Invalid, h.refusal(&h.forge(&header, &forged)).await, "without {claim}");
    }
    let mut expired = claims.clone();
    (expired["iat"], expired["exp"]) = (json!(now - 1200), json!(now - 600));
    assert_eq!(BadToken::Expired, h.refusal(&h.forge(&header, &expired)).await);
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
    let public = h.auth.jwks().keys[0].x.clone();
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
    assert_eq!(BadToken::Invalid, h.refusal(&stranger.forge(&header, &claims)).await);

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
    assert_eq!(2, h.auth.jwks().keys.len());
    h.clock.advance(SETTLE_TIME);
    let later = h.login("ada").await;
    assert_ne!(parts_of(&ada.access_token).0.kid, parts_of(&later.access_token).0.kid);
    h.keys.rotate(Purpose::Jwt).expect("keys in memory rotate");
    h.actor(&later).await;
    assert_eq!(BadToken::Invalid, h.refusal(ada.access_token.expose()).await);
}

#[tokio::test]
async fn logout_kills_one_session_with_its_tokens() {
    let h = Harness::new().await;
    let (ada, other) = (h.register("ada").await, h.login("ada").await);
    let actor = h.actor(&ada).await;
    h.auth.logout(&actor).await.expect("it is ended");
    h.auth.logout(&actor).await.expect("ending it twice is no error");
    assert_eq!(BadToken::Revoked, h.refusal(ada.access_token.expose()).await);
    assert!(matches!(h.refresh(&ada.refresh_token).await, Err(AuthError::RefreshRefused)));
    h.actor(&other).await;
}

#[tokio::test]
async fn logout_everywhere_kills_every_session_of_one_account() {
    let h = Harness::new().await;
    let (ada, other, eve) = (h.register("ada").await, h.login("ada").await, h.register("eve").await);
    assert_eq!(2, h.auth.logout_all(&h.actor(&ada).await).await.expect("they are ended"));
    for signed_in in [&ada, &other] {
        assert_eq!(BadToken::Revoked, h.refusal(signed_in.access_token.expose()).await);
        assert!(matches!(h.refresh(&signed_in.refresh_token).await, Err(AuthError::RefreshRefused)));
    }
    h.actor(&eve).await;
    // The account goes on: a new sign-in carries the new epoch.
    h.actor(&h.login("ada").await).await;
}

#[tokio::test]
async fn a_change_of_role_kills_older_tokens_and_the_next_carry_it() {
    let h = Harness::new().await;
    let ada = h.register("ada").await;
    let who: AccountRef = "Ada@example.org".parse().expect("any text names an account");
    assert_eq!(Role::Admin, h.auth.set_role(&who, Role::Admin).await.expect("it exists").role);
    assert_eq!(BadToken::Revoked, h.refusal(ada.access_token.expose()).await);
    let refreshed = h.refresh(&ada.refresh_token).await.expect("the session goes on");
    assert_eq!((Role::Admin, Role::Admin), (refreshed.user.role, h.actor(&refreshed).await.role));

    let demoted = h.auth.set_role(&AccountRef::Id(ada.user.id), Role::User).await.expect("it exists");
    assert_eq!(Role::User, demoted.role);
    assert_eq!(BadToken::Revoked, h.refusal(refreshed.access_token.expose()).await);
    for unknown in [AccountRef::Email("eve@example.org".to_owned()), AccountRef::Id(UserId::from_bytes([9; 16]))] {
        assert!(matches!(h.auth.set_role(&unknown, Role::Admin).await, Err(AuthError::NotFound)));
    }
}

#[tokio::test]
async fn a_role_forged_into_a_token_gives_no_rights() {
    let h = Harness::new().await;
    let ada = h.register("ada").await;
    let (header, mut claims) = parts_of(&ada.access_token);
    claims["role"] = json!("admin");
    let actor = h.auth.authenticate(&h.forge(&header, &claims)).await.expect("its signature is good");
    assert_eq!(Role::User, actor.role);
}

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

#[tokio::test]
async fn a_rename_asks_for_the_version_and_shows_in_the_profile() {
    let h = Harness::new().await;
    let ada = h.register("ada").await;
    let actor = h.actor(&ada).await;
    let renamed = h.auth.rename(&actor, " Ada L. ", Some(1), None).await.expect("it is renamed").into_inner();
    assert_eq!(("Ada L.", 2), (renamed.display_name.as_str(), renamed.version));
    let stale = h.auth.rename(&actor, "Other", Some(1), None).await;
    assert!(matches!(stale, Err(AuthError::VersionMismatch { current: 2 })));
    let bad = h.auth.rename(&actor, "a\nb", None, None).await;
    assert!(matches!(bad, Err(AuthError::Invalid(problems)) if problems[0].field == "/display_name"));
    let profile = h.auth.profile(ada.user.id).await.expect("it exists");
    assert_eq!("Ada L.", profile.display_name);
    let shown = serde_json::to_string(&profile).expect("it is JSON");
    assert!(!shown.contains("example.org"), "{shown}");
    assert!(matches!(h.auth.profile(UserId::from_bytes([9; 16])).await, Err(AuthError::NotFound)));
}

#[tokio::test]
async fn accounts_are_paged_to_the_end() {
    let h = Harness::new().await;
    for name in ["ada", "bob", "eve"] {
        h.register(name).await;
        h.clock.advance(Duration::from_millis(1));
    }
    let limit = PageLimit::new(2).expect("within the bounds");
    let first = h.auth.accounts(None, limit).await.expect("they are listed");
    let second = h.auth.accounts(first.next, limit).await.expect("they are listed");
    let handles: Vec<_> = first.accounts.iter().chain(&second.accounts).map(|view| view.handle.as_str()).collect();
    assert_eq!((["ada", "bob", "eve"][..].to_vec(), None), (handles, second.next));
}

#[tokio::test]
async fn the_database_alone_holds_no_password_and_no_token() {
    let h = Harness::new().await;
    let mut secrets = vec![PASSWORD.to_owned()];
    let mut remember = |signed_in: &SignedIn| {
        secrets.push(signed_in.refresh_token.expose().to_owned());
        secrets.push(signed_in.access_token.expose().to_owned());
    };
    let first = h.auth.register(input("ada"), key("a", 1)).await.expect("the account is made").into_inner();
    let second = h.auth.login("ada@example.org", PASSWORD.into(), key("b", 1)).await.expect("right").into_inner();
    let token = first.refresh_token.expose().into();
    let third = h.auth.refresh(&token, key("c", 1)).await.expect("it is fresh").into_inner();
    let twin = h.refresh(&first.refresh_token).await.expect("it is a twin");
    [&first, &second, &third, &twin].into_iter().for_each(&mut remember);

    let bytes = h.database_bytes();
    assert!(contains(&bytes, b"ada@example.org"), "the scan sees the rows");
    for secret in secrets {
        let signature = secret.rsplit('.').next().expect("a split has a part");
        let text = signature.trim_start_matches("vrt_");
        assert!(!contains(&bytes, text.as_bytes()), "{text} is in the database");
        if let Ok(raw) = URL_SAFE_NO_PAD.decode(text)
            && raw.len() >= 16
        {
            assert!(!contains(&bytes, &raw), "the bytes of {text} are in the database");
        }
    }
}

#[tokio::test]
async fn debug_output_shows_no_secret() {
    let h = Harness::new().await;
    let wanted = input("ada");
    let mut shown = format!("{wanted:?}{:?}{:?}{:?}", h.auth, h.keys, h.auth.passwords());
    let ada = h.auth.register(wanted, key("k", 1)).await.expect("the account is made");
    let error = h.auth.login("ada@example.org", "some other password".into(), None).await;
    shown += &format!("{ada:?}{error:?}");
    let ada = ada.into_inner();
    for secret in
        [PASSWORD, "some other password", ada.refresh_token.expose(), ada.access_token.expose(), "@example.org"]
    {
        assert!(!shown.contains(secret), "{secret} is in {shown}");
    }
}
