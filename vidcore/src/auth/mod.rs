//! Accounts, passwords, access tokens and refresh sessions.
//!
//! [`Auth`] is the service; [`AccountStore`] is what it asks of a database. An access token is a
//! signed statement that lives for minutes; what it says is compared with the database on every
//! request, so a logout or a change of role acts at once. A refresh token is random, good for one
//! use, and belongs to a session ("family") that dies when a used one comes back.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::id::{SessionId, UserId};
use crate::page::Position;
use crate::store::{Causes, Outcome, StoreError};

pub mod account;
mod caches;
mod error;
mod grant;
mod granting;
mod operator;
mod password;
mod register;
mod service;
mod session;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;
mod token;
mod view;

pub(crate) use caches::AuthCaches;

pub use account::{Account, Actor, Credentials, NewAccount, NotAdmin, Role};
pub use error::{AuthError, BadToken};
pub use operator::AccountRef;
pub use password::{PasswordError, Passwords};
pub use register::RegisterInput;
pub use service::Auth;
pub use token::{Jwk, Jwks, LEEWAY_S};
pub use view::{AccountPage, AccountView, IssuedToken, ProfileView, SignedIn, TokenType};

/// Topic of the changes that make cached public profiles stale; the key is the account's id.
pub const PROFILES: &str = "profiles";

/// Why an account command was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccountError {
    /// Another account has this e-mail address.
    #[error("e-mail address is taken")]
    EmailTaken,
    /// Another account has this handle.
    #[error("handle is taken")]
    HandleTaken,
    /// No such account.
    #[error("account not found")]
    NotFound,
    /// The account changed since the caller read it.
    #[error("account is at version {current}")]
    VersionMismatch {
        /// The version it has now.
        current: i64,
    },
    /// The store did not carry the command out.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A refresh family to be opened, with its first token.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// The family's id, carried by access tokens as `sid`.
    pub id: SessionId,
    /// Whose session it is.
    pub user: UserId,
    /// SHA-256 of the first refresh token.
    pub token_hash: [u8; 32],
    /// When it is opened.
    pub now: Timestamp,
    /// When the first token, and with it the family, ends unless it is rotated.
    pub expires_at: Timestamp,
}

/// A change of refresh token, wholly prepared by the service.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// SHA-256 of the token that was presented.
    pub presented: [u8; 32],
    /// SHA-256 of its successor.
    pub successor: [u8; 32],
    /// The successor, sealed under a key derived from the presented token.
    pub sealed: Vec<u8>,
    /// Now.
    pub now: Timestamp,
    /// When the successor ends.
    pub expires_at: Timestamp,
    /// How long after its first use the presented token still opens the seal.
    pub grace: std::time::Duration,
}

/// What became of a presented refresh token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rotated {
    /// It was live: it is consumed and the successor is stored.
    Fresh(SessionAccount),
    /// It was consumed less than the grace ago and its successor is unused: here is the seal.
    Twin {
        /// The session and the account.
        account: SessionAccount,
        /// The successor, sealed under a key derived from the presented token.
        sealed: Vec<u8>,
    },
    /// It was used before; the family has been revoked (RFC 9700 §4.14.2).
    Reused {
        /// The family that died.
        session: SessionId,
    },
    /// Unknown, expired or of a revoked family.
    Refused,
}

/// A session with the account it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionAccount {
    /// The refresh family.
    pub session: SessionId,
    /// Its owner as of now.
    pub account: Account,
}

/// What is compared with an access token on each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthState {
    /// The account's epoch: a token with an older one is dead.
    pub auth_epoch: i64,
    /// The account's role now.
    pub role: Role,
    /// Whether the session is live.
    pub session_live: bool,
}

/// Accounts and refresh sessions as rows.
///
/// # Contract
/// * E-mail addresses and handles are unique; the comparison is on the normalised text the service passes.
/// * A refresh token is consumed at most once; a second use after the grace, or once its successor was
///   used, revokes the family.
/// * `auth_epoch` only grows.
#[async_trait]
pub trait AccountStore: Send + Sync {
    /// Creates an account and opens its first session.
    ///
    /// # Errors
    /// [`AccountError::EmailTaken`], [`AccountError::HandleTaken`].
    async fn create_account(
        &self,
        account: NewAccount,
        session: NewSession,
        causes: Causes,
    ) -> Result<Outcome<SessionAccount>, AccountError>;

    /// The account with this id.
    async fn account(&self, id: UserId) -> Result<Option<Account>, AccountError>;

    /// The account with this normalised e-mail address, with its password hash.
    async fn credentials(&self, email: &str) -> Result<Option<Credentials>, AccountError>;

    /// Up to `limit` accounts, oldest first, after `after` (sorted by creation time).
    async fn accounts(&self, after: Option<Position>, limit: u16) -> Result<Vec<Account>, AccountError>;

    /// Replaces the display name; `expected` is the version the caller saw, if it cares.
    ///
    /// # Errors
    /// [`AccountError::NotFound`], [`AccountError::VersionMismatch`].
    async fn rename_account(
        &self,
        id: UserId,
        display_name: String,
        expected: Option<i64>,
        now: Timestamp,
        causes: Causes,
    ) -> Result<Outcome<Account>, AccountError>;

    /// Gives the account a role and raises its `auth_epoch`, so that older tokens die.
    ///
    /// # Errors
    /// [`AccountError::NotFound`].
    async fn set_role(&self, id: UserId, role: Role, now: Timestamp) -> Result<Account, AccountError>;

    /// Opens a session for an account that has just proved its password.
    ///
    /// # Errors
    /// [`AccountError::NotFound`] if the account is gone.
    async fn open_session(&self, session: NewSession, causes: Causes) -> Result<Outcome<SessionAccount>, AccountError>;

    /// Consumes a refresh token and stores its successor, or says why not. Every [`Rotated`] is an
    /// outcome that is committed, the revocation of [`Rotated::Reused`] included; for
    /// [`Rotated::Refused`] nothing is written, not even the idempotency record.
    async fn rotate(&self, rotation: Rotation, causes: Causes) -> Result<Outcome<Rotated>, AccountError>;

    /// Revokes one session of `user`; `false` if it was not live.
    async fn revoke_session(
        &self,
        user: UserId,
        session: SessionId,
        now: Timestamp,
        causes: Causes,
    ) -> Result<Outcome<bool>, AccountError>;

    /// Revokes every session of `user` and raises the `auth_epoch`.
    ///
    /// # Errors
    /// [`AccountError::NotFound`].
    async fn revoke_all_sessions(
        &self,
        user: UserId,
        now: Timestamp,
        causes: Causes,
    ) -> Result<Outcome<u64>, AccountError>;

    /// What an access token of `user` and `session` is compared with; `None` if the account is gone.
    async fn auth_state(
        &self,
        user: UserId,
        session: SessionId,
        now: Timestamp,
    ) -> Result<Option<AuthState>, AccountError>;

    /// Deletes up to `limit` refresh tokens that expired by `now`, and up to `limit` sessions whose last
    /// token did, and returns how many rows went. An expired token is refused whether or not its row is there.
    async fn prune_sessions(&self, now: Timestamp, limit: u16) -> Result<u64, StoreError>;
}
