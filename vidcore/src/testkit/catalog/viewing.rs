//! Claims about views: who is counted, when, and what they are worth.

use std::time::Duration;

use crate::catalog::popularity::score::Scores;
use crate::catalog::popularity::{NewView, RankingKind, VIEW_WINDOW, ViewerKey, Window};
use crate::catalog::{Video, Visibility};
use crate::clock::Timestamp;
use crate::id::VideoId;
use crate::store::Store;
use crate::testkit::catalog::ranking::ranked;
use crate::testkit::catalog::{change, seen_by, trash};
use crate::testkit::videos::VideoHarness;

/// The smallest step of time.
const INSTANT: Duration = Duration::from_millis(1);

/// A view by somebody, now.
pub(super) fn view_by(h: &VideoHarness, video: VideoId, viewer: u8) -> NewView {
    NewView { video, viewer: ViewerKey([viewer; 16]), at: h.now() }
}

/// A view by somebody who was never seen before, now.
pub(super) fn new_view(h: &VideoHarness, video: VideoId) -> NewView {
    let mut viewer = [0xff; 16];
    viewer[..8].copy_from_slice(&h.number().to_be_bytes());
    NewView { video, viewer: ViewerKey(viewer), at: h.now() }
}

pub(super) async fn count(store: &dyn Store, views: Vec<NewView>) -> Vec<Option<Timestamp>> {
    store.count_views(views).await.expect("the store answers")
}

async fn views(h: &VideoHarness, video: &Video) -> u64 {
    h.video(video.id).await.views
}

/// A count is no change that an editor would have to hear of.
pub async fn views_count_open_videos_alone_and_leave_the_version(h: &VideoHarness) {
    let owner = h.user().await;
    let video = h.listed(owner, "Watched").await;
    assert_eq!([Some(h.now())], *count(&*h.store, vec![view_by(h, video.id, 1)]).await);
    assert_eq!(Video { views: 1, ..video.clone() }, h.video(video.id).await);
    let mut unlisted = h.new_video(owner, "Unlisted");
    unlisted.visibility = Visibility::Unlisted;
    let unlisted = h.playable(unlisted).await;
    let draft = h.draft(owner, "Draft").await;
    let closed = change(h, &h.listed(owner, "Closed").await, seen_by(Visibility::Private)).await;
    let gone = trash(h, &video).await;
    let all = [unlisted.id, draft.id, closed.id, gone.id, VideoId::new(h.now(), h.entropy())];
    let counted = count(&*h.store, all.iter().map(|id| view_by(h, *id, 2)).collect()).await;
    assert_eq!([Some(h.now()), None, None, None, None], *counted);
    assert_eq!((1, 1), (views(h, &unlisted).await, views(h, &gone).await));
}

/// Whatever a viewer does within half an hour is one view.
pub async fn a_viewer_counts_once_within_the_window_and_again_after_it(h: &VideoHarness) {
    let video = h.listed(h.user().await, "Watched").await;
    let first = h.now();
    let by_one = view_by(h, video.id, 1);
    assert_eq!([Some(first), Some(first)], *count(&*h.store, vec![by_one, by_one]).await);
    assert_eq!(1, views(h, &video).await);
    h.clock.advance(VIEW_WINDOW - INSTANT);
    assert_eq!([Some(first)], *count(&*h.store, vec![view_by(h, video.id, 1)]).await);
    assert_eq!(1, views(h, &video).await);
    h.clock.advance(INSTANT);
    assert_eq!([Some(h.now())], *count(&*h.store, vec![view_by(h, video.id, 1)]).await);
    assert_eq!(2, views(h, &video).await);
    // The window begins anew with what was counted.
    h.clock.advance(VIEW_WINDOW - INSTANT);
    count(&*h.store, vec![view_by(h, video.id, 1)]).await;
    assert_eq!(2, views(h, &video).await);
}

/// Each for each: other viewers and other videos are none of a viewer's business.
pub async fn viewers_and_videos_count_apart(h: &VideoHarness) {
    let owner = h.user().await;
    let (one, two) = (h.listed(owner, "One").await, h.listed(owner, "Two").await);
    let batch = [(&one, 1), (&two, 1), (&one, 2), (&one, 1), (&two, 3), (&one, 3)];
    count(&*h.store, batch.iter().map(|(video, viewer)| view_by(h, video.id, *viewer)).collect()).await;
    assert_eq!((3, 2), (views(h, &one).await, views(h, &two).await));
}

/// What two processes hear of one viewer is one view, whoever writes first.
pub async fn a_viewer_whom_two_processes_saw_counts_once(h: &VideoHarness) {
    let video = h.listed(h.user().await, "Watched").await;
    let neighbour = h.base().neighbour(Vec::new()).await;
    let view = view_by(h, video.id, 1);
    let (here, there) = tokio::join!(count(&*h.store, vec![view]), count(&neighbour, vec![view]));
    assert_eq!(([Some(h.now())].as_slice(), [Some(h.now())].as_slice()), (&*here, &*there));
    assert_eq!(1, views(h, &video).await);
}

