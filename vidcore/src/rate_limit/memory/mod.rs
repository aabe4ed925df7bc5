//! Limits within one process, by governor.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use async_trait::async_trait;
use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::{Quota, RateLimiter};

use crate::clock::Clock;
use crate::rate_limit::{Budget, Decision, LimitError, Policy, RateLimit, Subject, refuse_oversized};

mod by_policy;
mod reading;
mod store;

use by_policy::ByPolicy;
use reading::Reading;
use store::{Ask, BudgetStore, Intent};

/// Subjects kept per policy before new ones share budgets.
const MAX_SUBJECTS: usize = 1 << 18;

/// Checks of a policy between two looks at how many subjects it keeps.
const LOOK_EVERY: u64 = 256;

/// Below this many subjects nothing is worth forgetting.
const SWEEP_FROM: usize = 1024;

/// Sweeps of a policy are at least this far apart: one visits every subject.
const SWEEP_APART_MS: u64 = 1000;

/// The contract's precondition of `check`.
const AT_LEAST_ONE: &str = "check is given at least one budget";

/// Budgets in this process's memory.
///
/// Bounds: a policy forgets subjects whose budget is full whenever their number has doubled since
/// the last time; above 262,144 subjects (about 20 MiB) new ones share 256 budgets until others are
/// forgotten, so a flood of addresses costs newcomers their burst but never lifts a limit. The gauge
/// `vid_rate_limit_subjects` shows the number by policy.
#[derive(Debug)]
pub struct MemoryRateLimit {
    clock: Arc<dyn Clock>,
    max_subjects: usize,
    by_policy: ByPolicy<Budgets>,
}

/// The budgets of every subject under one policy.
#[derive(Debug)]
struct Budgets {
    policy: Policy,
    limiter: RateLimiter<Ask, BudgetStore, Reading, NoOpMiddleware<Nanos>>,
    store: BudgetStore,
    /// From when governor counts its times.
    start: Nanos,
    /// What one call takes, and what there is at most: nanoseconds.
    period: u64,
    whole: u64,
    max_subjects: usize,
    checks: AtomicU64,
    sweep_from: AtomicUsize,
    swept_at_ms: AtomicU64,
}

impl MemoryRateLimit {
    /// Budgets by this clock, all of them full.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::with_max_subjects(clock, MAX_SUBJECTS)
    }

    /// As [`new`](Self::new), with another number of subjects per policy. Default 262,144.
    pub fn with_max_subjects(clock: Arc<dyn Clock>, max_subjects: usize) -> Self {
        Self { clock, max_subjects, by_policy: ByPolicy::default() }
    }

    /// How many subjects are kept under `policy` now.
    pub fn subjects(&self, policy: &Policy) -> usize {
        Reading::take(self.clock.monotonic());
        self.budgets(policy).store.count()
    }

    /// What [`check`](RateLimit::check) does, for callers that are not async.
    ///
    /// # Errors
    /// [`LimitError::CostAboveBurst`].
    ///
    /// # Panics
    /// If `budgets` is empty.
    pub fn decide(&self, budgets: &[Budget], cost: u32) -> Result<Decision, LimitError> {
        refuse_oversized(budgets, cost)?;
        let now = Reading::take(self.clock.monotonic());
        let Some(cost) = NonZeroU32::new(cost) else {
            let state = self.looks(now, budgets, NonZeroU32::MIN).reduce(Decision::stricter);
            return Ok(Decision { allowed: true, retry_after: None, ..state.expect(AT_LEAST_ONE) });
        };
        if let [alone] = budgets {
            return Ok(self.budgets(&alone.policy).take(now, &alone.subject, cost));
        }
        let mut verdict: Option<Decision> = None;
        for (at, budget) in budgets.iter().enumerate() {
            let decision = self.budgets(&budget.policy).take(now, &budget.subject, cost);
            if !decision.allowed {
                // What the budgets before it have given goes back. Meanwhile another call may have been
                // refused for it; never was one admitted too many.
                for taken in &budgets[..at] {
                    self.budgets(&taken.policy).give_back(&taken.subject, cost);
                }
                let others = self.looks(now, &budgets[at + 1..], cost).filter(|look| !look.allowed);
                return Ok(others.fold(decision, Decision::stricter));
            }
            verdict = Some(match verdict {
                Some(verdict) => verdict.stricter(decision),
                None => decision,
            });
        }
        Ok(verdict.expect(AT_LEAST_ONE))
    }

    /// What a call of this cost would find in each budget, at what was read last.
    fn looks<'a>(&'a self, now: Nanos, budgets: &'a [Budget], cost: NonZeroU32) -> impl Iterator<Item = Decision> + 'a {
        budgets.iter().map(move |budget| self.budgets(&budget.policy).look(now, &budget.subject, cost))
    }

    /// Those of `policy`; if there are none yet, they begin at what was read last.
    fn budgets(&self, policy: &Policy) -> &Budgets {
        self.by_policy.get_or_make(policy, || Budgets::new(policy.clone(), self.max_subjects))
    }
}

