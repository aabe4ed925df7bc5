//! Rate limits.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One published limit.
///
/// No window of `window_s` seconds admits more than `limit` calls: `burst` of them may come at once,
/// the other `limit − burst` come back evenly over the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitSettings {
    /// Calls in any window.
    pub limit: u32,
    /// Length of the window in seconds.
    pub window_s: u64,
    /// Calls that may come at once; below `limit`.
    pub burst: u32,
}

/// What is written for a class and subject: numbers, or that there is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected limit, window_s and burst, or `unlimited`")]
pub enum PolicySettings {
    /// These numbers.
    Limited(LimitSettings),
    /// The word `unlimited`.
    Unlimited(Unlimited),
}

/// The word itself, so that nothing else is taken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unlimited {
    /// `unlimited`.
    Unlimited,
}

impl PolicySettings {
    /// No limit.
    pub const UNLIMITED: Self = Self::Unlimited(Unlimited::Unlimited);
}

impl From<LimitSettings> for PolicySettings {
    fn from(limit: LimitSettings) -> Self {
        Self::Limited(limit)
    }
}

/// Where budgets are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitsChoice {
    /// Redis where `redis.url` is set, else memory.
    #[default]
    Auto,
    /// The memory of each process.
    Memory,
    /// Redis, shared by all processes; without `redis.url` the platform does not open.
    Redis,
}

/// How many calls one call of a kind counts for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CostSettings {
    /// Asking for a video to be processed again, in writes; at least 1. Default 5.
    pub process_video: u32,
    /// A later page of a search, in searches; at least 1. Default 2.
    pub search_further: u32,
}

impl Default for CostSettings {
    fn default() -> Self {
        Self { process_video: 5, search_further: 2 }
    }
}

/// Rate limits by route class and subject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimitSettings {
    /// Where budgets are kept: `auto`, `memory` or `redis`. Default `auto`.
    pub back_end: LimitsChoice,
    /// By policy name; the class before the dot says which routes, the subject after it who is counted:
    /// `write.user`, `read.address`, `login.account`, … A class and subject that is not named has the shipped
    /// policy; only one that is written to be `unlimited` has none.
    pub policies: BTreeMap<String, PolicySettings>,
    /// What certain calls count for.
    pub costs: CostSettings,
    /// How long Redis may take to decide before the process decides by itself, in milliseconds; at least 1.
    /// Default 250.
    pub redis_timeout_ms: u64,
    /// The share of each policy that a process admits by itself while Redis is away, in percent; 1 to 100. Default 25.
    pub away_percent: u8,
    /// The same share for sign-in and sign-up; 1 to 100. Default 10.
    pub away_login_percent: u8,
    /// Addresses of proxies (CIDR) whose forwarding headers are believed. Default none.
    pub trusted_proxies: Vec<String>,
}

impl Default for RateLimitSettings {
    fn default() -> Self {
        Self {
            back_end: LimitsChoice::Auto,
            policies: shipped_policies().map(|(name, limit)| (name.to_owned(), limit.into())).into(),
            costs: CostSettings::default(),
            redis_timeout_ms: 250,
            away_percent: 25,
            away_login_percent: 10,
            trusted_proxies: Vec::new(),
        }
    }
}

impl RateLimitSettings {
    /// Every policy written to be unlimited, the rest as shipped: for tests, and for programs that limit elsewhere.
    pub fn unlimited() -> Self {
        let policies = shipped_policies().map(|(name, _)| (name.to_owned(), PolicySettings::UNLIMITED)).into();
        Self { policies, ..Self::default() }
    }
}

/// The policies that ship, by name: one for each class and whom it counts. Why these numbers is written in
/// `docs/fair-use.md`.
pub(crate) fn shipped_policies() -> [(&'static str, LimitSettings); 15] {
    let limit = |limit, window_s, burst| LimitSettings { limit, window_s, burst };
    [
        ("write.user", limit(100, 3600, 20)),
        ("write.address", limit(600, 3600, 60)),
        ("read.user", limit(3000, 60, 600)),
        ("read.address", limit(6000, 60, 1200)),
        ("search.user", limit(120, 60, 30)),
        ("search.address", limit(300, 60, 60)),
        ("login.address", limit(60, 3600, 20)),
        ("login.account", limit(60, 3600, 10)),
        ("login.familiar", limit(60, 3600, 20)),
        ("register.address", limit(30, 3600, 10)),
        ("register.account", limit(20, 3600, 5)),
        ("upload.user", limit(300, 3600, 60)),
        ("upload.address", limit(600, 3600, 120)),
        ("append.user", limit(3000, 60, 600)),
        ("append.address", limit(6000, 60, 1200)),
    ]
}
