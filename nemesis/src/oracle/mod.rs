//! What must hold once everybody runs again and nothing is left to do.

mod effects;
mod leases;
mod objects;
mod promises;
mod renditions;
mod rows;
mod users;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vidcore::store::sqlite::FILE_NAME;

pub use rows::{Attempt, Counts, Rows};

use leases::Leases;

use crate::client::User;
use crate::effects::ByJob;
use crate::findings::Findings;
use crate::history::History;
use crate::ledger::Ledger;
use crate::{BOUND, Failure};

/// How often the database is asked whether there is still something to do.
const LOOK: Duration = Duration::from_millis(25);

/// Acknowledged calls repeated by each user after a round.
const REPEATED: usize = 3;

/// Judges one data folder from outside the processes that work on it.
#[derive(Debug)]
pub struct Oracle {
    data: PathBuf,
    findings: Findings,
    ledger: Arc<Ledger>,
    leases: Leases,
    /// Objects, whole or not, that belonged to nobody and were collected after the rounds.
    pub collected: usize,
}

impl Oracle {
    /// An oracle over the folder `data`, which looks at the leases from now on.
    ///
    /// # Errors
    /// The system starts no thread.
    pub fn new(data: PathBuf, findings: Findings, ledger: Arc<Ledger>) -> Result<Self, Failure> {
        let leases = Leases::watch(data.join(FILE_NAME))?;
        Ok(Self { data, findings, ledger, leases, collected: 0 })
    }

    /// Its own connection to the rows.
    ///
    /// # Errors
    /// The database cannot be opened.
    pub fn rows(&self) -> Result<Rows, Failure> {
        Rows::open(&self.data.join(FILE_NAME))
    }

    /// Waits until no job is left to do. If for a long time none comes to its end, that is a finding:
    /// something is stuck.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn quiesce(&self) -> Result<(), Failure> {
        let rows = self.rows()?;
        let (mut ended, mut since) = (0, Instant::now());
        loop {
            let live = rows.live_jobs()?;
            if live.is_empty() {
                return Ok(());
            }
            let now_ended = rows.ended_jobs()?;
            if now_ended > ended {
                (ended, since) = (now_ended, Instant::now());
            }
            if since.elapsed() > BOUND {
                self.findings.add(format!("for {BOUND:?} no job has come to its end: {live:?}"));
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Checks everything after a round, with every process running and nothing left to do.
    ///
    /// # Errors
    /// The server, the database or the objects cannot be read.
    pub async fn judge(&mut self, users: &mut [User]) -> Result<(), Failure> {
        let rows = self.rows()?;
        self.invariants(&rows).await?;
        let attempts = rows.attempts()?;
        one_holder_at_a_time(&attempts, &self.findings);
        self.leases.check(&attempts, &self.findings);
        self.ledger.recorded(rows.published()?, &self.findings);
        for user in users {
            users::check(user, &self.ledger, &self.findings).await?;
            user.repeat(REPEATED).await?;
        }
        Ok(())
    }

    /// Checks the whole history at the end.
    ///
    /// # Errors
    /// The history or the database cannot be read.
    pub fn judge_history(&self, history: &History) -> Result<(), Failure> {
        promises::check(&history.read()?, &self.rows()?, &self.findings)
    }

    /// Checks the effects that jobs of embedding programs had outside the platform.
    ///
    /// # Errors
    /// The history or the database cannot be read.
    pub fn judge_effects(&self, history: &History, effects: &ByJob) -> Result<(), Failure> {
        effects::check(&history.read()?, effects, &self.rows()?, &self.findings)
    }

    /// What must always be true of rows and objects, once what kills left behind is collected.
    async fn invariants(&mut self, rows: &Rows) -> Result<(), Failure> {
        self.collected += objects::check(&self.data, rows, &self.findings).await?;
        renditions::check(rows, &self.findings)
    }
}

/// No job was held twice at a time, and none was claimed after it was done. Tokens give the order.
fn one_holder_at_a_time(attempts: &[Attempt], findings: &Findings) {
    for (before, after) in attempts.iter().zip(attempts.iter().skip(1)).filter(|(a, b)| a.job == b.job) {
        let apart = before.ended_at_ms.is_some_and(|ended| ended <= after.started_at_ms);
        findings.demand(apart, || format!("a job was held twice at a time: {before:?} and {after:?}"));
        let over = before.outcome.as_deref() == Some("done");
        findings.demand(!over, || format!("a job was claimed after it was done: {before:?} and {after:?}"));
    }
}
