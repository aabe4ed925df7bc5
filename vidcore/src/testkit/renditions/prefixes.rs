//! Claims about the prefixes under which attempts put objects.

use crate::store::Causes;
use crate::testkit::videos::{LEASE, VideoHarness};

use super::sourced;

/// Whatever became of the attempt; prefixes are listed in pages.
pub async fn a_prefix_is_ended_once_its_attempt_is(h: &VideoHarness) {
    let first = sourced(h, "First").await;
    let rows = h.planned(&first, &["360p", "720p"]).await;
    let fence = first.lease.fence();
    for name in ["360p", "720p"] {
        h.begun(&rows[name], fence).await;
    }
    assert_eq!(Vec::<String>::new(), h.store.ended_prefixes("", 10).await.expect("the store answers"));
    h.store.complete(fence, Causes::none()).await.expect("the lease is held");
    let prefix = |name: &str| format!("renditions/{}/{}/{name}", first.video.id, fence.token);
    assert_eq!(vec![prefix("360p")], h.store.ended_prefixes("", 1).await.expect("the store answers"));
    let rest = h.store.ended_prefixes(&prefix("360p"), 10).await.expect("the store answers");
    assert_eq!(vec![prefix("720p")], rest);
    assert_eq!(2, h.store.forget_prefixes(vec![prefix("360p"), prefix("720p")]).await.expect("the store answers"));
    assert_eq!(Vec::<String>::new(), h.store.ended_prefixes("", 10).await.expect("the store answers"));
}

/// A worker that is merely late has its prefix until the sweep has freed its job.
pub async fn the_prefix_of_a_running_attempt_is_not_forgotten(h: &VideoHarness) {
    let sourced = sourced(h, "Running").await;
    let row = h.planned(&sourced, &["360p"]).await.remove("360p").expect("it was planned");
    let key = h.begun(&row, sourced.lease.fence()).await.objects.remove(0).key;
    let prefix = key.trim_end_matches("/index.m3u8").to_owned();
    assert_eq!(0, h.store.forget_prefixes(vec![prefix.clone()]).await.expect("the store answers"));
    h.clock.advance(LEASE);
    assert_eq!(0, h.store.forget_prefixes(vec![prefix.clone()]).await.expect("the store answers"));
    assert!(h.store.unknown_keys(vec![key.clone()]).await.expect("the store answers").is_empty());
    h.store.sweep().await.expect("the store answers");
    assert_eq!(vec![key.clone()], h.store.unknown_keys(vec![key]).await.expect("the store answers"));
    assert_eq!(1, h.store.forget_prefixes(vec![prefix]).await.expect("the store answers"));
}
