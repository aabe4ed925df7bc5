//! What becomes of a video of which nothing more is made.

use std::collections::HashMap;

use super::{publish, rows, sourced, trash};
use crate::catalog::{CatalogError, Video, VideoStatus};
use crate::jobs::{Lease, MEDIA_QUEUE, VIDEO_QUEUE};
use crate::media::jobs::{MAKE_RENDITION, PROCESS_VIDEO, rendition_key};
use crate::media::{Rendition, RenditionStatus, SettleVideo};
use crate::store::{Causes, Fence};
use crate::testkit::videos::VideoHarness;

/// The verdict of a job that holds the lease.
fn verdict(h: &VideoHarness, fence: Fence, video: &Video) -> SettleVideo {
    SettleVideo { fence, video: video.id, reason: "It is broken.".to_owned(), renditions: Vec::new(), now: h.now() }
}

async fn settle(h: &VideoHarness, fence: Fence, video: &Video) {
    h.store.settle_video(verdict(h, fence, video), Causes::none()).await.expect("the lease is held");
}

/// The original stays, so that it can be tried again.
pub async fn a_video_that_cannot_be_processed_fails_with_its_reason(h: &VideoHarness) {
    let sourced = sourced(h, "Broken").await;
    h.planned(&sourced, &["360p"]).await;
    h.store.complete(sourced.lease.fence(), Causes::none()).await.expect("the lease is held");
    settle(h, h.lease("follow-up", Some(sourced.video.id)).await.fence(), &sourced.video).await;
    let failed = h.video(sourced.video.id).await;
    assert_eq!((VideoStatus::Failed, Some("It is broken.")), (failed.status, failed.failure.as_deref()));
    assert!(h.store.object(&sourced.source.object_key).await.expect("the store answers").is_some());
    let retry = h.lease(PROCESS_VIDEO, Some(failed.id)).await;
    h.store.start_processing(retry.fence(), sourced.source.id, h.now()).await.expect("the lease is held");
    let again = h.video(failed.id).await;
    assert_eq!((VideoStatus::Processing, None), (again.status, again.failure));
}

/// It says why the new source is not the one that is played.
pub async fn a_video_that_an_older_source_keeps_playable_stays_so(h: &VideoHarness) {
    let video = h.listed(h.user().await, "Second try").await;
    let second = h.sourced(&video).await;
    h.planned(&second, &["360p"]).await;
    h.store.complete(second.lease.fence(), Causes::none()).await.expect("the lease is held");
    settle(h, h.lease("follow-up", Some(video.id)).await.fence(), &video).await;
    let failed = h.video(video.id).await;
    assert_eq!((VideoStatus::Ready, Some("It is broken.")), (failed.status, failed.failure.as_deref()));
    assert!(failed.is_listed());
}

/// Somebody asked for another try before the news of the first one's death came.
pub async fn a_video_with_a_live_job_does_not_fail(h: &VideoHarness) {
    let sourced = sourced(h, "Hope").await;
    h.planned(&sourced, &["360p"]).await;
    let before = h.video(sourced.video.id).await;
    settle(h, h.lease("follow-up", Some(before.id)).await.fence(), &before).await;
    assert_eq!(before, h.video(before.id).await);
}

/// Each is a live job of the same queue; neither processes the video.
pub async fn two_follow_ups_at_once_do_not_wait_for_each_other(h: &VideoHarness) {
    let sourced = sourced(h, "Both").await;
    h.planned(&sourced, &["360p"]).await;
    h.store.complete(sourced.lease.fence(), Causes::none()).await.expect("the lease is held");
    let mut leases = Vec::new();
    for _ in 0..2 {
        let job = h.new_job(VIDEO_QUEUE, "fail_video", Some(sourced.video.id));
        h.store.enqueue(job, Causes::none()).await.expect("the job is new");
        leases.push(h.claim(VIDEO_QUEUE).await);
    }
    for lease in &leases {
        settle(h, lease.fence(), &sourced.video).await;
    }
    assert_eq!(VideoStatus::Failed, h.video(sourced.video.id).await.status);
}

/// Late news changes nothing.
pub async fn a_trashed_or_finished_video_does_not_fail(h: &VideoHarness) {
    let owner = h.user().await;
    let ready = h.listed(owner, "Ready").await;
    let draft = h.draft(owner, "Draft").await;
    let gone = sourced(h, "Gone").await.video;
    trash(h, &gone).await;
    for video in [ready.id, draft.id, gone.id] {
        let before = h.video(video).await;
        settle(h, h.lease("follow-up", Some(video)).await.fence(), &before).await;
        assert_eq!(before, h.video(video).await);
    }
    let late = verdict(h, h.lost_fence().await, &ready);
    let outcome = h.store.settle_video(late, Causes::none()).await;
    assert!(matches!(outcome, Err(CatalogError::Fenced)), "{outcome:?}");
}

