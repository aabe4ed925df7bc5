//! The writer thread: takes whatever commands wait, runs each in its own savepoint, commits them
//! together, and answers afterwards.
//!
//! It never waits to fill a group: under no load each command has its own commit, under load the
//! commits' cost is shared. Another process's lock is waited for at `BEGIN IMMEDIATE`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, select};
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::clock::{Clock, Timestamp};
use crate::store::sqlite::error::{Fail, classify};
use crate::store::sqlite::reader::panicked;
use crate::store::sqlite::{SqliteOptions, connect, unavailable};
use crate::store::{CommitObservers, Committed, StoreError};

/// The most commands of one group.
const GROUP_LIMIT: usize = 64;

/// How long a group may run before it is committed, whatever still waits.
const GROUP_TIME: Duration = Duration::from_millis(10);

/// Which queue a command waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Bounded: refused when full.
    Ordinary,
    /// Served first and never refused; bounded by the number of running jobs.
    Settlement,
}

#[derive(Debug)]
pub(super) struct Writer {
    lanes: Option<Lanes>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Lanes {
    ordinary: Sender<Box<dyn Command>>,
    settlement: Sender<Box<dyn Command>>,
}

/// One command between its savepoint and its answer.
trait Command: Send {
    /// Runs in a savepoint of its own. `Err` means SQLite gave the whole transaction up.
    fn run(&mut self, connection: &Connection, now: Timestamp, group: &mut Committed) -> Result<(), StoreError>;

    /// Sends the result, once it is known whether the group was committed.
    fn answer(self: Box<Self>, failed: Option<StoreError>);
}

/// What a command's closure works with.
pub(super) struct Tx<'a> {
    connection: &'a Connection,
    /// What the command adds to the group's effects if its savepoint is kept.
    pub(super) effects: Committed,
}

impl Tx<'_> {
    pub(super) fn connection(&self) -> &Connection {
        self.connection
    }
}

struct Pending<T, E, F> {
    operation: &'static str,
    work: Option<F>,
    result: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
}

impl Writer {
    pub(super) fn start(
        connection: Connection,
        options: &SqliteOptions,
        clock: Arc<dyn Clock>,
        observers: CommitObservers,
    ) -> Result<Self, StoreError> {
        let (ordinary, ordinary_queue) = crossbeam_channel::bounded(options.queue_depth.max(1));
        let (settlement, settlement_queue) = crossbeam_channel::unbounded();
        let mut thread = WriterThread {
            connection,
            path: options.path.clone(),
            busy_timeout: options.busy_timeout,
            clock,
            observers,
            ordinary: ordinary_queue,
            settlement: settlement_queue,
        };
        let thread = std::thread::Builder::new()
            .name("sqlite-write".to_owned())
            .spawn(move || thread.serve())
            .map_err(|error| unavailable("start the writer thread", error))?;
        Ok(Self { lanes: Some(Lanes { ordinary, settlement }), thread: Some(thread) })
    }

