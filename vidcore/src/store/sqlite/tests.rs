//! The engine: groups, lanes, locks and idempotency, seen from the closures that run in it.

use std::future::Future;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use rusqlite::named_params;

use super::*;
use crate::events::{EventStore, NewChange};
use crate::idempotency::{IdempotencyKey, IdempotencyRecord, IdempotencyStore};
use crate::store::{CommitObserver, Committed};
use crate::testkit::TestStore;
use crate::testkit::store::PATIENCE;

mod full_disk;

/// Notes the changes of each group, in the order of commits.
#[derive(Debug, Default)]
struct Groups(Mutex<Vec<Vec<String>>>);

impl Groups {
    fn seen(&self) -> Vec<Vec<String>> {
        self.0.lock().expect("noting does not panic").clone()
    }
}

impl CommitObserver for Groups {
    fn committed(&self, committed: &Committed) {
        let keys = committed.changes.iter().map(|change| change.key.clone()).collect();
        self.0.lock().expect("noting does not panic").push(keys);
    }
}

#[derive(Debug)]
struct PanickingObserver;

impl CommitObserver for PanickingObserver {
    fn committed(&self, _: &Committed) {
        panic!("this observer always panics");
    }
}

struct Engine {
    test: TestStore,
    groups: Arc<Groups>,
}

impl Engine {
    async fn open(adjust: impl FnOnce(&mut SqliteOptions)) -> Self {
        let groups = Arc::new(Groups::default());
        let test = TestStore::open_with(vec![Arc::clone(&groups) as _], adjust).await;
        Self { test, groups }
    }

    fn store(&self) -> &SqliteStore {
        &self.test.store
    }

    /// A command that leaves one row.
    fn write(&self, key: &str) -> impl Future<Output = Result<Outcome<String>, StoreError>> + use<'_> {
        let value = key.to_owned();
        self.store().command("write", change(key), move |_, _| Ok(value))
    }

    /// The keys of the rows there are.
    async fn rows(&self) -> Vec<String> {
        let rows = self.store().read("read", |db| {
            let mut keys = db.prepare("SELECT key FROM changes ORDER BY id")?;
            let keys = keys.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
            Ok::<_, Fail<StoreError>>(keys)
        });
        rows.await.expect("reads work")
    }

    /// Holds the writer thread inside a command of its own until the plug is pulled.
    async fn plug(&self) -> Plug {
        let (pull, pulled) = mpsc::channel::<()>();
        let (entered, inside) = tokio::sync::oneshot::channel();
        let store = self.store().clone();
        let command = tokio::spawn(async move {
            let command = store.command("plug", Causes::none(), move |_, _| {
                let _ = entered.send(());
                // Ends when the sender is dropped.
                let _ = pulled.recv();
                // Longer than a group may take, so that the plug is committed alone.
                std::thread::sleep(Duration::from_millis(11));
                Ok::<_, Fail<StoreError>>(())
            });
            command.await.map(|_| ())
        });
        inside.await.expect("the plug is in");
        Plug { pull, command }
    }
}

struct Plug {
    pull: mpsc::Sender<()>,
    command: tokio::task::JoinHandle<Result<(), StoreError>>,
}

impl Plug {
    async fn pull(self) {
        drop(self.pull);
        self.command.await.expect("the plug does not panic").expect("the plug is committed");
    }
}

fn change(key: &str) -> Causes {
    Causes::none().change(NewChange::new("test", key))
}

fn unavailable_answer<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Unavailable { .. }))
}

#[tokio::test]
async fn commands_that_wait_are_committed_in_groups_of_at_most_64_and_each_is_answered() {
    let engine = Engine::open(|_| {}).await;
    let plug = engine.plug().await;
    let keys: Vec<_> = (0..150).map(|number| number.to_string()).collect();
    let mut writes = Box::pin(join_all(keys.iter().map(|key| engine.write(key))));
    assert!((&mut writes).now_or_never().is_none());
    plug.pull().await;
    let answers: Vec<_> = writes.await.into_iter().map(|answer| answer.expect("it is written").into_inner()).collect();
    assert_eq!(keys, answers);
    let groups = engine.groups.seen();
    assert_eq!(keys, groups.concat());
    // How many there are is up to the machine, because a group also ends when it takes long.
    assert!((3..75).contains(&groups.len()) && groups.iter().all(|group| group.len() <= 64), "{groups:?}");
}

