//! Why the service refused, in terms of what the caller does next.

use crate::auth::AccountError;
use crate::auth::password::PasswordError;
use crate::invalid::FieldProblem;
use crate::keys::BadSeal;
use crate::rate_limit::{Decision, LimitError};
use crate::store::{BoxError, StoreError};

/// What is wrong with an access token: for the log and for `WWW-Authenticate` (RFC 6750 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadToken {
    /// It was good, and its time is over: refresh.
    #[error("access token has expired")]
    Expired,
    /// Its session was ended, or the account's rights have changed since: refresh, or sign in again.
    #[error("access token was revoked")]
    Revoked,
    /// It is not a token of ours for this audience.
    #[error("access token is invalid")]
    Invalid,
}

/// Why a call of [`Auth`](crate::auth::Auth) was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// Fields of the input break rules; all of them are listed.
    #[error("{} of the input break rules", count(.0.len()))]
    Invalid(Vec<FieldProblem>),
    /// Another account has this e-mail address.
    #[error("e-mail address is taken")]
    EmailTaken,
    /// Another account has this handle.
    #[error("handle is taken")]
    HandleTaken,
    /// No account has this e-mail address and password. Which of the two is wrong is not told.
    #[error("e-mail address or password is wrong")]
    BadCredentials,
    /// The access token does not admit its bearer.
    #[error(transparent)]
    BadToken(#[from] BadToken),
    /// The refresh token is unknown, expired, used up or of a session that has ended: sign in again.
    #[error("refresh token is not accepted")]
    RefreshRefused,
    /// The account changed since the caller read it.
    #[error("account is at version {current}")]
    VersionMismatch {
        /// The version it has now.
        current: i64,
    },
    /// No such account.
    #[error("account not found")]
    NotFound,
    /// Too many passwords are being checked; the same call may succeed a little later.
    #[error("too many passwords are being checked")]
    Busy,
    /// Too many attempts at this account; the decision says when the next one may come.
    #[error("attempts at the account are over the limit {}", .0.policy.name())]
    Limited(Box<Decision>),
    /// Nobody could say whether the attempt is over a limit.
    #[error(transparent)]
    Limits(LimitError),
    /// The store did not carry the command out.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key is missing or unfit: a sealed answer of an earlier call can no longer be opened, a token
    /// cannot be signed.
    #[error("{operation} failed for want of a key")]
    Key {
        /// What was being done, for the log.
        operation: &'static str,
        /// The cause.
        #[source]
        source: BoxError,
    },
    /// A stored password hash cannot be understood: a defect, not an outcome.
    #[error("stored password hash cannot be used")]
    Hash,
}

impl AuthError {
    /// Whether the same call may succeed later without any change by the caller.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Busy | Self::Limited(_) | Self::Limits(LimitError::Unavailable(_)) => true,
            Self::Store(error) => error.is_retryable(),
            _ => false,
        }
    }

    pub(crate) fn seal(error: BadSeal) -> Self {
        Self::Key { operation: "opening a sealed answer", source: error.into() }
    }
}

impl From<AccountError> for AuthError {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::EmailTaken => Self::EmailTaken,
            AccountError::HandleTaken => Self::HandleTaken,
            AccountError::NotFound => Self::NotFound,
            AccountError::VersionMismatch { current } => Self::VersionMismatch { current },
            AccountError::Store(error) => Self::Store(error),
        }
    }
}

impl From<PasswordError> for AuthError {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy => Self::Busy,
            PasswordError::Defect => Self::Hash,
        }
    }
}

fn count(problems: usize) -> String {
    if problems == 1 { "1 field".to_owned() } else { format!("{problems} fields") }
}
