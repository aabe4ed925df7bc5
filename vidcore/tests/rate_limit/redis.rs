//! What is true of Redis alone: its own time, its keys, its absence.

use std::collections::BTreeSet;

use vidcore::clock::SystemClock;
use vidcore::entropy::SystemEntropy;
use vidcore::keys::KeyRing;
use vidcore::platform::settings::RedisSettings;
use vidcore::rate_limit::{Budget, Decision, FallbackRateLimit, RedisRateLimit, Shares};
use vidcore::testkit::TestRedis;

use super::*;

vidcore::rate_limit_contract!(redis, RateLimitHarness::redis());
vidcore::rate_limit_contract!(shared redis_shared, RateLimitHarness::redis());
vidcore::rate_limit_contract!(redis_before_memory, async {
    RateLimitHarness::redis_through(|redis| {
        let own = MemoryRateLimit::new(Arc::new(ManualClock::default()));
        Arc::new(FallbackRateLimit::new(redis, Arc::new(own), Shares::default()))
    })
});

const PATIENCE: Duration = Duration::from_secs(10);

fn keys() -> KeyRing {
    KeyRing::ephemeral(Arc::new(ManualClock::default()), Arc::new(SystemEntropy))
}

/// As in production: by the server's time.
fn limits(settings: &RedisSettings, keys: &KeyRing, patience: Duration) -> RedisRateLimit {
    let server = TestRedis::server(settings);
    RedisRateLimit::new(&server, keys.clone(), patience, Arc::new(SystemClock::new())).expect("it can be reached")
}

/// Every key there is, with its life in milliseconds.
fn lives(redis: &TestRedis) -> Vec<(String, i64)> {
    let keys = redis.texts("KEYS *");
    let life = |key: &String| redis.command(&format!("PTTL {key}")).trim_start_matches(':').parse().expect("a number");
    keys.iter().map(|key| (key.clone(), life(key))).collect()
}

#[tokio::test]
async fn by_its_own_time_it_admits_the_burst_and_says_when_to_come_back() {
    let Some(redis) = TestRedis::start() else { return };
    let limits = limits(&redis.settings(), &keys(), PATIENCE);
    let budget = budget(&user(1), &policy("write.user", 100, 3600, 20));
    for left in (0..20).rev() {
        assert_eq!(left, limits.check(std::slice::from_ref(&budget), 1).await.expect("answers").remaining);
    }
    let refused = limits.check(&[budget], 1).await.expect("answers");
    let wait = refused.retry_after.expect("a refusal says when");
    assert!(!refused.allowed && wait <= Duration::from_secs(45) && wait > Duration::from_secs(20), "{wait:?}");
}

#[tokio::test]
async fn no_key_lives_longer_than_its_budget_needs_and_none_for_ever() {
    let Some(redis) = TestRedis::start() else { return };
    let limits = limits(&redis.settings(), &keys(), PATIENCE);
    let policies =
        [policy("write.user", 100, 3600, 20), policy("read.user", 7, 1, 2), policy("login.account", 1, 60, 1)];
    for n in 0..50_u8 {
        let budgets = policies.clone().map(|policy| budget(&user(n % 10), &policy));
        limits.check(&budgets, 1).await.expect("answers");
        limits.state(&budgets).await.expect("answers");
        limits.check(&budgets[..1], 1 + u32::from(n % 3)).await.expect("answers");
        limits.check(&budgets[1..2], 0).await.expect("answers");
    }
    let lives = lives(&redis);
    assert!(lives.len() >= 10, "{lives:?}");
    for (key, life) in lives {
        // -2: it has just gone.
        assert!(life == -2 || (0..=900_002).contains(&life), "{key} lives for {life} ms");
    }
}

#[tokio::test]
async fn looking_and_refusing_leave_no_key() {
    let Some(redis) = TestRedis::start() else { return };
    let limits = limits(&redis.settings(), &keys(), PATIENCE);
    let [full, empty] = [user(1), user(2)].map(|user| budget(&user, &policy("write.user", 1, 3600, 1)));
    limits.check(std::slice::from_ref(&empty), 1).await.expect("answers");
    assert!(!limits.check(&[full.clone(), empty], 1).await.expect("answers").allowed);
    limits.state(&[full]).await.expect("answers");
    assert_eq!(":1", redis.command("DBSIZE"));
}

