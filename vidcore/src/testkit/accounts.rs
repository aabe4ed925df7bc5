//! What every account store promises, one claim per function.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::{
    Account, AccountError, AccountStore, NewAccount, NewSession, Role, Rotated, Rotation, SessionAccount,
};
use crate::clock::{Clock, ManualClock, Timestamp};
use crate::entropy::{EntropyExt, SeededEntropy};
use crate::id::{SessionId, UserId};
use crate::idempotency::{IdempotencyKey, IdempotencyRecord};
use crate::page::Position;
use crate::store::{Causes, Outcome, StoreError};

/// Life of the refresh tokens the harness makes.
const TTL: Duration = Duration::from_secs(3600);

/// Grace of the rotations the harness makes.
const GRACE: Duration = Duration::from_secs(10);

/// One empty account store and a clock that tests move.
pub struct AccountHarness {
    /// The store under test.
    pub store: Arc<dyn AccountStore>,
    /// The time it goes by.
    pub clock: ManualClock,
    entropy: SeededEntropy,
    /// Keeps the database's folder until the test ends.
    _folder: Option<tempfile::TempDir>,
}

impl AccountHarness {
    /// A SQLite file in a temporary folder.
    #[cfg(feature = "sqlite")]
    pub async fn sqlite() -> Option<Self> {
        use crate::store::sqlite::{FILE_NAME, SqliteOptions, SqliteStore};
        let folder = tempfile::tempdir().expect("a temporary folder");
        let clock = ManualClock::default();
        let options = SqliteOptions::new(folder.path().join(FILE_NAME));
        let store_clock = Arc::new(clock.clone());
        let store = tokio::task::spawn_blocking(move || SqliteStore::open(&options, store_clock, Vec::new()))
            .await
            .expect("opening does not panic")
            .expect("the database opens");
        Some(Self { store: Arc::new(store), clock, entropy: SeededEntropy::new(7), _folder: Some(folder) })
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn bytes(&self) -> [u8; 32] {
        self.entropy.bytes()
    }

    fn new_account(&self, name: &str) -> NewAccount {
        NewAccount {
            id: UserId::new(self.now(), &self.entropy),
            email: format!("{name}@example.org"),
            handle: name.to_owned(),
            display_name: name.to_uppercase(),
            password_hash: format!("hash of {name}"),
            now: self.now(),
        }
    }

    fn new_session(&self, user: UserId) -> NewSession {
        NewSession {
            id: SessionId::new(self.now(), &self.entropy),
            user,
            token_hash: self.bytes(),
            now: self.now(),
            expires_at: self.now().plus(TTL),
        }
    }

    /// An account and the hash of its session's first token.
    async fn signed_up(&self, name: &str) -> (SessionAccount, [u8; 32]) {
        let account = self.new_account(name);
        let session = self.new_session(account.id);
        let token = session.token_hash;
        let created = self.store.create_account(account, session, Causes::none()).await.expect("it is created");
        (created.into_inner(), token)
    }

    fn rotation(&self, presented: [u8; 32]) -> Rotation {
        Rotation {
            presented,
            successor: self.bytes(),
            sealed: self.bytes().to_vec(),
            now: self.now(),
            expires_at: self.now().plus(TTL),
            grace: GRACE,
        }
    }

    async fn rotate(&self, rotation: Rotation) -> Rotated {
        self.store.rotate(rotation, Causes::none()).await.expect("the store answers").into_inner()
    }

    async fn is_live(&self, of: &SessionAccount) -> bool {
        let state = self.store.auth_state(of.account.id, of.session, self.now()).await.expect("the store answers");
        state.is_some_and(|state| state.session_live)
    }

    fn record(&self, key: &str, fingerprint: u8) -> Causes {
        let key = IdempotencyKey { scope: "test".to_owned(), key: key.to_owned(), fingerprint: [fingerprint; 32] };
        let expires_at = self.now().plus(TTL);
        Causes::none().idempotent(Some(IdempotencyRecord { key, expires_at, sealed: Some(vec![fingerprint]) }))
    }
}

impl fmt::Debug for AccountHarness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountHarness").field("clock", &self.clock).finish_non_exhaustive()
    }
}

