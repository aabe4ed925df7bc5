//! Claims about rankings: lists that stand still while they are paged.

use std::collections::HashSet;
use std::time::Duration;

use crate::catalog::Visibility;
use crate::catalog::popularity::{RANKING_FRESH, RANKING_KEPT, RankedVideos, RankingAt, RankingKind, Window};
use crate::id::VideoId;
use crate::store::Store;
use crate::testkit::catalog::viewing::{count, new_view};
use crate::testkit::catalog::{change, ids, restore, seen_by, trash};
use crate::testkit::videos::VideoHarness;

const ALL_TIME: RankingKind = RankingKind::Popular(Window::All);

/// The smallest step of time.
const INSTANT: Duration = Duration::from_millis(1);

async fn build(h: &VideoHarness, store: &dyn Store, kind: RankingKind) -> Option<i64> {
    store.build_ranking(kind, h.now()).await.expect("the store answers")
}

async fn read(h: &VideoHarness, kind: RankingKind, at: RankingAt, from: u32, limit: u16) -> Option<RankedVideos> {
    h.store.ranked_videos(kind, at, h.now(), from, limit).await.expect("the store answers")
}

/// What a ranking that is made now, or was within the last half minute, holds.
pub(super) async fn ranked(h: &VideoHarness, kind: RankingKind) -> Vec<VideoId> {
    let Some(snapshot) = build(h, &*h.store, kind).await else { return Vec::new() };
    let found = read(h, kind, RankingAt::Snapshot(snapshot), 0, 1000).await.expect("it was just made");
    ids(&found.videos)
}

/// `count` public videos, the later the more views, best first.
async fn watched(h: &VideoHarness, count_of_videos: usize) -> Vec<VideoId> {
    let owner = h.user().await;
    let mut best_first = Vec::new();
    for number in 1..=count_of_videos {
        let video = h.listed(owner, &format!("Video {number}")).await;
        count(&*h.store, (0..number).map(|_| new_view(h, video.id)).collect()).await;
        best_first.insert(0, video.id);
    }
    best_first
}

/// Most views first, whatever came first; of those with as many, and of those nobody saw, the latest id first.
pub async fn the_popular_list_is_sorted_by_views(h: &VideoHarness) {
    let mut expected = watched(h, 3).await;
    let owner = h.user().await;
    let mut unseen = [h.listed(owner, "Never").await.id, h.listed(owner, "Never either").await.id];
    unseen.sort_unstable_by(|a, b| b.cmp(a));
    expected.extend(unseen);
    for kind in RankingKind::ALL {
        assert_eq!(expected, ranked(h, kind).await, "{kind:?}");
    }
    let first = read(h, ALL_TIME, RankingAt::Fresh, 0, 2).await.expect("one was just made");
    assert_eq!((5, 2, 3), (first.len, first.videos.len(), first.videos[0].views));
}

/// A view of a new video is worth more than one of an old one.
pub async fn what_is_new_trends_before_what_is_old(h: &VideoHarness) {
    let owner = h.user().await;
    let old = h.listed(owner, "Old").await;
    h.clock.advance(Duration::from_secs(3 * 86_400));
    let new = h.listed(owner, "New").await;
    count(&*h.store, [old.id, old.id, old.id, new.id].iter().map(|id| new_view(h, *id)).collect()).await;
    assert_eq!([new.id, old.id], *ranked(h, RankingKind::Trending).await);
    assert_eq!([old.id, new.id], *ranked(h, RankingKind::Popular(Window::Day)).await);
}

/// Whatever happens meanwhile: ranks never move.
pub async fn pages_of_a_ranking_neither_repeat_nor_skip(h: &VideoHarness) {
    let expected = watched(h, 9).await;
    let snapshot = build(h, &*h.store, ALL_TIME).await.expect("there are videos");
    let (mut walked, mut from) = (Vec::new(), 0);
    let hidden = [expected[3], expected[4]];
    loop {
        let page = read(h, ALL_TIME, RankingAt::Snapshot(snapshot), from, 2).await.expect("it is kept");
        walked.extend(ids(&page.videos));
        from += 2;
        if from >= page.len {
            break;
        }
        // The last becomes the first, a new one comes before it, and others go.
        count(&*h.store, (0..20).map(|_| new_view(h, expected[8])).collect()).await;
        let new = h.listed(h.user().await, "New").await;
        count(&*h.store, (0..30).map(|_| new_view(h, new.id)).collect()).await;
        if from == 2 {
            change(h, &h.video(hidden[0]).await, seen_by(Visibility::Private)).await;
            trash(h, &h.video(hidden[1]).await).await;
        }
        h.clock.advance(RANKING_FRESH);
        build(h, &*h.store, ALL_TIME).await.expect("there are videos");
    }
    let left: Vec<_> = expected.into_iter().filter(|id| !hidden.contains(id)).collect();
    assert_eq!(left, walked);
}

