//! The engine's statements without the engine: what a benchmark sets it beside.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use crate::clock::Timestamp;
use crate::jobs::{Claim, Lease, NewJob, QueueName};
use crate::store::sqlite::{Effects, connect};
use crate::store::{Causes, StoreError};

use super::{claim, complete, insert_all};

/// One connection that claims and completes jobs in a loop, with the very statements and settings of the store and
/// with no queue, thread, future or savepoint around them.
#[derive(Debug)]
pub struct BareLoop {
    connection: Connection,
    held: Vec<Lease>,
}

impl BareLoop {
    /// A loop over a file whose schema is up to date.
    ///
    /// # Errors
    /// [`StoreError`] if it does not open.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { connection: connect(path, Duration::from_secs(5))?, held: Vec::new() })
    }

    /// Writes jobs in one transaction.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn enqueue(&mut self, jobs: Vec<NewJob>, now: Timestamp) -> rusqlite::Result<()> {
        self.transaction(|db| insert_all(db, jobs, &[], now).map(|_| ()))
    }

    /// Completes what the turn before claimed and claims up to `limit` more, in one transaction; returns
    /// how many were completed.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn turn(&mut self, queue: &str, limit: u16, now: Timestamp) -> rusqlite::Result<usize> {
        let claim = Claim {
            queues: vec![QueueName::new(queue)],
            limit,
            lease_for: Duration::from_secs(60),
            worker: "bare".to_owned(),
            per_owner: None,
        };
        let held = std::mem::take(&mut self.held);
        let count = held.len();
        self.held = self.transaction(|db| {
            let mut effects = Effects { causes: Causes::none(), hints: Vec::new() };
            for lease in &held {
                complete(db, lease.fence(), now, &mut effects)?;
            }
            claim::lease(db, &claim, now)
        })?;
        Ok(count)
    }

    fn transaction<T>(&self, run: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let db = &self.connection;
        db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let outcome = run(db)?;
        db.prepare_cached("COMMIT")?.execute([])?;
        Ok(outcome)
    }
}