/// An account is read back as it was made, with the role `user`.
pub async fn a_new_account_is_a_plain_user_found_by_id_and_by_address(h: &AccountHarness) {
    let (created, _) = h.signed_up("ada").await;
    let account = &created.account;
    assert_eq!((Role::User, 0, 1), (account.role, account.auth_epoch, account.version));
    assert_eq!(Some(account.clone()), h.store.account(account.id).await.expect("the store answers"));
    let credentials = h.store.credentials("ada@example.org").await.expect("the store answers").expect("it exists");
    assert_eq!((account, "hash of ada"), (&credentials.account, credentials.password_hash.as_str()));
    assert!(h.store.credentials("eve@example.org").await.expect("the store answers").is_none());
}

/// The second account with an address or handle is refused and leaves nothing behind.
pub async fn an_address_and_a_handle_belong_to_one_account(h: &AccountHarness) {
    h.signed_up("ada").await;
    let same_email = NewAccount { handle: "other".to_owned(), ..h.new_account("ada") };
    let same_handle = NewAccount { email: "other@example.org".to_owned(), ..h.new_account("ada") };
    for (account, email_taken) in [(same_email, true), (same_handle, false)] {
        let (id, session) = (account.id, h.new_session(account.id));
        let error = h.store.create_account(account, session, Causes::none()).await.expect_err("it is refused");
        assert_eq!(email_taken, matches!(error, AccountError::EmailTaken), "{error}");
        assert_eq!(!email_taken, matches!(error, AccountError::HandleTaken), "{error}");
        assert!(h.store.account(id).await.expect("the store answers").is_none());
    }
    assert_eq!(1, h.store.accounts(None, 10).await.expect("the store answers").len());
}

/// Of many sign-ups with one address, exactly one succeeds.
pub async fn of_concurrent_sign_ups_with_one_address_one_succeeds(h: &AccountHarness) {
    let attempts = (0..16).map(|number| {
        let account = NewAccount { handle: format!("ada{number}"), ..h.new_account("ada") };
        let session = h.new_session(account.id);
        h.store.create_account(account, session, Causes::none())
    });
    let outcomes = futures_util::future::join_all(attempts).await;
    assert_eq!(1, outcomes.iter().filter(|outcome| outcome.is_ok()).count());
    assert_eq!(15, outcomes.iter().filter(|outcome| matches!(outcome, Err(AccountError::EmailTaken))).count());
}

/// The first token of a session rotates, and so does each successor.
pub async fn a_token_is_consumed_once_and_its_successor_takes_its_place(h: &AccountHarness) {
    let (ada, token) = h.signed_up("ada").await;
    let first = h.rotation(token);
    assert_eq!(Rotated::Fresh(ada.clone()), h.rotate(first.clone()).await);
    h.clock.advance(GRACE);
    assert_eq!(Rotated::Fresh(ada.clone()), h.rotate(h.rotation(first.successor)).await);
    assert!(h.is_live(&ada).await);
}

/// Within the grace the same token yields the seal of the first rotation, not of the second.
pub async fn a_twin_within_the_grace_gets_the_first_seal(h: &AccountHarness) {
    let (ada, token) = h.signed_up("ada").await;
    let first = h.rotation(token);
    h.rotate(first.clone()).await;
    h.clock.advance(GRACE - Duration::from_millis(1));
    let twin = h.rotation(token);
    assert_eq!(Rotated::Twin { account: ada, sealed: first.sealed }, h.rotate(twin.clone()).await);
    // What the twin had prepared was never stored.
    assert_eq!(Rotated::Refused, h.rotate(h.rotation(twin.successor)).await);
}

/// Of many concurrent uses of one token one is fresh and the others are its twins.
pub async fn concurrent_uses_of_one_token_share_one_successor(h: &AccountHarness) {
    let (ada, token) = h.signed_up("ada").await;
    let rotations: Vec<_> = (0..32).map(|_| h.rotation(token)).collect();
    let seals: Vec<_> = rotations.iter().map(|rotation| rotation.sealed.clone()).collect();
    let outcomes = futures_util::future::join_all(rotations.into_iter().map(|rotation| h.rotate(rotation))).await;
    let fresh: Vec<_> = (0..32).filter(|&n| outcomes[n] == Rotated::Fresh(ada.clone())).collect();
    let [winner] = fresh[..] else { panic!("{} were fresh", fresh.len()) };
    let twin = Rotated::Twin { account: ada, sealed: seals[winner].clone() };
    assert_eq!(31, outcomes.iter().filter(|&outcome| *outcome == twin).count());
}

