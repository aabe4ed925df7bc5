//! The service: decides who may sign in, what they are given, and whom a token stands for.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use crate::auth::caches::{AuthCaches, key_of};
use crate::auth::register::{MAX_EMAIL_BYTES, MAX_PASSWORD_CHARS, Registration, checked_display_name, normalise_email};
use crate::auth::session::RefreshToken;
use crate::auth::token::{AccessTokens, Checked, is_too_long};
use crate::auth::{
    Account, AccountError, AccountStore, AccountView, Actor, AuthError, BadToken, Credentials, Jwks, NewAccount,
    PROFILES, Passwords, ProfileView, RegisterInput, SignedIn,
};
use crate::cache::{Cached, LoadError};
use crate::clock::Clock;
use crate::entropy::Entropy;
use crate::events::NewChange;
use crate::id::UserId;
use crate::idempotency::IdempotencyKey;
use crate::keys::{KeyRing, Purpose};
use crate::platform::parts::Parts;
use crate::platform::settings::AuthSettings;
use crate::rate_limit::{AccountSubject, Decision, LimitError, Limiter};
use crate::store::{Causes, Outcome, StoreError};

/// Accounts, sign-in and tokens. Clones share everything.
///
/// Commands that take an [`IdempotencyKey`] have one effect and one answer per key, secrets included.
///
/// # Cancel safety
/// Dropping the future of a command leaves it wholly done or not begun; dropping one that checks a
/// password does not stop the check.
#[derive(Clone)]
pub struct Auth {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) store: Arc<dyn AccountStore>,
    pub(super) keys: KeyRing,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) passwords: Passwords,
    pub(super) tokens: AccessTokens,
    pub(super) refresh_ttl: Duration,
    pub(super) refresh_grace: Duration,
    pub(super) keep_keys: Duration,
    pub(super) beside: Beside,
}

/// What helps the service and decides nothing of its own.
pub(super) struct Beside {
    caches: AuthCaches,
    /// What counts attempts from outside; without one they are not counted.
    limiter: Option<Limiter>,
}

impl Auth {
    pub(crate) fn new(parts: &Parts, caches: AuthCaches, limiter: Limiter) -> Self {
        Self::build(
            Arc::clone(&parts.store) as Arc<dyn AccountStore>,
            parts.keys.clone(),
            Arc::clone(&parts.clock),
            Arc::clone(&parts.entropy),
            &parts.settings.auth,
            Duration::from_secs(parts.settings.catalog.idempotency_keep_s),
            Beside { caches, limiter: Some(limiter) },
        )
    }

    /// A service over `store` alone, for programs without a `Platform`: it signs with the keys of
    /// `keys`, remembers idempotency keys for `keep_keys` and counts no attempts.
    pub fn over(
        store: Arc<dyn AccountStore>,
        keys: KeyRing,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        settings: &AuthSettings,
        keep_keys: Duration,
    ) -> Self {
        let beside = Beside { caches: AuthCaches::alone(&clock, &entropy), limiter: None };
        Self::build(store, keys, clock, entropy, settings, keep_keys, beside)
    }

