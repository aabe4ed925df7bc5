//! What operators and housekeeping do: pause, replay, count, fire schedules, forget what ended.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use rusqlite::{Connection, OptionalExtension, named_params};

use crate::clock::Timestamp;
use crate::id::JobId;
use crate::jobs::{
    Attempt, AttemptOutcome, JobFilter, JobHint, JobRetention, JobState, NewJob, QueueName, QueueStats, Replay,
};
use crate::store::sqlite::Effects;

use super::claim::{is_paused, most};
use super::insert::insert;
use super::rows::{bind, conditions};
use super::{CLOCK_SLACK, PRIORITY_STEP_MS};

pub(super) fn set_paused(db: &Connection, queue: &QueueName, paused: bool, now: Timestamp) -> rusqlite::Result<()> {
    let sql = match paused {
        true => "INSERT INTO paused_queues (queue, since_ms) VALUES (:queue, :now) ON CONFLICT DO NOTHING",
        false => "DELETE FROM paused_queues WHERE queue = :queue AND :now IS NOT NULL",
    };
    db.prepare_cached(sql)?.execute(named_params! {":queue": queue.as_str(), ":now": now}).map(|_| ())
}

/// Queues a dead job again; `false` if it is not dead or a live job has its unique key.
pub(super) fn requeue_dead(db: &Connection, id: JobId, now: Timestamp) -> rusqlite::Result<bool> {
    // OR IGNORE: a live job may have taken the unique key meanwhile.
    let rows = db
        .prepare_cached(
            "UPDATE OR IGNORE jobs SET state = 'queued', due = 1, attempts = 0, progress = 0, run_at_ms = :now,
                rank_ms = :now - priority * :step, finished_at_ms = NULL, death = NULL, cancel_requested = 0,
                updated_at_ms = :now
             WHERE id = :id AND state = 'dead'",
        )?
        .execute(named_params! {":id": id, ":step": PRIORITY_STEP_MS, ":now": now})?;
    Ok(rows == 1)
}

pub(super) fn replay(
    db: &Connection,
    filter: &JobFilter,
    limit: u16,
    now: Timestamp,
    effects: &mut Effects,
) -> rusqlite::Result<Replay> {
    let (dead, mut replay) = replayable(db, filter, limit)?;
    for hint in dead {
        // One before it in this very call may have had the same key.
        if requeue_dead(db, hint.job, now)? {
            effects.hints.push(hint);
            replay.replayed += 1;
        } else {
            replay.left_out += 1;
        }
    }
    Ok(replay)
}

/// Up to `limit` dead jobs whose unique key no live job has, those that died first first; with how many
/// stand between them that have to stay, and whether there are more.
fn replayable(db: &Connection, filter: &JobFilter, limit: u16) -> rusqlite::Result<(Vec<JobHint>, Replay)> {
    let (conditions, values) = conditions(&JobFilter { state: Some(JobState::Dead), ..filter.clone() });
    // Rows are read one by one for as long as they are wanted: thousands that have to stay may stand before the
    // first that need not. Index jobs_unique_live for the twins.
    let jobs = match filter {
        JobFilter { owner: None, video: None, queue: Some(_), .. } => "jobs INDEXED BY jobs_dead",
        JobFilter { owner: None, video: None, queue: None, .. } => "jobs INDEXED BY jobs_ended",
        _ => "jobs",
    };
    let mut statement = db.prepare_cached(&format!(
        "SELECT id, queue, EXISTS (
            SELECT 1 FROM jobs live WHERE live.unique_key = jobs.unique_key AND live.state IN ('queued', 'leased'))
         FROM {jobs} WHERE {conditions} AND finished_at_ms IS NOT NULL ORDER BY finished_at_ms, pk"
    ))?;
    let (mut dead, mut replay) = (Vec::new(), Replay::default());
    let mut rows = statement.query(bind(&values).as_slice())?;
    while let Some(row) = rows.next()? {
        if row.get(2)? {
            replay.left_out += 1;
        } else if dead.len() < usize::from(limit) {
            dead.push(JobHint { job: row.get(0)?, queue: QueueName::new(row.get::<_, String>(1)?) });
        } else {
            replay.more = true;
            break;
        }
    }
    Ok((dead, replay))
}