/// At the end of the grace a used token kills its session, for good.
pub async fn a_used_token_after_the_grace_revokes_the_session(h: &AccountHarness) {
    let (ada, token) = h.signed_up("ada").await;
    let first = h.rotation(token);
    h.rotate(first.clone()).await;
    h.clock.advance(GRACE);
    assert_eq!(Rotated::Reused { session: ada.session }, h.rotate(h.rotation(token)).await);
    assert!(!h.is_live(&ada).await);
    assert_eq!(Rotated::Refused, h.rotate(h.rotation(first.successor)).await);
    assert_eq!(Rotated::Refused, h.rotate(h.rotation(token)).await);
}

/// Once the successor was used, its predecessor is no twin any more, whatever the time.
pub async fn a_used_token_whose_successor_was_used_revokes_the_session(h: &AccountHarness) {
    let (ada, token) = h.signed_up("ada").await;
    let first = h.rotation(token);
    h.rotate(first.clone()).await;
    h.rotate(h.rotation(first.successor)).await;
    assert_eq!(Rotated::Reused { session: ada.session }, h.rotate(h.rotation(token)).await);
    assert!(!h.is_live(&ada).await);
}

/// Reuse in one session leaves the account's other sessions alone.
pub async fn reuse_kills_one_session_alone(h: &AccountHarness) {
    let (ada, token) = h.signed_up("ada").await;
    let second = h.new_session(ada.account.id);
    let other = h.store.open_session(second, Causes::none()).await.expect("it is opened").into_inner();
    h.rotate(h.rotation(token)).await;
    h.clock.advance(GRACE);
    h.rotate(h.rotation(token)).await;
    assert_eq!((false, true), (h.is_live(&ada).await, h.is_live(&other).await));
}

/// A token lives until its last millisecond and not longer; rotation prolongs the session.
pub async fn a_token_expires_and_rotation_prolongs_the_session(h: &AccountHarness) {
    let (ada, token) = h.signed_up("ada").await;
    h.clock.advance(TTL - Duration::from_millis(1));
    let rotation = h.rotation(token);
    assert_eq!(Rotated::Fresh(ada.clone()), h.rotate(rotation.clone()).await);
    h.clock.advance(TTL - Duration::from_millis(1));
    assert!(h.is_live(&ada).await);
    h.clock.advance(Duration::from_millis(1));
    assert!(!h.is_live(&ada).await);
    assert_eq!(Rotated::Refused, h.rotate(h.rotation(rotation.successor)).await);
}

/// An unknown token is refused and, with an idempotency key, remembered by nobody.
pub async fn a_refused_token_leaves_no_idempotency_record(h: &AccountHarness) {
    let unknown = h.rotation(h.bytes());
    for fingerprint in [1, 2] {
        let outcome = h.store.rotate(unknown.clone(), h.record("key", fingerprint)).await.expect("the store answers");
        assert_eq!(Outcome::Done(Rotated::Refused), outcome);
    }
}

/// A repeated rotation under one key has one effect and one answer; with another request it is refused.
pub async fn a_rotation_is_replayed_under_its_key(h: &AccountHarness) {
    let (ada, token) = h.signed_up("ada").await;
    let rotation = h.rotation(token);
    let first = h.store.rotate(rotation.clone(), h.record("key", 1)).await.expect("the store answers");
    assert_eq!(Outcome::Done(Rotated::Fresh(ada.clone())), first);
    h.clock.advance(GRACE);
    let again = h.store.rotate(h.rotation(token), h.record("key", 1)).await.expect("the store answers");
    assert_eq!(Outcome::Replayed { value: Rotated::Fresh(ada.clone()), sealed: Some(vec![1]) }, again);
    assert!(h.is_live(&ada).await);
    let error = h.store.rotate(rotation, h.record("key", 2)).await.expect_err("another request");
    assert!(matches!(error, AccountError::Store(StoreError::KeyReused)), "{error}");
}

