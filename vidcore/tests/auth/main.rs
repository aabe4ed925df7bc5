//! Sign-up, sign-in, access tokens and refresh, over a SQLite file in a temporary folder.

#![cfg(feature = "sqlite")]

mod access_tokens;
mod refresh;
mod replays;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use vidcore::auth::{AccountRef, Actor, Auth, AuthError, BadToken, IssuedToken, RegisterInput, Role, SignedIn};
use vidcore::clock::ManualClock;
use vidcore::entropy::SystemEntropy;
use vidcore::id::UserId;
use vidcore::idempotency::IdempotencyKey;
use vidcore::keys::{KeyRing, SETTLE_TIME};
use vidcore::page::PageLimit;
use vidcore::platform::settings::AuthSettings;
use vidcore::store::Outcome;
use vidcore::store::sqlite::{FILE_NAME, SqliteOptions, SqliteStore};

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

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

fn key(text: &str, fingerprint: u8) -> Option<IdempotencyKey> {
    Some(IdempotencyKey { scope: "route".to_owned(), key: text.to_owned(), fingerprint: [fingerprint; 32] })
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
    assert_eq!("Ada L.", profile.value.display_name);
    let shown = serde_json::to_string(&profile.value).expect("it is JSON");
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
