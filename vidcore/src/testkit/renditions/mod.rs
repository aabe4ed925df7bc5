//! Claims about every [`RenditionStore`](crate::media::RenditionStore).

use std::time::Duration;

use crate::catalog::{CatalogError, TrashVideo, Video, VideoStatus};
use crate::id::SourceId;
use crate::jobs::{Lease, VIDEO_QUEUE};
use crate::media::jobs::PROCESS_VIDEO;
use crate::media::{MediaInfo, PublishRendition, Rendition, RenditionKind, RenditionStatus, SourceFacts};
use crate::store::{Causes, Fence};
use crate::testkit::videos::{LEASE, Sourced, VideoHarness, info};

mod pictures;
mod prefixes;
mod settling;

pub use pictures::*;
pub use prefixes::*;
pub use settling::*;

/// Runs every claim about a `RenditionStore` as a test of the module `$name`; `$harness` is a future of
/// `Option<VideoHarness>`, `None` where the back end's service is missing.
#[macro_export]
macro_rules! rendition_store_contract {
    ($name:ident, $harness:expr) => {
        mod $name {
            $crate::rendition_store_contract!(@claims $harness;
                starting_moves_the_video_to_processing_once,
                starting_without_the_lease_writes_nothing,
                a_source_that_was_replaced_is_not_started,
                a_trashed_video_is_not_started,
                planning_twice_plans_once,
                planning_describes_the_video,
                what_was_found_in_a_source_is_known_of_it,
                a_new_source_describes_the_video_once_it_is_played,
                the_first_published_rendition_makes_the_video_ready,
                the_second_published_rendition_leaves_the_status,
                an_attempt_that_finds_everything_published_leaves_the_video_ready,
                an_old_token_begins_and_publishes_nothing,
                a_rendition_taken_by_a_later_attempt_is_not_published_by_the_earlier,
                a_published_rendition_is_not_begun_again,
                a_failed_rendition_is_begun_again,
                failing_without_the_token_changes_nothing,
                a_rendition_of_a_trashed_video_is_not_published,
                an_attempt_from_before_the_trashing_publishes_nothing_after_the_restoring,
                a_rendition_of_a_replaced_source_is_not_published,
                the_older_source_is_played_while_a_new_one_is_processed,
                a_new_source_is_played_by_new_links,
                a_file_that_becomes_hls_is_played_as_hls,
                a_video_that_cannot_be_processed_fails_with_its_reason,
                a_video_that_an_older_source_keeps_playable_stays_so,
                a_video_with_a_live_job_does_not_fail,
                two_follow_ups_at_once_do_not_wait_for_each_other,
                a_trashed_or_finished_video_does_not_fail,
                renditions_that_nobody_makes_any_more_fail,
                a_prefix_is_ended_once_its_attempt_is,
                the_prefix_of_a_running_attempt_is_not_forgotten,
                a_rendition_with_a_live_job_is_waited_for,
                a_job_that_was_stopped_with_its_source_is_not_waited_for,
                each_rendition_fails_with_a_reason_of_its_own,
                a_video_with_something_ready_is_not_failed,
                a_poster_is_the_videos_with_its_object,
                a_poster_without_the_lease_is_nobodys,
                a_poster_of_a_replaced_source_is_nobodys,
                a_second_poster_of_a_source_changes_nothing,
                a_poster_of_a_new_source_waits_until_the_source_is_played,
                a_storyboard_is_the_videos_with_all_its_objects,
                a_storyboard_without_the_lease_is_nobodys,
            );
        }
    };
    (@claims $harness:expr; $($claim:ident),+ $(,)?) => { $(
        #[tokio::test]
        async fn $claim() {
            if let Some(h) = $harness.await { $crate::testkit::renditions::$claim(&h).await }
        }
    )+ };
}

async fn sourced(h: &VideoHarness, title: &str) -> Sourced {
    let draft = h.draft(h.user().await, title).await;
    h.sourced(&draft).await
}

async fn rows(h: &VideoHarness, video: &Video) -> Vec<Rendition> {
    h.store.renditions(video.id).await.expect("the store answers")
}

async fn publish(h: &VideoHarness, command: PublishRendition) -> Result<(), CatalogError> {
    h.store.publish_rendition(command, Causes::none()).await
}

async fn trash(h: &VideoHarness, video: &Video) {
    let (now, purge_at) = (h.now(), h.now().plus(Duration::from_secs(60)));
    let command = TrashVideo { id: video.id, owner: Some(video.owner), expected: None, now, purge_at };
    h.store.trash_video(command, Causes::none()).await.expect("the video is not trashed");
}

