//! Repairs of jobs whose rows contradict each other. Each looks for its contradiction itself and changes
//! nothing where there is none, so that all may run beside workers.

use rusqlite::{Connection, OptionalExtension, named_params};

use crate::clock::Timestamp;
use crate::id::{JobGroupId, JobId};
use crate::jobs::{Death, Job, JobState};
use crate::store::sqlite::Effects;

use super::PRIORITY_STEP_MS;
use super::insert::take_finished;
use super::rows::find;
use super::settle::{Ending, finish, requeue};

const WHY: &str = "the record of this attempt was damaged";

/// Counts anew how many jobs of each owner wait and run; returns whether a count was wrong.
pub(crate) fn owners(db: &Connection) -> rusqlite::Result<bool> {
    let counted = db.execute(
        "INSERT INTO job_owners (queue, owner_id, ready, running, turn)
         SELECT queue, coalesce(owner_id, x''), sum(state = 'queued' AND due = 1) AS waiting, sum(state = 'leased') AS held,
            coalesce(max(token), 0)
         FROM jobs WHERE state IN ('queued', 'leased') GROUP BY queue, coalesce(owner_id, x'') HAVING waiting + held > 0
         ON CONFLICT (queue, owner_id) DO UPDATE SET ready = excluded.ready, running = excluded.running
            WHERE ready <> excluded.ready OR running <> excluded.running",
        [],
    )?;
    let emptied = db.execute(
        "UPDATE job_owners AS o SET ready = 0, running = 0 WHERE (ready <> 0 OR running <> 0) AND NOT EXISTS (
            SELECT 1 FROM jobs j WHERE j.queue = o.queue AND coalesce(j.owner_id, x'') = o.owner_id
                AND (j.state = 'leased' OR (j.state = 'queued' AND j.due = 1)))",
        [],
    )?;
    Ok(counted + emptied > 0)
}

/// Lets ended jobs leave their groups, counts the members of every group anew, and writes what follows
/// those that have none left; returns whether anything was wrong.
pub(crate) fn groups(db: &Connection, effects: &mut Effects) -> rusqlite::Result<bool> {
    let left = db.execute(
        "UPDATE jobs SET group_id = NULL WHERE group_id IS NOT NULL AND state IN ('done', 'dead', 'cancelled')",
        [],
    )?;
    let recounted = db.execute(
        "UPDATE job_groups AS g SET remaining = (SELECT count(*) FROM jobs j WHERE j.group_id = g.id)
         WHERE remaining <> (SELECT count(*) FROM jobs j WHERE j.group_id = g.id)",
        [],
    )?;
    let finished: Vec<JobGroupId> = db
        .prepare("SELECT id FROM job_groups WHERE remaining = 0")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for group in &finished {
        effects.causes.jobs.extend(take_finished(db, *group)?);
    }
    Ok(left + recounted + finished.len() > 0)
}

/// Makes one job's row agree with itself and with its attempts; returns whether it did not.
pub(crate) fn job(db: &Connection, id: JobId, now: Timestamp, effects: &mut Effects) -> rusqlite::Result<bool> {
    // Every change of a state counts on these.
    owners(db)?;
    let mut wrong = consistent(db, id, now)?;
    wrong |= end_ghosts(db, id, now)?;
    let Some(found) = find(db, id)? else { return Ok(wrong) };
    wrong |= free(db, &found, now, effects)?;
    wrong |= newest_token(db, id)?;
    wrong |= one_of_its_key(db, &found, now, effects)?;
    Ok(wrong)
}

/// What is wrong within the row alone, all at once: the schema's own checks look at each new row whole.
fn consistent(db: &Connection, id: JobId, now: Timestamp) -> rusqlite::Result<bool> {
    let recorded = "(SELECT count(*) FROM job_attempts a WHERE a.job_pk = jobs.pk AND a.outcome IS NOT 'released')";
    let sql = format!(
        "UPDATE jobs SET
            attempts = min(attempts, {recorded}),
            max_attempts = max(1, max_attempts, min(attempts, {recorded})),
            rank_ms = run_at_ms - priority * :step,
            finished_at_ms = iif(state IN ('done', 'dead', 'cancelled'), coalesce(finished_at_ms, updated_at_ms), NULL),
            lease_until_ms = iif(state = 'leased', coalesce(lease_until_ms, :now), NULL)
         WHERE id = :id AND (attempts > {recorded} OR attempts > max_attempts OR max_attempts < 1
            OR rank_ms <> run_at_ms - priority * :step
            OR (state IN ('done', 'dead', 'cancelled')) <> (finished_at_ms IS NOT NULL)
            OR (state = 'leased') <> (lease_until_ms IS NOT NULL))"
    );
    Ok(db.execute(&sql, named_params! {":id": id, ":step": PRIORITY_STEP_MS, ":now": now})? > 0)
}

