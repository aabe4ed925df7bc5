//! The account and what it may do.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::id::{SessionId, UserId};

/// What an account may do. Each role may do all that the one before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Role {
    /// Its own videos.
    User,
    /// Also hide and restore the videos of others.
    Moderator,
    /// Everything.
    Admin,
}

impl Role {
    /// The name used in tables, tokens and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Moderator => "moderator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not the name of a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a role: expected user, moderator or admin")]
pub struct ParseRoleError;

impl FromStr for Role {
    type Err = ParseRoleError;

    fn from_str(text: &str) -> Result<Self, ParseRoleError> {
        match text {
            "user" => Ok(Self::User),
            "moderator" => Ok(Self::Moderator),
            "admin" => Ok(Self::Admin),
            _ => Err(ParseRoleError),
        }
    }
}

/// Who makes a call: taken from a verified access token, never from a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Actor {
    /// The account.
    pub user: UserId,
    /// The session the token belongs to.
    pub session: SessionId,
    /// The account's role now, from the database.
    pub role: Role,
}

/// The actor is no administrator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is for administrators")]
pub struct NotAdmin;

impl Actor {
    /// Whether the actor may act on the videos of others.
    pub fn moderates(&self) -> bool {
        self.role >= Role::Moderator
    }

    /// Refuses everybody but administrators.
    ///
    /// # Errors
    /// [`NotAdmin`].
    pub fn must_administer(&self) -> Result<(), NotAdmin> {
        if self.role == Role::Admin { Ok(()) } else { Err(NotAdmin) }
    }

    /// Whose rows a command may touch: `None` means anybody's.
    pub fn owner_scope(&self) -> Option<UserId> {
        (!self.moderates()).then_some(self.user)
    }
}

/// An account as its row says, without its password hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its id.
    pub id: UserId,
    /// The e-mail address, trimmed and lower case. Never shown to others.
    pub email: String,
    /// The public name, unique, lower case.
    pub handle: String,
    /// The name shown, 1 to 80 characters.
    pub display_name: String,
    /// What it may do.
    pub role: Role,
    /// Raised to kill every older access token.
    pub auth_epoch: i64,
    /// Grows with every change of the profile.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// An account with the hash its password is checked against.
#[derive(Clone)]
pub struct Credentials {
    /// The account.
    pub account: Account,
    /// argon2id in PHC string format.
    pub password_hash: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("account", &self.account).field("password_hash", &"***").finish()
    }
}

/// An account to be created; its role is `user`.
#[derive(Clone)]
pub struct NewAccount {
    /// Its id.
    pub id: UserId,
    /// Trimmed and lower case.
    pub email: String,
    /// Lower case.
    pub handle: String,
    /// The name shown.
    pub display_name: String,
    /// argon2id in PHC string format.
    pub password_hash: String,
    /// When it is made.
    pub now: Timestamp,
}

impl fmt::Debug for NewAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewAccount").field("id", &self.id).field("handle", &self.handle).finish_non_exhaustive()
    }
}
