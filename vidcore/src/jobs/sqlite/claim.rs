//! Claiming: whose turn it is, which of their jobs is first, and taking it with a fresh token.

use std::num::NonZeroU32;

use rusqlite::{Connection, OptionalExtension, named_params};

use crate::clock::Timestamp;
use crate::jobs::{Claim, Lease, QueueName};

use super::rows::{COLUMNS, job_from};

/// Delayed jobs that one round makes due.
const DUE_AT_ONCE: u16 = 256;

/// Rounds of one claim: a flood of jobs that become due together is taken in by several claims.
const DUE_ROUNDS: u16 = 8;

/// The job that goes next in one queue.
struct Candidate {
    pk: i64,
    rank: i64,
}

/// Leases what the claim asks for, as far as it is there.
pub(super) fn lease(db: &Connection, claim: &Claim, now: Timestamp) -> rusqlite::Result<Vec<Lease>> {
    let mut queues = Vec::with_capacity(claim.queues.len());
    for queue in &claim.queues {
        if !is_paused(db, queue)? {
            make_due(db, queue, now)?;
            queues.push((queue, candidate(db, queue, claim.per_owner)?));
        }
    }
    let until = now.plus(claim.lease_for);
    let mut leases = Vec::new();
    while leases.len() < usize::from(claim.limit) {
        let best = queues.iter_mut().filter(|(_, next)| next.is_some());
        let Some((queue, next)) = best.min_by_key(|(_, next)| next.as_ref().map(|next| (next.rank, next.pk))) else {
            break;
        };
        if let Some(Candidate { pk, .. }) = next.take() {
            leases.push(take(db, pk, &claim.worker, now, until)?);
        }
        *next = candidate(db, queue, claim.per_owner)?;
    }
    Ok(leases)
}

pub(super) fn is_paused(db: &Connection, queue: &QueueName) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT EXISTS (SELECT 1 FROM paused_queues WHERE queue = :queue)")?
        .query_row(named_params! {":queue": queue.as_str()}, |row| row.get(0))
}

/// Delayed jobs whose time has come are due from now on.
fn make_due(db: &Connection, queue: &QueueName, now: Timestamp) -> rusqlite::Result<()> {
    for _ in 0..DUE_ROUNDS {
        // Index jobs_waiting.
        let rows = db
            .prepare_cached(
                "UPDATE jobs SET due = 1 WHERE pk IN (
                    SELECT pk FROM jobs WHERE queue = :queue AND state = 'queued' AND due = 0 AND run_at_ms <= :now
                    ORDER BY run_at_ms LIMIT :limit)",
            )?
            .execute(named_params! {":queue": queue.as_str(), ":now": now, ":limit": DUE_AT_ONCE})?;
        if rows < usize::from(DUE_AT_ONCE) {
            break;
        }
    }
    Ok(())
}

/// The next owner's best job. Owners who are served enough are passed over at once: they are sorted by
/// how many of their jobs run.
fn candidate(db: &Connection, queue: &QueueName, per_owner: Option<NonZeroU32>) -> rusqlite::Result<Option<Candidate>> {
    // Index job_owners_next.
    let owner: Option<Vec<u8>> = db
        .prepare_cached(
            "SELECT owner_id FROM job_owners WHERE queue = :queue AND ready > 0 AND running < :most
             ORDER BY running, turn, rowid LIMIT 1",
        )?
        .query_row(named_params! {":queue": queue.as_str(), ":most": most(per_owner)}, |row| row.get(0))
        .optional()?;
    let Some(owner) = owner else { return Ok(None) };
    let owner = (!owner.is_empty()).then_some(owner);
    // Index jobs_next, whose entries of one rank are in the order of pk.
    db.prepare_cached(
        "SELECT pk, rank_ms FROM jobs WHERE queue = :queue AND owner_id IS :owner AND state = 'queued' AND due = 1
         ORDER BY rank_ms, pk LIMIT 1",
    )?
    .query_row(named_params! {":queue": queue.as_str(), ":owner": owner}, |row| {
        Ok(Candidate { pk: row.get(0)?, rank: row.get(1)? })
    })
    .optional()
}

/// The limit as a number for SQL: without one, more than can ever run.
pub(super) fn most(per_owner: Option<NonZeroU32>) -> i64 {
    per_owner.map_or(i64::MAX, |most| most.get().into())
}

fn take(db: &Connection, pk: i64, worker: &str, now: Timestamp, until: Timestamp) -> rusqlite::Result<Lease> {
    db.prepare_cached("INSERT INTO job_attempts (job_pk, worker, started_at_ms) VALUES (:pk, :worker, :now)")?
        .execute(named_params! {":pk": pk, ":worker": worker, ":now": now})?;
    let token = db.last_insert_rowid();
    let mut statement = db.prepare_cached(&format!(
        "UPDATE jobs SET state = 'leased', token = :token, lease_until_ms = :until, attempts = attempts + 1,
            progress = 0, updated_at_ms = :now
         WHERE pk = :pk AND state = 'queued' RETURNING {COLUMNS}"
    ))?;
    statement.query_row(named_params! {":pk": pk, ":token": token, ":until": until, ":now": now}, |row| {
        Ok(Lease { job: job_from(row)?, token, until })
    })
}
