//! The tier that processes share: its contract, over every back end there is, and what only Redis has.

use std::sync::Arc;

use vidcore::cache::MemoryCache;
use vidcore::cache_tier_contract;
use vidcore::clock::ManualClock;
use vidcore::testkit::tier::TierHarness;

cache_tier_contract!(memory, async {
    let clock = ManualClock::default();
    Some(TierHarness::manual(Arc::new(MemoryCache::new(64 << 20, Arc::new(clock.clone()))), clock))
});
#[cfg(all(feature = "sqlite", feature = "redis"))]
cache_tier_contract!(redis, async {
    use std::time::Duration;

    use vidcore::cache::RedisCache;
    use vidcore::clock::SystemClock;
    use vidcore::testkit::TestRedis;

    let redis = TestRedis::start()?;
    let server = TestRedis::server(&redis.settings());
    // Longer than in production: the tests of a whole suite run at once.
    let tier = RedisCache::new(&server, Duration::from_secs(5), Arc::new(SystemClock::new()));
    Some(TierHarness::real(Arc::new(tier.expect("the tier opens")), redis))
});
