//! What every [`RateLimit`] back end promises, one claim per function.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::ManualClock;
use crate::entropy::{EntropyExt, SeededEntropy};
use crate::id::UserId;
use crate::platform::settings::LimitSettings;
use crate::rate_limit::{AccountSubject, Budget, Decision, IpSubject, LimitError, Policy, RateLimit, Subject};

/// A back end under test and the clock it goes by.
#[derive(Debug)]
pub struct RateLimitHarness {
    /// The back end, with every budget full.
    pub limits: Arc<dyn RateLimit>,
    /// Other processes' views of the same budgets; empty where each process has its own.
    pub others: Vec<Arc<dyn RateLimit>>,
    /// The clock of all of them.
    pub clock: ManualClock,
    #[cfg(all(feature = "sqlite", feature = "redis"))]
    _redis: Option<crate::testkit::TestRedis>,
}

/// Makes a module with one test per claim; `shared` in front makes one with the claims of back ends that several
/// processes share. `$harness` is a future of `Option<RateLimitHarness>`;
/// `None` means that the service is missing and its test says so itself.
#[macro_export]
macro_rules! rate_limit_contract {
    ($back_end:ident, $harness:expr) => {
        mod $back_end {
            #[allow(unused_imports, reason = "a harness may need nothing from its file")]
            use super::*;

            $crate::rate_limit_contract! { @claims $harness;
                an_unknown_subject_has_its_whole_burst,
                a_call_above_the_burst_is_refused_and_takes_nothing,
                a_refused_call_is_refused_just_before_its_retry_and_admitted_at_it,
                a_call_of_cost_n_takes_n,
                a_refused_call_of_cost_n_may_still_leave_room_for_one,
                a_cost_above_the_burst_is_an_error,
                a_cost_of_zero_is_admitted_and_takes_nothing,
                looking_takes_nothing,
                a_budget_comes_back_one_call_per_period,
                a_budget_never_grows_above_its_burst,
                subjects_do_not_affect_each_other,
                policies_do_not_affect_each_other,
                one_of_several_policies_refuses_for_all,
                a_call_refused_by_one_policy_takes_nothing_from_the_others,
                one_of_several_subjects_refuses_for_all_and_takes_nothing,
                a_changed_policy_does_not_read_what_the_old_one_left,
                the_tightest_of_several_policies_is_reported,
                one_call_per_window_is_kept,
                sixty_four_callers_at_once_get_exactly_the_burst,
                no_window_admits_more_than_the_published_number,
            }
        }
    };
    (shared $back_end:ident, $harness:expr) => {
        mod $back_end {
            #[allow(unused_imports, reason = "a harness may need nothing from its file")]
            use super::*;

            $crate::rate_limit_contract! { @claims $harness;
                what_one_node_takes_the_others_miss,
                sixty_four_clients_of_four_nodes_get_what_one_node_would_give,
                of_several_budgets_nothing_is_lost_when_many_ask_at_once,
            }
        }
    };
    (@claims $harness:expr; $($claim:ident),+ $(,)?) => { $(
        #[tokio::test]
        async fn $claim() {
            if let Some(harness) = $harness.await {
                $crate::testkit::rate_limit::$claim(&harness).await;
            }
        }
    )+ };
}

impl RateLimitHarness {
    /// A back end of one process.
    pub fn of_one_process(make: impl FnOnce(Arc<ManualClock>) -> Arc<dyn RateLimit>) -> Self {
        let clock = ManualClock::default();
        Self {
            limits: make(Arc::new(clock.clone())),
            others: Vec::new(),
            clock,
            #[cfg(all(feature = "sqlite", feature = "redis"))]
            _redis: None,
        }
    }

    /// Four processes that share a Redis, by a clock that the claim moves.
    #[cfg(all(feature = "sqlite", feature = "redis"))]
    pub async fn redis() -> Option<Self> {
        Self::redis_through(|limits| limits)
    }

    /// The same, each process's view wrapped in something.
    #[cfg(all(feature = "sqlite", feature = "redis"))]
    pub fn redis_through(wrap: impl Fn(Arc<dyn RateLimit>) -> Arc<dyn RateLimit>) -> Option<Self> {
        use crate::entropy::SystemEntropy;
        use crate::keys::KeyRing;
        use crate::rate_limit::RedisRateLimit;
        use crate::testkit::TestRedis;
        use crate::testkit::store::PATIENCE;

        let redis = TestRedis::start()?;
        let server = TestRedis::server(&redis.settings());
        let clock = Arc::new(ManualClock::default());
        let keys = KeyRing::ephemeral(clock.clone(), Arc::new(SystemEntropy));
        let node = || {
            let limits = RedisRateLimit::new(&server, keys.clone(), PATIENCE, clock.clone());
            wrap(Arc::new(limits.expect("it can be reached").by_clock(clock.clone())))
        };
        Some(Self {
            limits: node(),
            others: vec![node(), node(), node()],
            clock: (*clock).clone(),
            _redis: Some(redis),
        })
    }

