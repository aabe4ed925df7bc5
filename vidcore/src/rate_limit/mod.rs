//! Rate limits: how often a subject may do something, decided before anything expensive is done.
//!
//! A [`RateLimit`] back end takes from a subject's budget and says what is left; [`Limiter`] knows
//! which policies apply to which class of routes. Who the caller behind a proxy is, is worked out by
//! [`TrustedProxies`]. What a refusal looks like on the wire is none of this module's business.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::store::BoxError;

pub mod client_address;
mod costs;
pub mod fallback;
pub mod limiter;
mod login;
pub mod memory;
mod policies;
pub mod quota;
#[cfg(feature = "redis")]
pub mod redis;
mod subject;

pub use client_address::TrustedProxies;
pub use costs::CostlyCall;
pub use fallback::{FallbackRateLimit, Shares};
pub use limiter::Limiter;
pub use memory::MemoryRateLimit;
pub use policies::{LimitProblem, Policies};
pub use quota::{Policy, RouteClass};
#[cfg(feature = "redis")]
pub use redis::RedisRateLimit;
pub use subject::{AccountSubject, IpSubject, Subject, SubjectKind};

/// Settings that name policies or proxies that cannot be: every problem found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid rate limits: {}", problems.join("; "))]
pub struct LimitConfigError {
    /// One sentence each, naming the policy, cost or address.
    pub problems: Vec<String>,
}

/// Why a limit could not be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// More was asked at once than the policy ever admits: a defect of the caller, not a refusal.
    #[error("cost {cost} is above the burst of {burst} of {policy}")]
    CostAboveBurst {
        /// The policy's name.
        policy: String,
        /// What was asked.
        cost: u32,
        /// The most there can be.
        burst: u32,
    },
    /// The back end did not answer; how strictly to go on is the caller's decision.
    #[error("rate limits unavailable")]
    Unavailable(#[source] BoxError),
}

impl LimitError {
    fn above_burst(policy: &Policy, cost: u32) -> Self {
        Self::CostAboveBurst { policy: policy.name().to_owned(), cost, burst: policy.burst() }
    }
}

/// What a limit said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether the call may go on.
    pub allowed: bool,
    /// The policy the numbers are about: the one that refused, else the one with the smallest share left.
    pub policy: Policy,
    /// Calls admissible right now; when refused, fewer than were asked.
    pub remaining: u32,
    /// How long until the whole burst is there again; up to one refill period more than exact.
    pub reset_after: Duration,
    /// When refused, how long until the same call is admitted if nothing else is taken; exact.
    pub retry_after: Option<Duration>,
}

impl Decision {
    /// Calls the policy admits in any window.
    pub fn limit(&self) -> u32 {
        self.policy.limit()
    }

    /// Of two decisions about one call, the one to act on: a refusal before an admission, the longer
    /// wait before the shorter, the smaller share of the burst left before the larger.
    #[must_use]
    pub fn stricter(self, other: Self) -> Self {
        let other_is_stricter = match (self.allowed, other.allowed) {
            (true, true) => other.has_less_left(&self),
            (false, false) => other.retry_after > self.retry_after,
            (own, _) => own,
        };
        if other_is_stricter { other } else { self }
    }

    /// Whether a smaller share of the burst is left.
    fn has_less_left(&self, other: &Self) -> bool {
        // By the product of both bursts: exact, and no division.
        let of = |own: &Self, other: &Self| u64::from(own.remaining) * u64::from(other.policy.burst());
        of(self, other) < of(other, self)
    }
}

/// What one subject may do under one policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Who is counted.
    pub subject: Subject,
    /// How much is admitted.
    pub policy: Policy,
}

/// Budgets that refill evenly (GCRA).
///
/// # Contract
/// * In no window of a policy's length, its end excluded, is more admitted to one subject than the
///   policy's limit, whatever the timing and however many callers ask at once.
/// * A subject never heard of has its whole burst. Subjects, and policies, do not affect each other.
/// * Of several budgets all must admit, and a refused call takes from none. In memory another call may
///   be refused for what one that is about to be refused has taken for a moment; never is more admitted.
/// * State is bounded, and forgotten once it says no more than that a budget is full.
/// * Dropping the future of `check` may or may not have taken the cost.
#[async_trait]
pub trait RateLimit: fmt::Debug + Send + Sync + 'static {
    /// Takes `cost` from each of `budgets`, or refuses. A cost of 0 takes nothing and is always
    /// admitted. No budget is named twice.
    ///
    /// # Panics
    /// May panic if `budgets` is empty.
    ///
    /// # Errors
    /// [`LimitError::CostAboveBurst`], [`LimitError::Unavailable`].
    async fn check(&self, budgets: &[Budget], cost: u32) -> Result<Decision, LimitError>;

    /// What [`check`](Self::check) would find in each budget, in order, without taking anything.
    ///
    /// # Errors
    /// [`LimitError::Unavailable`].
    async fn state(&self, budgets: &[Budget]) -> Result<Vec<Decision>, LimitError>;
}

/// Refuses a cost that some budget never admits.
fn refuse_oversized(budgets: &[Budget], cost: u32) -> Result<(), LimitError> {
    match budgets.iter().map(|budget| &budget.policy).find(|policy| cost > policy.burst()) {
        Some(policy) => Err(LimitError::above_burst(policy, cost)),
        None => Ok(()),
    }
}