pub(super) fn fire(
    db: &Connection,
    name: &str,
    slot: Timestamp,
    job: &NewJob,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    let known: Option<Timestamp> = db
        .prepare_cached("SELECT last_slot_ms FROM job_schedules WHERE name = :name")?
        .query_row(named_params! {":name": name}, |row| row.get(0))
        .optional()?;
    // A moment far in the future was noted by a clock that was wrong: the schedule begins anew.
    let known = known.filter(|last| *last <= now.plus(CLOCK_SLACK));
    if known.is_some_and(|last| last >= slot) {
        return Ok(false);
    }
    db.prepare_cached(
        "INSERT INTO job_schedules (name, last_slot_ms) VALUES (:name, :slot)
         ON CONFLICT (name) DO UPDATE SET last_slot_ms = :slot",
    )?
    .execute(named_params! {":name": name, ":slot": slot})?;
    // A job of an earlier moment that is still live has the unique key: this one is left out.
    Ok(known.is_some() && insert(db, job, now)?)
}

pub(super) fn prune(db: &Connection, retention: JobRetention, limit: u16) -> rusqlite::Result<u64> {
    let mut gone = 0;
    for (state, before) in [
        (JobState::Done, retention.done_before),
        (JobState::Cancelled, retention.done_before),
        (JobState::Dead, retention.dead_before),
    ] {
        // Index jobs_ended; attempts go with their job.
        gone += db
            .prepare_cached(
                "DELETE FROM jobs WHERE pk IN (
                    SELECT pk FROM jobs WHERE state = :state AND finished_at_ms < :before
                    ORDER BY finished_at_ms LIMIT :limit)",
            )?
            .execute(named_params! {
                ":state": state.as_str(), ":before": before, ":limit": i64::from(limit) - gone as i64,
            })?;
    }
    // Who has no live job any more. There are as many rows as there were owners since the last time.
    db.prepare_cached("DELETE FROM job_owners WHERE ready = 0 AND running = 0")?.execute([])?;
    Ok(gone as u64)
}

pub(super) fn next_due(
    db: &Connection,
    queue: &QueueName,
    per_owner: Option<NonZeroU32>,
) -> rusqlite::Result<Option<Timestamp>> {
    if is_paused(db, queue)? {
        return Ok(None);
    }
    // Index job_owners_next.
    let claimable: bool = db
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM job_owners WHERE queue = :queue AND ready > 0 AND running < :most)",
        )?
        .query_row(named_params! {":queue": queue.as_str(), ":most": most(per_owner)}, |row| row.get(0))?;
    if claimable && let Some(due) = earliest(db, queue, true)? {
        return Ok(Some(due));
    }
    earliest(db, queue, false)
}

/// When the earliest job that is due, or the earliest that is not, can or could be claimed.
fn earliest(db: &Connection, queue: &QueueName, due: bool) -> rusqlite::Result<Option<Timestamp>> {
    // Index jobs_waiting.
    db.prepare_cached("SELECT min(run_at_ms) FROM jobs WHERE queue = :queue AND state = 'queued' AND due = :due")?
        .query_row(named_params! {":queue": queue.as_str(), ":due": due}, |row| row.get(0))
}

