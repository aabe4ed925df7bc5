//! The tier that processes share: its contract, over every back end there is, and what only one of them has.

use std::sync::Arc;
use std::time::Duration;

use vidcore::cache::MemoryCache;
use vidcore::cache::tier::{Claim, Stored};
use vidcore::cache_tier_contract;
use vidcore::clock::ManualClock;
use vidcore::testkit::tier::TierHarness;

cache_tier_contract!(memory, async { Some(memory(&ManualClock::default())) });
#[cfg(all(feature = "sqlite", feature = "redis"))]
cache_tier_contract!(redis, async {
    let redis = vidcore::testkit::TestRedis::start()?;
    let tier = redis_only::tier(&redis);
    Some(TierHarness::real(tier, redis))
});

fn memory(clock: &ManualClock) -> TierHarness {
    TierHarness::manual(Arc::new(MemoryCache::new(64 << 20, Arc::new(clock.clone()))), clock.clone())
}

#[tokio::test]
async fn a_ticket_is_refused_once_its_load_is_forgotten() {
    let clock = ManualClock::default();
    let h = memory(&clock);
    h.begin().await;
    let early = h.lead("k", 1).await;
    clock.advance(Duration::from_secs(3600));
    // Enough of them that it looks for what it may forget.
    for n in 0..10_000 {
        h.claim(&format!("k{n}"), 2).await;
    }
    assert_eq!(Stored::Refused, h.store("k", &early, b"old").await);
    let late = h.lead("k", 3).await;
    assert!(late.generation > early.generation);
}

#[cfg(all(feature = "sqlite", feature = "redis"))]
mod redis_only {
    use std::time::Instant;

    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::watch;
    use vidcore::cache::tier::{Batch, CacheTier, ClaimMode, TierError};
    use vidcore::cache::{EVERY_KEY, RedisCache};
    use vidcore::clock::SystemClock;
    use vidcore::platform::settings::{RedisSettings, Secret};
    use vidcore::testkit::TestRedis;
    use vidcore::testkit::tier::{change, place, until};

    use super::*;

    /// Longer than in production: the tests of a whole suite run at once.
    const PATIENCE: Duration = Duration::from_secs(5);

    /// For servers that do not answer.
    const SHORT: Duration = Duration::from_millis(100);

    /// The prefix of the first settings that a server of a test gives out.
    const KEYS: &str = "test0:v1:cache1";

    pub(super) fn tier(redis: &TestRedis) -> Arc<dyn CacheTier> {
        tier_with(redis, PATIENCE)
    }

    fn tier_with(redis: &TestRedis, patience: Duration) -> Arc<dyn CacheTier> {
        let settings = RedisSettings { prefix: "test0".to_owned(), ..redis.settings() };
        let tier = RedisCache::new(&TestRedis::server(&settings), patience, Arc::new(SystemClock::new()));
        Arc::new(tier.expect("the tier opens"))
    }

    async fn harness(redis: &TestRedis) -> TierHarness {
        let h = TierHarness::real(tier(redis), ());
        h.begin().await;
        h
    }