    pub(super) async fn run<T, E>(
        &self,
        operation: &'static str,
        lane: Lane,
        work: impl FnOnce(&mut Tx<'_>, Timestamp) -> Result<T, Fail<E>> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let command = Box::new(Pending { operation, work: Some(work), result: None, reply });
        let lanes = self.lanes.as_ref().expect("the lanes are taken only by drop");
        match lane {
            Lane::Ordinary => lanes.ordinary.try_send(command),
            Lane::Settlement => lanes.settlement.try_send(command),
        }
        .map_err(|error| match error {
            TrySendError::Full(_) => unavailable(operation, "the queue of writes is full"),
            TrySendError::Disconnected(_) => unavailable(operation, "the writer thread has ended"),
        })?;
        answer.await.unwrap_or_else(|_| Err(unavailable(operation, "the writer thread has ended").into()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.lanes.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct WriterThread {
    connection: Connection,
    /// For opening another connection in the place of one that cannot be used any more.
    path: PathBuf,
    busy_timeout: Duration,
    clock: Arc<dyn Clock>,
    observers: CommitObservers,
    ordinary: Receiver<Box<dyn Command>>,
    settlement: Receiver<Box<dyn Command>>,
}

impl WriterThread {
    /// Ends when both lanes are closed and empty, so that nothing accepted is dropped.
    fn serve(&mut self) {
        while let Some(first) = self.wait() {
            self.group(first);
        }
    }

    fn wait(&self) -> Option<Box<dyn Command>> {
        if let Ok(command) = self.settlement.try_recv() {
            return Some(command);
        }
        select! {
            recv(self.settlement) -> command => command.ok().or_else(|| self.ordinary.recv().ok()),
            recv(self.ordinary) -> command => command.ok().or_else(|| self.settlement.recv().ok()),
        }
    }

    fn next(&self) -> Option<Box<dyn Command>> {
        match self.settlement.try_recv() {
            Ok(command) => Some(command),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => self.ordinary.try_recv().ok(),
        }
    }

    fn group(&mut self, first: Box<dyn Command>) {
        // Still open only if it could neither be rolled back nor replaced the last time.
        self.roll_back();
        if let Err(error) = self.execute("BEGIN IMMEDIATE", "begin a write") {
            return self.refuse_waiting(first, &error);
        }
        crate::failpoints::hit("holding-lock");
        let mut commands = vec![first];
        let mut effects = Committed::default();
        let failed = match self.run_group(&mut commands, &mut effects) {
            Ok(()) => {
                crate::failpoints::hit("committed-before-answer");
                None
            }
            Err(error) => {
                tracing::warn!(error = %error, commands = commands.len(), "a group of writes failed");
                self.roll_back();
                Some(error)
            }
        };
        metrics::histogram!("vid_sqlite_group_commands").record(commands.len() as f64);
        if failed.is_none() && !(effects.changes.is_empty() && effects.jobs.is_empty()) {
            self.tell(&effects);
        }
        for command in commands {
            command.answer(failed.as_ref().map(StoreError::again));
        }
    }

    /// No transaction could be begun: all who wait now hear so at once. One after another, each would
    /// wait for the same lock for the whole busy timeout.
    fn refuse_waiting(&self, first: Box<dyn Command>, error: &StoreError) {
        let waiting = self.settlement.len() + self.ordinary.len();
        tracing::warn!(%error, commands = waiting + 1, "no write could be begun");
        first.answer(Some(StoreError::again(error)));
        for command in (0..waiting).map_while(|_| self.next()) {
            command.answer(Some(StoreError::again(error)));
        }
    }

    /// An observer that panics must not end the thread that every later write needs.
    fn tell(&self, effects: &Committed) {
        for observer in &self.observers {
            if catch_unwind(AssertUnwindSafe(|| observer.committed(effects))).is_err() {
                tracing::error!(?observer, "an observer of commits panicked");
            }
        }
    }

    fn run_group(&self, commands: &mut Vec<Box<dyn Command>>, effects: &mut Committed) -> Result<(), StoreError> {
        let begun = Instant::now();
        let mut index = 0;
        loop {
            commands[index].run(&self.connection, self.clock.now(), effects)?;
            index += 1;
            if index >= GROUP_LIMIT || begun.elapsed() >= GROUP_TIME {
                break;
            }
            match self.next() {
                Some(command) => commands.push(command),
                None => break,
            }
        }
        self.execute("COMMIT", "commit a group of writes")
    }

    fn execute(&self, sql: &str, operation: &'static str) -> Result<(), StoreError> {
        let run = || self.connection.prepare_cached(sql)?.execute([]);
        run().map(|_| ()).map_err(|error| classify(operation, error))
    }

    /// A connection that cannot even roll back would refuse every later BEGIN: another takes its place,
    /// and what was not committed goes with it.
    fn roll_back(&mut self) {
        if self.connection.is_autocommit() {
            return;
        }
        let Err(error) = self.execute("ROLLBACK", "roll a group of writes back") else { return };
        tracing::error!(%error, "rolling back failed; the connection is opened anew");
        match connect(&self.path, self.busy_timeout) {
            Ok(connection) => self.connection = connection,
            Err(error) => tracing::error!(%error, "the connection could not be opened anew"),
        }
    }
}

impl<T, E, F> Command for Pending<T, E, F>
where
    T: Send,
    E: From<StoreError> + Send,
    F: FnOnce(&mut Tx<'_>, Timestamp) -> Result<T, Fail<E>> + Send,
{
    fn run(&mut self, connection: &Connection, now: Timestamp, group: &mut Committed) -> Result<(), StoreError> {
        let work = self.work.take().expect("a command runs once");
        let savepoint = |sql: &str| connection.prepare_cached(sql).and_then(|mut s| s.execute([]));
        savepoint("SAVEPOINT command").map_err(|error| classify(self.operation, error))?;
        let mut tx = Tx { connection, effects: Committed::default() };
        let outcome = catch_unwind(AssertUnwindSafe(|| work(&mut tx, now)));
        // A full disk or an I/O error may have rolled the whole transaction back already.
        if connection.is_autocommit() {
            let error = match outcome {
                Ok(Err(Fail::Sql(error))) => classify(self.operation, error),
                _ => unavailable(self.operation, "the transaction was rolled back"),
            };
            return Err(error);
        }
        let result = match outcome {
            Ok(Ok(value)) => {
                savepoint("RELEASE command").map_err(|error| classify(self.operation, error))?;
                group.changes.append(&mut tx.effects.changes);
                group.jobs.append(&mut tx.effects.jobs);
                self.result = Some(Ok(value));
                return Ok(());
            }
            Ok(Err(Fail::Sql(error))) => classify(self.operation, error).into(),
            Ok(Err(Fail::Refused(refusal))) => refusal,
            Err(_) => {
                tracing::error!(operation = self.operation, "a database command panicked");
                panicked(self.operation).into()
            }
        };
        savepoint("ROLLBACK TO command")
            .and_then(|_| savepoint("RELEASE command"))
            .map_err(|error| classify(self.operation, error))?;
        self.result = Some(Err(result));
        Ok(())
    }

    fn answer(self: Box<Self>, failed: Option<StoreError>) {
        let result = match (failed, self.result) {
            // A refusal too: it may rest on what an earlier command of the same group wrote.
            (Some(error), _) => Err(error.into()),
            (None, Some(result)) => result,
            (None, None) => Err(panicked(self.operation).into()),
        };
        // The caller may have gone; the command stands all the same.
        let _ = self.reply.send(result);
    }
}
