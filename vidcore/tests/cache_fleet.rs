//! The caches of several processes before one tier, over every tier there is.

use std::sync::Arc;

use vidcore::cache::MemoryCache;
use vidcore::cache_fleet_contract;
use vidcore::testkit::fleet::FleetHarness;

cache_fleet_contract!(memory, async {
    Some(FleetHarness::new(|clock| Arc::new(MemoryCache::new(1 << 20, Arc::new(clock.clone()))), ()))
});
#[cfg(all(feature = "sqlite", feature = "redis"))]
cache_fleet_contract!(redis, async { Some(redis_only::fleet(&redis_only::start()?)) });

#[cfg(all(feature = "sqlite", feature = "redis"))]
mod redis_only {
    use std::time::Duration;

    use vidcore::cache::RedisCache;
    use vidcore::cache::tier::{CacheTier, Place};
    use vidcore::clock::SystemClock;
    use vidcore::testkit::TestRedis;
    use vidcore::testkit::cache::CACHE;
    use vidcore::testkit::tier::until;

    use super::*;

    pub(super) fn start() -> Option<Arc<TestRedis>> {
        TestRedis::start().map(Arc::new)
    }

    pub(super) fn fleet(redis: &Arc<TestRedis>) -> FleetHarness {
        let (server, emptied) = (TestRedis::server(&redis.settings()), Arc::clone(redis));
        let empty = move |_: &_| {
            emptied.flush();
            // Longer than in production: the tests of a whole suite run at once.
            let tier = RedisCache::new(&server, Duration::from_secs(5), Arc::new(SystemClock::new()));
            Arc::new(tier.expect("the tier opens")) as _
        };
        FleetHarness::new(empty, Arc::clone(redis))
    }

    #[tokio::test]
    async fn a_tier_that_came_back_with_an_older_state_is_not_believed_and_catches_up() {
        let Some(redis) = start() else { return };
        let h = fleet(&redis);
        let (mut node, place) = (h.node(), Place { cache: CACHE, key: "k" });
        let bytes = async || h.tier.look(place).await.expect("the tier answers").bytes;
        node.get("k", "old").await;
        until(async || bytes().await.is_some()).await;
        let entry = format!("test0:v1:cache1:{CACHE}:e:k");
        assert_eq!(":1", redis.command(&format!("COPY {entry} saved")));
        node.change("k");
        h.told().await;
        node.stop_following();

        assert_eq!("+OK", redis.command("SET test0:v1:cache1:applied 0 EX 60"));
        assert_eq!(":1", redis.command(&format!("COPY saved {entry} REPLACE")));
        assert!(bytes().await.is_some(), "the tier itself gives it out");
        assert_eq!(None, node.kept("k").await);
        node.follow();
        h.told().await;
        assert_eq!(None, bytes().await);
        assert_eq!("new", h.node().get("k", "new").await);
    }
}
