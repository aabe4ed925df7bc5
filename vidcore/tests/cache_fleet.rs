//! The caches of several processes before one tier, over every tier there is.

use std::sync::Arc;

use vidcore::cache::MemoryCache;
use vidcore::cache_fleet_contract;
use vidcore::testkit::fleet::FleetHarness;

cache_fleet_contract!(memory, async {
    Some(FleetHarness::new(|clock| Arc::new(MemoryCache::new(1 << 20, Arc::new(clock.clone()))), ()))
});
#[cfg(all(feature = "sqlite", feature = "redis"))]
cache_fleet_contract!(redis, async {
    use std::time::Duration;

    use vidcore::cache::RedisCache;
    use vidcore::clock::SystemClock;
    use vidcore::testkit::TestRedis;

    let redis = Arc::new(TestRedis::start()?);
    let (server, emptied) = (TestRedis::server(&redis.settings()), Arc::clone(&redis));
    let empty = move |_: &_| {
        emptied.flush();
        // Longer than in production: the tests of a whole suite run at once.
        let tier = RedisCache::new(&server, Duration::from_secs(5), Arc::new(SystemClock::new()));
        Arc::new(tier.expect("the tier opens")) as _
    };
    Some(FleetHarness::new(empty, redis))
});
