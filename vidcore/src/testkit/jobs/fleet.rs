//! Several processes: who enqueues, who waits, and how hints get from one to the other.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::select_all;
use tokio::sync::Notify;

use crate::jobs::dispatcher::{Dispatcher, LocalDispatcher};
use crate::jobs::{JobHint, QueueName};
use crate::notify::{ChangeListener, SqliteNotify};
use crate::store::Committed;
use crate::testkit::TestStore;
use crate::testkit::jobs::hints::{queues, waiter, woken};
use crate::testkit::jobs::{Dispatch, JobHarness, QUEUE};

/// How often the change check looks here.
const CHECK: Duration = Duration::from_millis(1);

/// How hints travel between the processes of one harness.
pub(super) struct Fleet {
    dispatch: Dispatch,
    /// The dispatcher of the process that enqueues.
    producer: Arc<dyn Dispatcher>,
    #[cfg(feature = "redis")]
    redis: Option<(crate::testkit::TestRedis, crate::redis::RedisServer)>,
}

/// A process that waits for jobs.
pub struct Process {
    /// Its dispatcher.
    pub dispatcher: Arc<dyn Dispatcher>,
    /// Its change check, where that brings the hints.
    _changes: Option<Arc<SqliteNotify>>,
}

impl Fleet {
    /// `None` if the service is missing.
    pub(super) fn new(dispatch: Dispatch) -> Option<Self> {
        match dispatch {
            Dispatch::Local | Dispatch::ChangeCheck => Some(Self {
                dispatch,
                producer: Arc::new(LocalDispatcher::new()),
                #[cfg(feature = "redis")]
                redis: None,
            }),
            #[cfg(feature = "redis")]
            Dispatch::Redis => {
                let redis = crate::testkit::TestRedis::start()?;
                let server = crate::testkit::TestRedis::server(&redis.settings());
                let producer = Arc::new(crate::jobs::dispatcher::RedisDispatcher::start(&server));
                Some(Self { dispatch, producer, redis: Some((redis, server)) })
            }
        }
    }

    /// The dispatcher that the store's commits tell.
    pub(super) fn producer(&self) -> Arc<dyn Dispatcher> {
        Arc::clone(&self.producer)
    }

    /// One more process that waits. In process there is only the one that enqueues.
    pub(super) fn process(&self, test: &TestStore) -> Process {
        match self.dispatch {
            Dispatch::Local => Process { dispatcher: self.producer(), _changes: None },
            Dispatch::ChangeCheck => checking_process(test),
            #[cfg(feature = "redis")]
            Dispatch::Redis => {
                let (_, server) = self.redis.as_ref().expect("it was started with the fleet");
                let dispatcher = Arc::new(crate::jobs::dispatcher::RedisDispatcher::start(server));
                Process { dispatcher, _changes: None }
            }
        }
    }
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet").field("dispatch", &self.dispatch).finish_non_exhaustive()
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("dispatcher", &self.dispatcher).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct WakeWorkers(Arc<dyn Dispatcher>);

impl ChangeListener for WakeWorkers {
    fn changed(&self, _: &Committed) {}

    fn missed(&self, _: i64) {}

    fn jobs_due(&self) {
        self.0.wake_all();
    }
}

/// A process that knows of the others' jobs by looking at the file.
fn checking_process(test: &TestStore) -> Process {
    let dispatcher: Arc<dyn Dispatcher> = Arc::new(LocalDispatcher::new());
    // Its worker has waited before: for queues nobody has asked for, nothing is kept.
    assert!(dispatcher.wait(&queues()).now_or_never().is_none());
    let changes = Arc::new(SqliteNotify::new());
    let listener = Arc::new(WakeWorkers(Arc::clone(&dispatcher)));
    changes
        .watch(&test.options().path, CHECK, Arc::new(test.clock.clone()), listener)
        .expect("the file can be watched");
    Process { dispatcher, _changes: Some(changes) }
}

impl JobHarness {
    /// One more process that waits for jobs.
    pub fn process(&self) -> Process {
        self.fleet.process(&self.test)
    }