    async fn take(&self, subject: &Subject, policy: &Policy, cost: u32) -> Decision {
        self.limits.check(&[budget(subject, policy)], cost).await.expect("the back end answers")
    }

    async fn look(&self, subject: &Subject, policy: &Policy) -> Decision {
        let mut state = self.limits.state(&[budget(subject, policy)]).await.expect("the back end answers");
        assert_eq!(1, state.len(), "one budget, one answer");
        state.remove(0)
    }

    async fn exhaust(&self, subject: &Subject, policy: &Policy) {
        assert!(self.take(subject, policy, policy.burst()).await.allowed);
    }
}

/// A policy of these numbers; panics if they do not fit.
pub fn policy(name: &str, limit: u32, window_s: u64, burst: u32) -> Policy {
    Policy::new(name, &LimitSettings { limit, window_s, burst }).expect("a valid policy")
}

/// The budget of `subject` under `policy`.
pub fn budget(subject: &Subject, policy: &Policy) -> Budget {
    Budget { subject: *subject, policy: policy.clone() }
}

/// A user told apart by `n`.
pub fn user(n: u8) -> Subject {
    Subject::User(UserId::from_bytes([n; 16]))
}

fn hourly() -> Policy {
    policy("write.user", 100, 3600, 20)
}

/// See the name.
pub async fn an_unknown_subject_has_its_whole_burst(h: &RateLimitHarness) {
    let state = h.look(&user(1), &hourly()).await;
    assert_eq!((true, 20, Duration::ZERO), (state.allowed, state.remaining, state.reset_after));
    let first = h.take(&user(1), &hourly(), 1).await;
    assert_eq!((true, 19, Duration::from_secs(45)), (first.allowed, first.remaining, first.reset_after));
    assert_eq!((100, None), (first.limit(), first.retry_after));
}

/// See the name.
pub async fn a_call_above_the_burst_is_refused_and_takes_nothing(h: &RateLimitHarness) {
    for left in (0..20).rev() {
        let decision = h.take(&user(1), &hourly(), 1).await;
        assert_eq!((true, left), (decision.allowed, decision.remaining));
    }
    for _ in 0..3 {
        let refused = h.take(&user(1), &hourly(), 1).await;
        assert_eq!((false, 0), (refused.allowed, refused.remaining));
        assert_eq!(Some(Duration::from_secs(45)), refused.retry_after);
        assert_eq!(Duration::from_secs(900), refused.reset_after);
    }
}

/// See the name.
pub async fn a_refused_call_is_refused_just_before_its_retry_and_admitted_at_it(h: &RateLimitHarness) {
    h.exhaust(&user(1), &hourly()).await;
    h.clock.advance(Duration::from_secs(7));
    let wait = h.take(&user(1), &hourly(), 3).await.retry_after.expect("a refusal says when");
    assert_eq!(Duration::from_secs(3 * 45 - 7), wait);
    h.clock.advance(wait - Duration::from_millis(1));
    assert!(!h.take(&user(1), &hourly(), 3).await.allowed);
    h.clock.advance(Duration::from_millis(1));
    assert!(h.take(&user(1), &hourly(), 3).await.allowed);
}

/// See the name.
pub async fn a_call_of_cost_n_takes_n(h: &RateLimitHarness) {
    assert_eq!(13, h.take(&user(1), &hourly(), 7).await.remaining);
    assert_eq!(0, h.take(&user(1), &hourly(), 13).await.remaining);
    assert!(!h.take(&user(1), &hourly(), 1).await.allowed);
}

/// See the name.
pub async fn a_refused_call_of_cost_n_may_still_leave_room_for_one(h: &RateLimitHarness) {
    h.take(&user(1), &hourly(), 15).await;
    let refused = h.take(&user(1), &hourly(), 6).await;
    assert_eq!((false, 5, Some(Duration::from_secs(45))), (refused.allowed, refused.remaining, refused.retry_after));
    assert!(h.take(&user(1), &hourly(), 5).await.allowed);
}