    /// A way to a server that can lose its connections without telling either end. Returns its port, and what
    /// loses them.
    async fn wire(to: u16) -> (u16, watch::Sender<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let (lose, losing) = watch::channel(());
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut losing = losing.clone();
                losing.mark_unchanged();
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(("127.0.0.1", to)).await.expect("the server is there");
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        // Both stay open, and nothing passes.
                        Ok(()) = losing.changed() => std::future::pending().await,
                    }
                });
            }
        });
        (port, lose)
    }

    fn every_key(redis: &TestRedis) -> Vec<String> {
        let script = "return table.concat(redis.call('KEYS', '*'), ' ')";
        redis.text(&format!("EVAL \"{script}\" 0")).split(' ').map(str::to_owned).collect()
    }

    async fn is_away(tier: &dyn CacheTier) -> bool {
        matches!(tier.look(place("k")).await, Err(TierError::Away))
    }

    #[tokio::test]
    async fn every_key_ends_by_itself() {
        let Some(redis) = TestRedis::start() else { return };
        let h = harness(&redis).await;
        for round in 0..50 {
            let key = format!("k{}", round % 7);
            let (Claim::Lead(ticket) | Claim::Wait(ticket)) = h.claim(&key, 2).await else {
                panic!("it is to be refreshed")
            };
            h.store(&key, &ticket, b"value").await;
            h.claim(&key, 3).await;
            match round % 5 {
                0 => drop(h.apply(round + 1, &[&key]).await),
                1 => drop(h.apply(round + 1, &[EVERY_KEY]).await),
                2 => h.tier.give_up(place(&key), &ticket).await.expect("the tier answers"),
                3 => h.tier.reset(&["tier", "other"], round + 1).await.expect("the tier answers"),
                _ => drop(h.store(&key, &ticket, b"newer").await),
            }
            h.apply(round + 1, &["other"]).await;
            h.claim("left", round.unsigned_abs()).await;
            h.apply(round + 2, &["left"]).await;
            h.tier.reset(&["tier", "other"], round + 1).await.expect("the tier answers");
        }
        h.claim("left", 1).await;
        h.tier.applied().await.expect("the tier answers");
        let keys = every_key(&redis);
        assert!(keys.len() > 10, "{keys:?}");
        for key in keys {
            let left = redis.command(&format!("PTTL {key}"));
            let left: i64 = left.trim_start_matches(':').parse().expect("a number");
            assert!(left > 0, "{key} {left}");
        }
    }

    #[tokio::test]
    async fn a_ticket_is_refused_once_its_generation_is_forgotten() {
        let Some(redis) = TestRedis::start() else { return };
        let h = harness(&redis).await;
        for forgotten in [format!("{KEYS}:tier:g:k"), format!("{KEYS}:tier:all")] {
            let early = h.lead("k", 1).await;
            assert_eq!(":1", redis.command(&format!("DEL {forgotten}")));
            assert_eq!(Stored::Refused, h.store("k", &early, b"old").await);
            let late = h.lead("k", 2).await;
            assert!(late.generation > early.generation || late.all > early.all, "{forgotten}");
            assert_eq!(Stored::Refused, h.store("k", &early, b"old").await);
            assert_eq!(Stored::Kept, h.store("k", &late, b"new").await);
        }
    }

    /// A server that came back with an older state, while a load went on: whatever number a generation has
    /// then, it must not come to be the ticket's.
    #[tokio::test]
    async fn a_ticket_is_refused_after_the_tier_fell_back_and_began_anew() {
        let Some(redis) = TestRedis::start() else { return };
        let h = harness(&redis).await;
        let before = h.lead("k", 1).await;
        h.tier.reset(&["tier"], 10).await.expect("the tier answers");
        let during = h.claim("k", 2).await;
        let (Claim::Wait(during) | Claim::Lead(during)) = during else { panic!("there is no entry") };
        for (key, number) in [("all", before.all), ("g:k", before.generation)] {
            assert_eq!("+OK", redis.command(&format!("SET {KEYS}:tier:{key} {number} EX 60")));
        }
        h.tier.reset(&["tier"], 20).await.expect("the tier answers");
        h.claim("k", 3).await;
        assert_eq!(Stored::Refused, h.store("k", &during, b"old").await);
    }

    #[tokio::test]
    async fn what_was_flushed_is_not_known_and_not_believed() {
        let Some(redis) = TestRedis::start() else { return };
        let h = harness(&redis).await;
        h.fill("k", b"value").await;
        let early = h.lead("k", 1).await;
        redis.flush();
        let look = h.look("k").await;
        assert_eq!((None, None), (look.bytes, look.applied));
        assert_eq!(Stored::Refused, h.store("k", &early, b"old").await);
        assert_eq!(None, h.apply(1, &["k"]).await);
        h.tier.reset(&["tier"], 1).await.expect("the tier answers");
        assert_eq!(Stored::Refused, h.store("k", &early, b"old").await);
        h.fill("k", b"new").await;
    }

    #[tokio::test]
    async fn without_memory_it_gives_out_what_it_has_and_nothing_stale() {
        let Some(redis) = TestRedis::start() else { return };
        let h = harness(&redis).await;
        h.fill("k", b"value").await;
        h.fill("other", b"value").await;
        let held = h.lead("leased", 1).await;
        assert_eq!("+OK", redis.command("CONFIG SET maxmemory-policy noeviction"));
        assert_eq!("+OK", redis.command("CONFIG SET maxmemory 1"));
        assert!(h.bytes("k").await.is_some(), "looks go on");
        h.tier.store(place("leased"), &held, "value".into(), PATIENCE).await.expect_err("there is no room");
        for keys in [&["k"][..], &[EVERY_KEY], &["new"]] {
            let changes: Vec<_> = (1..).zip(keys).map(|(id, key)| change(id, "tier", key)).collect();
            let applied = h.tier.apply(Batch { after: 0, changes: &changes }).await;
            let look = h.look("k").await;
            assert!(look.bytes.is_none() || look.applied < Some(1), "{applied:?} {look:?}");
        }
        assert_eq!("+OK", redis.command("CONFIG SET maxmemory 64mb"));
        assert!(matches!(h.claim("leased", 2).await, Claim::Lead(_)), "the lease ended with the attempt to store");
        h.tier.reset(&["tier"], 1).await.expect("there is room again");
        h.fill("k", b"new").await;
    }

    #[tokio::test]
    async fn a_frozen_server_is_waited_for_so_long_three_times_and_then_not_asked() {
        let Some(redis) = TestRedis::start() else { return };
        let tier = tier_with(&redis, SHORT);
        tier.reset(&["tier"], 0).await.expect("the tier answers");
        redis.freeze();
        for _ in 0..3 {
            let begun = Instant::now();
            let error = tier.look(place("k")).await.expect_err("nobody answers");
            assert!(matches!(error, TierError::Unavailable { .. }));
            assert!(begun.elapsed() < 10 * SHORT, "{:?}", begun.elapsed());
        }
        assert!(is_away(&*tier).await);
        redis.thaw();
        until(async || tier.look(place("k")).await.is_ok()).await;
    }

    #[tokio::test]
    async fn no_call_waits_for_a_probe_of_a_frozen_server() {
        let Some(redis) = TestRedis::start() else { return };
        let clock = ManualClock::default();
        let server = TestRedis::server(&redis.settings());
        let tier = RedisCache::new(&server, SHORT, Arc::new(clock.clone())).expect("the settings are right");
        tier.reset(&["tier"], 0).await.expect("the tier answers");
        redis.freeze();
        until(async || is_away(&tier).await).await;
        for round in 0..3 {
            // Longer than any pause: a probe is due.
            clock.advance(Duration::from_secs(2));
            assert!(is_away(&tier).await, "round {round}: the caller was the probe");
        }
        redis.thaw();
        until(async || {
            clock.advance(Duration::from_secs(2));
            tier.look(place("k")).await.is_ok()
        })
        .await;
    }

    #[tokio::test]
    async fn every_call_of_a_frozen_server_ends_in_time() {
        let Some(redis) = TestRedis::start() else { return };
        redis.freeze();
        let changes = [change(1, "tier", "k")];
        let ticket = vidcore::cache::tier::Ticket { generation: 1, all: 1, holder: 1 };
        let begun = Instant::now();
        // One tier each: three errors of one are its last.
        let new = || tier_with(&redis, SHORT);
        new().claim(place("k"), ClaimMode::Refresh, 1, SHORT).await.expect_err("nobody answers");
        new().store(place("k"), &ticket, "value".into(), SHORT).await.expect_err("nobody answers");
        new().give_up(place("k"), &ticket).await.expect_err("nobody answers");
        new().applied().await.expect_err("nobody answers");
        new().apply(Batch { after: 0, changes: &changes }).await.expect_err("nobody answers");
        new().reset(&["tier"], 0).await.expect_err("nobody answers");
        assert!(begun.elapsed() < 6 * 10 * SHORT, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_server_that_was_started_again_is_asked_again() {
        let Some(mut redis) = TestRedis::start() else { return };
        let tier = tier_with(&redis, PATIENCE);
        tier.reset(&["tier"], 0).await.expect("the tier answers");
        redis.stop();
        until(async || is_away(&*tier).await).await;
        redis.restart();
        until(async || tier.applied().await.is_ok_and(|applied| applied.is_none())).await;
        let h = TierHarness::real(tier, ());
        h.begin().await;
        h.fill("k", b"value").await;
    }

    #[tokio::test]
    async fn a_server_that_comes_later_is_found() {
        let Some(mut redis) = TestRedis::start() else { return };
        redis.stop();
        let tier = tier_with(&redis, SHORT);
        until(async || is_away(&*tier).await).await;
        redis.restart();
        until(async || tier.applied().await.is_ok()).await;
    }

    #[tokio::test]
    async fn a_connection_that_passes_nothing_any_more_is_replaced() {
        let Some(redis) = TestRedis::start() else { return };
        let (port, lose) = wire(redis.port()).await;
        let url = Secret::new(format!("redis://127.0.0.1:{port}"));
        let server = TestRedis::server(&RedisSettings { url, ..redis.settings() });
        let tier = RedisCache::new(&server, SHORT, Arc::new(SystemClock::new())).expect("the tier opens");
        until(async || tier.look(place("k")).await.is_ok()).await;
        lose.send_replace(());
        until(async || is_away(&tier).await).await;
        until(async || tier.look(place("k")).await.is_ok()).await;
    }

    #[tokio::test]
    async fn after_a_cut_connection_it_answers() {
        let Some(redis) = TestRedis::start() else { return };
        let h = harness(&redis).await;
        h.fill("k", b"value").await;
        assert_ne!(":0", redis.command("CLIENT KILL TYPE normal SKIPME yes"));
        until(async || h.tier.look(place("k")).await.is_ok_and(|look| look.bytes.is_some())).await;
    }

    /// How many looks' commands the server has carried out.
    fn commands_of_looks(redis: &TestRedis) -> u64 {
        let stats = redis.text("INFO commandstats");
        let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_mget:calls="));
        calls.map_or(0, |calls| calls.split(',').next().and_then(|calls| calls.parse().ok()).expect("a number"))
    }

    #[tokio::test]
    async fn looks_that_come_together_are_sent_together_and_a_lone_one_alone() {
        let Some(redis) = TestRedis::start() else { return };
        let h = harness(&redis).await;
        h.look("k").await;
        assert_eq!(1, commands_of_looks(&redis));
        let keys: Vec<_> = (0..100).map(|n| format!("k{n}")).collect();
        futures_util::future::join_all(keys.iter().map(|key| h.look(key))).await;
        let commands = commands_of_looks(&redis) - 1;
        assert!((4..=10).contains(&commands), "{commands}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn every_look_of_many_threads_is_answered() {
        let Some(redis) = TestRedis::start() else { return };
        let h = Arc::new(harness(&redis).await);
        for key in 0..8 {
            h.fill(&format!("k{key}"), format!("value {key}").as_bytes()).await;
        }
        let tasks: Vec<_> = (0..64)
            .map(|task| {
                let h = Arc::clone(&h);
                tokio::spawn(async move {
                    for round in 0..500 {
                        let key = (task + round) % 8;
                        let found = h.bytes(&format!("k{key}")).await;
                        assert_eq!(Some(format!("value {key}").as_bytes()), found.as_deref());
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("every look finds its value");
        }
        assert!(commands_of_looks(&redis) < 64 * 500, "some came together");
    }

    #[tokio::test]
    async fn looks_of_callers_who_went_away_do_not_concern_the_others() {
        let Some(redis) = TestRedis::start() else { return };
        let h = harness(&redis).await;
        h.fill("k", b"value").await;
        for _ in 0..20 {
            let gone = h.look("other");
            tokio::select! {
                biased;
                _ = gone => panic!("it had no time"),
                () = std::future::ready(()) => {}
            }
            assert!(h.bytes("k").await.is_some());
        }
    }

    #[test]
    fn looks_go_on_after_the_end_of_a_runtime_that_was_to_send_some() {
        let Some(redis) = TestRedis::start() else { return };
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let tier = {
            let first = runtime();
            let tier = first.block_on(async { tier(&redis) });
            // Polled once: whoever was to send it never has a turn.
            first.block_on(async {
                tokio::select! {
                    biased;
                    _ = tier.look(place("k")) => panic!("it had no time"),
                    () = std::future::ready(()) => {}
                }
            });
            tier
        };
        runtime().block_on(until(async || tier.look(place("k")).await.is_ok()));
    }

    #[tokio::test]
    async fn looks_that_came_together_fail_together_and_count_as_one_failure() {
        let Some(redis) = TestRedis::start() else { return };
        let tier = tier_with(&redis, SHORT);
        tier.reset(&["tier"], 0).await.expect("the tier answers");
        redis.freeze();
        let looks = |tier: &Arc<dyn CacheTier>| {
            let tier = Arc::clone(tier);
            async move { futures_util::future::join_all((0..10).map(|_| tier.look(place("k")))).await }
        };
        for _ in 0..3 {
            for look in looks(&tier).await {
                assert!(matches!(look, Err(TierError::Unavailable { .. })), "{look:?}");
            }
        }
        for look in looks(&tier).await {
            assert!(matches!(look, Err(TierError::Away)), "{look:?}");
        }
        redis.thaw();
        until(async || tier.look(place("k")).await.is_ok()).await;
    }
}
