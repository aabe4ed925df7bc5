//! What is decided while the shared limiter is away.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use vidcore::rate_limit::{Budget, Decision, FallbackRateLimit, Policy, Shares};

use super::*;

/// A shared limiter that is there or not.
#[derive(Debug)]
pub(super) struct Shared {
    is_away: AtomicBool,
    limits: MemoryRateLimit,
}

#[async_trait]
impl RateLimit for Shared {
    async fn check(&self, budgets: &[Budget], cost: u32) -> Result<Decision, LimitError> {
        match self.is_away.load(Ordering::Relaxed) {
            true => Err(LimitError::Unavailable("away".into())),
            false => self.limits.check(budgets, cost).await,
        }
    }

    async fn state(&self, budgets: &[Budget]) -> Result<Vec<Decision>, LimitError> {
        match self.is_away.load(Ordering::Relaxed) {
            true => Err(LimitError::Unavailable("away".into())),
            false => self.limits.state(budgets).await,
        }
    }
}

fn shared(is_away: bool) -> Arc<Shared> {
    let limits = MemoryRateLimit::new(Arc::new(ManualClock::default()));
    Arc::new(Shared { is_away: AtomicBool::new(is_away), limits })
}

pub(super) fn away() -> Arc<Shared> {
    shared(true)
}

/// One process whose own share is the whole: then it keeps the contract by itself.
pub(super) fn harness(shared: &Arc<Shared>) -> RateLimitHarness {
    let shares = Shares { usual: 100, login: 100 };
    RateLimitHarness::of_one_process(|clock| Arc::new(process(shared, clock, shares)))
}

fn process(shared: &Arc<Shared>, clock: Arc<ManualClock>, shares: Shares) -> FallbackRateLimit {
    FallbackRateLimit::new(Arc::clone(shared) as _, Arc::new(MemoryRateLimit::new(clock)), shares)
}

fn node(shared: &Arc<Shared>) -> FallbackRateLimit {
    process(shared, Arc::new(ManualClock::default()), Shares::default())
}

async fn admitted(limits: &impl RateLimit, policy: &Policy, calls: u32) -> u32 {
    let mut admitted = 0;
    for _ in 0..calls {
        let decision = limits.check(&[budget(&user(1), policy)], 1).await.expect("it never fails");
        assert!(decision.allowed || decision.retry_after.is_some(), "a refusal says when");
        admitted += u32::from(decision.allowed);
    }
    admitted
}

#[tokio::test]
async fn what_is_shared_decides_while_it_is_there() {
    let shared = shared(false);
    let policy = policy("write.user", 100, 3600, 20);
    let nodes = [node(&shared), node(&shared)];
    assert_eq!(15, admitted(&nodes[0], &policy, 15).await);
    assert_eq!(5, admitted(&nodes[1], &policy, 15).await);
}

#[tokio::test]
async fn alone_a_process_admits_its_share_and_login_a_smaller_one() {
    for (name, expected) in [("write.user", 5), ("login.address", 2), ("register.account", 2), ("own", 5)] {
        assert_eq!(expected, admitted(&node(&away()), &policy(name, 100, 3600, 20), 50).await, "{name}");
    }
    // However small a policy is, one call goes through.
    assert_eq!(1, admitted(&node(&away()), &policy("login.account", 2, 3600, 1), 50).await);
}

#[tokio::test]
async fn an_outage_adds_the_shares_of_the_processes_and_no_more() {
    let shared = shared(false);
    let policy = policy("write.user", 100, 3600, 20);
    let nodes = [node(&shared), node(&shared), node(&shared), node(&shared)];
    let mut total = 0;
    for is_away in [false, true, false, true] {
        shared.is_away.store(is_away, Ordering::Relaxed);
        for node in &nodes {
            total += admitted(node, &policy, 50).await;
        }
    }
    assert_eq!(20 + 4 * 5, total);
}

#[tokio::test]
async fn a_call_that_costs_more_than_the_share_takes_all_of_it() {
    let (limits, policy) = (node(&away()), policy("write.user", 100, 3600, 20));
    let ask = || async { limits.check(&[budget(&user(1), &policy)], 12).await.expect("it never fails") };
    assert!(ask().await.allowed);
    assert!(!ask().await.allowed);
}

#[tokio::test]
async fn the_state_is_that_of_whoever_decides() {
    let shared = shared(false);
    let (limits, policy) = (node(&shared), policy("write.user", 100, 3600, 20));
    for (is_away, limit, remaining) in [(false, 100, 20), (true, 25, 5)] {
        shared.is_away.store(is_away, Ordering::Relaxed);
        let state = limits.state(&[budget(&user(1), &policy)]).await.expect("it never fails");
        assert_eq!(("write.user", limit, remaining), (state[0].policy.name(), state[0].limit(), state[0].remaining));
    }
}
