//! The cache: its contract, and how committed changes reach it.

use std::sync::Arc;

use vidcore::cache::{CacheTier, Caches, EVERY_KEY, MemoryCache};
use vidcore::clock::ManualClock;
use vidcore::events::Change;
use vidcore::store::{CommitObserver, Committed};
use vidcore::testkit::cache::{CacheHarness, Gate, OriginError, until};
use vidcore::testkit::changes::ChangeLog;

vidcore::cache_contract!(process, async { Some(CacheHarness::process()) });
vidcore::cache_contract!(before_memory, async {
    Some(over(|clock| Arc::new(MemoryCache::new(1 << 20, Arc::new(clock)))))
});
#[cfg(all(feature = "sqlite", feature = "redis"))]
vidcore::cache_contract!(before_redis, async {
    use std::time::Duration;

    use vidcore::cache::RedisCache;
    use vidcore::clock::SystemClock;
    use vidcore::testkit::TestRedis;

    let redis = TestRedis::start()?;
    // Longer than in production: the tests of a whole suite run at once.
    let (server, patience) = (TestRedis::server(&redis.settings()), Duration::from_secs(5));
    let tier = RedisCache::new(&server, patience, Arc::new(SystemClock::new())).expect("the tier opens");
    Some(over(|_| Arc::new(tier)).with_service(redis))
});

fn over(tier: impl FnOnce(ManualClock) -> Arc<dyn CacheTier>) -> CacheHarness {
    let clock = ManualClock::default();
    CacheHarness::over(tier(clock.clone()), clock, Arc::new(ChangeLog::new()))
}

fn change(topic: &str, key: &str) -> Change {
    Change { id: 1, topic: topic.to_owned(), key: key.to_owned() }
}

async fn registered() -> (CacheHarness, Caches) {
    let (h, caches) = (CacheHarness::process(), Caches::new(None));
    caches.register("things", &h.cache);
    for n in 0..50 {
        h.get(&format!("k{n}"), "old").await;
    }
    (h, caches)
}

async fn kept_of_fifty(h: &CacheHarness) -> usize {
    let mut kept = 0;
    for n in 0..50 {
        kept += usize::from(h.kept(&format!("k{n}")).await.is_some());
    }
    kept
}

#[tokio::test]
async fn a_committed_change_drops_its_key() {
    let (h, caches) = registered().await;
    caches.committed(&Committed { changes: vec![change("things", "k7")], jobs: Vec::new() });
    assert_eq!(None, h.kept("k7").await);
    assert!(kept_of_fifty(&h).await >= 40);
}

#[tokio::test]
async fn a_change_of_every_key_drops_the_whole_cache() {
    let (h, caches) = registered().await;
    caches.apply(&change("things", EVERY_KEY));
    assert_eq!(0, kept_of_fifty(&h).await);
}

#[tokio::test]
async fn a_change_of_another_topic_drops_nothing() {
    let (h, caches) = registered().await;
    caches.apply(&change("others", "k7"));
    caches.apply(&change("others", EVERY_KEY));
    assert_eq!(50, kept_of_fifty(&h).await);
}

#[tokio::test]
async fn a_missed_change_drops_everything_from_every_cache() {
    let (h, caches) = registered().await;
    let other = CacheHarness::process();
    caches.register("others", &other.cache);
    other.get("k", "v").await;
    caches.drop_all(1);
    assert_eq!(0, kept_of_fifty(&h).await);
    assert_eq!(None, other.kept("k").await);
}

#[test]
fn a_load_cut_off_with_its_runtime_does_not_hold_its_key() {
    let h = CacheHarness::process();
    let runtime = || tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let first = runtime();
    let (cache, gate) = (h.cache.clone(), Gate::closed());
    first.block_on(async {
        tokio::spawn(async move {
            let load = async move {
                gate.pass().await;
                Err(OriginError("never reached"))
            };
            cache.get_or_load("k", load).await
        });
        until(|| h.cache.loads_under_way() == 1).await;
    });
    drop(first);
    assert_eq!("v", runtime().block_on(h.get("k", "v")));
}

#[test]
fn who_waits_for_a_load_that_is_cut_off_loads_itself() {
    let h = CacheHarness::process();
    let runtime = || tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let first = runtime();
    let (cache, gate) = (h.cache.clone(), Gate::closed());
    first.block_on(async {
        let reached = gate.clone();
        tokio::spawn(async move {
            let load = async move {
                gate.pass().await;
                Err(OriginError("never reached"))
            };
            cache.get_or_load("k", load).await
        });
        reached.until_reached().await;
    });
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| runtime().block_on(h.get("k", "v")));
        runtime().block_on(until(|| h.cache.stats().waits == 1));
        // The task that loads goes in the middle of it, as when it is aborted.
        drop(first);
        assert_eq!("v", waiting.join().expect("it has an answer"));
    });
    assert_eq!(0, h.cache.loads_under_way());
}

/// Readers, a writer and invalidations on several threads: nobody ever reads behind a change that
/// was complete before it asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_reads_behind_a_change_that_was_complete_before_they_asked() {
    use std::sync::atomic::{AtomicU64, Ordering};

    let h = Arc::new(CacheHarness::process());
    let (truth, announced) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (h, truth, announced) = (Arc::clone(&h), Arc::clone(&truth), Arc::clone(&announced));
        readers.spawn(async move {
            for _ in 0..2000 {
                let least = announced.load(Ordering::SeqCst);
                let truth = Arc::clone(&truth);
                let load = async move {
                    let seen = truth.load(Ordering::SeqCst).to_string();
                    tokio::task::yield_now().await;
                    Ok(Some(seen))
                };
                let read = h.cache.get_or_load("k", load).await.expect("loads").expect("there is a value");
                assert!(read.value.parse::<u64>().expect("a number") >= least);
            }
        });
    }
    for version in 1..=2000 {
        truth.store(version, Ordering::SeqCst);
        h.cache.invalidate("k");
        announced.store(version, Ordering::SeqCst);
        tokio::task::yield_now().await;
    }
    while let Some(reader) = readers.join_next().await {
        reader.expect("no reader reads behind a change");
    }
}