/// Signing up twice under one key makes one account.
pub async fn a_sign_up_is_replayed_under_its_key(h: &AccountHarness) {
    let (account, again) = (h.new_account("ada"), h.new_account("ada"));
    let session = h.new_session(account.id);
    let first = h.store.create_account(account, session, h.record("key", 1)).await.expect("it is created");
    let session = h.new_session(again.id);
    let second = h.store.create_account(again, session, h.record("key", 1)).await.expect("it is replayed");
    let Outcome::Replayed { value, sealed } = second else { panic!("it ran twice") };
    assert_eq!((first.into_inner(), Some(vec![1])), (value, sealed));
}

/// Logging out ends one session, once, and only one's own.
pub async fn a_session_is_revoked_by_its_owner_once(h: &AccountHarness) {
    let ((ada, token), (eve, _)) = (h.signed_up("ada").await, h.signed_up("eve").await);
    let revoke = |user| h.store.revoke_session(user, ada.session, h.now(), Causes::none());
    assert!(!revoke(eve.account.id).await.expect("the store answers").into_inner());
    assert!(h.is_live(&ada).await);
    assert!(revoke(ada.account.id).await.expect("the store answers").into_inner());
    assert!(!revoke(ada.account.id).await.expect("the store answers").into_inner());
    assert_eq!((false, true), (h.is_live(&ada).await, h.is_live(&eve).await));
    assert_eq!(Rotated::Refused, h.rotate(h.rotation(token)).await);
}

/// Logging out everywhere ends every session of one account and raises its epoch.
pub async fn all_sessions_of_one_account_are_revoked_together(h: &AccountHarness) {
    let ((ada, _), (eve, _)) = (h.signed_up("ada").await, h.signed_up("eve").await);
    let other = h.store.open_session(h.new_session(ada.account.id), Causes::none()).await.expect("it is opened");
    let gone = h.store.revoke_all_sessions(ada.account.id, h.now(), Causes::none()).await.expect("it is done");
    assert_eq!(2, gone.into_inner());
    assert_eq!((false, false), (h.is_live(&ada).await, h.is_live(&other.into_inner()).await));
    assert!(h.is_live(&eve).await);
    let state = h.store.auth_state(ada.account.id, ada.session, h.now()).await.expect("the store answers");
    assert_eq!(Some(ada.account.auth_epoch + 1), state.map(|state| state.auth_epoch));
}

/// A new role is seen at once, raises the epoch and leaves the session live.
pub async fn a_change_of_role_raises_the_epoch(h: &AccountHarness) {
    let (ada, _) = h.signed_up("ada").await;
    let changed = h.store.set_role(ada.account.id, Role::Admin, h.now()).await.expect("it is changed");
    assert_eq!((Role::Admin, 1, 2), (changed.role, changed.auth_epoch, changed.version));
    let state = h.store.auth_state(ada.account.id, ada.session, h.now()).await.expect("the store answers");
    let state = state.expect("the account is there");
    assert_eq!((Role::Admin, 1, true), (state.role, state.auth_epoch, state.session_live));
}

/// A name is replaced at the version the caller saw, and not at another.
pub async fn a_rename_names_the_version_it_replaces(h: &AccountHarness) {
    let (ada, _) = h.signed_up("ada").await;
    let rename = |name: &str, expected| {
        h.store.rename_account(ada.account.id, name.to_owned(), expected, h.now(), Causes::none())
    };
    let renamed = rename("Ada L.", Some(1)).await.expect("it is renamed").into_inner();
    assert_eq!(("Ada L.", 2), (renamed.display_name.as_str(), renamed.version));
    let error = rename("Other", Some(1)).await.expect_err("the version is old");
    assert!(matches!(error, AccountError::VersionMismatch { current: 2 }), "{error}");
    assert_eq!(3, rename("Ada", None).await.expect("any version will do").into_inner().version);
}

