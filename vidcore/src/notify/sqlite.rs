//! News from other processes that share a SQLite file: a look at `PRAGMA data_version` every few
//! milliseconds, then the tail of `changes`.
//!
//! One thread per process with a connection of its own, because `data_version` counts the commits of
//! other connections only. An idle look costs no read of the file.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use rusqlite::Connection;
use tokio::sync::broadcast;

use crate::clock::{Clock, Timestamp};
use crate::events::{Change, sqlite as events};
use crate::notify::{LocalNotify, Notice, Notify};
use crate::store::{Committed, StoreError};

/// How many changes are read at once.
const TAIL: u16 = 500;

/// What the change check tells.
pub trait ChangeListener: std::fmt::Debug + Send + Sync + 'static {
    /// Another process may have committed these changes (or this one has: acting twice is harmless).
    fn changed(&self, committed: &Committed);

    /// Changes were missed, all of them at or below the id `up_to`: whatever was derived from the database
    /// may be stale.
    fn missed(&self, up_to: i64);

    /// A job is due, or the next one is due at another time than before, and somebody may not have
    /// been told.
    fn jobs_due(&self);
}

/// [`Notify`] between the processes of one host that share a SQLite file.
#[derive(Debug)]
pub struct SqliteNotify {
    local: LocalNotify,
    origin: Instant,
    /// Milliseconds after `origin` at which the last check succeeded.
    checked_at: Arc<AtomicU64>,
    stop: Mutex<Option<(Sender<()>, JoinHandle<()>)>>,
}

impl SqliteNotify {
    /// A channel within this process until [`watch`](Self::watch) is called.
    pub fn new() -> Self {
        Self {
            local: LocalNotify::new(),
            origin: Instant::now(),
            checked_at: Arc::new(AtomicU64::new(0)),
            stop: Mutex::new(None),
        }
    }

    /// Starts the thread that looks for other processes' commits every `interval`.
    ///
    /// The interval is real time whatever the platform's clock: commits come from outside.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the file cannot be opened or the thread not be started.
    pub fn watch(
        self: &Arc<Self>,
        path: &Path,
        interval: Duration,
        clock: Arc<dyn Clock>,
        listener: Arc<dyn ChangeListener>,
    ) -> Result<(), StoreError> {
        let failed =
            |source: crate::store::BoxError| StoreError::Unavailable { operation: "watch for changes", source };
        let connection = crate::store::sqlite::connect(path, interval)?;
        let (stop, stopped) = crossbeam_channel::bounded(0);
        let mut check = Check::new(connection, clock, listener, self).map_err(|error| failed(error.into()))?;
        let (origin, checked_at) = (self.origin, Arc::clone(&self.checked_at));
        let thread = std::thread::Builder::new()
            .name("sqlite-changes".to_owned())
            .spawn(move || check.run(&stopped, interval, origin, &checked_at))
            .map_err(|error| failed(error.into()))?;
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = Some((stop, thread));
        Ok(())
    }

