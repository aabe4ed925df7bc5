//! What callers are shown of accounts and sign-ins.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::auth::{Account, Role};
use crate::clock::Timestamp;
use crate::id::UserId;
use crate::page::Position;

/// A secret that is shown once, to the one it was made for: `Debug` prints `***`, JSON the text.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(value_type = String))]
pub struct IssuedToken(String);

impl IssuedToken {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Drop for IssuedToken {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// An account as its owner and administrators see it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AccountView {
    /// Its id.
    pub id: UserId,
    /// The e-mail address, lower case.
    pub email: String,
    /// The public name, unique, lower case.
    pub handle: String,
    /// The name shown, 1 to 80 characters.
    pub display_name: String,
    /// What it may do.
    pub role: Role,
    /// Grows with every change of the profile.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
}

impl From<Account> for AccountView {
    fn from(account: Account) -> Self {
        let Account { id, email, handle, display_name, role, version, created_at, auth_epoch: _ } = account;
        Self { id, email, handle, display_name, role, version, created_at }
    }
}

impl fmt::Debug for AccountView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No address: what is printed with `Debug` ends in logs.
        f.debug_struct("AccountView")
            .field("id", &self.id)
            .field("handle", &self.handle)
            .field("role", &self.role)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// An account as anybody sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProfileView {
    /// Its id.
    pub id: UserId,
    /// The public name, unique, lower case.
    pub handle: String,
    /// The name shown, 1 to 80 characters.
    pub display_name: String,
    /// When it was made.
    pub created_at: Timestamp,
}

impl From<Account> for ProfileView {
    fn from(account: Account) -> Self {
        let Account { id, handle, display_name, created_at, .. } = account;
        Self { id, handle, display_name, created_at }
    }
}

/// One page of accounts, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountPage {
    /// The accounts.
    pub accounts: Vec<AccountView>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<Position>,
}

/// How an access token is presented (RFC 6750).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum TokenType {
    /// In the header `Authorization: Bearer …`.
    #[default]
    Bearer,
}

/// What a client holds once it has registered, signed in or refreshed (after RFC 6749 §5.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SignedIn {
    /// The account.
    pub user: AccountView,
    /// A JWT for the `Authorization` header.
    pub access_token: IssuedToken,
    /// Always `Bearer`.
    pub token_type: TokenType,
    /// Life of the access token in seconds, counted from when it was made.
    pub expires_in: u64,
    /// Trade it for the next pair of tokens; it is good for one use.
    pub refresh_token: IssuedToken,
    /// When the refresh token ends if it is not used.
    pub refresh_expires_at: Timestamp,
}