/// Commands on an account that does not exist say so.
pub async fn an_unknown_account_is_not_found(h: &AccountHarness) {
    let (nobody, session) = (UserId::from_bytes([9; 16]), SessionId::from_bytes([9; 16]));
    let not_found = |error| matches!(error, AccountError::NotFound);
    assert!(h.store.account(nobody).await.expect("the store answers").is_none());
    assert!(h.store.auth_state(nobody, session, h.now()).await.expect("the store answers").is_none());
    assert!(h.store.set_role(nobody, Role::Admin, h.now()).await.is_err_and(not_found));
    assert!(h.store.open_session(h.new_session(nobody), Causes::none()).await.is_err_and(not_found));
    assert!(h.store.revoke_all_sessions(nobody, h.now(), Causes::none()).await.is_err_and(not_found));
    let renamed = h.store.rename_account(nobody, "Nobody".to_owned(), None, h.now(), Causes::none()).await;
    assert!(renamed.is_err_and(not_found));
}

/// Pages follow one another without gap or repetition, also among accounts of one millisecond.
pub async fn accounts_are_listed_oldest_first_page_by_page(h: &AccountHarness) {
    for number in 0..7 {
        h.signed_up(&format!("user_{number}")).await;
        if number % 3 == 2 {
            h.clock.advance(Duration::from_millis(1));
        }
    }
    let all = h.store.accounts(None, 10).await.expect("the store answers");
    let keys: Vec<_> = all.iter().map(|account| (account.created_at, account.id)).collect();
    assert!(keys.is_sorted() && keys.len() == 7);
    let position = |account: &Account| Position { sort: account.created_at.as_millis(), id: *account.id.as_bytes() };
    let mut paged: Vec<Account> = Vec::new();
    loop {
        let page = h.store.accounts(paged.last().map(position), 2).await.expect("the store answers");
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 2);
        paged.extend(page);
    }
    assert_eq!(all, paged);
}

/// Housekeeping takes what has expired and nothing that lives.
pub async fn pruning_takes_expired_sessions_and_tokens_alone(h: &AccountHarness) {
    let ((ada, token), (eve, eve_token)) = (h.signed_up("ada").await, h.signed_up("eve").await);
    h.clock.advance(Duration::from_secs(60));
    let rotation = h.rotation(token);
    h.rotate(rotation.clone()).await;
    h.clock.advance(TTL - Duration::from_secs(60));
    // Gone: both first tokens and eve's session; of each at most as many as were asked for.
    assert_eq!(2, h.store.prune_sessions(h.now(), 1).await.expect("the store answers"));
    h.store.prune_sessions(h.now(), 1).await.expect("the store answers");
    assert_eq!(0, h.store.prune_sessions(h.now(), 1).await.expect("the store answers"));
    assert_eq!((true, false), (h.is_live(&ada).await, h.is_live(&eve).await));
    assert_eq!(Rotated::Refused, h.rotate(h.rotation(eve_token)).await);
    assert_eq!(Rotated::Fresh(ada), h.rotate(h.rotation(rotation.successor)).await);
}

/// One test per claim, in a module named after the back end.
#[macro_export]
macro_rules! account_store_contract {
    ($backend:ident, $harness:expr) => {
        mod $backend {
            use super::*;
            $crate::account_store_contract!(@claims $harness;
                a_new_account_is_a_plain_user_found_by_id_and_by_address,
                an_address_and_a_handle_belong_to_one_account,
                of_concurrent_sign_ups_with_one_address_one_succeeds,
                a_token_is_consumed_once_and_its_successor_takes_its_place,
                a_twin_within_the_grace_gets_the_first_seal,
                concurrent_uses_of_one_token_share_one_successor,
                a_used_token_after_the_grace_revokes_the_session,
                a_used_token_whose_successor_was_used_revokes_the_session,
                reuse_kills_one_session_alone,
                a_token_expires_and_rotation_prolongs_the_session,
                a_refused_token_leaves_no_idempotency_record,
                a_rotation_is_replayed_under_its_key,
                a_sign_up_is_replayed_under_its_key,
                a_session_is_revoked_by_its_owner_once,
                all_sessions_of_one_account_are_revoked_together,
                a_change_of_role_raises_the_epoch,
                a_rename_names_the_version_it_replaces,
                an_unknown_account_is_not_found,
                accounts_are_listed_oldest_first_page_by_page,
                pruning_takes_expired_sessions_and_tokens_alone,
            );
        }
    };
    (@claims $harness:expr; $($claim:ident),+ $(,)?) => { $(
        #[tokio::test]
        async fn $claim() {
            if let Some(harness) = $harness.await {
                $crate::testkit::accounts::$claim(&harness).await;
            }
        }
    )+ };
}
