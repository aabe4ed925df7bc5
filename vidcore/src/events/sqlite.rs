//! SQL of the invalidations.

use async_trait::async_trait;
use rusqlite::{Connection, named_params};

use crate::clock::Timestamp;
use crate::events::{Change, ChangeBounds, EventStore, NewChange};
use crate::store::sqlite::SqliteStore;
use crate::store::{Causes, Outcome, StoreError};

/// Writes a change and returns its id, which follows the order of commits.
pub(crate) fn insert(connection: &Connection, change: &NewChange, now: Timestamp) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("INSERT INTO changes (topic, key, at_ms) VALUES (:topic, :key, :now)")?
        .execute(named_params! {":topic": change.topic, ":key": change.key, ":now": now})?;
    Ok(connection.last_insert_rowid())
}

/// Up to `limit` changes above `after`, oldest first.
pub(crate) fn tail(connection: &Connection, after: i64, limit: u16) -> rusqlite::Result<Vec<Change>> {
    connection
        .prepare_cached("SELECT id, topic, key FROM changes WHERE id > :after ORDER BY id LIMIT :limit")?
        .query_map(named_params! {":after": after, ":limit": limit}, |row| {
            Ok(Change { id: row.get(0)?, topic: row.get(1)?, key: row.get(2)? })
        })?
        .collect()
}

/// The highest id ever handed out, whether or not its row is still there.
pub(crate) fn last_id(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'changes'), 0)")?
        .query_row([], |row| row.get(0))
}

/// The lowest id still there, or the next one to be handed out when none is. One statement: a row that
/// is written between two would look like one that was pruned.
pub(crate) fn first_kept_id(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached(
            "SELECT coalesce((SELECT min(id) FROM changes),
                             (SELECT seq + 1 FROM sqlite_sequence WHERE name = 'changes'), 1)",
        )?
        .query_row([], |row| row.get(0))
}

#[async_trait]
impl EventStore for SqliteStore {
    async fn change_bounds(&self) -> Result<ChangeBounds, StoreError> {
        self.read("read the bounds of changes", |db| {
            // Two statements: what is written between them only raises the last id.
            Ok(ChangeBounds { first_kept: first_kept_id(db)?, last: last_id(db)? })
        })
        .await
    }

    async fn changes_after(&self, after: i64, limit: u16) -> Result<Vec<Change>, StoreError> {
        self.read("read changes", move |db| Ok(tail(db, after, limit)?)).await
    }

    async fn prune_changes(&self, before: Timestamp, limit: u16) -> Result<u64, StoreError> {
        self.command("prune changes", Causes::none(), move |db, _| {
            // Index changes_at.
            let gone = db
                .prepare_cached(
                    "DELETE FROM changes WHERE id IN (
                        SELECT id FROM changes WHERE at_ms < :before ORDER BY at_ms, id LIMIT :limit)",
                )?
                .execute(named_params! {":before": before, ":limit": limit})?;
            Ok(gone as u64)
        })
        .await
        .map(Outcome::into_inner)
    }
}