/// Ends attempts that have not ended and do not hold the job.
fn end_ghosts(db: &Connection, id: JobId, now: Timestamp) -> rusqlite::Result<bool> {
    let ended = db.execute(
        "UPDATE job_attempts AS a SET ended_at_ms = :now, outcome = 'lost', error = :why
         WHERE a.ended_at_ms IS NULL AND a.job_pk = (SELECT pk FROM jobs WHERE id = :id) AND NOT EXISTS (
            SELECT 1 FROM jobs j WHERE j.pk = a.job_pk AND j.state = 'leased' AND j.token = a.token)",
        named_params! {":id": id, ":now": now, ":why": WHY},
    )?;
    Ok(ended > 0)
}

/// Takes the job from an attempt that is not on record, or is not the newest, as the sweep takes it from
/// one that went away.
fn free(db: &Connection, found: &Job, now: Timestamp, effects: &mut Effects) -> rusqlite::Result<bool> {
    let astray: bool = db.query_row(
        "SELECT EXISTS (SELECT 1 FROM jobs j WHERE j.id = :id AND j.state = 'leased' AND (
            j.token IS NOT (SELECT max(a.token) FROM job_attempts a WHERE a.job_pk = j.pk)
            OR NOT EXISTS (SELECT 1 FROM job_attempts a
                WHERE a.job_pk = j.pk AND a.token = j.token AND a.ended_at_ms IS NULL)))",
        named_params! {":id": found.id},
        |row| row.get(0),
    )?;
    if !astray {
        return Ok(false);
    }
    if found.cancel_requested {
        finish(db, found, &Ending::CANCELLED, now, effects)?;
    } else if found.attempts >= found.max_attempts {
        finish(db, found, &Ending::dead(Death::Lost, WHY), now, effects)?;
    } else {
        requeue(db, found.id, Some(WHY), now, now)?;
        effects.hints.push(found.hint());
    }
    // The attempt that held it holds it no longer.
    end_ghosts(db, found.id, now)?;
    Ok(true)
}

fn newest_token(db: &Connection, id: JobId) -> rusqlite::Result<bool> {
    let newest = "(SELECT max(a.token) FROM job_attempts a WHERE a.job_pk = jobs.pk)";
    let sql =
        format!("UPDATE jobs SET token = {newest} WHERE id = :id AND state <> 'leased' AND token IS NOT {newest}");
    Ok(db.execute(&sql, named_params! {":id": id})? > 0)
}

/// Of two live jobs of one unique key the older one goes on. Nothing follows the other: it is the older
/// one that says what becomes of its work.
fn one_of_its_key(db: &Connection, found: &Job, now: Timestamp, effects: &mut Effects) -> rusqlite::Result<bool> {
    let state: Option<String> = db
        .query_row(
            "SELECT j.state FROM jobs j WHERE j.id = :id AND j.unique_key IS NOT NULL AND j.state IN ('queued', 'leased')
                AND EXISTS (SELECT 1 FROM jobs other WHERE other.unique_key = j.unique_key AND other.pk < j.pk
                    AND other.state IN ('queued', 'leased'))",
            named_params! {":id": found.id},
            |row| row.get(0),
        )
        .optional()?;
    let Some(state) = state else { return Ok(false) };
    db.execute(
        "UPDATE jobs SET unique_key = NULL, on_dead = NULL, cancel_requested = 1 WHERE id = :id",
        named_params! {":id": found.id},
    )?;
    if state == JobState::Queued.as_str() {
        finish(db, found, &Ending::CANCELLED, now, effects)?;
    }
    Ok(true)
}