/// See the name.
pub async fn a_cost_above_the_burst_is_an_error(h: &RateLimitHarness) {
    let error = h.limits.check(&[budget(&user(1), &hourly())], 21).await.expect_err("21 never fit into 20");
    assert!(matches!(error, LimitError::CostAboveBurst { cost: 21, burst: 20, .. }), "{error}");
    assert_eq!(20, h.look(&user(1), &hourly()).await.remaining);
}

/// See the name.
pub async fn a_cost_of_zero_is_admitted_and_takes_nothing(h: &RateLimitHarness) {
    h.exhaust(&user(1), &hourly()).await;
    let decision = h.take(&user(1), &hourly(), 0).await;
    assert_eq!((true, 0, None), (decision.allowed, decision.remaining, decision.retry_after));
    h.clock.advance(Duration::from_secs(45));
    h.take(&user(1), &hourly(), 0).await;
    assert_eq!(1, h.look(&user(1), &hourly()).await.remaining);
}

/// See the name.
pub async fn looking_takes_nothing(h: &RateLimitHarness) {
    h.take(&user(1), &hourly(), 19).await;
    for _ in 0..30 {
        let state = h.look(&user(1), &hourly()).await;
        assert_eq!((true, 1), (state.allowed, state.remaining));
    }
    h.take(&user(1), &hourly(), 1).await;
    let state = h.look(&user(1), &hourly()).await;
    assert_eq!((false, 0, Some(Duration::from_secs(45))), (state.allowed, state.remaining, state.retry_after));
}

/// See the name.
pub async fn a_budget_comes_back_one_call_per_period(h: &RateLimitHarness) {
    h.exhaust(&user(1), &hourly()).await;
    for back in 1..=20 {
        h.clock.advance(Duration::from_secs(45) - Duration::from_millis(1));
        assert_eq!(back - 1, h.look(&user(1), &hourly()).await.remaining);
        h.clock.advance(Duration::from_millis(1));
        assert_eq!(back, h.look(&user(1), &hourly()).await.remaining);
    }
}

/// See the name.
pub async fn a_budget_never_grows_above_its_burst(h: &RateLimitHarness) {
    h.exhaust(&user(1), &hourly()).await;
    h.clock.advance(Duration::from_secs(7 * 86_400));
    assert_eq!(20, h.look(&user(1), &hourly()).await.remaining);
    h.exhaust(&user(1), &hourly()).await;
    assert!(!h.take(&user(1), &hourly(), 1).await.allowed);
}

/// See the name.
pub async fn subjects_do_not_affect_each_other(h: &RateLimitHarness) {
    let address = |text: &str| Subject::Address(IpSubject::from(text.parse::<std::net::IpAddr>().expect("an address")));
    h.exhaust(&user(1), &hourly()).await;
    h.exhaust(&address("2001:db8:0:1::5"), &hourly()).await;
    let account = AccountSubject::from_hash([1; 16]);
    let at = |text: &str| {
        Subject::AccountAt(account, IpSubject::from(text.parse::<std::net::IpAddr>().expect("an address")))
    };
    h.exhaust(&at("192.0.2.1"), &hourly()).await;
    let others =
        [user(2), address("192.0.2.1"), address("2001:db8:0:2::5"), Subject::Account(account), at("192.0.2.2")];
    for other in others {
        assert_eq!(20, h.look(&other, &hourly()).await.remaining, "{other:?}");
    }
    // The same /64 is the same subject.
    assert_eq!(0, h.look(&address("2001:db8:0:1:ffff::"), &hourly()).await.remaining);
}

/// See the name.
pub async fn policies_do_not_affect_each_other(h: &RateLimitHarness) {
    h.exhaust(&user(1), &hourly()).await;
    assert_eq!(30, h.look(&user(1), &policy("search.user", 120, 60, 30)).await.remaining);
}

fn wide_and_narrow() -> [Budget; 2] {
    [policy("read.user", 100, 60, 50), policy("search.user", 10, 60, 5)].map(|policy| budget(&user(1), &policy))
}

/// See the name.
pub async fn one_of_several_policies_refuses_for_all(h: &RateLimitHarness) {
    let budgets = wide_and_narrow();
    h.exhaust(&user(1), &budgets[1].policy).await;
    let refused = h.limits.check(&budgets, 1).await.expect("answers");
    assert_eq!((false, "search.user"), (refused.allowed, refused.policy.name()));
    assert_eq!(Some(Duration::from_secs(12)), refused.retry_after);
}

