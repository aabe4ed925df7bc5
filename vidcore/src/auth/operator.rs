//! What is done with accounts by whoever runs the platform.

use std::str::FromStr;

use crate::auth::{Account, AccountPage, AccountView, Auth, AuthError, Role};
use crate::id::UserId;
use crate::page::{PageLimit, Position};

/// Which account an administrator means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountRef {
    /// The one with this id.
    Id(UserId),
    /// The one with this e-mail address; space around it and case do not matter.
    Email(String),
}

impl FromStr for AccountRef {
    type Err = std::convert::Infallible;

    /// An id if the text is one, else an address.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.parse().map_or_else(|_| Self::Email(text.to_owned()), Self::Id))
    }
}

impl Auth {
    /// Gives an account a role. Its older access tokens die; its sessions go on and refresh into
    /// tokens with the new role. The caller has made sure that it may: this asks for no actor, so
    /// that the first administrator can be made.
    ///
    /// # Errors
    /// [`AuthError::NotFound`].
    pub async fn set_role(&self, account: &AccountRef, role: Role) -> Result<AccountView, AuthError> {
        let id = match account {
            AccountRef::Id(id) => *id,
            AccountRef::Email(email) => self.inner.credentials(email).await?.ok_or(AuthError::NotFound)?.account.id,
        };
        let account = self.inner.store.set_role(id, role, self.inner.clock.now()).await?;
        tracing::info!(user.id = %id, role = %role, "{id} is {role} now");
        Ok(account.into())
    }

    /// Accounts, oldest first, after `after`. For administrators; the caller has made sure of that.
    ///
    /// # Errors
    /// [`AuthError::Store`].
    pub async fn accounts(&self, after: Option<Position>, limit: PageLimit) -> Result<AccountPage, AuthError> {
        let wanted = usize::from(limit.get());
        // One more than asked for tells whether there is a next page.
        let mut accounts = self.inner.store.accounts(after, limit.get() + 1).await?;
        let more = accounts.len() > wanted;
        accounts.truncate(wanted);
        let next = accounts.last().filter(|_| more).map(position_of);
        Ok(AccountPage { accounts: accounts.into_iter().map(AccountView::from).collect(), next })
    }
}

fn position_of(account: &Account) -> Position {
    Position { sort: account.created_at.as_millis(), id: *account.id.as_bytes() }
}
