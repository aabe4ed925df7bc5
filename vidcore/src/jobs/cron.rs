//! Jobs by the clock: each moment of a schedule writes one job, however many nodes there are.
//!
//! Every worker looks at its schedules; the store remembers, per schedule, the last moment for which
//! a job was written, in the transaction that writes it. Moments that passed while no worker was
//! there are made up for once, not one by one. A schedule that is seen for the first time waits for
//! its next moment. Times are UTC.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use croner::Cron;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Timestamp};
use crate::entropy::Entropy;
use crate::id::JobId;
use crate::jobs::{JobError, NewJob};
use crate::store::Store;

/// The longest pause between two looks at the clock, which may be set at any time.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How long the store is left alone after it did not answer.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Why a text is not a cron pattern.
#[derive(Debug, thiserror::Error)]
#[error("`{pattern}` is not a cron pattern: {message}")]
pub struct ScheduleError {
    /// The text.
    pub pattern: String,
    /// What is wrong with it.
    pub message: String,
}

/// The moments at which something is done.
#[derive(Clone)]
pub struct Schedule(Moments);

#[derive(Clone)]
enum Moments {
    Every(Duration),
    Cron(Box<Cron>),
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Moments::Every(period) => f.debug_tuple("Every").field(period).finish(),
            Moments::Cron(cron) => f.debug_tuple("Cron").field(&cron.as_str()).finish(),
        }
    }
}

impl Schedule {
    /// Every `period`, at least 1 ms, counted from 1970-01-01T00:00:00Z, so that all nodes agree on the moments.
    pub fn every(period: Duration) -> Self {
        Self(Moments::Every(period.max(Duration::from_millis(1))))
    }

    /// By a cron pattern of five fields (minute, hour, day of month, month, day of week: POSIX `crontab`),
    /// or six with seconds before them, in UTC.
    ///
    /// ```
    /// # use vidcore::jobs::cron::Schedule;
    /// let nightly = Schedule::cron("30 3 * * *")?;
    /// assert!(Schedule::cron("every night").is_err());
    /// # Ok::<(), vidcore::jobs::cron::ScheduleError>(())
    /// ```
    ///
    /// # Errors
    /// [`ScheduleError`] if `pattern` is none, or names no moment at all.
    pub fn cron(pattern: &str) -> Result<Self, ScheduleError> {
        let failed = |message: String| ScheduleError { pattern: pattern.to_owned(), message };
        let cron = Cron::from_str(pattern).map_err(|error| failed(error.to_string()))?;
        cron.find_next_occurrence(&DateTime::<Utc>::UNIX_EPOCH, true).map_err(|error| failed(error.to_string()))?;
        Ok(Self(Moments::Cron(Box::new(cron))))
    }

    /// The last moment that is not after `now`.
    pub fn latest(&self, now: Timestamp) -> Option<Timestamp> {
        match &self.0 {
            Moments::Every(period) => Some(now.minus(past(now, *period))),
            Moments::Cron(cron) => cron.find_previous_occurrence(&date(now)?, true).ok().map(timestamp),
        }
    }

    /// The first moment after `now`.
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        match &self.0 {
            Moments::Every(period) => Some(now.minus(past(now, *period)).plus(*period)),
            Moments::Cron(cron) => cron.find_next_occurrence(&date(now)?, false).ok().map(timestamp),
        }
    }
}

/// How much of the current period has passed.
fn past(now: Timestamp, period: Duration) -> Duration {
    let period = i64::try_from(period.as_millis()).unwrap_or(i64::MAX);
    Duration::from_millis(now.as_millis().rem_euclid(period).unsigned_abs())
}

fn date(moment: Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(moment.as_millis())
}

fn timestamp(date: DateTime<Utc>) -> Timestamp {
    Timestamp::from_millis(date.timestamp_millis())
}

/// A job that is written again and again.
#[derive(Debug, Clone)]
pub struct CronEntry {
    /// Names the schedule in the database; entries of the same name on several nodes are one.
    pub name: String,
    /// When.
    pub schedule: Schedule,
    /// Which workers may claim the job.
    pub queue: String,
    /// Which handler runs it.
    pub kind: String,
    /// What the handler needs.
    pub payload: Value,
    /// How often each job may be claimed, at least 1.
    pub max_attempts: u16,
}