/// See the name.
pub async fn a_call_refused_by_one_policy_takes_nothing_from_the_others(h: &RateLimitHarness) {
    let budgets = wide_and_narrow();
    h.exhaust(&user(1), &budgets[1].policy).await;
    for _ in 0..60 {
        assert!(!h.limits.check(&budgets, 1).await.expect("answers").allowed);
    }
    assert_eq!(50, h.look(&user(1), &budgets[0].policy).await.remaining);
}

/// See the name.
pub async fn one_of_several_subjects_refuses_for_all_and_takes_nothing(h: &RateLimitHarness) {
    h.exhaust(&user(1), &hourly()).await;
    for pair in [[user(1), user(2)], [user(2), user(1)]] {
        let refused = h.limits.check(&pair.map(|subject| budget(&subject, &hourly())), 1).await.expect("answers");
        assert_eq!((false, Some(Duration::from_secs(45))), (refused.allowed, refused.retry_after));
    }
    assert_eq!(20, h.look(&user(2), &hourly()).await.remaining);
    let admitted = [user(2), user(3)].map(|subject| budget(&subject, &hourly()));
    assert!(h.limits.check(&admitted, 2).await.expect("answers").allowed);
    let left = h.limits.state(&admitted).await.expect("answers");
    assert_eq!(vec![18, 18], left.iter().map(|decision| decision.remaining).collect::<Vec<_>>());
}

/// See the name.
pub async fn a_changed_policy_does_not_read_what_the_old_one_left(h: &RateLimitHarness) {
    h.exhaust(&user(1), &hourly()).await;
    for changed in
        [policy("write.user", 100, 3600, 10), policy("write.user", 10, 60, 5), policy("write.user", 99, 3600, 20)]
    {
        assert_eq!(changed.burst(), h.look(&user(1), &changed).await.remaining);
    }
}

/// See the name.
pub async fn the_tightest_of_several_policies_is_reported(h: &RateLimitHarness) {
    let [wide, narrow] = wide_and_narrow();
    for budgets in [[wide.clone(), narrow.clone()], [narrow, wide]] {
        let decision = h.limits.check(&budgets, 1).await.expect("answers");
        assert_eq!((true, "search.user"), (decision.allowed, decision.policy.name()));
    }
    let state = h.limits.state(&wide_and_narrow()).await.expect("answers");
    assert_eq!(vec![48, 3], state.iter().map(|decision| decision.remaining).collect::<Vec<_>>());
}

/// See the name.
pub async fn one_call_per_window_is_kept(h: &RateLimitHarness) {
    let policy = policy("login.address", 1, 60, 1);
    h.exhaust(&user(1), &policy).await;
    h.clock.advance(Duration::from_millis(59_999));
    assert_eq!(Some(Duration::from_millis(1)), h.take(&user(1), &policy, 1).await.retry_after);
    h.clock.advance(Duration::from_millis(1));
    assert!(h.take(&user(1), &policy, 1).await.allowed);
}

/// See the name.
pub async fn sixty_four_callers_at_once_get_exactly_the_burst(h: &RateLimitHarness) {
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let limits = Arc::clone(&h.limits);
        callers.spawn(async move { limits.check(&[budget(&user(1), &hourly())], 1).await.expect("answers").allowed });
    }
    let admitted = callers.join_all().await.into_iter().filter(|allowed| *allowed).count();
    assert_eq!(20, admitted);
}

/// See the name.
pub async fn what_one_node_takes_the_others_miss(h: &RateLimitHarness) {
    let budget = budget(&user(1), &hourly());
    for (taken, node) in h.others.iter().enumerate() {
        let left = node.check(std::slice::from_ref(&budget), 1).await.expect("answers").remaining;
        assert_eq!(19 - taken as u32, left);
    }
    h.clock.advance(Duration::from_secs(45));
    assert_eq!(20 - h.others.len() as u32 + 1, h.look(&user(1), &hourly()).await.remaining);
}

/// See the name.
pub async fn sixty_four_clients_of_four_nodes_get_what_one_node_would_give(h: &RateLimitHarness) {
    let nodes: Vec<_> = [&h.limits].into_iter().chain(&h.others).collect();
    assert_eq!(4, nodes.len());
    let budget = budget(&user(1), &hourly());
    // Then once more after what came back meanwhile.
    for expected in [20, 3] {
        let mut clients = tokio::task::JoinSet::new();
        for node in (0..64).flat_map(|_| &nodes) {
            let (node, budget) = (Arc::clone(node), budget.clone());
            clients.spawn(async move { node.check(&[budget], 1).await.expect("answers").allowed });
        }
        let admitted = clients.join_all().await.into_iter().filter(|allowed| *allowed).count();
        assert_eq!(expected, admitted);
        h.clock.advance(Duration::from_secs(3 * 45));
    }
}

