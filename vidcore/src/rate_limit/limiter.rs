//! The service: which policies apply to a call, and what they say together.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::id::UserId;
use crate::platform::settings::RateLimitSettings;
use crate::rate_limit::{
    Decision, IpSubject, LimitConfigError, LimitError, Policy, RateLimit, RouteClass, Subject, SubjectKind,
    TrustedProxies,
};

/// Checks calls against the policies of their class.
///
/// A signed-in call counts against its user and its address, any other against its address alone. A
/// class and subject without a policy are not limited. Clones share one back end.
#[derive(Debug, Clone)]
pub struct Limiter {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    back_end: Arc<dyn RateLimit>,
    policies: BTreeMap<(RouteClass, SubjectKind), Policy>,
    proxies: TrustedProxies,
}

impl Limiter {
    /// A limiter with the policies and trusted proxies of `settings`.
    ///
    /// # Errors
    /// [`LimitConfigError`] with every problem: a name that is not `class.subject`, numbers
    /// that do not fit (see [`Policy::new`]), a proxy that is not an address or CIDR.
    pub fn new(back_end: Arc<dyn RateLimit>, settings: &RateLimitSettings) -> Result<Self, LimitConfigError> {
        let mut problems = Vec::new();
        let mut policies = BTreeMap::new();
        for (name, limit) in &settings.policies {
            match parse_name(name).and_then(|at| Ok((at, Policy::new(name, limit)?))) {
                Ok((at, policy)) => drop(policies.insert(at, policy)),
                Err(problem) => problems.push(problem),
            }
        }
        let (proxies, bad_proxies) = TrustedProxies::parse_all(&settings.trusted_proxies);
        problems.extend(bad_proxies);
        if !problems.is_empty() {
            return Err(LimitConfigError { problems });
        }
        Ok(Self { inner: Arc::new(Inner { back_end, policies, proxies }) })
    }

    /// Makes sure, at start, that a call of `class` may cost `cost`.
    ///
    /// # Errors
    /// [`LimitError::CostAboveBurst`] if some policy of the class never admits so much at once.
    pub fn require_cost(&self, class: RouteClass, cost: u32) -> Result<(), LimitError> {
        let mut of_class = self.inner.policies.iter().filter(|((of, _), _)| *of == class).map(|(_, policy)| policy);
        match of_class.find(|policy| cost > policy.burst()) {
            Some(policy) => {
                let (policy, burst) = (policy.name().to_owned(), policy.burst());
                Err(LimitError::CostAboveBurst { policy, cost, burst })
            }
            None => Ok(()),
        }
    }

    /// Takes `cost` from the budgets of a call, or refuses; `None` if nothing limits it.
    ///
    /// The user's budget is asked first: a user over the limit takes nothing from the address, which
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
        let mut verdict: Option<Decision> = None;
        for (subject, policy) in self.applicable(class, user, address) {
            let decision = self.inner.back_end.check(&subject, std::slice::from_ref(policy), cost).await?;
            count(&decision);
            if !decision.allowed {
                return Ok(Some(decision));
            }
            verdict = Some(match verdict {
                Some(verdict) => verdict.stricter(decision),
                None => decision,
            });
        }
        Ok(verdict)
    }

    /// What is left of every budget a caller has, by policy name, without taking anything.
    ///
    /// # Errors
    /// As [`RateLimit::state`].
    pub async fn state(&self, user: Option<UserId>, address: IpAddr) -> Result<Vec<Decision>, LimitError> {
        let mut state = Vec::with_capacity(self.inner.policies.len());
        for class in RouteClass::ALL {
            for (subject, policy) in self.applicable(class, user, address) {
                state.extend(self.inner.back_end.state(&subject, std::slice::from_ref(policy)).await?);
            }
        }
        state.sort_by(|a, b| a.policy.name().cmp(b.policy.name()));
        Ok(state)
    }

    /// The policies in force, by class and subject.
    pub fn policies(&self) -> impl Iterator<Item = (RouteClass, SubjectKind, &Policy)> {
        self.inner.policies.iter().map(|((class, kind), policy)| (*class, *kind, policy))
    }

    /// The proxies whose word on the client's address is taken.
    pub fn trusted_proxies(&self) -> &TrustedProxies {
        &self.inner.proxies
    }

    /// The caller's subjects that have a policy for `class`, the user first.
    fn applicable(
        &self,
        class: RouteClass,
        user: Option<UserId>,
        address: IpAddr,
    ) -> impl Iterator<Item = (Subject, &Policy)> {
        let address = Some(Subject::Address(IpSubject::from(address)));
        [user.map(Subject::User), address].into_iter().flatten().filter_map(move |subject| {
            let policy = self.inner.policies.get(&(class, subject.kind()))?;
            Some((subject, policy))
        })
    }
}

fn count(decision: &Decision) {
    let outcome = if decision.allowed { "admitted" } else { "refused" };
    let policy = decision.policy.name().to_owned();
    metrics::counter!("vid_rate_limit_decisions_total", "policy" => policy, "outcome" => outcome).increment(1);
}

fn parse_name(name: &str) -> Result<(RouteClass, SubjectKind), String> {
    name.split_once('.')
        .and_then(|(class, kind)| Some((RouteClass::parse(class)?, SubjectKind::parse(kind)?)))
        .ok_or_else(|| format!("{name}: not a name like write.user (classes: login, write, read, search, upload; subjects: user, address)"))
}