impl CronEntry {
    /// An entry called `name` whose jobs of the kind of the same name wait in `queue`, have an empty payload and
    /// are tried three times.
    pub fn new(name: &str, queue: &str, schedule: Schedule) -> Self {
        Self {
            name: name.to_owned(),
            schedule,
            queue: queue.to_owned(),
            kind: name.to_owned(),
            payload: Value::Null,
            max_attempts: 3,
        }
    }

    /// While the job of an earlier moment is live, that of a later one is left out.
    fn job(&self, now: Timestamp, entropy: &dyn Entropy) -> NewJob {
        NewJob {
            max_attempts: self.max_attempts.max(1),
            unique_key: Some(format!("cron:{}", self.name)),
            ..NewJob::new(JobId::new(now, entropy), &self.queue, &self.kind, self.payload.clone(), now)
        }
    }
}

/// Writes the jobs of its entries when their time comes.
pub(crate) struct Ticker {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) entries: Vec<CronEntry>,
}

impl Ticker {
    /// Runs until it is told to stop.
    pub(crate) async fn run(self, stop: CancellationToken) {
        // Moments this process has told the store about: it need not be asked again.
        let mut told = HashMap::new();
        while !stop.is_cancelled() && !self.entries.is_empty() {
            let pause = self.tick(&mut told).await;
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.clock.sleep(pause) => {}
            }
        }
    }

    /// Tells the store of every moment that has come; returns how long there is nothing to do.
    async fn tick(&self, told: &mut HashMap<String, Timestamp>) -> Duration {
        let now = self.clock.now();
        let mut pause = LONGEST_PAUSE;
        for entry in &self.entries {
            if let Some(slot) = entry.schedule.latest(now)
                && told.get(&entry.name) != Some(&slot)
            {
                match self.fire(entry, slot, now).await {
                    Ok(()) => {
                        told.insert(entry.name.clone(), slot);
                    }
                    Err(error) => {
                        tracing::warn!(%error, schedule = entry.name, "a schedule could not be fired and will be");
                        pause = pause.min(STORE_PAUSE);
                    }
                }
            }
            if let Some(next) = entry.schedule.next(now) {
                pause = pause.min(next.since(now).max(Duration::from_millis(1)));
            }
        }
        pause
    }

    async fn fire(&self, entry: &CronEntry, slot: Timestamp, now: Timestamp) -> Result<(), JobError> {
        if self.store.fire(&entry.name, slot, entry.job(now, &*self.entropy)).await? {
            tracing::debug!(schedule = entry.name, "a scheduled job was written");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(text: &str) -> Timestamp {
        serde_json::from_value(Value::from(text)).expect("a date")
    }

    #[test]
    fn a_period_has_the_same_moments_on_every_node() {
        let schedule = Schedule::every(Duration::from_secs(60));
        let now = moment("2026-01-02T03:04:05.678Z");
        assert_eq!(Some(moment("2026-01-02T03:04:00Z")), schedule.latest(now));
        assert_eq!(Some(moment("2026-01-02T03:05:00Z")), schedule.next(now));
        let exact = moment("2026-01-02T03:05:00Z");
        assert_eq!(Some(exact), schedule.latest(exact));
        assert_eq!(Some(moment("2026-01-02T03:06:00Z")), schedule.next(exact));
    }

    #[test]
    fn a_cron_pattern_is_read_in_utc() {
        let schedule = Schedule::cron("30 3 * * *").expect("a pattern");
        let now = moment("2026-03-29T03:29:59.999Z");
        assert_eq!(Some(moment("2026-03-28T03:30:00Z")), schedule.latest(now));
        assert_eq!(Some(moment("2026-03-29T03:30:00Z")), schedule.next(now));
        let exact = moment("2026-03-29T03:30:00Z");
        assert_eq!(Some(exact), schedule.latest(exact));
        assert_eq!(Some(moment("2026-03-30T03:30:00Z")), schedule.next(exact));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for pattern in ["", "every night", "61 * * * *", "0 0 31 2 *"] {
            assert!(Schedule::cron(pattern).is_err(), "{pattern}");
        }
    }
}
