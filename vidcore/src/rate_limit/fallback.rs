//! Limits while what all processes share is away: each process decides by itself, for a share.
//!
//! Nothing is unlimited then and nobody is refused for the outage alone. What is admitted more than
//! published has a bound. In a window in which Redis went away and came back, a subject may get the
//! policy's limit from Redis and, from each of n processes that it reached meanwhile, the share: with
//! four processes and a quarter, twice the limit. A Redis that comes back empty adds one burst. Once it
//! has been away for a window, n shares are all there is.

use std::sync::Arc;

use async_trait::async_trait;

use crate::rate_limit::{Budget, Decision, LimitError, Policy, RateLimit, RouteClass, refuse_oversized};
use crate::store::BoxError;

/// What a process admits by itself, in percent of each policy, 1 to 100. No policy falls below one call
/// in its window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// Of any policy but those below. Default 25: four processes together admit what is published.
    pub usual: u8,
    /// Of sign-in and sign-up, where a call too many is a guess too many. Default 10.
    pub login: u8,
}

impl Default for Shares {
    fn default() -> Self {
        Self { usual: 25, login: 10 }
    }
}

/// Asks what is shared; where that does not answer, what is this process's own.
///
/// Decisions of its own speak of the smaller policy that they were made by, under the same name. The
/// counter `vid_rate_limit_decided_by_total` says who decided.
#[derive(Debug)]
pub struct FallbackRateLimit {
    shared: Arc<dyn RateLimit>,
    own: Arc<dyn RateLimit>,
    shares: Shares,
}

impl FallbackRateLimit {
    /// `shared` decides; while it is unavailable, `own` does, for `shares` of each policy.
    pub fn new(shared: Arc<dyn RateLimit>, own: Arc<dyn RateLimit>, shares: Shares) -> Self {
        Self { shared, own, shares }
    }

    fn share(&self, policy: &Policy) -> Policy {
        let class = policy.name().split_once('.').and_then(|(class, _)| RouteClass::parse(class));
        policy.share(match class {
            Some(RouteClass::Login | RouteClass::Register) => self.shares.login,
            _ => self.shares.usual,
        })
    }

    fn own_budgets(&self, budgets: &[Budget]) -> Vec<Budget> {
        let own = |budget: &Budget| Budget { policy: self.share(&budget.policy), ..*budget };
        budgets.iter().map(own).collect()
    }
}

#[async_trait]
impl RateLimit for FallbackRateLimit {
    async fn check(&self, budgets: &[Budget], cost: u32) -> Result<Decision, LimitError> {
        refuse_oversized(budgets, cost)?;
        match self.shared.check(budgets, cost).await {
            Err(LimitError::Unavailable(cause)) => {
                decided("process", Some(&cause));
                let budgets = self.own_budgets(budgets);
                // A call that costs more than the share's burst takes all of it: refused, it would be so for
                // as long as the outage lasts.
                let most = budgets.iter().map(|budget| budget.policy.burst()).min().unwrap_or(cost);
                self.own.check(&budgets, cost.min(most)).await
            }
            decision => {
                decided("shared", None);
                decision
            }
        }
    }

    async fn state(&self, budgets: &[Budget]) -> Result<Vec<Decision>, LimitError> {
        match self.shared.state(budgets).await {
            Err(LimitError::Unavailable(_)) => self.own.state(&self.own_budgets(budgets)).await,
            state => state,
        }
    }
}

fn decided(by: &'static str, cause: Option<&BoxError>) {
    metrics::counter!("vid_rate_limit_decided_by_total", "by" => by).increment(1);
    if let Some(cause) = cause {
        tracing::debug!(%cause, "a limit was decided by this process alone");
    }
}