#[async_trait]
impl RateLimit for MemoryRateLimit {
    async fn check(&self, budgets: &[Budget], cost: u32) -> Result<Decision, LimitError> {
        self.decide(budgets, cost)
    }

    async fn state(&self, budgets: &[Budget]) -> Result<Vec<Decision>, LimitError> {
        let now = Reading::take(self.clock.monotonic());
        Ok(self.looks(now, budgets, NonZeroU32::MIN).collect())
    }
}

impl Budgets {
    fn new(policy: Policy, max_subjects: usize) -> Self {
        let start = Reading.now();
        let quota = Quota::with_period(policy.period())
            .expect("a policy's period is not zero")
            .allow_burst(policy.whole_burst());
        let store = BudgetStore::default();
        let period = Nanos::from(policy.period()).as_u64();
        Self {
            limiter: RateLimiter::new(quota, store.clone(), Reading),
            store,
            start,
            period,
            whole: period * u64::from(policy.burst()),
            max_subjects,
            checks: AtomicU64::new(0),
            sweep_from: AtomicUsize::new(SWEEP_FROM),
            swept_at_ms: AtomicU64::new(millis(start)),
            policy,
        }
    }

    fn take(&self, now: Nanos, subject: &Subject, cost: NonZeroU32) -> Decision {
        self.ask(now, Ask::new(*subject, Intent::Take), cost)
    }

    /// What a call would find, with the numbers as they are before it.
    fn look(&self, now: Nanos, subject: &Subject, cost: NonZeroU32) -> Decision {
        self.ask(now, Ask::new(*subject, Intent::Look), cost)
    }

    fn give_back(&self, subject: &Subject, cost: NonZeroU32) {
        self.store.give_back(*subject, self.policy.period() * cost.get());
    }

    fn ask(&self, now: Nanos, ask: Ask, cost: NonZeroU32) -> Decision {
        self.housekeep(now);
        let retry_after = match self.limiter.check_key_n(&ask, cost).expect("the cost was compared with the burst") {
            Ok(()) => None,
            // Exact, as both are by the same reading.
            Err(until) => Some(until.wait_time_from(now)),
        };
        let remaining = self.remaining(now, ask.whole_at());
        Decision {
            allowed: retry_after.is_none(),
            policy: self.policy.clone(),
            remaining,
            reset_after: self.policy.refill_after(remaining),
            retry_after,
        }
    }

    /// Calls that would be admitted now, of a budget that is whole at that time.
    fn remaining(&self, now: Nanos, whole_at: Option<Nanos>) -> u32 {
        // Another thread may have begun with a later reading than this one's; governor counts the same.
        let missing = whole_at.map_or(0, |whole_at| whole_at.saturating_sub(now.saturating_sub(self.start)).as_u64());
        // Never more than the burst, which is 32 bits.
        (self.whole.saturating_sub(missing) / self.period) as u32
    }

    /// Now and then forgets the subjects whose budget is full again. Sweeping when their number has
    /// doubled makes it a constant share of the work, however many there are.
    fn housekeep(&self, now: Nanos) {
        // Counts that two threads make at once may become one: this is no number that anybody relies on.
        let checks = self.checks.load(Ordering::Relaxed);
        self.checks.store(checks.wrapping_add(1), Ordering::Relaxed);
        if !checks.is_multiple_of(LOOK_EVERY) {
            return;
        }
        if self.store.count() >= self.sweep_from.load(Ordering::Relaxed).min(self.max_subjects)
            && self.is_sweep_due(now)
        {
            self.limiter.retain_recent();
            self.sweep_from.store((2 * self.store.count()).max(SWEEP_FROM), Ordering::Relaxed);
        }
        let kept = self.store.count();
        self.store.set_closed(kept >= self.max_subjects);
        metrics::gauge!("vid_rate_limit_subjects", "policy" => self.policy.name().to_owned()).set(kept as f64);
    }

    fn is_sweep_due(&self, now: Nanos) -> bool {
        let now = millis(now);
        let last = self.swept_at_ms.load(Ordering::Relaxed);
        now.saturating_sub(last) >= SWEEP_APART_MS
            && self.swept_at_ms.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

fn millis(time: Nanos) -> u64 {
    time.as_u64() / 1_000_000
}