/// Rights are looked at anew on each page, also on one that was read before.
pub async fn a_hidden_video_is_on_no_page_of_any_ranking(h: &VideoHarness) {
    let videos = watched(h, 4).await;
    let mut snapshots = Vec::new();
    for kind in RankingKind::ALL {
        snapshots.push((kind, build(h, &*h.store, kind).await.expect("there are videos")));
    }
    change(h, &h.video(videos[0]).await, seen_by(Visibility::Private)).await;
    change(h, &h.video(videos[1]).await, seen_by(Visibility::Unlisted)).await;
    let trashed = trash(h, &h.video(videos[2]).await).await;
    for (kind, snapshot) in &snapshots {
        let page = read(h, *kind, RankingAt::Snapshot(*snapshot), 0, 10).await.expect("it is kept");
        assert_eq!(([videos[3]].as_slice(), 4), (&*ids(&page.videos), page.len), "{kind:?}");
    }
    restore(h, &trashed).await;
    let page = read(h, ALL_TIME, RankingAt::Fresh, 2, 1).await.expect("it is fresh");
    assert_eq!([videos[2]], *ids(&page.videos), "it is where it was");
}

/// Half a minute is how old a first page may be, and no younger ranking is replaced.
pub async fn a_ranking_is_made_anew_after_its_time_and_not_before(h: &VideoHarness) {
    let videos = watched(h, 2).await;
    let first = build(h, &*h.store, ALL_TIME).await.expect("there are videos");
    count(&*h.store, (0..5).map(|_| new_view(h, videos[1])).collect()).await;
    h.clock.advance(RANKING_FRESH - INSTANT);
    assert_eq!(Some(first), build(h, &*h.store, ALL_TIME).await);
    let fresh = read(h, ALL_TIME, RankingAt::Fresh, 0, 10).await.expect("it is fresh");
    assert_eq!((first, videos.clone()), (fresh.snapshot, ids(&fresh.videos)));
    h.clock.advance(INSTANT);
    assert_eq!(None, read(h, ALL_TIME, RankingAt::Fresh, 0, 10).await);
    let second = build(h, &*h.store, ALL_TIME).await.expect("there are videos");
    assert!(second > first);
    let fresh = read(h, ALL_TIME, RankingAt::Fresh, 0, 10).await.expect("it is fresh");
    assert_eq!((second, vec![videos[1], videos[0]]), (fresh.snapshot, ids(&fresh.videos)));
}

/// Of many who find none, in however many processes, one makes it.
pub async fn of_many_who_want_a_ranking_one_makes_it(h: &VideoHarness) {
    watched(h, 2).await;
    let neighbour = h.base().neighbour(Vec::new()).await;
    let stores: [&dyn Store; 2] = [&*h.store, &neighbour];
    let made = (0..16).map(|number| build(h, stores[number % 2], ALL_TIME));
    let made: HashSet<_> = futures_util::future::join_all(made).await.into_iter().collect();
    assert_eq!(1, made.len(), "{made:?}");
}

/// What is kept for those who page is bounded.
pub async fn a_ranking_is_gone_after_its_time(h: &VideoHarness) {
    watched(h, 2).await;
    let first = build(h, &*h.store, ALL_TIME).await.expect("there are videos");
    h.clock.advance(RANKING_KEPT - INSTANT);
    build(h, &*h.store, ALL_TIME).await.expect("there are videos");
    assert!(read(h, ALL_TIME, RankingAt::Snapshot(first), 0, 10).await.is_some());
    h.clock.advance(INSTANT);
    // To those who read at once, to the file once another one is made.
    assert_eq!(None, read(h, ALL_TIME, RankingAt::Snapshot(first), 0, 10).await);
    assert_eq!(2, rankings(h));
    build(h, &*h.store, RankingKind::Trending).await.expect("there are videos");
    assert_eq!(2, rankings(h));
    for _ in 0..50 {
        h.clock.advance(RANKING_FRESH);
        build(h, &*h.store, ALL_TIME).await.expect("there are videos");
    }
    assert_eq!(RANKING_KEPT.as_secs() / RANKING_FRESH.as_secs(), rankings(h));
}

fn rankings(h: &VideoHarness) -> u64 {
    let count = h.base().connection().query_row("SELECT count(*) FROM rankings", [], |row| row.get::<_, i64>(0));
    count.expect("the table is there").unsigned_abs()
}

/// An id never leads into a list that came after the one it was given out for.
pub async fn the_id_of_a_ranking_is_never_given_out_again(h: &VideoHarness) {
    watched(h, 1).await;
    let first = build(h, &*h.store, ALL_TIME).await.expect("there are videos");
    h.base().connection().execute("DELETE FROM rankings", []).expect("the rows go");
    let second = build(h, &*h.store, ALL_TIME).await.expect("there are videos");
    assert!(second > first);
    assert_eq!(None, read(h, ALL_TIME, RankingAt::Snapshot(first), 0, 10).await);
}

/// A place is one of its own ranking alone.
pub async fn a_ranking_is_found_under_its_own_kind_alone(h: &VideoHarness) {
    watched(h, 1).await;
    let all = build(h, &*h.store, ALL_TIME).await.expect("there are videos");
    assert_eq!(None, read(h, RankingKind::Trending, RankingAt::Snapshot(all), 0, 10).await);
    assert_eq!(None, read(h, RankingKind::Trending, RankingAt::Fresh, 0, 10).await);
}

/// The first video of all is not kept waiting by a list that holds nothing.
pub async fn an_empty_ranking_is_not_kept(h: &VideoHarness) {
    assert_eq!(None, build(h, &*h.store, ALL_TIME).await);
    let video = h.listed(h.user().await, "First").await;
    assert_eq!([video.id], *ranked(h, ALL_TIME).await);
}
