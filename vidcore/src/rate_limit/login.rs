//! Attempts to sign in or up, counted by the account they name.
//!
//! Guesses at one account come from anywhere, so the account has a budget that all of them share. An
//! attacker can empty it, so its owner needs another way in: an address from which the account was
//! signed in to before is familiar, and attempts from it have a budget of their own, which nobody else
//! takes from. Both budgets refill all the time; neither is ever closed for good.

use std::net::IpAddr;
use std::sync::LazyLock;

use crate::platform::settings::LimitSettings;
use crate::rate_limit::{
    AccountSubject, Budget, Decision, IpSubject, LimitError, Limiter, Policy, RouteClass, Subject, SubjectKind,
};

/// Not a limit but a memory: a budget of one, which a sign-in empties and time refills. While it is empty, its
/// address is familiar to its account. Longer than a session lives without use, so that whoever comes back after that
/// does so from a place that is known.
static FAMILIAR: LazyLock<Policy> = LazyLock::new(|| {
    let once = LimitSettings { limit: 1, window_s: 90 * 86_400, burst: 1 };
    Policy::new("login.seen", &once).expect("one call per window is a policy")
});

impl Limiter {
    /// Takes one attempt to sign in to `account` from `address`, or refuses; `None` if nothing limits it.
    /// Called before the password is checked, and whether the account exists or not.
    ///
    /// # Errors
    /// As [`RateLimit::check`](super::RateLimit::check).
    pub async fn check_login(&self, account: AccountSubject, address: IpAddr) -> Result<Option<Decision>, LimitError> {
        let (kind, subject) = match self.is_familiar(account, address).await? {
            true => (SubjectKind::Familiar, Subject::AccountAt(account, IpSubject::from(address))),
            false => (SubjectKind::Account, Subject::Account(account)),
        };
        let budget = self.budget(RouteClass::Login, kind, subject);
        self.take(budget.as_slice(), 1).await
    }

    /// Makes `address` familiar to `account`, whose password has just come from there. Should the back
    /// end not answer, it stays strange until the next time.
    pub async fn remember_login(&self, account: AccountSubject, address: IpAddr) {
        if let Err(error) = self.back_end().check(&[familiarity(account, address)], 1).await {
            tracing::debug!(%error, "a sign-in was not remembered");
        }
    }

    /// Takes one attempt to register `account`, or refuses; `None` if nothing limits it. Called before
    /// the password is hashed.
    ///
    /// # Errors
    /// As [`RateLimit::check`](super::RateLimit::check).
    pub async fn check_register(&self, account: AccountSubject) -> Result<Option<Decision>, LimitError> {
        let budget = self.budget(RouteClass::Register, SubjectKind::Account, Subject::Account(account));
        self.take(budget.as_slice(), 1).await
    }

    async fn is_familiar(&self, account: AccountSubject, address: IpAddr) -> Result<bool, LimitError> {
        let state = self.back_end().state(&[familiarity(account, address)]).await?;
        Ok(state.iter().any(|memory| memory.remaining == 0))
    }
}

fn familiarity(account: AccountSubject, address: IpAddr) -> Budget {
    Budget { subject: Subject::AccountAt(account, IpSubject::from(address)), policy: FAMILIAR.clone() }
}
