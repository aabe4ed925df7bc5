//! A client with a small limit on its writes that asks for more, and what it may get.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::Failure;
use crate::client::Client;

/// Calls that its policy admits in a window.
pub const LIMIT: usize = 30;
/// The window in seconds.
pub const WINDOW_S: u64 = 10;
/// Calls admitted at once.
pub const BURST: usize = 10;

/// What a process admits by itself in a window while Redis is away: a quarter.
const SHARE: usize = LIMIT / 4;

/// Between two attempts: three times as many as are admitted.
const EVERY: Duration = Duration::from_millis(100);

/// One attempt. Times are since the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// When it was sent.
    pub sent: Duration,
    /// When its answer had come.
    pub answered: Duration,
    /// The status; 0 if the connection broke.
    pub status: u16,
}

/// Creates videos until the time is over.
///
/// # Errors
/// There is no connection at first.
pub async fn attempt(
    address: SocketAddr,
    token: String,
    begun: Instant,
    length: Duration,
) -> Result<Vec<Attempt>, Failure> {
    let (mut client, mut attempts) = (Client::connect(address).await?, Vec::new());
    let body = json!({"title": "one of many", "visibility": "private"});
    let mut due = begun;
    while begun.elapsed() < length {
        due += EVERY;
        tokio::time::sleep_until(due).await;
        let sent = begun.elapsed();
        let answer = client.json("POST", "/api/v1/videos", Some(&token), Some(&body)).await;
        let status = answer.map_or(0, |(answer, _)| answer.status);
        attempts.push(Attempt { sent, answered: begun.elapsed(), status });
        if status == 0
            && let Ok(again) = Client::connect(address).await
        {
            client = again;
        }
    }
    Ok(attempts)
}

impl Attempt {
    /// Whether the limiter let it through, whatever became of it then.
    pub fn is_admitted(&self) -> bool {
        !matches!(self.status, 0 | 429)
    }
}

/// By how much the worst window exceeds what it may hold; negative if none does. `emptied` are the times
/// at which Redis lost what it had, `troubled` says whether it was away or refused at some time between
/// two others.
///
/// A window may hold the policy's limit; one share of it more if the process decided by itself meanwhile;
/// and a burst more for each time at which Redis was emptied. A call counts as in a window only if both
/// ends of it are, so that no delay makes too many of them.
pub fn worst_excess(
    attempts: &[Attempt],
    emptied: &[Duration],
    troubled: impl Fn(Duration, Duration) -> bool,
) -> Option<i64> {
    let window = Duration::from_secs(WINDOW_S);
    let admitted: Vec<_> = attempts.iter().filter(|attempt| attempt.is_admitted()).collect();
    let excess = admitted.iter().enumerate().map(|(first, from)| {
        let until = from.sent + window;
        let held = admitted[first..].iter().take_while(|attempt| attempt.answered < until).count();
        // The second is what emptying may take.
        let losses = emptied.iter().filter(|at| **at + Duration::from_secs(1) > from.sent && **at < until).count();
        let share = if troubled(from.sent, until) { SHARE } else { 0 };
        held as i64 - (LIMIT + share + losses * BURST) as i64
    });
    excess.max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every(millis: u64, count: u64) -> Vec<Attempt> {
        let at = |number| Duration::from_millis(number * millis);
        (0..count).map(|number| Attempt { sent: at(number), answered: at(number), status: 201 }).collect()
    }

    #[test]
    fn a_window_with_one_call_too_many_is_found() {
        assert_eq!(Some(0), worst_excess(&every(100, 30), &[], |_, _| false));
        assert_eq!(Some(1), worst_excess(&every(100, 31), &[], |_, _| false));
        assert_eq!(Some(1), worst_excess(&every(100, 38), &[], |_, _| true));
        assert_eq!(Some(-9), worst_excess(&every(100, 31), &[Duration::from_secs(1)], |_, _| false));
        assert_eq!(None, worst_excess(&[], &[], |_, _| false));
    }

    #[test]
    fn calls_outside_of_the_window_do_not_count() {
        assert_eq!(Some(0), worst_excess(&every(334, 90), &[], |_, _| false));
    }
}
