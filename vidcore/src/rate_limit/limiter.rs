//! The service: which policies apply to a call, and what they say together.

use std::net::IpAddr;
use std::sync::Arc;

use crate::id::UserId;
use crate::platform::settings::{CostSettings, RateLimitSettings};
use crate::rate_limit::{
    Budget, CostlyCall, Decision, IpSubject, LimitConfigError, LimitError, Policies, Policy, RateLimit, RouteClass,
    Subject, SubjectKind, TrustedProxies,
};

/// Checks calls against the policies of their class.
///
/// A signed-in call counts against its user and its address, any other against its address alone; an
/// attempt to sign in or up counts besides against the account it names. Clones share one back end.
#[derive(Debug, Clone)]
pub struct Limiter {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    back_end: Arc<dyn RateLimit>,
    policies: Policies,
    costs: CostSettings,
    proxies: TrustedProxies,
}

impl Limiter {
    /// A limiter with the policies, costs and trusted proxies of `settings`.
    ///
    /// # Errors
    /// [`LimitConfigError`] with every problem: a policy that cannot be (see [`Policies::new`]), a cost
    /// of 0 or above what a policy of its class ever admits, a proxy that is not an address or CIDR.
    pub fn new(back_end: Arc<dyn RateLimit>, settings: &RateLimitSettings) -> Result<Self, LimitConfigError> {
        let (proxies, mut problems) = TrustedProxies::parse_all(&settings.trusted_proxies);
        let policies = match Policies::new(settings) {
            Ok(policies) => policies,
            Err(wrong) => {
                problems.extend(wrong.into_iter().map(|problem| format!("{}: {}", problem.name, problem.message)));
                return Err(LimitConfigError { problems });
            }
        };
        let costs = settings.costs.clone();
        let limiter = Self { inner: Arc::new(Inner { back_end, policies, costs, proxies }) };
        for call in CostlyCall::ALL {
            let cost = limiter.cost(call);
            if cost == 0 {
                problems.push(format!("costs.{}: is 0", call.as_str()));
            }
            if let Err(error) = limiter.require_cost(call.class(), cost) {
                problems.push(format!("costs.{}: {error}", call.as_str()));
            }
        }
        if problems.is_empty() { Ok(limiter) } else { Err(LimitConfigError { problems }) }
    }

    /// What a call of this kind costs.
    pub fn cost(&self, call: CostlyCall) -> u32 {
        call.cost(&self.inner.costs)
    }

    /// Makes sure, at start, that a call of `class` may cost `cost`.
    ///
    /// # Errors
    /// [`LimitError::CostAboveBurst`] if some policy of the class never admits so much at once.
    pub fn require_cost(&self, class: RouteClass, cost: u32) -> Result<(), LimitError> {
        let mut of_class = self.policies().filter(|(of, ..)| *of == class).map(|(_, _, policy)| policy);
        match of_class.find(|policy| cost > policy.burst()) {
            Some(policy) => Err(LimitError::above_burst(policy, cost)),
            None => Ok(()),
        }
    }

    /// Takes `cost` from the budgets of a call, or refuses; `None` if nothing limits it.
    ///
    /// All budgets are asked together: a user over the limit takes nothing from the address, which
    /// others may share.
    ///
    /// # Errors
    /// As [`RateLimit::check`].
    pub async fn check(
        &self,
        class: RouteClass,
        user: Option<UserId>,
        address: IpAddr,
        cost: u32,
    ) -> Result<Option<Decision>, LimitError> {
        self.take(&self.budgets(class, user, address), cost).await
    }

    /// What is left of every budget a caller has, by policy name, without taking anything. Budgets of
    /// accounts belong to no caller and are left out.
    ///
    /// # Errors
    /// As [`RateLimit::state`].
    pub async fn state(&self, user: Option<UserId>, address: IpAddr) -> Result<Vec<Decision>, LimitError> {
        let budgets: Vec<_> =
            RouteClass::ALL.into_iter().flat_map(|class| self.budgets(class, user, address)).collect();
        let mut state = match budgets.is_empty() {
            true => Vec::new(),
            false => self.inner.back_end.state(&budgets).await?,
        };
        state.sort_by(|a, b| a.policy.name().cmp(b.policy.name()));
        Ok(state)
    }

    /// The policies in force, by class and subject.
    pub fn policies(&self) -> impl Iterator<Item = (RouteClass, SubjectKind, &Policy)> {
        self.inner.policies.iter()
    }

    /// The proxies whose word on the client's address is taken.
    pub fn trusted_proxies(&self) -> &TrustedProxies {
        &self.inner.proxies
    }

    /// The budgets of a caller in `class`, the user's first.
    fn budgets(&self, class: RouteClass, user: Option<UserId>, address: IpAddr) -> Vec<Budget> {
        let user = user.and_then(|user| self.budget(class, SubjectKind::User, Subject::User(user)));
        let address = self.budget(class, SubjectKind::Address, Subject::Address(IpSubject::from(address)));
        [user, address].into_iter().flatten().collect()
    }

    /// The budget of `subject` as one of `kind`; `None` if nothing limits it.
    pub(super) fn budget(&self, class: RouteClass, kind: SubjectKind, subject: Subject) -> Option<Budget> {
        let policy = self.inner.policies.get(class, kind)?.clone();
        Some(Budget { subject, policy })
    }

    pub(super) fn back_end(&self) -> &dyn RateLimit {
        &*self.inner.back_end
    }

    pub(super) async fn take(&self, budgets: &[Budget], cost: u32) -> Result<Option<Decision>, LimitError> {
        if budgets.is_empty() {
            return Ok(None);
        }
        let decision = self.inner.back_end.check(budgets, cost).await?;
        count(&decision);
        Ok(Some(decision))
    }
}

fn count(decision: &Decision) {
    let outcome = if decision.allowed { "admitted" } else { "refused" };
    let policy = decision.policy.name().to_owned();
    metrics::counter!("vid_rate_limit_decisions_total", "policy" => policy, "outcome" => outcome).increment(1);
}