/// A batch whose answer was lost is sent again.
pub async fn a_batch_that_is_sent_again_counts_nothing_twice(h: &VideoHarness) {
    let owner = h.user().await;
    let (one, two) = (h.listed(owner, "One").await, h.listed(owner, "Two").await);
    let batch: Vec<_> = (1..=5).flat_map(|viewer| [&one, &two].map(|video| view_by(h, video.id, viewer))).collect();
    let first = count(&*h.store, batch.clone()).await;
    h.clock.advance(Duration::from_secs(60));
    assert_eq!(first, count(&*h.store, batch).await);
    assert_eq!((5, 5), (views(h, &one).await, views(h, &two).await));
}

/// A clock that was ahead for a while locks nobody out until it is there again.
pub async fn a_view_from_the_future_does_not_stop_the_counting(h: &VideoHarness) {
    let video = h.listed(h.user().await, "Watched").await;
    let ahead = NewView { at: h.now().plus(10 * VIEW_WINDOW), ..view_by(h, video.id, 1) };
    count(&*h.store, vec![ahead]).await;
    assert_eq!([Some(h.now())], *count(&*h.store, vec![view_by(h, video.id, 1)]).await);
    assert_eq!(2, views(h, &video).await);
}

/// Who would be counted again anyhow need not be remembered.
pub async fn viewers_are_forgotten_once_their_window_is_over(h: &VideoHarness) {
    let video = h.listed(h.user().await, "Watched").await;
    count(&*h.store, vec![view_by(h, video.id, 1), view_by(h, video.id, 2)]).await;
    h.clock.advance(INSTANT);
    count(&*h.store, vec![view_by(h, video.id, 3)]).await;
    let over = h.now().minus(INSTANT);
    let prune = async |before, limit| h.store.prune_viewers(before, limit).await.expect("the store answers");
    assert_eq!(0, prune(over.minus(INSTANT), 10).await);
    assert_eq!([1, 1, 0], [prune(over, 1).await, prune(over, 10).await, prune(over, 10).await]);
    // The third is still known.
    count(&*h.store, vec![view_by(h, video.id, 3)]).await;
    assert_eq!(3, views(h, &video).await);
}

/// The ranking is that of views summed anew, each halved as often as its age says, at any later moment.
pub async fn the_order_by_score_is_that_of_the_decayed_views(h: &VideoHarness) {
    const HOUR_MS: f64 = 3_600_000.0;
    let owner = h.user().await;
    let mut seen: Vec<(VideoId, Vec<Timestamp>)> = Vec::new();
    for number in 0..12 {
        seen.push((h.listed(owner, &format!("Video {number}")).await.id, Vec::new()));
    }
    for step in 0..60_u64 {
        h.clock.advance(Duration::from_secs(3600 + 97 * step));
        let mut batch = Vec::new();
        for (index, (video, times)) in (0_u64..).zip(seen.iter_mut()) {
            // Some are watched early, some late, none like another.
            let count = (step * (index + 3) * 7 + index * index) % (2 + (step + 5 * index) % 11);
            times.extend((0..count).map(|_| h.now()));
            batch.extend((0..count).map(|_| new_view(h, *video)));
        }
        count(&*h.store, batch).await;
    }
    for (window, half_life_ms) in [(Window::Day, 8.0 * HOUR_MS), (Window::Week, 56.0 * HOUR_MS)] {
        let decayed = |times: &[Timestamp]| -> f64 {
            times.iter().map(|at| (-(h.now().since(*at).as_millis() as f64) / half_life_ms).exp2()).sum()
        };
        let mut expected: Vec<_> = seen.iter().map(|(video, times)| (decayed(times), *video)).collect();
        expected.sort_by(|a, b| b.partial_cmp(a).expect("every count is a number"));
        let expected: Vec<_> = expected.into_iter().map(|(_, video)| video).collect();
        assert_eq!(expected, ranked(h, RankingKind::Popular(window)).await, "{window:?}");
        h.clock.advance(Duration::from_secs(86_400));
        assert_eq!(expected, ranked(h, RankingKind::Popular(window)).await, "{window:?}, a day later");
    }
}

/// The scores of a batch are those of its views one after another.
pub async fn a_batch_is_worth_what_its_views_are(h: &VideoHarness) {
    let owner = h.user().await;
    let (early, late) = (h.listed(owner, "Early").await, h.listed(owner, "Late").await);
    count(&*h.store, vec![new_view(h, early.id), new_view(h, early.id), new_view(h, early.id)]).await;
    // Three half-lives later one view is worth eight.
    h.clock.advance(Duration::from_secs(24 * 3600));
    count(&*h.store, vec![new_view(h, late.id)]).await;
    assert_eq!([late.id, early.id], *ranked(h, RankingKind::Popular(Window::Day)).await);
    assert_eq!([early.id, late.id], *ranked(h, RankingKind::Popular(Window::Week)).await);
    assert_eq!([early.id, late.id], *ranked(h, RankingKind::Popular(Window::All)).await);
    let published_at = early.published_at.expect("it is playable");
    let scores = (0..3).fold(Scores::default(), |scores, _| scores.viewed(published_at, published_at));
    let connection = h.base().connection();
    let kept: (f64, f64, f64) = connection
        .query_row(
            "SELECT score_day, score_week, score_trending FROM videos WHERE id = ?",
            [&early.id.as_bytes()[..]],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .expect("the row is there");
    assert_eq!((scores.day, scores.week, scores.trending), (Some(kept.0), Some(kept.1), Some(kept.2)));
}