    fn build(
        store: Arc<dyn AccountStore>,
        keys: KeyRing,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        settings: &AuthSettings,
        keep_keys: Duration,
        beside: Beside,
    ) -> Self {
        let AuthSettings { issuer, audience, .. } = settings.clone();
        let access_ttl = Duration::from_secs(settings.access_ttl_s);
        let inner = Inner {
            passwords: Passwords::new(settings.hash_permits, Arc::clone(&entropy)),
            tokens: AccessTokens::new(keys.clone(), Arc::clone(&clock), issuer, audience, access_ttl),
            refresh_ttl: Duration::from_secs(settings.refresh_ttl_s),
            refresh_grace: Duration::from_secs(settings.refresh_grace_s),
            keep_keys,
            beside,
            store,
            keys,
            clock,
            entropy,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Creates an account with the role `user` and signs it in.
    ///
    /// # Errors
    /// [`AuthError::Invalid`] with every broken rule, [`AuthError::EmailTaken`],
    /// [`AuthError::HandleTaken`], [`AuthError::Busy`].
    pub async fn register(
        &self,
        input: RegisterInput,
        idem: Option<IdempotencyKey>,
    ) -> Result<Outcome<SignedIn>, AuthError> {
        self.inner.register(input.normalised()?, idem).await
    }

    /// The same for somebody at `address`: attempts to register one e-mail address are counted together,
    /// before the password is hashed, and the account is familiar with the address afterwards.
    ///
    /// # Errors
    /// As [`register`](Self::register), and [`AuthError::Limited`].
    pub async fn register_from(
        &self,
        address: IpAddr,
        input: RegisterInput,
        idem: Option<IdempotencyKey>,
    ) -> Result<Outcome<SignedIn>, AuthError> {
        let Some(limiter) = &self.inner.beside.limiter else { return self.register(input, idem).await };
        let registration = input.normalised()?;
        let account = self.inner.subject(&registration.email);
        admitted(limiter.check_register(account).await)?;
        let signed_in = self.inner.register(registration, idem).await?;
        limiter.remember_login(account, address).await;
        Ok(signed_in)
    }

    /// Signs an account in with its password. A replay needs the password as the first call did.
    ///
    /// # Errors
    /// [`AuthError::BadCredentials`] whether the address is unknown or the password wrong, after the
    /// same work; [`AuthError::Busy`].
    pub async fn login(
        &self,
        email: &str,
        password: SecretString,
        idem: Option<IdempotencyKey>,
    ) -> Result<Outcome<SignedIn>, AuthError> {
        let account = self.inner.prove(email, password).await?;
        let grant = self.inner.grant(self.inner.clock.now());
        let session = self.inner.new_session(account.id, &grant);
        let causes = self.inner.causes(idem.as_ref(), Some(&grant));
        let outcome = self.inner.store.open_session(session, causes).await?;
        self.inner.answer(outcome, grant, idem.as_ref())
    }

    /// The same for somebody at `address`: attempts at one account are counted, wherever they come from,
    /// before the password is checked; those from where it was signed in to before are counted apart.
    ///
    /// # Errors
    /// As [`login`](Self::login), and [`AuthError::Limited`].
    pub async fn login_from(
        &self,
        address: IpAddr,
        email: &str,
        password: SecretString,
        idem: Option<IdempotencyKey>,
    ) -> Result<Outcome<SignedIn>, AuthError> {
        let Some(limiter) = &self.inner.beside.limiter else { return self.login(email, password, idem).await };
        let account = self.inner.subject(&normalise_email(email));
        admitted(limiter.check_login(account, address).await)?;
        let signed_in = self.login(email, password, idem).await?;
        limiter.remember_login(account, address).await;
        Ok(signed_in)
    }

    /// Trades a refresh token for the next pair of tokens. Whoever presents the same token again
    /// within the grace, before its successor was used, gets the same successor; later, the whole
    /// session is revoked (RFC 9700 §4.14.2).
    ///
    /// # Errors
    /// [`AuthError::RefreshRefused`].
    pub async fn refresh(
        &self,
        refresh_token: &SecretString,
        idem: Option<IdempotencyKey>,
    ) -> Result<Outcome<SignedIn>, AuthError> {
        let presented = RefreshToken::parse(refresh_token.expose_secret()).ok_or(AuthError::RefreshRefused)?;
        let grant = self.inner.grant(self.inner.clock.now());
        let rotation = self.inner.rotation(&presented, &grant);
        let causes = self.inner.causes(idem.as_ref(), Some(&grant));
        match self.inner.store.rotate(rotation, causes).await? {
            Outcome::Done(rotated) => self.inner.rotated(rotated, &presented, grant).map(Outcome::Done),
            Outcome::Replayed { value, sealed } => {
                let first = self.inner.replayed_grant(sealed.as_deref(), idem.as_ref())?;
                let value = self.inner.rotated(value, &presented, first)?;
                Ok(Outcome::Replayed { value, sealed: None })
            }
        }
    }

    /// Ends the actor's session; its tokens are dead at once. Ending it twice is no error.
    ///
    /// # Errors
    /// [`AuthError::Store`].
    pub async fn logout(&self, actor: &Actor) -> Result<(), AuthError> {
        let now = self.inner.clock.now();
        self.inner.store.revoke_session(actor.user, actor.session, now, Causes::none()).await?;
        Ok(())
    }

    /// Ends every session of the actor's account and returns how many were live.
    ///
    /// # Errors
    /// [`AuthError::NotFound`] if the account is gone.
    pub async fn logout_all(&self, actor: &Actor) -> Result<u64, AuthError> {
        let now = self.inner.clock.now();
        Ok(self.inner.store.revoke_all_sessions(actor.user, now, Causes::none()).await?.into_inner())
    }

    /// Whom the access token `bearer` stands for: its signature and claims are checked, then its
    /// session and epoch against the database. The role is the account's role now.
    ///
    /// # Errors
    /// [`AuthError::BadToken`] with the reason.
    pub async fn authenticate(&self, bearer: &str) -> Result<Actor, AuthError> {
        let checked = self.inner.checked(bearer).await?;
        let claims = self.inner.tokens.judge(&checked.value)?;
        let (user, session) = (claims.sub, claims.sid);
        let state = self.inner.store.auth_state(user, session, self.inner.clock.now()).await?;
        let state = state.filter(|state| state.session_live && state.auth_epoch == claims.auth_epoch);
        let state = state.ok_or(BadToken::Revoked)?;
        Ok(Actor { user, session, role: state.role })
    }

    /// The actor's own account.
    ///
    /// # Errors
    /// [`AuthError::NotFound`] if the account is gone.
    pub async fn me(&self, actor: &Actor) -> Result<AccountView, AuthError> {
        self.inner.account(actor.user).await.map(AccountView::from)
    }

    /// Replaces the actor's display name; `expected` is the version the caller saw, if it cares.
    ///
    /// # Errors
    /// [`AuthError::Invalid`], [`AuthError::VersionMismatch`], [`AuthError::NotFound`].
    pub async fn rename(
        &self,
        actor: &Actor,
        display_name: &str,
        expected: Option<i64>,
        idem: Option<IdempotencyKey>,
    ) -> Result<Outcome<AccountView>, AuthError> {
        let name = checked_display_name(display_name)?;
        let now = self.inner.clock.now();
        let stale = NewChange::new(PROFILES, actor.user.to_string());
        let causes = self.inner.causes(idem.as_ref(), None).change(stale);
        let renamed = self.inner.store.rename_account(actor.user, name, expected, now, causes).await?;
        Ok(renamed.map(AccountView::from))
    }

    /// What anybody may know of an account, from the cache.
    ///
    /// # Errors
    /// [`AuthError::NotFound`].
    pub async fn profile(&self, user: UserId) -> Result<Arc<Cached<ProfileView>>, AuthError> {
        let store = Arc::clone(&self.inner.store);
        let load = async move { Ok(store.account(user).await?.map(ProfileView::from)) };
        match self.inner.beside.caches.profiles.get_or_load(&user.to_string(), load).await {
            Ok(found) => found.ok_or(AuthError::NotFound),
            Err(LoadError::Failed(error)) => Err(match &*error {
                AccountError::Store(error) => error.again().into(),
                _ => AuthError::NotFound,
            }),
            Err(LoadError::CutOff) => Err(cut_off("read a profile")),
        }
    }

    /// The public keys that access tokens may be signed with.
    pub fn jwks(&self) -> Arc<Cached<Jwks>> {
        self.inner.tokens.jwks()
    }

    /// The hasher of this service's passwords.
    pub fn passwords(&self) -> &Passwords {
        &self.inner.passwords
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("tokens", &self.inner.tokens)
            .field("passwords", &self.inner.passwords)
            .field("refresh_ttl", &self.inner.refresh_ttl)
            .field("refresh_grace", &self.inner.refresh_grace)
            .finish_non_exhaustive()
    }
}

impl Inner {
    async fn account(&self, id: UserId) -> Result<Account, AuthError> {
        self.store.account(id).await?.ok_or(AuthError::NotFound)
    }

    async fn register(
        &self,
        Registration { email, handle, display_name, password }: Registration,
        idem: Option<IdempotencyKey>,
    ) -> Result<Outcome<SignedIn>, AuthError> {
        let password_hash = self.passwords.hash(password).await?;
        let now = self.clock.now();
        let id = UserId::new(now, &*self.entropy);
        let account = NewAccount { id, email, handle, display_name, password_hash, now };
        let grant = self.grant(now);
        let session = self.new_session(id, &grant);
        let causes = self.causes(idem.as_ref(), Some(&grant));
        let outcome = self.store.create_account(account, session, causes).await?;
        self.answer(outcome, grant, idem.as_ref())
    }

    /// How limits know the account of a normalised e-mail address: not by the address itself.
    fn subject(&self, email: &str) -> AccountSubject {
        let hash = self.keys.fingerprint(Purpose::Idempotency, &[b"limited account", email.as_bytes()]);
        let (half, _) = hash.split_first_chunk().expect("32 bytes begin with 16");
        AccountSubject::from_hash(*half)
    }

    /// The token, if its signature is right: checked, or found to have been.
    async fn checked(self: &Arc<Self>, bearer: &str) -> Result<Arc<Cached<Checked>>, AuthError> {
        if is_too_long(bearer) {
            return Err(BadToken::Invalid.into());
        }
        let (inner, token) = (Arc::clone(self), bearer.to_owned());
        let load = async move { inner.tokens.check(&token).map(Some) };
        match self.beside.caches.tokens.get_or_load(&key_of(bearer), load).await {
            Ok(found) => Ok(found.ok_or(BadToken::Invalid)?),
            Err(LoadError::Failed(error)) => Err((*error).into()),
            Err(LoadError::CutOff) => Err(cut_off("check an access token")),
        }
    }

    pub(super) async fn credentials(&self, email: &str) -> Result<Option<Credentials>, AuthError> {
        let email = normalise_email(email);
        if email.len() > MAX_EMAIL_BYTES {
            return Ok(None);
        }
        Ok(self.store.credentials(&email).await?)
    }

    /// The account of `email`, if `password` is its password.
    async fn prove(&self, email: &str, password: SecretString) -> Result<Account, AuthError> {
        if password.expose_secret().chars().count() > MAX_PASSWORD_CHARS {
            // No account can have it; this is told by the length alone, before any account is looked up.
            return Err(AuthError::BadCredentials);
        }
        let (account, hash) = match self.credentials(email).await? {
            Some(Credentials { account, password_hash }) => (Some(account), Some(password_hash)),
            None => (None, None),
        };
        let matches = self.passwords.verify(password, hash).await?;
        let outcome = if matches { "ok" } else { "refused" };
        metrics::counter!("vid_logins_total", "outcome" => outcome).increment(1);
        account.filter(|_| matches).ok_or(AuthError::BadCredentials)
    }
}

fn admitted(decision: Result<Option<Decision>, LimitError>) -> Result<(), AuthError> {
    match decision.map_err(AuthError::Limits)? {
        Some(refusal) if !refusal.allowed => Err(AuthError::Limited(Box::new(refusal))),
        _ => Ok(()),
    }
}

/// A load that ended without an answer: the same call may succeed.
fn cut_off(operation: &'static str) -> AuthError {
    StoreError::Unavailable { operation, source: "the load was cut off".into() }.into()
}
