//! What an answer says about rate limits: `RateLimit-Policy` and `RateLimit`
//! (draft-ietf-httpapi-ratelimit-headers-10), the older `X-RateLimit-*` for clients that know only
//! those, and `Retry-After` on 429.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use vidcore::rate_limit::Decision;

use crate::problem::{Problem, code};

/// Names the quotas that apply: `"write.user";q=100;w=3600`.
pub const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// How much of a quota is left: `"write.user";r=19;t=36`.
pub const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// The policy's number of calls.
pub const X_RATE_LIMIT_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");

/// Calls that would be admitted now.
pub const X_RATE_LIMIT_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");

/// Seconds until all of them would be again: a span, as in `RateLimit`, and no date.
pub const X_RATE_LIMIT_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// What a limiter decided about one request, in the terms of the headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitState {
    /// The policy's name, such as `write.user`.
    pub policy: String,
    /// Calls in any window (`q`).
    pub quota: u32,
    /// Length of the window (`w`, whole seconds).
    pub window: Duration,
    /// Calls that would be admitted now (`r`).
    pub remaining: u32,
    /// Time until all of it is available again (`t`, seconds rounded up).
    pub reset_after: Duration,
    /// For a refused call, when the next one may be admitted; `None` if it was admitted.
    pub retry_after: Option<Duration>,
}

impl LimitState {
    /// Adds the headers to an answer. Those of other policies stay beside them; the older ones can speak
    /// of one policy only, and that is the first.
    pub fn describe(&self, headers: &mut HeaderMap) {
        let name = quoted(&self.policy);
        let policy = format!("{name};q={};w={}", self.quota, seconds_up(self.window));
        let state = format!("{name};r={};t={}", self.remaining, seconds_up(self.reset_after));
        for (header, text) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, state)] {
            headers.append(header, HeaderValue::from_str(&text).expect("quoted names and numbers fit a header"));
        }
        for (header, number) in [
            (X_RATE_LIMIT_LIMIT, self.quota.into()),
            (X_RATE_LIMIT_REMAINING, self.remaining.into()),
            (X_RATE_LIMIT_RESET, seconds_up(self.reset_after)),
        ] {
            headers.entry(header).or_insert_with(|| HeaderValue::from(number));
        }
    }

    /// The 429 for a refused call, with all headers.
    pub fn refuse(&self) -> Problem {
        let wait = seconds_up(self.retry_after.unwrap_or(self.reset_after));
        let wait = u32::try_from(wait).unwrap_or(u32::MAX);
        let mut headers = HeaderMap::new();
        self.describe(&mut headers);
        let problem = Problem::new(code::RATE_LIMITED)
            .detail(format!("{} calls in any {} s are admitted here", self.quota, seconds_up(self.window)))
            .policy(&self.policy)
            .retry_after(wait);
        headers.into_iter().fold(problem, |problem, (name, value)| match name {
            Some(name) => problem.header(name, value),
            None => problem,
        })
    }
}

impl From<&Decision> for LimitState {
    fn from(decision: &Decision) -> Self {
        Self {
            policy: decision.policy.name().to_owned(),
            quota: decision.policy.limit(),
            window: decision.policy.window(),
            remaining: decision.remaining,
            reset_after: decision.reset_after,
            retry_after: decision.retry_after,
        }
    }
}

/// Seconds, rounded up: rounding down would send a client back too early.
fn seconds_up(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// A structured-field string (RFC 9651 §3.3.3) of what a policy's name may hold.
fn quoted(name: &str) -> String {
    let safe: String = name.chars().filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\')).collect();
    format!("\"{safe}\"")
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;

    fn state() -> LimitState {
        LimitState {
            policy: "write.user".to_owned(),
            quota: 100,
            window: Duration::from_secs(3600),
            remaining: 0,
            reset_after: Duration::from_millis(900_001),
            retry_after: Some(Duration::from_millis(44_100)),
        }
    }

    #[test]
    fn a_refusal_says_when_and_why() {
        let response = state().refuse().into_response();
        assert_eq!(http::StatusCode::TOO_MANY_REQUESTS, response.status());
        assert_eq!("45", response.headers()[http::header::RETRY_AFTER]);
        assert_eq!("\"write.user\";q=100;w=3600", response.headers()[RATE_LIMIT_POLICY]);
        assert_eq!("\"write.user\";r=0;t=901", response.headers()[RATE_LIMIT]);
        for (header, value) in [(X_RATE_LIMIT_LIMIT, "100"), (X_RATE_LIMIT_REMAINING, "0"), (X_RATE_LIMIT_RESET, "901")]
        {
            assert_eq!(value, response.headers()[header]);
        }
    }

    #[test]
    fn several_policies_stand_side_by_side() {
        let mut headers = HeaderMap::new();
        state().describe(&mut headers);
        LimitState { policy: "write.address".to_owned(), ..state() }.describe(&mut headers);
        assert_eq!(2, headers.get_all(RATE_LIMIT).iter().count());
        assert_eq!(1, headers.get_all(X_RATE_LIMIT_LIMIT).iter().count());
    }
}
