//! One SQLite file: a fixed set of reader threads and one writer thread that groups commands.
//!
//! WAL and `synchronous=FULL`: what was answered is on disk. The file may be shared by processes of
//! one host on a local disk; each process has its own threads, and SQLite's lock orders the writers.
//! The rooms hold their own SQL (`catalog/sqlite.rs` and so on); this folder knows no table but
//! those of [`Causes`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::{Clock, Timestamp};
use crate::jobs::JobHint;
use crate::store::{BoxError, Causes, CommitObservers, Outcome, Store, StoreError};

mod causes;
mod columns;
mod error;
mod migrate;
mod reader;
mod writer;

#[cfg(test)]
mod tests;

pub(crate) use columns::{json, named};
pub(crate) use error::{Fail, refuse};
pub use migrate::{Migrations, SCHEMA_VERSION};

use reader::Readers;
use writer::{Lane, Writer};

/// The database's file name in the data folder.
pub const FILE_NAME: &str = "vidcore.db";

/// How a SQLite file is opened.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// The file; its folder must exist.
    pub path: PathBuf,
    /// Reader threads, at least 1.
    pub reader_threads: usize,
    /// How long a write waits for another process's write. Default 5 s.
    pub busy_timeout: Duration,
    /// Reads and, apart from them, writes that may wait. Default 1024.
    pub queue_depth: usize,
    /// Whether to bring the schema up to date or to wait until another process has. Default: apply.
    pub migrations: Migrations,
}

impl SqliteOptions {
    /// The file at `path` with defaults: one reader per core, at least two.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self {
            path: path.into(),
            reader_threads: cores.max(2),
            busy_timeout: Duration::from_secs(5),
            queue_depth: 1024,
            migrations: Migrations::Apply,
        }
    }
}

/// What a command causes, while it runs: its closure may add to it and take away from it.
#[derive(Debug)]
pub(crate) struct Effects {
    /// Written after the closure, in the same savepoint.
    pub(crate) causes: Causes,
    /// Jobs the closure itself made claimable.
    pub(crate) hints: Vec<JobHint>,
}

/// Every sub-trait of [`Store`] over one SQLite file. Clones share its threads.
///
/// # Cancel safety
/// A command runs on the writer thread whatever becomes of the future that asked for it, so dropping
/// the future leaves it wholly done or not begun.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    readers: Readers,
    writer: Writer,
}

impl Store for SqliteStore {}

impl SqliteStore {
    /// Opens the file, brings its schema up to date and starts the threads. Blocks: call it from
    /// `spawn_blocking` or before the runtime starts.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the file cannot be opened, is locked, or its schema is newer
    /// than this program.
    pub fn open(
        options: &SqliteOptions,
        clock: Arc<dyn Clock>,
        observers: CommitObservers,
    ) -> Result<Self, StoreError> {
        migrate::run(options)?;
        let readers = Readers::start(options)?;
        let writer = Writer::start(connect(&options.path, options.busy_timeout)?, options, clock, observers)?;
        Ok(Self { inner: Arc::new(Inner { path: options.path.clone(), readers, writer }) })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Runs `f` on a reader thread, in one read transaction.
    pub(crate) async fn read<T, E>(
        &self,
        operation: &'static str,
        f: impl FnOnce(&Connection) -> Result<T, Fail<E>> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.inner.readers.run(operation, f).await
    }

    /// Runs `f` in a savepoint on the writer thread. An idempotency key among the causes is looked up
    /// first; jobs, changes and the record are written after `f`, in the same savepoint.
    pub(crate) async fn command<T, E>(
        &self,
        operation: &'static str,
        causes: Causes,
        f: impl FnOnce(&Connection, Timestamp) -> Result<T, Fail<E>> + Send + 'static,
    ) -> Result<Outcome<T>, E>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.command_with(operation, causes, move |connection, now, _| f(connection, now)).await
    }

    /// Like [`command`](Self::command), where `f` may add causes that depend on what it found, and
    /// may leave those of the caller out.
    pub(crate) async fn command_with<T, E>(
        &self,
        operation: &'static str,
        causes: Causes,
        f: impl FnOnce(&Connection, Timestamp, &mut Effects) -> Result<T, Fail<E>> + Send + 'static,
    ) -> Result<Outcome<T>, E>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.inner
            .writer
            .run(operation, Lane::Ordinary, move |tx, now| {
                if let Some(record) = &causes.idempotency
                    && let Some(replayed) = causes::replay(tx, record, now)?
                {
                    return Ok(replayed);
                }
                let mut effects = Effects { causes, hints: Vec::new() };
                let value = f(tx.connection(), now, &mut effects)?;
                causes::remember(tx, &effects.causes, &value)?;
                causes::write(tx, effects, now)?;
                Ok(Outcome::Done(value))
            })
            .await
    }

    /// Like [`command_with`](Self::command_with), in the lane that is served first and never refuses:
    /// for heartbeats and settlements, whose number is bounded by the jobs that run.
    pub(crate) async fn settlement<T, E>(
        &self,
        operation: &'static str,
        causes: Causes,
        f: impl FnOnce(&Connection, Timestamp, &mut Effects) -> Result<T, Fail<E>> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        debug_assert!(causes.idempotency.is_none(), "a worker's command has no caller who would repeat it");
        self.inner
            .writer
            .run(operation, Lane::Settlement, move |tx, now| {
                let mut effects = Effects { causes, hints: Vec::new() };
                let value = f(tx.connection(), now, &mut effects)?;
                causes::write(tx, effects, now)?;
                Ok(value)
            })
            .await
    }
}

/// Opens a connection with the settings every connection of this project has.
pub(crate) fn connect(path: &Path, busy_timeout: Duration) -> Result<Connection, StoreError> {
    let open = || -> rusqlite::Result<Connection> {
        let connection = Connection::open(path)?;
        configure(&connection, busy_timeout)?;
        Ok(connection)
    };
    open().map_err(|error| error::classify("open the database", error))
}

fn configure(connection: &Connection, busy_timeout: Duration) -> rusqlite::Result<()> {
    connection.busy_timeout(busy_timeout)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // The log is cut back after a checkpoint, so that one large transaction does not keep its size for ever.
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(())
}

fn unavailable(operation: &'static str, source: impl Into<BoxError>) -> StoreError {
    StoreError::Unavailable { operation, source: source.into() }
}
