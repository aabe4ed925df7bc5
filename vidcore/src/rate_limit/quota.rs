//! Policies: published numbers, and the burst and refill that keep them true.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::platform::settings::LimitSettings;
use crate::rate_limit::SubjectKind;

/// The longest window, and the longest a budget may take to refill; far above any use, far below where
/// nanoseconds overflow.
const MAX_REFILL: Duration = Duration::from_secs(366 * 86_400);

/// What a call does, as far as limits care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteClass {
    /// Tries a password.
    Login,
    /// Makes an account.
    Register,
    /// Changes something.
    Write,
    /// Reads something.
    Read,
    /// Searches.
    Search,
    /// Opens a resumable upload, or sends a file whole.
    Upload,
    /// Goes on with a resumable upload.
    Append,
}

impl RouteClass {
    /// Every class.
    pub const ALL: [Self; 7] =
        [Self::Login, Self::Register, Self::Write, Self::Read, Self::Search, Self::Upload, Self::Append];

    /// The name before the dot of a policy's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Register => "register",
            Self::Write => "write",
            Self::Read => "read",
            Self::Search => "search",
            Self::Upload => "upload",
            Self::Append => "append",
        }
    }

    /// The class with this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == text)
    }

    /// Who is counted by calls of this class; others have no policy for it.
    pub fn counts(self) -> &'static [SubjectKind] {
        match self {
            Self::Login => &[SubjectKind::Address, SubjectKind::Account, SubjectKind::Familiar],
            Self::Register => &[SubjectKind::Address, SubjectKind::Account],
            Self::Write | Self::Read | Self::Search | Self::Upload | Self::Append => {
                &[SubjectKind::User, SubjectKind::Address]
            }
        }
    }
}

impl fmt::Display for RouteClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One published limit and the budget that keeps it: `burst` calls at once, then one per
/// [`period`](Policy::period). Cheap to clone.
///
/// In a window of length `window` at most the burst is there at its beginning, and `limit − burst`
/// refills follow, so no window ever sees more than `limit`.
#[derive(Debug, Clone)]
pub struct Policy {
    inner: Arc<Inner>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Inner {
    name: Box<str>,
    limit: u32,
    window: Duration,
    burst: NonZeroU32,
    period: Duration,
}

impl Policy {
    /// The policy `name` with these numbers.
    ///
    /// `burst` is at least 1 and below `limit`; only `limit = burst = 1` may be equal, one call per
    /// window. The window is a second to a year, and the whole budget refills within a year.
    ///
    /// # Errors
    /// One sentence that names the policy and what is wrong with it.
    pub fn new(name: &str, settings: &LimitSettings) -> Result<Self, String> {
        let LimitSettings { limit, window_s, burst } = *settings;
        if window_s == 0 || window_s > MAX_REFILL.as_secs() {
            return Err(format!("{name}: window_s is not between 1 and {}, a year", MAX_REFILL.as_secs()));
        }
        let whole_burst = NonZeroU32::new(burst).ok_or_else(|| format!("{name}: burst is 0"))?;
        let refills = match limit.checked_sub(burst) {
            // One call per window is the one case in which nothing may come back within it.
            Some(0) if limit == 1 => 1,
            Some(refills) if refills > 0 => refills,
            _ => return Err(format!("{name}: burst {burst} is not below limit {limit}")),
        };
        let window = Duration::from_secs(window_s);
        let period = period(window, refills)
            .filter(|period| period.checked_mul(burst).is_some_and(|refill| refill <= MAX_REFILL))
            .ok_or_else(|| format!("{name}: takes longer than a year to refill"))?;
        Ok(Self { inner: Arc::new(Inner { name: name.into(), limit, window, burst: whole_burst, period }) })
    }

    /// Its name, such as `write.user`.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Calls admitted in any window, at most.
    pub fn limit(&self) -> u32 {
        self.inner.limit
    }

    /// The window's length.
    pub fn window(&self) -> Duration {
        self.inner.window
    }

    /// Calls that may come at once.
    pub fn burst(&self) -> u32 {
        self.inner.burst.get()
    }

    /// The time in which one call comes back: `window / (limit − burst)`, rounded up to a microsecond.
    pub fn period(&self) -> Duration {
        self.inner.period
    }

    /// Whether it is the same by more than its numbers. Two that are not may be equal all the same.
    pub(super) fn is_clone_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    pub(super) fn whole_burst(&self) -> NonZeroU32 {
        self.inner.burst
    }