#[tokio::test]
async fn a_refused_a_failing_and_a_panicking_command_leave_their_neighbours_alone() {
    let engine = Engine::open(|_| {}).await;
    let plug = engine.plug().await;
    let insert = "INSERT INTO changes (topic, key, at_ms) VALUES ('test', 'half done', 0)";
    let spoilt = |how: &'static str| {
        engine.store().command("spoil", change(how), move |db, _| -> Result<(), Fail<StoreError>> {
            db.execute(insert, [])?;
            match how {
                "refused" => Err(refuse(StoreError::KeyReused)),
                "failing" => Ok(db.execute("INSERT INTO changes (topic) VALUES (NULL)", []).map(|_| ())?),
                _ => panic!("this command panics"),
            }
        })
    };
    let neighbours = join_all([engine.write("a"), engine.write("b"), engine.write("c"), engine.write("d")]);
    let mut all = Box::pin(async {
        tokio::join!(neighbours, spoilt("refused"), spoilt("failing"), spoilt("panicking"), engine.write("last"))
    });
    assert!((&mut all).now_or_never().is_none());
    plug.pull().await;
    let (neighbours, refused, failing, panicking, last) = all.await;
    assert!(neighbours.iter().all(Result::is_ok) && last.is_ok());
    assert!(matches!(refused, Err(StoreError::KeyReused)), "{refused:?}");
    assert!(matches!(failing, Err(StoreError::Defect { .. })), "{failing:?}");
    assert!(matches!(panicking, Err(StoreError::Defect { .. })), "{panicking:?}");
    assert_eq!(["a", "b", "c", "d", "last"], *engine.rows().await);
    assert_eq!(["a", "b", "c", "d", "last"], *engine.groups.seen().concat(), "and nobody is told of the others");
}

#[tokio::test]
async fn when_a_commit_fails_every_command_of_its_group_does() {
    let engine = Engine::open(|_| {}).await;
    let plug = engine.plug().await;
    // The broken reference is noticed by COMMIT, not by the statement.
    let poison = engine.store().command("poison", Causes::none(), |db, _| {
        db.execute_batch("PRAGMA defer_foreign_keys = ON")?;
        db.execute("INSERT INTO job_attempts (job_pk, worker, started_at_ms) VALUES (4711, 'nobody', 0)", [])?;
        Ok::<_, Fail<StoreError>>(())
    });
    let refused =
        engine.store().command("be refused", Causes::none(), |_, _| Err::<(), _>(refuse(StoreError::KeyReused)));
    let mut all = Box::pin(async { tokio::join!(engine.write("a"), poison, refused) });
    assert!((&mut all).now_or_never().is_none());
    plug.pull().await;
    let (written, poisoned, refused) = all.await;
    assert!(matches!(written, Err(StoreError::Defect { .. })), "{written:?}");
    assert!(matches!(poisoned, Err(StoreError::Defect { .. })), "{poisoned:?}");
    assert!(matches!(refused, Err(StoreError::Defect { .. })), "it may rest on the group's writes: {refused:?}");
    assert!(engine.rows().await.is_empty() && engine.groups.seen().is_empty());
    engine.write("after").await.expect("the writer goes on");
    assert_eq!(["after"], *engine.rows().await);
}

#[tokio::test]
async fn an_observer_that_panics_does_not_end_the_writer() {
    let groups = Arc::new(Groups::default());
    let observers: CommitObservers = vec![Arc::new(PanickingObserver), Arc::clone(&groups) as _];
    let engine = Engine { test: TestStore::open_with(observers, |_| {}).await, groups };
    engine.write("a").await.expect("it is committed");
    engine.write("b").await.expect("it is committed");
    assert_eq!(vec![vec!["a"], vec!["b"]], engine.groups.seen());
}