/// The job died with one rendition ready, one begun and one not: the video plays, and who waits for the
/// others hears that they will not come. As long as a job lives they are still to be made.
pub async fn renditions_that_nobody_makes_any_more_fail(h: &VideoHarness) {
    let sourced = sourced(h, "Half done").await;
    let planned = h.planned(&sourced, &["1080p", "720p", "360p"]).await;
    publish(h, h.begun(&planned["360p"], sourced.lease.fence()).await).await.expect("the lease is held");
    h.begun(&planned["720p"], sourced.lease.fence()).await;
    let follow_up = h.lease("follow-up", Some(sourced.video.id)).await;
    let before = rows(h, &sourced.video).await;
    settle(h, follow_up.fence(), &sourced.video).await;
    assert_eq!(before, rows(h, &sourced.video).await);
    h.store.complete(sourced.lease.fence(), Causes::none()).await.expect("the lease is held");
    settle(h, follow_up.fence(), &sourced.video).await;
    for row in rows(h, &sourced.video).await {
        let made = row.id == planned["360p"].id;
        let (status, failure) =
            if made { (RenditionStatus::Ready, None) } else { (RenditionStatus::Failed, Some("It is broken.")) };
        assert_eq!((status, failure), (row.status, row.failure.as_deref()), "{}", row.name);
    }
    assert_eq!(VideoStatus::Ready, h.video(sourced.video.id).await.status);
}

/// As the service makes it: by its unique key the store knows what it makes.
async fn make_job(h: &VideoHarness, row: &Rendition) -> Lease {
    let mut job = h.new_job(MEDIA_QUEUE, MAKE_RENDITION, Some(row.video));
    job.unique_key = Some(rendition_key(row.id));
    h.store.enqueue(job, Causes::none()).await.expect("the job is new");
    h.claim(MEDIA_QUEUE).await
}

/// Its sibling is not: it fails at once, and the verdict on the video comes with the end of the last.
pub async fn a_rendition_with_a_live_job_is_waited_for(h: &VideoHarness) {
    let sourced = sourced(h, "Waiting").await;
    let planned = h.planned(&sourced, &["720p", "360p"]).await;
    let making = make_job(h, &planned["720p"]).await;
    h.store.complete(sourced.lease.fence(), Causes::none()).await.expect("the lease is held");
    let last = h.lease("last-word", Some(sourced.video.id)).await;
    settle(h, last.fence(), &sourced.video).await;
    let statuses = async || {
        let rows = rows(h, &sourced.video).await.into_iter();
        rows.map(|row| (row.name, row.status)).collect::<HashMap<_, _>>()
    };
    let expected = [("720p", RenditionStatus::Planned), ("360p", RenditionStatus::Failed)];
    assert_eq!(HashMap::from(expected.map(|(name, status)| (name.to_owned(), status))), statuses().await);
    assert_eq!(VideoStatus::Processing, h.video(sourced.video.id).await.status);
    h.store.complete(making.fence(), Causes::none()).await.expect("the lease is held");
    settle(h, last.fence(), &sourced.video).await;
    assert_eq!(RenditionStatus::Failed, statuses().await["720p"]);
    assert_eq!(VideoStatus::Failed, h.video(sourced.video.id).await.status);
}

/// Nothing follows its end any more: whoever waited for it would leave the video `processing` for ever.
pub async fn a_job_that_was_stopped_with_its_source_is_not_waited_for(h: &VideoHarness) {
    let first = sourced(h, "Replaced").await;
    let row = h.planned(&first, &["360p"]).await.remove("360p").expect("it was planned");
    let stopping = make_job(h, &row).await;
    let second = h.sourced(&first.video).await;
    h.planned(&second, &["360p"]).await;
    h.store.complete(second.lease.fence(), Causes::none()).await.expect("the lease is held");
    settle(h, h.lease("last-word", Some(first.video.id)).await.fence(), &first.video).await;
    assert_eq!(VideoStatus::Failed, h.video(first.video.id).await.status);
    h.store.settle_cancelled(stopping.fence()).await.expect("it has not stopped yet");
}

/// One was cancelled, another ran out of attempts.
pub async fn each_rendition_fails_with_a_reason_of_its_own(h: &VideoHarness) {
    let sourced = sourced(h, "Reasons").await;
    let planned = h.planned(&sourced, &["720p", "360p"]).await;
    h.store.complete(sourced.lease.fence(), Causes::none()).await.expect("the lease is held");
    let last = h.lease("last-word", Some(sourced.video.id)).await;
    let renditions = vec![(planned["720p"].id, "It was cancelled.".to_owned())];
    let command = SettleVideo { renditions, ..verdict(h, last.fence(), &sourced.video) };
    h.store.settle_video(command, Causes::none()).await.expect("the lease is held");
    let reasons: HashMap<_, _> =
        rows(h, &sourced.video).await.into_iter().map(|row| (row.name, row.failure.expect("it failed"))).collect();
    assert_eq!(("It was cancelled.", "It is broken."), (reasons["720p"].as_str(), reasons["360p"].as_str()));
    assert_eq!(Some("It is broken."), h.video(sourced.video.id).await.failure.as_deref());
}

/// Nor does it keep a reason.
pub async fn a_video_with_something_ready_is_not_failed(h: &VideoHarness) {
    let sourced = sourced(h, "Enough").await;
    let planned = h.planned(&sourced, &["720p", "360p"]).await;
    publish(h, h.begun(&planned["360p"], sourced.lease.fence()).await).await.expect("the lease is held");
    h.store.complete(sourced.lease.fence(), Causes::none()).await.expect("the lease is held");
    let before = h.video(sourced.video.id).await;
    settle(h, h.lease("last-word", Some(sourced.video.id)).await.fence(), &sourced.video).await;
    assert_eq!((VideoStatus::Ready, None), (before.status, before.failure.as_deref()));
    assert_eq!(before, h.video(sourced.video.id).await);
}