/// Lets the lease run out, frees the job and claims it again: the next attempt.
async fn next_attempt(h: &VideoHarness) -> Lease {
    h.clock.advance(LEASE);
    h.store.sweep().await.expect("the store answers");
    h.claim(VIDEO_QUEUE).await
}

/// A later attempt finds it so.
pub async fn starting_moves_the_video_to_processing_once(h: &VideoHarness) {
    let sourced = sourced(h, "Start").await;
    let (fence, source) = (sourced.lease.fence(), sourced.source.clone());
    assert_eq!(source, h.store.start_processing(fence, source.id, h.now()).await.expect("the lease is held"));
    let started = h.video(sourced.video.id).await;
    assert_eq!((VideoStatus::Processing, sourced.video.version + 1), (started.status, started.version));
    h.store.start_processing(fence, source.id, h.now()).await.expect("the lease is held");
    assert_eq!(started, h.video(sourced.video.id).await);
}

/// Every command of this store asks for the lease first.
pub async fn starting_without_the_lease_writes_nothing(h: &VideoHarness) {
    let sourced = sourced(h, "Fenced").await;
    h.clock.advance(LEASE);
    let outcome = h.store.start_processing(sourced.lease.fence(), sourced.source.id, h.now()).await;
    assert!(matches!(outcome, Err(CatalogError::Fenced)), "{outcome:?}");
    let forged = Fence { token: sourced.lease.token + 1, ..sourced.lease.fence() };
    let outcome = h.store.plan_processing(forged, sourced.source.id, info(), vec![h.plan("360p")], h.now()).await;
    assert!(matches!(outcome, Err(CatalogError::Fenced)), "{outcome:?}");
    assert_eq!(sourced.video, h.video(sourced.video.id).await);
    assert!(rows(h, &sourced.video).await.is_empty());
}

/// Its job has nothing left to do.
pub async fn a_source_that_was_replaced_is_not_started(h: &VideoHarness) {
    let old = sourced(h, "Replaced").await;
    h.commit_source(&old.video).await;
    let outcome = h.store.start_processing(old.lease.fence(), old.source.id, h.now()).await;
    assert!(matches!(outcome, Err(CatalogError::NotFound)), "{outcome:?}");
    assert_eq!(VideoStatus::Uploaded, h.video(old.video.id).await.status);
}

/// Nor planned.
pub async fn a_trashed_video_is_not_started(h: &VideoHarness) {
    let sourced = sourced(h, "Gone").await;
    trash(h, &sourced.video).await;
    let (fence, source) = (sourced.lease.fence(), sourced.source.id);
    let outcome = h.store.start_processing(fence, source, h.now()).await;
    assert!(matches!(outcome, Err(CatalogError::NotFound)), "{outcome:?}");
    let outcome = h.store.plan_processing(fence, source, info(), vec![h.plan("360p")], h.now()).await;
    assert!(matches!(outcome, Err(CatalogError::NotFound)), "{outcome:?}");
    assert!(rows(h, &sourced.video).await.is_empty());
}

/// Names decide: a later attempt finds the rows of the first.
pub async fn planning_twice_plans_once(h: &VideoHarness) {
    let sourced = sourced(h, "Ladder").await;
    let first = h.planned(&sourced, &["720p", "360p"]).await;
    let second = h.planned(&sourced, &["720p", "360p", "1080p"]).await;
    assert_eq!((2, 3), (first.len(), second.len()));
    assert_eq!((&first["720p"], &first["360p"]), (&second["720p"], &second["360p"]));
    assert!(second.values().all(|row| row.status == RenditionStatus::Planned && row.prefix.is_none()));
}

/// As shown, after rotation.
pub async fn planning_describes_the_video(h: &VideoHarness) {
    let sourced = sourced(h, "Measured").await;
    h.planned(&sourced, &["360p"]).await;
    let video = h.video(sourced.video.id).await;
    assert_eq!((Some(2000), Some(640), Some(360)), (video.duration_ms, video.width, video.height));
    assert!(video.version > sourced.video.version);
}

/// Who makes its renditions later need not look again.
pub async fn what_was_found_in_a_source_is_known_of_it(h: &VideoHarness) {
    let sourced = sourced(h, "Probed").await;
    let facts = async || h.store.source_facts(sourced.source.id).await.expect("the store answers");
    assert_eq!(Some(SourceFacts::default()), facts().await);
    h.planned(&sourced, &["360p"]).await;
    assert_eq!(Some(SourceFacts { info: Some(info()), ..SourceFacts::default() }), facts().await);
    let nobodys = SourceId::new(h.now(), h.entropy());
    assert_eq!(None, h.store.source_facts(nobodys).await.expect("the store answers"));
}