    /// Ends the thread and waits for it.
    pub fn stop(&self) {
        let running = self.stop.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((stop, thread)) = running {
            drop(stop);
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

impl Default for SqliteNotify {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for SqliteNotify {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Notify for SqliteNotify {
    fn publish(&self, notice: Notice) {
        self.local.publish(notice);
    }

    fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.local.subscribe()
    }

    fn silence(&self) -> Duration {
        let checked_at = Duration::from_millis(self.checked_at.load(Ordering::Relaxed));
        self.origin.elapsed().saturating_sub(checked_at)
    }
}

struct Check {
    connection: Connection,
    clock: Arc<dyn Clock>,
    listener: Arc<dyn ChangeListener>,
    notify: std::sync::Weak<SqliteNotify>,
    last_id: i64,
    /// `None` until the first look, and after one that failed half way.
    data_version: Option<i64>,
    /// When the next queued job was due at the last look.
    next_job: Option<Timestamp>,
}

impl Check {
    /// A check that tells of what is committed from now on.
    fn new(
        connection: Connection,
        clock: Arc<dyn Clock>,
        listener: Arc<dyn ChangeListener>,
        notify: &Arc<SqliteNotify>,
    ) -> rusqlite::Result<Self> {
        Ok(Self {
            last_id: events::last_id(&connection)?,
            data_version: None,
            next_job: None,
            connection,
            clock,
            listener,
            // Weak: the thread must not keep alive what its own end waits for.
            notify: Arc::downgrade(notify),
        })
    }

    fn run(&mut self, stopped: &Receiver<()>, interval: Duration, origin: Instant, checked_at: &AtomicU64) {
        loop {
            match self.look() {
                Ok(()) => {
                    let elapsed = u64::try_from(origin.elapsed().as_millis()).unwrap_or(u64::MAX);
                    checked_at.store(elapsed, Ordering::Relaxed);
                }
                Err(error) => tracing::warn!(%error, "the change check failed and will be repeated"),
            }
            if stopped.recv_timeout(interval) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    fn look(&mut self) -> rusqlite::Result<()> {
        let version = self.connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
        if self.data_version == Some(version) {
            return Ok(());
        }
        // Forgotten until everything below worked, so that a failed look is repeated.
        self.data_version = None;
        self.read_tail()?;
        self.look_for_jobs()?;
        self.data_version = Some(version);
        Ok(())
    }

    fn read_tail(&mut self) -> rusqlite::Result<()> {
        // Rows pruned before they were read, perhaps all of them: what they named is unknown.
        let first = events::first_kept_id(&self.connection)?;
        if first > self.last_id + 1 {
            self.listener.missed(first - 1);
            self.tell(Notice::missed());
            self.last_id = first - 1;
        }
        loop {
            let changes = events::tail(&self.connection, self.last_id, TAIL)?;
            let Some(last) = changes.last() else { return Ok(()) };
            self.last_id = last.id;
            self.pass_on(changes);
        }
    }

    fn pass_on(&self, changes: Vec<Change>) {
        let committed = Committed { changes, jobs: Vec::new() };
        self.listener.changed(&committed);
        for change in committed.changes {
            self.tell(Notice { topic: change.topic, key: change.key });
        }
    }

    fn tell(&self, notice: Notice) {
        if let Some(notify) = self.notify.upgrade() {
            notify.publish(notice);
        }
    }

    /// Tells of delayed jobs too: a worker of this process may be waiting for a later one.
    fn look_for_jobs(&mut self) -> rusqlite::Result<()> {
        let next = crate::jobs::sqlite::next_of_all(&self.connection)?;
        let told = next == self.next_job;
        self.next_job = next;
        if next.is_some_and(|next| !told || next <= self.clock.now()) {
            self.listener.jobs_due();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{EventStore as _, NewChange};
    use crate::id::JobId;
    use crate::jobs::{JobStore as _, NewJob, QueueName};
    use crate::store::Causes;
    use crate::testkit::TestStore;

    #[derive(Debug, Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Heard {
        fn note(&self, what: &str) {
            self.0.lock().expect("noting does not panic").push(what.to_owned());
        }

        /// What was heard since the last call.
        fn take(&self) -> Vec<String> {
            std::mem::take(&mut *self.0.lock().expect("noting does not panic"))
        }
    }

    impl ChangeListener for Heard {
        fn changed(&self, committed: &Committed) {
            committed.changes.iter().for_each(|change| self.note(&change.key));
        }

        fn missed(&self, _: i64) {
            self.note("missed");
        }

        fn jobs_due(&self) {
            self.note("jobs due");
        }
    }

    /// A check that looks when it is told to, and has looked once.
    fn check(test: &TestStore) -> (Check, Arc<Heard>) {
        let heard = Arc::new(Heard::default());
        let clock: Arc<dyn Clock> = Arc::new(test.clock.clone());
        let notify = Arc::new(SqliteNotify::new());
        let mut check =
            Check::new(test.connection(), clock, Arc::clone(&heard) as _, &notify).expect("the file is read");
        check.look().expect("it looks");
        heard.take();
        (check, heard)
    }

    fn job(test: &TestStore, delay: Duration) -> NewJob {
        let now = test.clock.now();
        NewJob {
            id: JobId::new(now, &*test.entropy),
            queue: QueueName::new("test"),
            kind: "work".to_owned(),
            payload: serde_json::Value::Null,
            priority: 0,
            run_at: now.plus(delay),
            max_attempts: 1,
            unique_key: None,
            owner: None,
            video: None,
            on_dead: None,
            group: None,
            now,
        }
    }

    async fn commit(test: &TestStore, key: &str) {
        commit_all(test, Causes::none().change(NewChange::new("test", key))).await;
    }

    async fn commit_all(test: &TestStore, causes: Causes) {
        let done = test.store.command("commit", causes, |_, _| Ok::<_, crate::store::sqlite::Fail<StoreError>>(()));
        done.await.expect("it commits");
    }

    #[tokio::test]
    async fn each_change_is_told_once_in_the_order_of_commits() {
        let test = TestStore::open().await;
        commit(&test, "before the first look").await;
        let (mut check, heard) = check(&test);
        let causes =
            (0..1200).fold(Causes::none(), |causes, number| causes.change(NewChange::new("test", number.to_string())));
        commit_all(&test, causes).await;
        check.look().expect("it looks");
        check.look().expect("it looks");
        assert_eq!((0..1200).map(|number| number.to_string()).collect::<Vec<_>>(), heard.take());
    }

    #[tokio::test]
    async fn changes_pruned_unread_are_missed_whether_or_not_any_are_left() {
        let test = TestStore::open().await;
        let (mut check, heard) = check(&test);
        let prune = async || {
            test.clock.advance(Duration::from_secs(1));
            test.store.prune_changes(test.clock.now(), 1000).await.expect("it prunes");
        };
        commit(&test, "pruned").await;
        prune().await;
        commit(&test, "kept").await;
        check.look().expect("it looks");
        assert_eq!(["missed", "kept"], *heard.take());
        prune().await;
        check.look().expect("it looks");
        assert!(heard.take().is_empty(), "what was read is not missed");
        commit(&test, "pruned").await;
        prune().await;
        check.look().expect("it looks");
        assert_eq!(["missed"], *heard.take());
        commit(&test, "after").await;
        check.look().expect("it looks");
        assert_eq!(["after"], *heard.take());
    }

    #[tokio::test]
    async fn subscribers_hear_of_what_was_pruned_unread() {
        let test = TestStore::open().await;
        let notify = Arc::new(SqliteNotify::new());
        let mut news = notify.subscribe();
        let (clock, heard) = (Arc::new(test.clock.clone()), Arc::new(Heard::default()));
        let mut check = Check::new(test.connection(), clock, heard, &notify).expect("the file is read");
        commit(&test, "pruned").await;
        test.clock.advance(Duration::from_secs(1));
        test.store.prune_changes(test.clock.now(), 1000).await.expect("it prunes");
        commit(&test, "kept").await;
        check.look().expect("it looks");
        assert_eq!(Ok(Notice::missed()), news.try_recv());
        assert_eq!(Ok(Notice { topic: "test".to_owned(), key: "kept".to_owned() }), news.try_recv());
    }

    #[tokio::test]
    async fn a_job_is_told_when_it_is_due_and_when_the_next_one_changes() {
        let test = TestStore::open().await;
        let (mut check, heard) = check(&test);
        let minute = Duration::from_secs(60);
        test.store.enqueue(job(&test, minute), Causes::none()).await.expect("it is enqueued");
        check.look().expect("it looks");
        assert_eq!(["jobs due"], *heard.take(), "a worker may be waiting for a later one");
        test.store.enqueue(job(&test, minute * 2), Causes::none()).await.expect("it is enqueued");
        check.look().expect("it looks");
        assert!(heard.take().is_empty(), "the next one is still the same");
        test.clock.advance(minute);
        commit(&test, "anything").await;
        check.look().expect("it looks");
        assert_eq!(["anything", "jobs due"], *heard.take());
        check.look().expect("it looks");
        assert!(heard.take().is_empty(), "nothing was committed since");
    }
}
