//! A user: an account, its videos as they must be, and the calls whose answers must not change.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fastrand::Rng;
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;

use crate::Failure;
use crate::client::{Answer, Call, Caller, VideoModel};
use crate::findings::Findings;
use crate::ledger::Ledger;

/// Acknowledged calls kept to be repeated, per user; older ones give way at random.
const KEPT_CALLS: usize = 200;

/// One user.
#[derive(Debug)]
pub struct User {
    /// Its number.
    pub number: usize,
    /// Makes its calls.
    pub caller: Caller,
    /// Its videos.
    pub videos: Vec<VideoModel>,
    /// Acknowledged calls with keys, and their answers.
    pub answered: Vec<(Call, Answer)>,
    pub(super) rng: Rng,
    pub(super) findings: Findings,
    pub(super) ledger: Arc<Ledger>,
    /// Whether there is a route for jobs that have effects outside the platform.
    pub enqueues: bool,
    /// Whether jobs have so few attempts that kills may use them up: a file may then be rejected, and a
    /// video fail, with a reason.
    pub gives_up: bool,
    /// Whether files are encoded: then some have two renditions, which are made side by side.
    pub encodes: bool,
    keys: u64,
}

impl User {
    /// Signs up. The server must be there.
    ///
    /// # Errors
    /// It is not answered, or refused.
    pub async fn sign_up(
        mut caller: Caller,
        number: usize,
        rng: Rng,
        findings: Findings,
        ledger: Arc<Ledger>,
    ) -> Result<Self, Failure> {
        let account = json!({
            "email": format!("user{number}@example.org"), "handle": format!("user_{number}"),
            "password": "a long enough password",
        });
        let call = Call::new("register", Method::POST, "/api/v1/auth/register", "");
        let answer = caller.persist(&call.body(account).key(format!("register-{number}")), |_| None).await?;
        if answer.status != 201 {
            return Err(format!("signing up is refused: {}", answer.body).into());
        }
        caller.token = answer.text("access_token");
        Ok(Self {
            number,
            caller,
            videos: Vec::new(),
            answered: Vec::new(),
            rng,
            findings,
            ledger,
            enqueues: false,
            gives_up: false,
            encodes: false,
            keys: 0,
        })
    }

    pub(super) fn next_key(&mut self) -> String {
        self.keys += 1;
        format!("user-{}-{}", self.number, self.keys)
    }

    /// Keeps an acknowledged call whose answer must be the same for ever.
    pub(super) fn remember(&mut self, call: Call, answer: &Answer) {
        if self.answered.len() >= KEPT_CALLS {
            let old = self.rng.usize(0..self.answered.len());
            self.answered.swap_remove(old);
        }
        self.answered.push((call, answer.clone()));
    }

    /// Repeats some acknowledged calls: each is answered as it was, and has no second effect.
    ///
    /// # Errors
    /// One is not answered at all.
    pub async fn repeat(&mut self, count: usize) -> Result<(), Failure> {
        for _ in 0..count.min(self.answered.len()) {
            let (call, first) = self.answered[self.rng.usize(0..self.answered.len())].clone();
            let again = self.caller.persist(&call, |_| None).await?;
            let same = again.status == first.status && again.body == first.body;
            self.findings.demand(same, || {
                format!(
                    "{} of {} with the key {:?} was answered with {} {} and then with {} {}",
                    call.name, call.subject, call.key, first.status, first.body, again.status, again.body
                )
            });
        }
        Ok(())
    }
}

/// Users at work.
#[derive(Debug)]
pub struct Load {
    tasks: JoinSet<Result<User, Failure>>,
    stop: Arc<AtomicBool>,
}

impl Load {
    /// Sets users to work; each pauses between two calls for up to twice `pause`.
    pub fn start(users: Vec<User>, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for mut user in users {
            let stop = Arc::clone(&stop);
            tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    user.act().await?;
                    tokio::time::sleep(pause.mul_f64(2.0 * user.rng.f64())).await;
                }
                Ok(user)
            });
        }
        Self { tasks, stop }
    }

    /// Lets every user finish the call it is at, which takes a server that answers.
    ///
    /// # Errors
    /// A call was not answered within its bound.
    pub async fn finish(mut self) -> Result<Vec<User>, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let mut users = Vec::new();
        while let Some(ended) = self.tasks.join_next().await {
            users.push(ended??);
        }
        users.sort_by_key(|user| user.number);
        Ok(users)
    }
}
