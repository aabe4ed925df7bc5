//! Claims about what a change of a video means for those who keep copies of public lists.

use std::time::Duration;

use crate::catalog::service::stale;
use crate::catalog::{POPULAR, SEARCH, VIDEO_PAGES, Video, VideoPatch, Visibility};
use crate::id::VideoId;
use crate::store::Causes;
use crate::testkit::catalog::{patch, seen_by, titled, trash_of};
use crate::testkit::videos::{Sourced, VideoHarness};

/// What a command about the video names as stale, as the services do.
fn causes(id: VideoId) -> Causes {
    stale(id).into_iter().fold(Causes::none(), Causes::change)
}

/// The topics of the changes that `command` wrote, in order.
async fn topics(h: &VideoHarness, command: impl Future<Output = ()>) -> Vec<String> {
    let seen = h.store.changes_after(0, 1000).await.expect("the store answers").last().map_or(0, |last| last.id);
    command.await;
    let written = h.store.changes_after(seen, 1000).await.expect("the store answers");
    let ours = [VIDEO_PAGES, POPULAR, SEARCH];
    written.into_iter().map(|change| change.topic).filter(|topic| ours.contains(&topic.as_str())).collect()
}

async fn change(h: &VideoHarness, video: &Video, change: VideoPatch) -> Vec<String> {
    let command = patch(&h.video(video.id).await, change);
    topics(h, async {
        h.store.patch_video(command, causes(video.id)).await.expect("the version is the current one");
    })
    .await
}

async fn publish(h: &VideoHarness, sourced: &Sourced) -> Vec<String> {
    let rendition = h.planned(sourced, &["360p"]).await.remove("360p").expect("it was planned");
    let command = h.begun(&rendition, sourced.lease.fence()).await;
    topics(h, async {
        h.store.publish_rendition(command, causes(sourced.video.id)).await.expect("the lease is held");
    })
    .await
}

async fn trash(h: &VideoHarness, video: &Video) -> Vec<String> {
    topics(h, async {
        h.store.trash_video(trash_of(h, video), causes(video.id)).await.expect("it is not trashed");
    })
    .await
}

async fn restore(h: &VideoHarness, video: &Video) -> Vec<String> {
    topics(h, async {
        h.store.restore_video(trash_of(h, video), causes(video.id)).await.expect("it is trashed");
    })
    .await
}

/// Drafts, and videos that are not for everybody, come and go without a copy of a list being dropped.
pub async fn what_can_change_no_public_list_drops_none(h: &VideoHarness) {
    let owner = h.user().await;
    let draft = h.draft(owner, "Draft").await;
    assert_eq!([VIDEO_PAGES], *change(h, &draft, titled("Still a draft")).await);
    assert_eq!([VIDEO_PAGES], *change(h, &draft, seen_by(Visibility::Unlisted)).await);
    let sourced = h.sourced(&draft).await;
    assert_eq!([VIDEO_PAGES], *publish(h, &sourced).await);
    assert_eq!([VIDEO_PAGES], *change(h, &draft, seen_by(Visibility::Private)).await);
    let revoked = topics(h, async {
        let now = h.now();
        h.store.bump_playback_epoch(draft.id, None, now, causes(draft.id)).await.expect("it is there");
    });
    assert_eq!([VIDEO_PAGES], *revoked.await);
    assert_eq!([VIDEO_PAGES], *trash(h, &draft).await);
    assert_eq!([VIDEO_PAGES], *restore(h, &draft).await);
    // The trash is no public list either.
    let listed = h.listed(owner, "Listed").await;
    trash(h, &listed).await;
    h.clock.advance(Duration::from_secs(60));
    h.store.begin_purge(listed.id, h.now()).await.expect("its time is over");
    let purged = topics(h, async {
        assert!(h.store.finish_purge(listed.id, causes(listed.id)).await.expect("the store answers"));
    });
    assert_eq!([VIDEO_PAGES], *purged.await);
}

/// Whatever comes into a list, goes out of it, or looks otherwise in it.
pub async fn what_changes_a_public_list_drops_it(h: &VideoHarness) {
    const ALL: [&str; 3] = [VIDEO_PAGES, POPULAR, SEARCH];
    let draft = h.draft(h.user().await, "Draft").await;
    let sourced = h.sourced(&draft).await;
    assert_eq!(ALL, *publish(h, &sourced).await);
    assert_eq!(ALL, *change(h, &draft, titled("Another title")).await);
    assert_eq!(ALL, *change(h, &draft, seen_by(Visibility::Unlisted)).await);
    assert_eq!(ALL, *change(h, &draft, seen_by(Visibility::Public)).await);
    assert_eq!(ALL, *trash(h, &draft).await);
    assert_eq!(ALL, *restore(h, &draft).await);
    assert_eq!(ALL, *change(h, &draft, seen_by(Visibility::Private)).await);
}
