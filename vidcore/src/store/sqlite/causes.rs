//! What a command causes, written in its transaction: idempotency record, jobs, changes.

use rusqlite::{Connection, OptionalExtension, named_params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::Timestamp;
use crate::events::Change;
use crate::idempotency::IdempotencyRecord;
use crate::store::sqlite::Effects;
use crate::store::sqlite::error::{Fail, refuse};
use crate::store::sqlite::writer::Tx;
use crate::store::{Causes, Outcome, StoreError};

struct Stored {
    fingerprint: [u8; 32],
    result: Vec<u8>,
    sealed: Option<Vec<u8>>,
}

/// What an earlier command with this key returned; `None` if there was none.
pub(super) fn replay<T: DeserializeOwned, E: From<StoreError>>(
    tx: &Tx<'_>,
    record: &IdempotencyRecord,
    now: Timestamp,
) -> Result<Option<Outcome<T>>, Fail<E>> {
    let Some(stored) = find(tx.connection(), record, now)? else {
        return Ok(None);
    };
    if stored.fingerprint != record.key.fingerprint {
        return Err(refuse(StoreError::KeyReused.into()));
    }
    let value = serde_json::from_slice(&stored.result).map_err(|error| defect("read an idempotency record", error))?;
    Ok(Some(Outcome::Replayed { value, sealed: stored.sealed }))
}

/// Writes the jobs and changes the command causes and notes them among the effects of the group.
pub(super) fn write<E: From<StoreError>>(tx: &mut Tx<'_>, effects: Effects, now: Timestamp) -> Result<(), Fail<E>> {
    let Effects { causes, hints } = effects;
    tx.effects.jobs.extend(hints);
    let jobs = crate::jobs::sqlite::insert_all(tx.connection(), causes.jobs, &causes.groups, now)?;
    tx.effects.jobs.extend(jobs);
    for change in causes.changes {
        let id = crate::events::sqlite::insert(tx.connection(), &change, now)?;
        tx.effects.changes.push(Change { id, topic: change.topic, key: change.key });
    }
    Ok(())
}

/// Writes the idempotency record, if the caller gave one.
pub(super) fn remember<T: Serialize, E: From<StoreError>>(
    tx: &Tx<'_>,
    causes: &Causes,
    value: &T,
) -> Result<(), Fail<E>> {
    if let Some(record) = &causes.idempotency {
        let result = serde_json::to_vec(value).map_err(|error| defect("write an idempotency record", error))?;
        store(tx.connection(), record, &result)?;
    }
    Ok(())
}

fn defect<E: From<StoreError>>(operation: &'static str, error: serde_json::Error) -> Fail<E> {
    refuse(StoreError::Defect { operation, source: error.into() }.into())
}

fn find(connection: &Connection, record: &IdempotencyRecord, now: Timestamp) -> rusqlite::Result<Option<Stored>> {
    // Primary key (scope, key).
    connection
        .prepare_cached(
            "SELECT fingerprint, result, sealed FROM idempotency
             WHERE scope = :scope AND key = :key AND expires_at_ms > :now",
        )?
        .query_row(named_params! {":scope": record.key.scope, ":key": record.key.key, ":now": now}, |row| {
            Ok(Stored { fingerprint: row.get(0)?, result: row.get(1)?, sealed: row.get(2)? })
        })
        .optional()
}

fn store(connection: &Connection, record: &IdempotencyRecord, result: &[u8]) -> rusqlite::Result<()> {
    // OR REPLACE takes the place of an expired record only: a live one was found by the lookup.
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO idempotency (scope, key, fingerprint, result, sealed, expires_at_ms)
             VALUES (:scope, :key, :fingerprint, :result, :sealed, :expires)",
        )?
        .execute(named_params! {
            ":scope": record.key.scope,
            ":key": record.key.key,
            ":fingerprint": record.key.fingerprint,
            ":result": result,
            ":sealed": record.sealed,
            ":expires": record.expires_at,
        })
        .map(|_| ())
}