/// Until then the older one is played, and it may stay so.
pub async fn a_new_source_describes_the_video_once_it_is_played(h: &VideoHarness) {
    let video = h.listed(h.user().await, "Twice").await;
    let second = h.sourced(&video).await;
    let (fence, source) = (second.lease.fence(), second.source.id);
    h.store.start_processing(fence, source, h.now()).await.expect("the lease is held");
    let longer = MediaInfo { duration_ms: Some(9000), width: Some(1280), height: Some(720), ..info() };
    let rows = h.store.plan_processing(fence, source, longer, vec![h.plan("720p")], h.now()).await;
    let row = rows.expect("the lease is held").remove(0);
    let shown = |video: &Video| (video.duration_ms, video.width, video.height);
    assert_eq!((Some(2000), Some(640), Some(360)), shown(&h.video(video.id).await));
    publish(h, h.begun(&row, fence).await).await.expect("the lease is held");
    assert_eq!((Some(9000), Some(1280), Some(720)), shown(&h.video(video.id).await));
}

/// From here on it is playable.
pub async fn the_first_published_rendition_makes_the_video_ready(h: &VideoHarness) {
    let sourced = sourced(h, "Ready").await;
    let row = h.planned(&sourced, &["360p"]).await.remove("360p").expect("it was planned");
    let command = h.begun(&row, sourced.lease.fence()).await;
    let before = h.video(sourced.video.id).await;
    assert!(!before.is_playable());
    publish(h, command.clone()).await.expect("the lease is held");
    let ready = h.video(sourced.video.id).await;
    assert_eq!((VideoStatus::Ready, Some(h.now())), (ready.status, ready.published_at));
    assert_eq!((Some(RenditionKind::Hls), before.version + 1), (ready.playback_kind, ready.version));
    let [row] = &*rows(h, &ready).await else { panic!("one rendition was planned") };
    assert_eq!((RenditionStatus::Ready, Some(h.now())), (row.status, row.ready_at));
    assert_eq!((command.bandwidth, command.codecs), (row.bandwidth, row.codecs.clone()));
    let object = command.objects[0].clone();
    assert_eq!(Some(object.clone()), h.store.object(&object.key).await.expect("the store answers"));
}

/// Neither its version nor when it was published.
pub async fn the_second_published_rendition_leaves_the_status(h: &VideoHarness) {
    let sourced = sourced(h, "Ladder").await;
    let planned = h.planned(&sourced, &["360p", "720p"]).await;
    let fence = sourced.lease.fence();
    publish(h, h.begun(&planned["360p"], fence).await).await.expect("the lease is held");
    let ready = h.video(sourced.video.id).await;
    h.clock.advance(Duration::from_secs(1));
    publish(h, h.begun(&planned["720p"], fence).await).await.expect("the lease is held");
    assert_eq!(ready, h.video(sourced.video.id).await);
    let playable = h.store.playable_renditions(ready.id).await.expect("the store answers");
    assert_eq!(2, playable.len());
}

/// The worker died after it published and before it said so.
pub async fn an_attempt_that_finds_everything_published_leaves_the_video_ready(h: &VideoHarness) {
    let sourced = sourced(h, "Twice").await;
    h.publish(&sourced, "360p").await;
    let lease = next_attempt(h).await;
    let again = Sourced { lease, ..sourced };
    let rows = h.planned(&again, &["360p"]).await;
    assert_eq!(RenditionStatus::Ready, rows["360p"].status);
    assert_eq!(VideoStatus::Ready, h.video(again.video.id).await.status);
    h.store.complete(again.lease.fence(), Causes::none()).await.expect("the lease is held");
    assert_eq!(VideoStatus::Ready, h.video(again.video.id).await.status);
}

/// Whoever lost the lease is late with everything.
pub async fn an_old_token_begins_and_publishes_nothing(h: &VideoHarness) {
    let sourced = sourced(h, "Late").await;
    let planned = h.planned(&sourced, &["360p", "720p"]).await;
    let old = sourced.lease.fence();
    let command = h.begun(&planned["360p"], old).await;
    next_attempt(h).await;
    let prefix = "renditions/late".to_owned();
    let begun = h.store.begin_rendition(old, planned["720p"].id, prefix.clone(), h.now()).await;
    assert!(matches!(begun, Err(CatalogError::Fenced)), "{begun:?}");
    assert!(matches!(h.store.begin_prefix(old, sourced.video.id, prefix, h.now()).await, Err(CatalogError::Fenced)));
    let object = command.objects[0].key.clone();
    assert!(matches!(publish(h, command).await, Err(CatalogError::Fenced)));
    assert_eq!(None, h.store.object(&object).await.expect("the store answers"));
    assert_eq!(VideoStatus::Processing, h.video(sourced.video.id).await.status);
    assert!(h.store.playable_renditions(sourced.video.id).await.expect("the store answers").is_empty());
}

