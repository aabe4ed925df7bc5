//! The reader threads: each takes a connection from the r2d2 pool for one read at a time.
//!
//! Reads do not go through tokio's blocking pool: the hop costs more than most of the queries. The
//! pool holds as many connections as there are threads, so nothing ever waits inside r2d2.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError};
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::oneshot;

use crate::store::StoreError;
use crate::store::sqlite::error::{Fail, classify};
use crate::store::sqlite::{SqliteOptions, configure, unavailable};

type Pool = r2d2::Pool<SqliteConnectionManager>;
type Job = Box<dyn FnOnce(Result<&Connection, StoreError>) + Send>;

#[derive(Debug)]
pub(super) struct Readers {
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    pub(super) fn start(options: &SqliteOptions) -> Result<Self, StoreError> {
        let threads = options.reader_threads.max(1);
        let pool = open_pool(options, threads)?;
        let (jobs, queue) = crossbeam_channel::bounded(options.queue_depth.max(1));
        let threads = (0..threads)
            .map(|number| {
                let (queue, pool) = (queue.clone(), pool.clone());
                std::thread::Builder::new()
                    .name(format!("sqlite-read-{number}"))
                    .spawn(move || serve(&queue, &pool))
                    .map_err(|error| unavailable("start a reader thread", error))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { jobs: Some(jobs), threads })
    }

    pub(super) async fn run<T, E>(
        &self,
        operation: &'static str,
        f: impl FnOnce(&Connection) -> Result<T, Fail<E>> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // Nobody waits for the answer any more: a read has no effect, so it need not run.
            if !reply.is_closed() {
                let _ = reply.send(connection.map_err(E::from).and_then(|connection| read(connection, operation, f)));
            }
        });
        let jobs = self.jobs.as_ref().expect("the sender is taken only by drop");
        jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => unavailable(operation, "the queue of reads is full"),
            TrySendError::Disconnected(_) => unavailable(operation, "the reader threads have ended"),
        })?;
        // The sender is dropped unanswered only when the closure panicked.
        answer.await.unwrap_or_else(|_| Err(panicked(operation).into()))
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.jobs.take();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

pub(super) fn panicked(operation: &'static str) -> StoreError {
    StoreError::Defect { operation, source: "the database closure panicked".into() }
}

fn open_pool(options: &SqliteOptions, size: usize) -> Result<Pool, StoreError> {
    let busy_timeout = options.busy_timeout;
    let manager = SqliteConnectionManager::file(&options.path)
        .with_flags(OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .with_init(move |connection| {
            configure(connection, busy_timeout)?;
            connection.pragma_update(None, "query_only", true)
        });
    r2d2::Pool::builder()
        .max_size(u32::try_from(size).unwrap_or(u32::MAX))
        .min_idle(Some(1))
        .test_on_check_out(false)
        .connection_timeout(Duration::from_secs(5))
        .build(manager)
        .map_err(|error| unavailable("open the reader connections", error))
}

fn serve(queue: &Receiver<Job>, pool: &Pool) {
    for job in queue {
        let outcome = catch_unwind(AssertUnwindSafe(|| match pool.get() {
            Ok(connection) => job(Ok(&connection)),
            Err(error) => job(Err(unavailable("take a reader connection", error))),
        }));
        if outcome.is_err() {
            tracing::error!("a database read panicked");
        }
    }
}

fn read<T, E: From<StoreError>>(
    connection: &Connection,
    operation: &'static str,
    f: impl FnOnce(&Connection) -> Result<T, Fail<E>>,
) -> Result<T, E> {
    let run = || {
        // One snapshot for all statements of the read; rolled back on drop, also when `f` panics.
        let snapshot = connection.unchecked_transaction()?;
        f(&snapshot)
    };
    run().map_err(|fail| match fail {
        Fail::Sql(error) => classify(operation, error).into(),
        Fail::Refused(refusal) => refusal,
    })
}
