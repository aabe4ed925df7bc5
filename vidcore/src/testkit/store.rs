//! A SQLite store in a temporary folder, with time and randomness that a test governs.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::named_params;
use tempfile::TempDir;

use crate::clock::{Clock, ManualClock};
use crate::entropy::SeededEntropy;
use crate::id::UserId;
use crate::store::sqlite::{FILE_NAME, SqliteOptions, SqliteStore};
use crate::store::{Causes, CommitObservers, StoreError};

/// How long anything that has its own clock is waited for before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// An empty folder for a database: in memory where the machine has such a place and `TMPDIR` does not
/// say otherwise, so that tests do not wait for a disk that other tests keep busy.
///
/// # Errors
/// [`std::io::Error`] if no temporary folder can be made.
pub fn temporary_folder() -> std::io::Result<TempDir> {
    if std::env::var_os("TMPDIR").is_none()
        && let Ok(folder) = tempfile::tempdir_in("/dev/shm")
    {
        return Ok(folder);
    }
    tempfile::tempdir()
}

/// A store of its own file; the folder goes away with the value.
#[derive(Debug)]
pub struct TestStore {
    /// The store.
    pub store: SqliteStore,
    /// The time it goes by: stands still until it is advanced.
    pub clock: ManualClock,
    /// Repeatable randomness for ids.
    pub entropy: Arc<SeededEntropy>,
    options: SqliteOptions,
    _folder: TempDir,
}

impl TestStore {
    /// An empty store that tells nobody of its commits.
    pub async fn open() -> Self {
        Self::open_with(Vec::new(), |_| {}).await
    }

    /// An empty store with these observers, its options changed by `adjust`.
    ///
    /// # Panics
    /// If there is no temporary folder or the store does not open.
    pub async fn open_with(observers: CommitObservers, adjust: impl FnOnce(&mut SqliteOptions)) -> Self {
        let folder = temporary_folder().expect("there is a temporary folder");
        let clock = ManualClock::default();
        let mut options = SqliteOptions::new(folder.path().join(FILE_NAME));
        options.reader_threads = 2;
        adjust(&mut options);
        let store = open(&options, &clock, observers).await.expect("a new store opens");
        Self { store, clock, entropy: Arc::new(SeededEntropy::new(7)), options, _folder: folder }
    }

    /// A second store on the same file, as another process of this host has it.
    ///
    /// # Panics
    /// If it does not open.
    pub async fn neighbour(&self, observers: CommitObservers) -> SqliteStore {
        open(&self.options, &self.clock, observers).await.expect("a second store opens")
    }

    /// A connection beside the store's own, for looking at rows and for holding locks.
    ///
    /// # Panics
    /// If it does not open.
    pub fn connection(&self) -> rusqlite::Connection {
        let connection = rusqlite::Connection::open(&self.options.path).expect("the file opens");
        connection.busy_timeout(PATIENCE).expect("the timeout is set");
        connection
    }

    /// How the store was opened.
    pub fn options(&self) -> &SqliteOptions {
        &self.options
    }

    /// Writes an account called `handle`, who cannot sign in.
    ///
    /// # Panics
    /// If the row cannot be written.
    pub async fn create_user(&self, handle: &str) -> UserId {
        let id = UserId::new(self.clock.now(), &*self.entropy);
        let handle = handle.to_owned();
        self.store
            .command("create a test user", Causes::none(), move |db, now| {
                db.prepare_cached(
                    "INSERT INTO users (id, email, handle, display_name, password_hash, created_at_ms, updated_at_ms)
                     VALUES (:id, :handle || '@example.org', :handle, :handle, 'none', :now, :now)",
                )?
                .execute(named_params! {":id": id, ":handle": handle, ":now": now})?;
                Ok(())
            })
            .await
            .map(|_| id)
            .unwrap_or_else(|error: StoreError| panic!("the user is written: {error}"))
    }
}

async fn open(
    options: &SqliteOptions,
    clock: &ManualClock,
    observers: CommitObservers,
) -> Result<SqliteStore, StoreError> {
    let (options, clock) = (options.clone(), Arc::new(clock.clone()));
    tokio::task::spawn_blocking(move || SqliteStore::open(&options, clock, observers))
        .await
        .expect("opening does not panic")
}