#[tokio::test]
async fn a_command_is_committed_though_its_caller_has_gone() {
    let engine = Engine::open(|_| {}).await;
    let plug = engine.plug().await;
    let mut write = Box::pin(engine.write("orphan"));
    assert!((&mut write).now_or_never().is_none());
    drop(write);
    plug.pull().await;
    engine.write("next").await.expect("it is written");
    assert_eq!(["orphan", "next"], *engine.rows().await);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_but_never_a_settlement() {
    let engine = Engine::open(|options| options.queue_depth = 2).await;
    let plug = engine.plug().await;
    let mut waiting = Box::pin(join_all([engine.write("a"), engine.write("b")]));
    assert!((&mut waiting).now_or_never().is_none());
    let refused = engine.write("c").now_or_never().expect("it is refused at once");
    assert!(unavailable_answer(refused));
    let settlements = ["s1", "s2", "s3", "s4"];
    let mut settled = Box::pin(join_all(
        settlements
            .map(|key| engine.store().settlement("settle", change(key), |_, _, _| Ok::<_, Fail<StoreError>>(()))),
    ));
    assert!((&mut settled).now_or_never().is_none());
    plug.pull().await;
    assert!(settled.await.iter().all(Result::is_ok) && waiting.await.iter().all(Result::is_ok));
    assert_eq!(["s1", "s2", "s3", "s4", "a", "b"], *engine.rows().await, "settlements go first");
}

#[tokio::test]
async fn a_write_waits_for_the_lock_of_another_process() {
    let engine = Engine::open(|_| {}).await;
    let lock = engine.test.connection();
    lock.execute_batch("BEGIN IMMEDIATE; INSERT INTO changes (topic, key, at_ms) VALUES ('test', 'theirs', 0)")
        .expect("nobody else writes");
    let mut write = Box::pin(engine.write("ours"));
    assert!((&mut write).now_or_never().is_none());
    assert!(engine.rows().await.is_empty(), "reads do not wait");
    lock.execute_batch("COMMIT").expect("it is committed");
    write.await.expect("it waited");
    assert_eq!(["theirs", "ours"], *engine.rows().await);
}

/// One after another, the waiting writes would be answered within twenty times the timeout.
#[tokio::test]
async fn a_writer_that_is_locked_out_answers_all_who_wait_at_once_and_recovers() {
    let timeout = Duration::from_millis(500);
    let engine = Engine::open(|options| options.busy_timeout = timeout).await;
    let lock = engine.test.connection();
    lock.execute_batch("BEGIN IMMEDIATE").expect("nobody else writes");
    let begun = Instant::now();
    let keys: Vec<_> = (0..20).map(|number| number.to_string()).collect();
    let answers = join_all(keys.iter().map(|key| engine.write(key))).await;
    assert!(answers.into_iter().all(unavailable_answer));
    assert!((timeout..timeout * 10).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    lock.execute_batch("ROLLBACK").expect("the lock is given up");
    engine.write("after").await.expect("the writer recovers by itself");
    assert_eq!(["after"], *engine.rows().await, "what was refused is not there");
}

#[tokio::test]
async fn a_read_sees_one_moment_however_many_statements_it_has() {
    let engine = Engine::open(|_| {}).await;
    let (first_done, first) = tokio::sync::oneshot::channel();
    let (go_on, told) = mpsc::channel::<()>();
    let read = tokio::spawn({
        let store = engine.store().clone();
        async move {
            let read = store.read("count twice", move |db| {
                let count = || db.query_row("SELECT count(*) FROM changes", [], |row| row.get::<_, i64>(0));
                let before = count()?;
                let _ = first_done.send(());
                let _ = told.recv();
                Ok::<_, Fail<StoreError>>((before, count()?))
            });
            read.await
        }
    });
    first.await.expect("the first statement ran");
    engine.write("meanwhile").await.expect("a reader does not keep the writer waiting");
    drop(go_on);
    assert_eq!((0, 0), read.await.expect("it does not panic").expect("it reads"));
}

#[tokio::test]
async fn a_read_that_panics_or_writes_is_a_defect_and_the_next_one_works() {
    let engine = Engine::open(|options| options.reader_threads = 1).await;
    let panics = engine.store().read("panic", |_| -> Result<(), Fail<StoreError>> { panic!("this read panics") });
    assert!(matches!(panics.await, Err(StoreError::Defect { .. })));
    let writes = engine.store().read("write", |db| {
        db.execute("DELETE FROM changes", [])?;
        Ok::<_, Fail<StoreError>>(())
    });
    assert!(writes.await.is_err());
    assert!(engine.rows().await.is_empty());
}

#[tokio::test]
async fn a_full_queue_of_reads_refuses_at_once() {
    let engine = Engine::open(|options| (options.reader_threads, options.queue_depth) = (1, 1)).await;
    let (let_go, held) = mpsc::channel::<()>();
    let (entered, inside) = tokio::sync::oneshot::channel();
    let store = engine.store().clone();
    let holding = tokio::spawn(async move {
        let hold = store.read("hold", move |_| {
            let _ = entered.send(());
            let _ = held.recv();
            Ok::<_, Fail<StoreError>>(())
        });
        hold.await
    });
    inside.await.expect("the reader is held");
    let mut waiting = Box::pin(engine.rows());
    assert!((&mut waiting).now_or_never().is_none());
    let refused = engine.store().read("wait", |_| Ok::<_, Fail<StoreError>>(())).now_or_never();
    assert!(unavailable_answer(refused.expect("it is refused at once")));
    drop(let_go);
    assert!(holding.await.expect("it does not panic").is_ok());
    assert!(waiting.await.is_empty());
}

/// A command under the idempotency key `key`, which says how often it ran.
async fn once(engine: &Engine, key: &str, fingerprint: u8) -> Result<Outcome<i64>, StoreError> {
    let record = IdempotencyRecord {
        key: IdempotencyKey { scope: "tester".to_owned(), key: key.to_owned(), fingerprint: [fingerprint; 32] },
        expires_at: engine.test.clock.now().plus(Duration::from_secs(60)),
        sealed: Some(vec![fingerprint]),
    };
    let run = |db: &Connection, _: Timestamp| {
        db.execute("INSERT INTO changes (topic, key, at_ms) VALUES ('test', 'effect', 0)", [])?;
        Ok::<_, Fail<StoreError>>(db.last_insert_rowid())
    };
    engine.store().command("run once", Causes::none().idempotent(Some(record)), run).await
}

fn replayed(value: i64, sealed: u8) -> Outcome<i64> {
    Outcome::Replayed { value, sealed: Some(vec![sealed]) }
}

#[tokio::test]
async fn the_same_key_replays_the_first_result_with_its_sealed_bytes() {
    let engine = Engine::open(|_| {}).await;
    assert_eq!(Outcome::Done(1), once(&engine, "k", 1).await.expect("it runs"));
    assert_eq!(replayed(1, 1), once(&engine, "k", 1).await.expect("it is replayed"));
    assert_eq!(Outcome::Done(2), once(&engine, "other", 1).await.expect("another key runs"));
    assert_eq!(2, engine.rows().await.len());
}

#[tokio::test]
async fn a_key_is_refused_to_another_request() {
    let engine = Engine::open(|_| {}).await;
    once(&engine, "k", 1).await.expect("it runs");
    assert!(matches!(once(&engine, "k", 2).await, Err(StoreError::KeyReused)));
    assert_eq!(1, engine.rows().await.len());
    assert_eq!(replayed(1, 1), once(&engine, "k", 1).await.expect("the record is as it was"));
}

#[tokio::test]
async fn twins_at_the_same_time_have_one_effect() {
    let engine = Engine::open(|_| {}).await;
    let plug = engine.plug().await;
    let mut twins = Box::pin(join_all((0..10).map(|_| once(&engine, "k", 1))));
    assert!((&mut twins).now_or_never().is_none());
    plug.pull().await;
    let answers: Vec<_> = twins.await.into_iter().map(|answer| answer.expect("it is answered")).collect();
    assert_eq!(1, answers.iter().filter(|answer| **answer == Outcome::Done(1)).count());
    assert_eq!(9, answers.iter().filter(|answer| **answer == replayed(1, 1)).count());
    assert_eq!(1, engine.rows().await.len());
}

#[tokio::test]
async fn a_record_exists_only_if_the_effect_does() {
    let engine = Engine::open(|_| {}).await;
    let key = IdempotencyKey { scope: "tester".to_owned(), key: "k".to_owned(), fingerprint: [1; 32] };
    let expires_at = engine.test.clock.now().plus(Duration::from_secs(60));
    let record = || Some(IdempotencyRecord { key: key.clone(), expires_at, sealed: None });
    let refused = engine.store().command("be refused", change("refused").idempotent(record()), |_, _| {
        Err::<(), _>(refuse(StoreError::full("any refusal", "none")))
    });
    assert!(refused.await.is_err());
    let half = change("half").idempotent(record());
    let spoilt = half.job(crate::jobs::NewJob {
        id: crate::id::JobId::new(expires_at, &*engine.test.entropy),
        queue: crate::jobs::QueueName::new("test"),
        kind: "impossible".to_owned(),
        payload: serde_json::Value::Null,
        priority: 99,
        run_at: expires_at,
        max_attempts: 1,
        unique_key: None,
        owner: None,
        video: None,
        on_dead: None,
        group: None,
        now: expires_at,
    });
    let spoilt = engine.store().command("cause what cannot be", spoilt, |_, _| Ok::<_, Fail<StoreError>>(()));
    assert!(spoilt.await.is_err());
    assert!(engine.rows().await.is_empty());
    assert_eq!(Outcome::Done(1), once(&engine, "k", 1).await.expect("the key is unused"));
}

#[tokio::test]
async fn an_expired_key_runs_again_whether_or_not_it_was_pruned() {
    let engine = Engine::open(|_| {}).await;
    once(&engine, "k", 1).await.expect("it runs");
    engine.test.clock.advance(Duration::from_millis(59_999));
    assert_eq!(0, engine.store().prune_idempotency(engine.test.clock.now(), 1000).await.expect("it prunes"));
    assert_eq!(replayed(1, 1), once(&engine, "k", 1).await.expect("it is replayed"));
    engine.test.clock.advance(Duration::from_millis(1));
    assert_eq!(Outcome::Done(2), once(&engine, "k", 2).await.expect("it runs, also for another request"));
    engine.test.clock.advance(Duration::from_secs(60));
    assert_eq!(1, engine.store().prune_idempotency(engine.test.clock.now(), 1000).await.expect("it prunes"));
    assert_eq!(Outcome::Done(3), once(&engine, "k", 2).await.expect("it runs"));
}

#[tokio::test]
async fn records_and_changes_are_pruned_in_shares() {
    let engine = Engine::open(|_| {}).await;
    for key in ["a", "b", "c"] {
        once(&engine, key, 1).await.expect("it runs");
    }
    engine.test.clock.advance(Duration::from_secs(60));
    let now = engine.test.clock.now();
    for gone in [2, 1, 0] {
        assert_eq!(gone, engine.store().prune_idempotency(now, 2).await.expect("it prunes"));
    }
    // Each wrote a change as well.
    assert_eq!(3, engine.rows().await.len());
    assert_eq!(2, engine.store().prune_changes(now, 2).await.expect("it prunes"));
    assert_eq!(1, engine.rows().await.len());
}

#[tokio::test]
async fn a_prepared_statement_survives_a_savepoint_that_was_rolled_back() {
    let engine = Engine::open(|_| {}).await;
    for attempt in 0..3 {
        let refused = engine.store().command("be refused", Causes::none(), move |db, now| {
            db.prepare_cached("INSERT INTO changes (topic, key, at_ms) VALUES ('test', :key, :now)")?
                .execute(named_params! {":key": attempt.to_string(), ":now": now})?;
            Err::<(), _>(refuse(StoreError::KeyReused))
        });
        assert!(tokio::time::timeout(PATIENCE, refused).await.expect("it is answered").is_err());
        engine.write("kept").await.expect("it is written");
    }
    assert_eq!(["kept", "kept", "kept"], *engine.rows().await);
}

#[tokio::test]
async fn a_connection_that_cannot_roll_back_is_replaced() {
    use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

    let engine = Engine::open(|_| {}).await;
    let failed = engine
        .store()
        .command("break the connection", Causes::none().change(NewChange::new("test", "lost")), |db, _| {
            // From here on this connection can end its transaction in no way.
            db.authorizer(Some(|context: AuthContext<'_>| match context.action {
                AuthAction::Transaction { .. } => Authorization::Deny,
                _ => Authorization::Allow,
            }))?;
            Ok::<_, Fail<StoreError>>(())
        })
        .await;
    assert!(failed.is_err(), "nothing was committed");
    let kept = engine.store().command("write again", Causes::none().change(NewChange::new("test", "kept")), |_, _| {
        Ok::<_, Fail<StoreError>>(())
    });
    kept.await.expect("another connection writes");
    assert_eq!(["kept"], *engine.rows().await);
}