    /// Whether a hint may wake everybody and not only one: the change check tells every process that
    /// something is due, and which of them claims it is the store's affair.
    pub fn hints_wake_all(&self) -> bool {
        self.fleet.dispatch == Dispatch::ChangeCheck
    }

    /// Gives a hint that [`QUEUE`] has work, from the process that enqueues: by announcing it, or, where
    /// nothing but a commit is seen, by enqueueing a job.
    pub async fn hint(&self) {
        if self.hints_wake_all() {
            self.enqueued("hint").await;
        } else {
            self.fleet.producer.announce(&[JobHint { queue: QueueName::new(QUEUE), job: self.job_id() }]);
        }
    }
}

/// One of several processes takes the hint; the next one is for another of them.
pub async fn a_hint_wakes_one_of_several_processes(h: &JobHarness) {
    let (processes, queues) = ([h.process(), h.process(), h.process()], queues());
    let mut waiting: Vec<_> = processes.iter().map(|process| waiter(h, &*process.dispatcher, &queues)).collect();
    for _ in 0..2 {
        h.hint().await;
        let ((), _, rest) = woken(select_all(waiting)).await;
        waiting = rest;
    }
    let last = waiting.pop().expect("two of three were woken");
    if h.hints_wake_all() {
        woken(last).await;
    } else {
        assert!(last.now_or_never().is_none(), "two hints woke three");
    }
}

/// As many hints wake as many waiters, be they in one process or in several.
pub async fn every_hint_wakes_a_waiter(h: &JobHarness) {
    let (processes, queues) = ([h.process(), h.process()], queues());
    let twice = processes.iter().chain(&processes);
    let waiting: Vec<_> = twice.map(|process| waiter(h, &*process.dispatcher, &queues)).collect();
    for _ in 0..waiting.len() {
        h.hint().await;
    }
    for waiter in waiting {
        woken(waiter).await;
    }
}

/// A worker that is stopped just when it was woken has not looked for the job: somebody else is woken.
pub async fn a_taken_hint_of_a_dropped_waiter_is_not_lost_to_the_others(h: &JobHarness) {
    let (stopped, other, queues) = (h.process(), h.process(), queues());
    drop(waiter(h, &*other.dispatcher, &queues));
    let taken = Arc::new(Woken::default());
    let mut waiting = waiter(h, &*stopped.dispatcher, &queues);
    let waker = Waker::from(Arc::clone(&taken));
    assert_eq!(Poll::Pending, waiting.as_mut().poll(&mut Context::from_waker(&waker)));
    h.hint().await;
    woken(taken.0.notified()).await;
    drop(waiting);
    woken(other.dispatcher.wait(&queues)).await;
}

/// A process in which nobody waits, any more or yet, leaves hints to the others.
pub async fn a_busy_process_takes_no_hint(h: &JobHarness) {
    let (busy, idle, queues) = (h.process(), h.process(), queues());
    let first = waiter(h, &*busy.dispatcher, &queues);
    h.hint().await;
    woken(first).await;
    for _ in 0..20 {
        drop(waiter(h, &*busy.dispatcher, &queues));
        h.hint().await;
        woken(idle.dispatcher.wait(&queues)).await;
    }
}

/// Notes that a future asks to be polled again.
#[derive(Default)]
struct Woken(Notify);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

/// A module called `$name` with one test for every claim about hints between processes; `$harness` as
/// in [`job_store_contract!`](crate::job_store_contract).
#[macro_export]
macro_rules! job_fleet_contract {
    ($name:ident, $harness:expr) => {
        mod $name {
            use super::*;
            $crate::job_store_contract!(@claims $harness;
                a_hint_wakes_one_of_several_processes,
                every_hint_wakes_a_waiter,
                a_taken_hint_of_a_dropped_waiter_is_not_lost_to_the_others,
                a_busy_process_takes_no_hint,
            );
        }
    };
}