/// Two jobs of one video may hold leases at once; the rendition names the one that makes it.
pub async fn a_rendition_taken_by_a_later_attempt_is_not_published_by_the_earlier(h: &VideoHarness) {
    let sourced = sourced(h, "Taken").await;
    let row = h.planned(&sourced, &["360p"]).await.remove("360p").expect("it was planned");
    let earlier = h.begun(&row, sourced.lease.fence()).await;
    let other = h.lease(PROCESS_VIDEO, Some(sourced.video.id)).await;
    let later = h.begun(&row, other.fence()).await;
    assert!(matches!(publish(h, earlier).await, Err(CatalogError::Fenced)));
    assert_eq!(VideoStatus::Processing, h.video(sourced.video.id).await.status);
    publish(h, later).await.expect("the rendition is its own");
}

/// What is visible stays as it is.
pub async fn a_published_rendition_is_not_begun_again(h: &VideoHarness) {
    let sourced = sourced(h, "Final").await;
    h.publish(&sourced, "360p").await;
    let before = rows(h, &sourced.video).await;
    let begun = h.store.begin_rendition(sourced.lease.fence(), before[0].id, "renditions/x".to_owned(), h.now()).await;
    assert!(matches!(begun, Err(CatalogError::WrongState { status: "ready", .. })), "{begun:?}");
    assert_eq!(before, rows(h, &sourced.video).await);
}

/// Trying again is what `process` is for.
pub async fn a_failed_rendition_is_begun_again(h: &VideoHarness) {
    let sourced = sourced(h, "Again").await;
    let row = h.planned(&sourced, &["360p"]).await.remove("360p").expect("it was planned");
    let fence = sourced.lease.fence();
    h.begun(&row, fence).await;
    h.store.fail_rendition(fence, row.id, "No.".to_owned()).await.expect("the lease is held");
    let failed = rows(h, &sourced.video).await.remove(0);
    assert_eq!((RenditionStatus::Failed, Some("No.")), (failed.status, failed.failure.as_deref()));
    publish(h, h.begun(&row, fence).await).await.expect("the lease is held");
    let ready = rows(h, &sourced.video).await.remove(0);
    assert_eq!((RenditionStatus::Ready, None), (ready.status, ready.failure));
}

/// An attempt fails what it makes itself.
pub async fn failing_without_the_token_changes_nothing(h: &VideoHarness) {
    let sourced = sourced(h, "Mine").await;
    let row = h.planned(&sourced, &["360p"]).await.remove("360p").expect("it was planned");
    h.begun(&row, sourced.lease.fence()).await;
    let before = rows(h, &sourced.video).await;
    let other = h.lease(PROCESS_VIDEO, Some(sourced.video.id)).await;
    h.store.fail_rendition(other.fence(), row.id, "No.".to_owned()).await.expect("its own lease is held");
    let lost = h.lost_fence().await;
    assert!(matches!(h.store.fail_rendition(lost, row.id, "No.".to_owned()).await, Err(CatalogError::Fenced)));
    assert_eq!(before, rows(h, &sourced.video).await);
}

/// Trashing wins over an attempt that has not heard of it.
pub async fn a_rendition_of_a_trashed_video_is_not_published(h: &VideoHarness) {
    let sourced = sourced(h, "Gone").await;
    let row = h.planned(&sourced, &["360p"]).await.remove("360p").expect("it was planned");
    let command = h.begun(&row, sourced.lease.fence()).await;
    trash(h, &sourced.video).await;
    let trashed = h.video(sourced.video.id).await;
    let key = command.objects[0].key.clone();
    assert!(matches!(publish(h, command).await, Err(CatalogError::NotFound)));
    assert_eq!(trashed, h.video(trashed.id).await);
    assert_eq!(None, h.store.object(&key).await.expect("the store answers"));
}