#[tokio::test]
async fn no_key_names_whom_it_counts() {
    let Some(redis) = TestRedis::start() else { return };
    let limits = limits(&redis.settings(), &keys(), PATIENCE);
    let policy = policy("login.account", 100, 3600, 20);
    let subjects = [user(0x41), address(0x5858_5858), Subject::Account(account(0x42))];
    for subject in &subjects {
        limits.check(&[budget(subject, &policy)], 1).await.expect("answers");
    }
    let names: BTreeSet<String> = lives(&redis).into_iter().map(|(name, _)| name).collect();
    assert_eq!(3, names.len());
    for name in names {
        let (rest, hash) = name.rsplit_once(':').expect("the parts of a name");
        assert_eq!("test0:v1:limit:login.account:20x45000000", rest);
        assert_eq!(22, hash.len());
        assert!(!name.contains("AAAA") && !name.contains("88.88") && !name.contains("4141"), "{name}");
    }
}

#[tokio::test]
async fn a_key_takes_less_than_200_bytes() {
    let Some(redis) = TestRedis::start() else { return };
    let limits = limits(&redis.settings(), &keys(), PATIENCE);
    for name in ["write.user", "register.address"] {
        limits.check(&[budget(&user(1), &policy(name, 6000, 60, 1200))], 20).await.expect("answers");
    }
    for (key, _) in lives(&redis) {
        let bytes: u64 = redis.command(&format!("MEMORY USAGE {key}")).trim_start_matches(':').parse().expect("bytes");
        println!("{bytes} bytes: {key}");
        assert!(bytes < 200, "{key} takes {bytes} bytes");
    }
}

#[tokio::test]
async fn processes_with_other_keys_or_another_prefix_count_apart() {
    let Some(redis) = TestRedis::start() else { return };
    let (settings, own) = (redis.settings(), keys());
    let budget = [budget(&user(1), &policy("write.user", 100, 3600, 20))];
    limits(&settings, &own, PATIENCE).check(&budget, 20).await.expect("answers");
    assert!(!limits(&settings, &own, PATIENCE).check(&budget, 1).await.expect("answers").allowed);
    for other in [limits(&settings, &keys(), PATIENCE), limits(&redis.settings(), &own, PATIENCE)] {
        assert!(other.check(&budget, 1).await.expect("answers").allowed);
    }
}

#[tokio::test]
async fn a_server_that_has_forgotten_the_script_is_given_it_again() {
    let Some(redis) = TestRedis::start() else { return };
    let limits = limits(&redis.settings(), &keys(), PATIENCE);
    let budget = [budget(&user(1), &policy("write.user", 100, 3600, 20))];
    for left in [19, 18] {
        assert_eq!("+OK", redis.command("SCRIPT FLUSH"));
        assert_eq!(left, limits.check(&budget, 1).await.expect("answers").remaining);
    }
}

#[tokio::test]
async fn a_server_that_is_away_or_frozen_is_unavailable_and_then_counts_again() {
    let Some(mut redis) = TestRedis::start() else { return };
    let limits = limits(&redis.settings(), &keys(), Duration::from_millis(200));
    let budget = [budget(&user(1), &policy("write.user", 100, 3600, 20))];
    limits.check(&budget, 20).await.expect("answers");
    redis.freeze();
    for _ in 0..5 {
        let error = limits.check(&budget, 1).await.expect_err("nobody answers");
        assert!(matches!(error, LimitError::Unavailable(_)), "{error}");
    }
    redis.thaw();
    assert!(!until_answered(&limits, &budget).await.allowed, "what was counted is still there");
    redis.restart();
    assert!(until_answered(&limits, &budget).await.allowed, "what was lost makes budgets full");
}

async fn until_answered(limits: &RedisRateLimit, budget: &[Budget]) -> Decision {
    let answered = async {
        loop {
            match limits.check(budget, 1).await {
                Ok(decision) => return decision,
                // The breaker lets a probe through after a pause of real time.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), answered).await.expect("it comes back")
}
