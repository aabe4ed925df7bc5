//! Claiming: which jobs are due, and taking one with a fresh token.

use rusqlite::{Connection, named_params};

use crate::clock::Timestamp;
use crate::jobs::{Lease, QueueName};

use super::LOWEST_PRIORITY_MS;
use super::rows::{COLUMNS, job_from};

/// The best due jobs of one queue, as (pk, rank).
pub(super) fn due(db: &Connection, queue: &QueueName, limit: u16, now: Timestamp) -> rusqlite::Result<Vec<(i64, i64)>> {
    // Index jobs_due: read in rank order; delayed jobs of high priority are stepped over. No due job
    // ranks above the horizon, so those delayed further are not even looked at.
    let horizon = now.as_millis().saturating_add(LOWEST_PRIORITY_MS);
    db.prepare_cached(
        "SELECT pk, rank_ms FROM jobs
         WHERE queue = :queue AND state = 'queued' AND rank_ms <= :horizon AND run_at_ms <= :now
         ORDER BY rank_ms, pk LIMIT :limit",
    )?
    .query_map(named_params! {":queue": queue.as_str(), ":now": now, ":horizon": horizon, ":limit": limit}, |row| {
        Ok((row.get(0)?, row.get(1)?))
    })?
    .collect()
}

pub(super) fn claim(
    db: &Connection,
    pk: i64,
    worker: &str,
    now: Timestamp,
    until: Timestamp,
) -> rusqlite::Result<Lease> {
    db.prepare_cached("INSERT INTO job_attempts (job_pk, worker, started_at_ms) VALUES (:pk, :worker, :now)")?
        .execute(named_params! {":pk": pk, ":worker": worker, ":now": now})?;
    let token = db.last_insert_rowid();
    db.prepare_cached(&format!(
        "UPDATE jobs SET state = 'leased', token = :token, lease_until_ms = :until, attempts = attempts + 1,
            progress = 0, updated_at_ms = :now
         WHERE pk = :pk AND state = 'queued' RETURNING {COLUMNS}"
    ))?
    .query_row(named_params! {":pk": pk, ":token": token, ":until": until, ":now": now}, |row| {
        Ok(Lease { job: job_from(row)?, token, until })
    })
}