/// The video waits for a job that would then find nothing to do.
pub async fn an_attempt_from_before_the_trashing_publishes_nothing_after_the_restoring(h: &VideoHarness) {
    let sourced = sourced(h, "Back").await;
    let row = h.planned(&sourced, &["360p"]).await.remove("360p").expect("it was planned");
    let old = h.begun(&row, sourced.lease.fence()).await;
    trash(h, &sourced.video).await;
    let (now, purge_at) = (h.now(), h.now().plus(Duration::from_secs(60)));
    let command = TrashVideo { id: sourced.video.id, owner: None, expected: None, now, purge_at };
    let causes = Causes::none().job(h.process_job(&sourced.source));
    h.store.restore_video(command, causes).await.expect("it is in the trash");
    assert!(matches!(publish(h, old).await, Err(CatalogError::NotFound)));
    let next = Sourced { lease: h.claim(VIDEO_QUEUE).await, ..sourced };
    h.publish(&next, "360p").await;
    assert_eq!(VideoStatus::Ready, h.video(next.video.id).await.status);
}

/// It would make the video ready with the wrong bytes.
pub async fn a_rendition_of_a_replaced_source_is_not_published(h: &VideoHarness) {
    let old = sourced(h, "Replaced").await;
    let row = h.planned(&old, &["360p"]).await.remove("360p").expect("it was planned");
    let command = h.begun(&row, old.lease.fence()).await;
    let new = h.sourced(&old.video).await;
    h.planned(&new, &["360p"]).await;
    assert!(matches!(publish(h, command).await, Err(CatalogError::NotFound)));
    let video = h.video(old.video.id).await;
    assert_eq!((VideoStatus::Processing, false), (video.status, video.is_playable()));
}

/// And the new one as soon as it has a rendition.
pub async fn the_older_source_is_played_while_a_new_one_is_processed(h: &VideoHarness) {
    let video = h.listed(h.user().await, "Twice").await;
    let old = h.store.playable_renditions(video.id).await.expect("the store answers");
    let second = h.sourced(&video).await;
    let row = h.planned(&second, &["360p"]).await.remove("360p").expect("it was planned");
    let between = h.video(video.id).await;
    assert_eq!((VideoStatus::Processing, true), (between.status, between.is_listed()));
    assert_eq!(old, h.store.playable_renditions(video.id).await.expect("the store answers"));
    publish(h, h.begun(&row, second.lease.fence()).await).await.expect("the lease is held");
    let new = h.store.playable_renditions(video.id).await.expect("the store answers");
    assert_eq!(vec![second.source.id], new.iter().map(|row| row.source).collect::<Vec<_>>());
    let ready = h.video(video.id).await;
    assert_eq!((VideoStatus::Ready, video.published_at), (ready.status, ready.published_at));
}

/// Whoever fetched a segment may keep it for ever: what is played of another source has other links.
pub async fn a_new_source_is_played_by_new_links(h: &VideoHarness) {
    let video = h.listed(h.user().await, "Twice").await;
    let second = h.sourced(&video).await;
    let rows = h.planned(&second, &["720p", "360p"]).await;
    let epochs = async || h.video(video.id).await.playback_epoch;
    assert_eq!(video.playback_epoch, epochs().await, "the older source is played still");
    publish(h, h.begun(&rows["360p"], second.lease.fence()).await).await.expect("the lease is held");
    assert_eq!(video.playback_epoch + 1, epochs().await);
    publish(h, h.begun(&rows["720p"], second.lease.fence()).await).await.expect("the lease is held");
    assert_eq!(video.playback_epoch + 1, epochs().await, "another rendition joins under the same links");
}

/// A server that found its ffmpeg later.
pub async fn a_file_that_becomes_hls_is_played_as_hls(h: &VideoHarness) {
    let sourced = sourced(h, "Upgraded").await;
    let (fence, source, now) = (sourced.lease.fence(), &sourced.source, h.now());
    h.store.start_processing(fence, source.id, now).await.expect("the lease is held");
    let file = crate::media::PlannedRendition { kind: RenditionKind::File, ..h.plan("original") };
    let rows = h.store.plan_processing(fence, source.id, info(), vec![file], now).await.expect("the lease is held");
    h.store.begin_rendition(fence, rows[0].id, source.object_key.clone(), now).await.expect("it is planned");
    let command =
        PublishRendition { fence, rendition: rows[0].id, bandwidth: None, codecs: None, objects: Vec::new(), now };
    publish(h, command).await.expect("the lease is held");
    let as_file = h.video(sourced.video.id).await;
    assert_eq!(Some(RenditionKind::File), as_file.playback_kind);
    h.publish(&sourced, "360p").await;
    let as_hls = h.video(sourced.video.id).await;
    assert_eq!((Some(RenditionKind::Hls), VideoStatus::Ready), (as_hls.playback_kind, as_hls.status));
    assert!(as_hls.version > as_file.version);
}
