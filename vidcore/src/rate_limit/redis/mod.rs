//! Limits that all processes share: one script in Redis decides, by the server's own time.
//!
//! However many budgets a call takes from, it is one round trip, and it takes from all of them or from
//! none. Each budget is one key, which goes by itself when it says no more than that the budget is full.
//! Names of keys hold no user, address or account, only a keyed hash of it.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use ::redis::{Script, ScriptInvocation};
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::clock::Clock;
use crate::keys::{KeyRing, Purpose};
use crate::rate_limit::{Budget, Decision, LimitError, Policy, RateLimit, Subject, refuse_oversized};
use crate::redis::{Link, LinkError, Names, RedisServer};

/// Sent by its digest; the server is given the text when it does not know it.
static DECIDE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("decide.lua")));

/// Bytes of a subject's hash that stand in the name of a key: two subjects with the same do not occur.
const HASH_LEN: usize = 16;

/// What the time of a test counts from, in microseconds since 1970: about as large as real times are.
const TEST_EPOCH_US: u64 = 1_767_225_600_000_000;

/// The contract's precondition of `check`.
const AT_LEAST_ONE: &str = "check is given at least one budget";

/// Budgets in Redis, shared by all processes that use the same server, prefix and keys.
///
/// Time is the server's, never a process's; should it be set back, a budget may take once more as long
/// as its refill to be whole. What a server loses (a restart, a flush, eviction) makes budgets full.
#[derive(Debug)]
pub struct RedisRateLimit {
    link: Link,
    names: Names,
    keys: KeyRing,
    /// In tests alone: the time that is decided by instead of the server's.
    clock: Option<Arc<dyn Clock>>,
}

impl RedisRateLimit {
    /// Budgets at `server`, which has `patience` for each decision. `keys` hash the subjects; all
    /// processes have the same. `clock` paces how often a server that is away is tried again. Connects at
    /// the first decision; needs a tokio runtime.
    ///
    /// # Errors
    /// [`LimitError::Unavailable`] if no connection can ever be made to it.
    pub fn new(
        server: &RedisServer,
        keys: KeyRing,
        patience: Duration,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, LimitError> {
        let link = Link::new(server, "limits", patience, clock);
        let link = link.map_err(|error| LimitError::Unavailable(error.into()))?;
        Ok(Self { link, names: server.names().clone(), keys, clock: None })
    }

    /// The same by the time of `clock`, so that the contract can be tested without waiting. Keys then outlive their
    /// use by an hour.
    #[cfg(feature = "testkit")]
    #[must_use]
    pub fn by_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Whether the server is asked as usual, or taken to be away for now.
    pub fn is_there(&self) -> bool {
        self.link.is_closed()
    }

    /// Ends the connection: from now on it is not there.
    pub fn close(&self) {
        self.link.close();
    }

    /// Whether the cost was taken, and how long until each budget is whole.
    async fn ask(&self, budgets: &[Budget], cost: u32) -> Result<(bool, Vec<Duration>), LimitError> {
        let invocation = self.invocation(budgets, cost);
        let answer = self.link.run(async |connection| invocation.invoke_async(connection).await).await;
        let answer: Vec<u64> = answer.map_err(|error: LinkError| LimitError::Unavailable(error.into()))?;
        match answer.split_first() {
            Some((admitted, missing)) if missing.len() == budgets.len() => {
                Ok((*admitted == 1, missing.iter().map(|micros| Duration::from_micros(*micros)).collect()))
            }
            _ => Err(LimitError::Unavailable("the script answered something else".into())),
        }
    }

    fn invocation(&self, budgets: &[Budget], cost: u32) -> ScriptInvocation<'static> {
        let mut invocation = DECIDE.prepare_invoke();
        invocation.arg(cost);
        match &self.clock {
            Some(clock) => invocation.arg(TEST_EPOCH_US + micros(clock.monotonic())),
            None => invocation.arg(""),
        };
        for Budget { subject, policy } in budgets {
            invocation.key(self.key(subject, policy)).arg(micros(policy.period())).arg(policy.burst());
        }
        invocation
    }

    /// A policy's numbers stand in the name: under others the time in a key would mean something else.
    fn key(&self, subject: &Subject, policy: &Policy) -> String {
        let hash = self.keys.fingerprint(Purpose::Idempotency, &[b"rate limits", &subject.to_bytes()]);
        let hash = URL_SAFE_NO_PAD.encode(&hash[..HASH_LEN]);
        self.names.limit(policy.name(), policy.burst(), micros(policy.period()), &hash)
    }
}

#[async_trait]
impl RateLimit for RedisRateLimit {
    async fn check(&self, budgets: &[Budget], cost: u32) -> Result<Decision, LimitError> {
        refuse_oversized(budgets, cost)?;
        let (admitted, missing) = self.ask(budgets, cost).await?;
        let decisions = budgets.iter().zip(missing).map(|(budget, missing)| {
            let wait = if admitted { None } else { wait(&budget.policy, missing, cost) };
            decision(&budget.policy, missing, wait)
        });
        Ok(decisions.reduce(Decision::stricter).expect(AT_LEAST_ONE))
    }

    async fn state(&self, budgets: &[Budget]) -> Result<Vec<Decision>, LimitError> {
        let (_, missing) = self.ask(budgets, 0).await?;
        let states = budgets
            .iter()
            .zip(missing)
            .map(|(Budget { policy, .. }, missing)| decision(policy, missing, wait(policy, missing, 1)));
        Ok(states.collect())
    }
}

/// How long until a budget that is whole after `missing` admits `cost`; `None` if it does now.
fn wait(policy: &Policy, missing: Duration, cost: u32) -> Option<Duration> {
    let short = (missing + policy.period() * cost).saturating_sub(policy.refill_after(0));
    (!short.is_zero()).then_some(short)
}

fn decision(policy: &Policy, missing: Duration, retry_after: Option<Duration>) -> Decision {
    let there = policy.refill_after(0).saturating_sub(missing).as_micros() / policy.period().as_micros();
    let remaining = u32::try_from(there).unwrap_or(u32::MAX);
    Decision {
        allowed: retry_after.is_none(),
        policy: policy.clone(),
        remaining,
        reset_after: policy.refill_after(remaining),
        retry_after,
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