    /// The same name with a share of the numbers, `percent` of 100, each at least 1: what it admits in any window is
    /// at most that share of this policy's limit, or one call.
    #[must_use]
    pub(super) fn share(&self, percent: u8) -> Self {
        let part = |number: u32| u32::try_from(u64::from(number) * u64::from(percent) / 100).unwrap_or(number).max(1);
        let limit = part(self.inner.limit);
        let settings = LimitSettings {
            limit,
            window_s: self.inner.window.as_secs(),
            // Rounding may have made them equal, which only one call per window may be.
            burst: part(self.burst()).min(limit.saturating_sub(1)).max(1),
        };
        // Rounding may also have made the refill of a very long window longer than a year.
        let least = LimitSettings { limit: 1, burst: 1, ..settings };
        let share = Self::new(&self.inner.name, &settings).or_else(|_| Self::new(&self.inner.name, &least));
        share.expect("one call per window is a policy for every window that is one")
    }

    /// The time in which a budget with `remaining` calls left is whole again, at most.
    pub(super) fn refill_after(&self, remaining: u32) -> Duration {
        self.inner.period * self.burst().saturating_sub(remaining)
    }
}

impl PartialEq for Policy {
    /// Two of the same numbers are the same; clones are so without a look at them.
    fn eq(&self, other: &Self) -> bool {
        self.is_clone_of(other) || self.inner == other.inner
    }
}

impl Eq for Policy {}

impl Hash for Policy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

/// Rounded up: rounded down, a short period would fit into the window more than `refills` times. To a
/// microsecond, because that is what Redis counts time in, and all back ends decide alike.
fn period(window: Duration, refills: u32) -> Option<Duration> {
    let micros = window.as_micros().div_ceil(u128::from(refills));
    u64::try_from(micros).ok().map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(limit: u32, window_s: u64, burst: u32) -> Result<Policy, String> {
        Policy::new("write.user", &LimitSettings { limit, window_s, burst })
    }

    #[test]
    fn a_hundred_an_hour_with_a_burst_of_twenty_refills_every_45_seconds() {
        let policy = policy(100, 3600, 20).expect("valid");
        assert_eq!(Duration::from_secs(45), policy.period());
        assert_eq!(Duration::from_secs(900), policy.refill_after(0));
        assert_eq!(Duration::ZERO, policy.refill_after(20));
    }

    #[test]
    fn a_period_that_does_not_divide_the_window_is_rounded_up() {
        assert_eq!(Duration::from_micros(333_334), policy(4, 1, 1).expect("valid").period());
    }

    #[test]
    fn one_call_per_window_is_the_only_limit_equal_to_its_burst() {
        assert_eq!(Duration::from_secs(60), policy(1, 60, 1).expect("valid").period());
        assert!(policy(2, 60, 1).is_ok());
        assert!(policy(2, 60, 2).is_err());
    }

    #[test]
    fn a_share_is_a_legal_policy_that_admits_no_more_than_its_part() {
        for (limit, window_s, burst) in
            [(100, 3600, 20), (10, 60, 9), (2, 60, 1), (1, 60, 1), (60, 31_622_400, 29), (u32::MAX, 3600, u32::MAX / 2)]
        {
            let whole = policy(limit, window_s, burst).expect("valid");
            for percent in [1, 10, 25, 50, 99, 100] {
                let share = whole.share(percent);
                let most = (u64::from(limit) * u64::from(percent) / 100).max(1);
                assert!(u64::from(share.limit()) <= most && share.burst() <= whole.burst(), "{share:?}");
                assert_eq!((whole.name(), whole.window()), (share.name(), share.window()));
            }
            assert_eq!(whole, whole.share(100));
        }
    }

    #[test]
    fn numbers_that_admit_nothing_or_everything_are_refused_by_name() {
        for (limit, window_s, burst) in [
            (0, 60, 0),
            (10, 60, 0),
            (0, 60, 1),
            (10, 0, 1),
            (10, 60, 10),
            (10, 60, 11),
            (u32::MAX, 3600, u32::MAX - 1),
            (2, u64::MAX, 1),
        ] {
            let problem = policy(limit, window_s, burst).expect_err("refused");
            assert!(problem.starts_with("write.user: "), "{problem}");
        }
    }
}