/// When the next queued job of any queue is or was due.
pub(crate) fn next_of_all(db: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    let mut next: Option<Timestamp> = None;
    for queue in waiting_queues(db)? {
        for due in [true, false] {
            next = match (next, earliest(db, &queue, due)?) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
    }
    Ok(next)
}

/// The queues that have queued jobs: from one to the next in index jobs_waiting, for they are few and their
/// jobs may be many.
fn waiting_queues(db: &Connection) -> rusqlite::Result<Vec<QueueName>> {
    let mut statement = db.prepare_cached("SELECT min(queue) FROM jobs WHERE state = 'queued' AND queue > :queue")?;
    let mut queues: Vec<QueueName> = Vec::new();
    loop {
        let last = queues.last().map_or("", QueueName::as_str);
        match statement.query_row(named_params! {":queue": last}, |row| row.get::<_, Option<String>>(0))? {
            Some(queue) => queues.push(QueueName::new(queue)),
            None => return Ok(queues),
        }
    }
}

pub(super) fn attempts(db: &Connection, job: JobId, limit: u16) -> rusqlite::Result<Vec<Attempt>> {
    // Index job_attempts_job.
    db.prepare_cached(
        "SELECT token, worker, started_at_ms, ended_at_ms, outcome, error FROM job_attempts
         WHERE job_pk = (SELECT pk FROM jobs WHERE id = :job) ORDER BY token DESC LIMIT :limit",
    )?
    .query_map(named_params! {":job": job, ":limit": limit}, |row| {
        Ok(Attempt {
            token: row.get("token")?,
            worker: row.get("worker")?,
            started_at: row.get("started_at_ms")?,
            ended_at: row.get("ended_at_ms")?,
            outcome: row.get::<_, Option<String>>("outcome")?.as_deref().and_then(AttemptOutcome::parse),
            error: row.get("error")?,
        })
    })?
    .collect()
}

pub(super) fn queues(db: &Connection) -> rusqlite::Result<Vec<QueueStats>> {
    // The owners' counts are sums: no due job is looked at but the oldest one of each queue.
    let mut statement = db.prepare_cached(
        "WITH counted (queue, ready, running, dead) AS (
            SELECT queue, sum(ready), sum(running), 0 FROM job_owners GROUP BY queue
            UNION ALL
            SELECT queue, 0, 0, count(*) FROM jobs WHERE state = 'dead' GROUP BY queue
            UNION ALL
            SELECT queue, 0, 0, 0 FROM paused_queues)
         SELECT c.queue, sum(c.ready) AS ready, sum(c.running) AS running, sum(c.dead) AS dead, p.since_ms
         FROM counted c LEFT JOIN paused_queues p ON p.queue = c.queue GROUP BY c.queue",
    )?;
    let count = |row: &rusqlite::Row<'_>, name: &str| row.get::<_, i64>(name).map(i64::unsigned_abs);
    let found = statement.query_map([], |row| {
        Ok(QueueStats {
            paused_since: row.get("since_ms")?,
            ready: count(row, "ready")?,
            running: count(row, "running")?,
            dead: count(row, "dead")?,
            ..QueueStats::empty(QueueName::new(row.get::<_, String>("queue")?))
        })
    })?;
    let mut queues: BTreeMap<QueueName, QueueStats> = BTreeMap::new();
    for stats in found {
        let stats = stats?;
        queues.insert(stats.queue.clone(), stats);
    }
    for queue in waiting_queues(db)? {
        let stats = queues.entry(queue.clone()).or_insert_with(|| QueueStats::empty(queue));
        stats.delayed = delayed(db, &stats.queue)?;
        stats.oldest_due_at = earliest(db, &stats.queue, true)?;
    }
    queues.retain(|_, stats| !stats.is_idle());
    Ok(queues.into_values().collect())
}

fn delayed(db: &Connection, queue: &QueueName) -> rusqlite::Result<u64> {
    // Index jobs_waiting.
    db.prepare_cached("SELECT count(*) FROM jobs WHERE queue = :queue AND state = 'queued' AND due = 0")?
        .query_row(named_params! {":queue": queue.as_str()}, |row| row.get::<_, i64>(0))
        .map(i64::unsigned_abs)
}

pub(super) fn counts(db: &Connection) -> rusqlite::Result<Vec<(QueueName, JobState, u64)>> {
    let each = |stats: QueueStats| {
        let QueueStats { queue, ready, delayed, running, dead, .. } = stats;
        [(JobState::Queued, ready + delayed), (JobState::Leased, running), (JobState::Dead, dead)]
            .map(|(state, count)| (queue.clone(), state, count))
    };
    Ok(queues(db)?.into_iter().flat_map(each).filter(|(_, _, count)| *count > 0).collect())
}