/// See the name.
pub async fn of_several_budgets_nothing_is_lost_when_many_ask_at_once(h: &RateLimitHarness) {
    let mut clients = tokio::task::JoinSet::new();
    for node in (0..16).flat_map(|_| [&h.limits].into_iter().chain(&h.others)) {
        let node = Arc::clone(node);
        clients.spawn(async move { node.check(&wide_and_narrow(), 1).await.expect("answers").allowed });
    }
    let admitted = clients.join_all().await.into_iter().filter(|allowed| *allowed).count();
    assert_eq!(5, admitted);
    let left = h.limits.state(&wide_and_narrow()).await.expect("answers");
    assert_eq!(vec![45, 0], left.iter().map(|decision| decision.remaining).collect::<Vec<_>>());
}

/// See the name: replays pseudo-random traffic over several policies.
pub async fn no_window_admits_more_than_the_published_number(h: &RateLimitHarness) {
    let random = SeededEntropy::new(7);
    let shapes = [(100, 3600, 20), (5, 60, 4), (7, 1, 2), (1, 10, 1), (50, 60, 1), (3, 1, 2)];
    for (n, (limit, window_s, burst)) in (0_u8..).zip(shapes) {
        let policy = policy(&format!("replay-{n}.user"), limit, window_s, burst);
        let longest_pause = 2.0 * window_s as f64 * 1000.0 / f64::from(limit);
        let mut schedule = Vec::new();
        for _ in 0..400 {
            let pause = Duration::from_millis((random.unit() * longest_pause) as u64);
            schedule.push((pause, 1 + (random.unit() * f64::from(burst)) as u32));
        }
        replay(h, &policy, &user(n), &schedule).await;
    }
}

/// Plays `schedule` (a pause, then a call of that cost) against the back end and compares every
/// decision with a slow reference, then counts every window of the admitted calls.
pub async fn replay(h: &RateLimitHarness, policy: &Policy, subject: &Subject, schedule: &[(Duration, u32)]) {
    let mut reference = Reference::full(policy);
    let mut elapsed = Duration::ZERO;
    let mut admitted: Vec<(Duration, u64)> = Vec::new();
    for (pause, cost) in schedule {
        h.clock.advance(*pause);
        elapsed += *pause;
        let expected = reference.take(policy, *pause, *cost);
        let decision = h.take(subject, policy, *cost).await;
        assert_eq!(expected, (decision.allowed, decision.remaining, decision.retry_after), "after {elapsed:?}");
        assert_eq!(policy.period() * (policy.burst() - decision.remaining), decision.reset_after);
        if decision.allowed {
            admitted.push((elapsed, u64::from(*cost)));
        }
    }
    for (at, (start, _)) in admitted.iter().enumerate() {
        // Only a limit of one call needs the end left out: there the next call comes with the end.
        let end = *start + policy.window() - Duration::from_nanos(u64::from(policy.limit() == 1));
        let in_window = admitted[at..].iter().take_while(|(when, _)| *when <= end);
        let calls: u64 = in_window.map(|(_, cost)| cost).sum();
        assert!(calls <= u64::from(policy.limit()), "{calls} calls in the window from {start:?} under {policy:?}");
    }
}

/// A leaky bucket counted in nanoseconds of credit: another way to say the same as GCRA.
struct Reference {
    credit: u128,
}

impl Reference {
    fn full(policy: &Policy) -> Self {
        Self { credit: Self::most(policy) }
    }

    fn most(policy: &Policy) -> u128 {
        policy.period().as_nanos() * u128::from(policy.burst())
    }

    fn take(&mut self, policy: &Policy, pause: Duration, cost: u32) -> (bool, u32, Option<Duration>) {
        self.credit = (self.credit + pause.as_nanos()).min(Self::most(policy));
        let price = policy.period().as_nanos() * u128::from(cost);
        let missing = price.saturating_sub(self.credit);
        if missing == 0 {
            self.credit -= price;
        }
        let left = self.credit / policy.period().as_nanos();
        let wait = u64::try_from(missing).expect("a wait below centuries");
        (missing == 0, left as u32, (wait > 0).then(|| Duration::from_nanos(wait)))
    }
}
