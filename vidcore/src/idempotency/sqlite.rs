//! SQL of the housekeeping; records are written by `store/sqlite/causes.rs`.

use async_trait::async_trait;
use rusqlite::named_params;

use crate::clock::Timestamp;
use crate::idempotency::IdempotencyStore;
use crate::store::sqlite::SqliteStore;
use crate::store::{Causes, Outcome, StoreError};

#[async_trait]
impl IdempotencyStore for SqliteStore {
    async fn prune_idempotency(&self, now: Timestamp, limit: u16) -> Result<u64, StoreError> {
        self.command("prune idempotency records", Causes::none(), move |db, _| {
            // Index idempotency_expiry.
            let gone = db
                .prepare_cached(
                    "DELETE FROM idempotency WHERE (scope, key) IN (
                        SELECT scope, key FROM idempotency WHERE expires_at_ms <= :now
                        ORDER BY expires_at_ms LIMIT :limit)",
                )?
                .execute(named_params! {":now": now, ":limit": limit})?;
            Ok(gone as u64)
        })
        .await
        .map(Outcome::into_inner)
    }
}
