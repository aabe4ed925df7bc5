//! Claims about the end of trashed videos.

use std::time::Duration;

use crate::catalog::{CatalogError, DuePurge, OwnerScope, SearchTerms, Video};
use crate::id::VideoId;
use crate::idempotency::{IdempotencyKey, IdempotencyRecord};
use crate::jobs::{JobError, JobFilter, JobState, MEDIA_QUEUE};
use crate::storage::{StorageUsage, UploadError};
use crate::store::{Causes, Outcome};
use crate::testkit::videos::{LEASE, VideoHarness};

use super::{owned, restore, trash, trash_of};

/// As long as `trash_of` keeps a video.
const KEPT: Duration = Duration::from_secs(60);

/// A published video with bytes under way, whose time in the trash is over.
async fn over(h: &VideoHarness, title: &str) -> Video {
    let video = h.listed(h.user().await, title).await;
    h.open(&video, 5).await;
    let trashed = trash(h, &video).await;
    h.clock.advance(KEPT);
    trashed
}

async fn due(h: &VideoHarness) -> Vec<VideoId> {
    due_after(h, None, 10).await.iter().map(|due| due.id).collect()
}

async fn due_after(h: &VideoHarness, after: Option<DuePurge>, limit: u16) -> Vec<DuePurge> {
    h.store.videos_to_purge(h.now(), after, limit).await.expect("the store answers")
}

async fn assert_sound(h: &VideoHarness) {
    let report = h.store.examine_rows(true).await.expect("the store answers");
    assert!(report.is_sound(), "{report:#?}");
}

/// Neither before nor without the trash.
pub async fn a_video_is_purged_once_its_time_in_the_trash_is_over(h: &VideoHarness) {
    let kept = h.listed(h.user().await, "Kept").await;
    let video = trash(h, &h.listed(h.user().await, "Trashed").await).await;
    let upload = h.open(&kept, 5).await;
    h.clock.advance(KEPT - Duration::from_millis(1));
    assert_eq!(Vec::<VideoId>::new(), due(h).await);
    for id in [kept.id, video.id] {
        assert!(matches!(h.store.begin_purge(id, h.now()).await, Err(CatalogError::NotFound)));
    }
    h.clock.advance(Duration::from_millis(1));
    assert_eq!(vec![video.id], due(h).await);
    let uploads = h.store.begin_purge(video.id, h.now()).await.expect("its time is over");
    assert!(!uploads.contains(&upload.id));
    assert!(h.store.finish_purge(video.id, Causes::none()).await.expect("the store answers"));
    assert_eq!(None, h.store.video(video.id).await.expect("the store answers"));
    assert_eq!(kept, h.video(kept.id).await);
}

/// Nothing leads back once objects may be gone.
pub async fn a_video_whose_purge_began_is_not_restored_and_takes_no_source(h: &VideoHarness) {
    let draft = h.draft(h.user().await, "Late").await;
    let (upload, lease) = h.verifying(&draft, 1000).await;
    trash(h, &draft).await;
    h.clock.advance(KEPT);
    h.store.begin_purge(draft.id, h.now()).await.expect("its time is over");
    let restored = h.store.restore_video(trash_of(h, &draft), Causes::none()).await;
    assert!(matches!(restored, Err(CatalogError::NotFound)));
    // The verification outlived the minute in the trash.
    let lease = if h.store.sweep().await.expect("the store answers").rescued > 0 {
        h.claim(lease.job.queue.as_str()).await
    } else {
        lease
    };
    let committed = h.store.commit_source(h.commit(&upload, lease.fence()), Causes::none()).await;
    assert!(matches!(committed, Err(UploadError::NotFound)), "{committed:?}");
    assert_eq!(None, h.store.current_source(draft.id).await.expect("the store answers"));
}

/// Jobs of every queue: the program's own as well.
pub async fn a_purge_fences_what_runs_and_cancels_what_waits(h: &VideoHarness) {
    let video = trash(h, &h.listed(h.user().await, "Busy").await).await;
    h.clock.advance(KEPT);
    let running = h.lease("own", Some(video.id)).await;
    let waiting = h.store.enqueue(h.new_job("own", "own", Some(video.id)), Causes::none()).await;
    let waiting = waiting.expect("the job is new").into_inner();
    h.store.begin_purge(video.id, h.now()).await.expect("its time is over");
    let beat = h.store.heartbeat(running.fence(), LEASE, None).await;
    assert!(matches!(beat, Err(JobError::LeaseLost { .. })), "{beat:?}");
    for job in [running.job.id, waiting.id] {
        let job = h.store.job(job).await.expect("the store answers").expect("it is not pruned yet");
        assert_eq!(JobState::Cancelled, job.state);
    }
    assert_sound(h).await;
}

/// No row, no byte of the quota, no word of the index.
pub async fn a_purged_video_leaves_nothing(h: &VideoHarness) {
    let video = over(h, "Vanishing").await;
    let [upload] = *h.store.begin_purge(video.id, h.now()).await.expect("its time is over") else {
        panic!("one upload has staged bytes")
    };
    h.store.enqueue(h.new_job(MEDIA_QUEUE, "late", Some(video.id)), Causes::none()).await.expect("the job is new");
    assert!(h.store.finish_purge(video.id, Causes::none()).await.expect("the store answers"));
    assert_eq!(None, h.store.video(video.id).await.expect("the store answers"));
    assert_eq!(None, h.store.upload(upload).await.expect("the store answers"));
    assert_eq!(None, h.store.current_source(video.id).await.expect("the store answers"));
    assert!(h.store.recorded_objects("", 10).await.expect("the store answers").is_empty());
    assert!(h.store.ended_prefixes("", 10).await.expect("the store answers").is_empty());
    let filter = JobFilter { video: Some(video.id), ..JobFilter::default() };
    assert!(h.store.jobs(&filter, None, 10).await.expect("the store answers").is_empty());
    let usage = h.store.storage_usage(video.owner).await.expect("the store answers");
    assert_eq!(StorageUsage::default(), usage);
    assert!(owned(h, video.owner, OwnerScope::Trash).await.is_empty());
    let terms = SearchTerms::parse("vanishing").expect("a word");
    assert!(h.store.search_videos(&terms, 0, 10).await.expect("the store answers").is_empty());
    assert_sound(h).await;
}

/// A record stands for an effect that is there; those of others, and of other videos, stay.
pub async fn a_purge_forgets_what_its_owner_asked_for(h: &VideoHarness) {
    let owner = h.user().await;
    let record = |route: &str, key: &str| {
        let key = IdempotencyKey { scope: format!("{owner} {route}"), key: key.to_owned(), fingerprint: [1; 32] };
        Causes::none().idempotent(Some(IdempotencyRecord { key, expires_at: h.now().plus(10 * KEPT), sealed: None }))
    };
    let (going, staying) = (h.new_video(owner, "Going"), h.new_video(owner, "Staying"));
    for (new, key) in [(&going, "going"), (&staying, "staying")] {
        h.store.create_video(new.clone(), record("POST /videos", key)).await.expect("the owner exists");
    }
    let video = h.video(going.id).await;
    let upload = h.new_upload(&video, 5);
    h.store.create_upload(upload, record("POST /uploads", "upload")).await.expect("the upload is allowed");
    trash(h, &video).await;
    h.clock.advance(KEPT);
    h.store.begin_purge(video.id, h.now()).await.expect("its time is over");
    h.store.finish_purge(video.id, Causes::none()).await.expect("the store answers");
    assert_sound(h).await;
    let again = h.store.create_video(going.clone(), record("POST /videos", "going")).await;
    assert!(matches!(again, Ok(Outcome::Done(_))), "{again:?}");
    let replayed = h.store.create_video(staying.clone(), record("POST /videos", "staying")).await;
    assert!(matches!(replayed, Ok(Outcome::Replayed { .. })), "{replayed:?}");
}

/// Its objects are accounted for while they are there, and not missed once they are gone.
pub async fn a_video_is_sound_at_every_step_of_its_purge(h: &VideoHarness) {
    let video = over(h, "Going").await;
    let recorded = h.store.recorded_objects("", 10).await.expect("the store answers");
    let mut keys: Vec<String> = recorded.iter().map(|object| object.key.clone()).collect();
    assert_eq!(2, keys.len());
    keys.push(format!("renditions/{}/999/360p/init.mp4", video.id));
    for _ in 0..2 {
        h.store.begin_purge(video.id, h.now()).await.expect("its time is over");
        assert_sound(h).await;
        assert!(h.store.unknown_keys(keys.clone()).await.expect("the store answers").is_empty());
        assert!(h.store.recorded_objects("", 10).await.expect("the store answers").is_empty());
    }
    h.store.finish_purge(video.id, Causes::none()).await.expect("the store answers");
    assert_sound(h).await;
    assert_eq!(keys, h.store.unknown_keys(keys.clone()).await.expect("the store answers"));
}

/// Rows are not deleted beside objects that are there.
pub async fn a_purge_that_did_not_begin_does_not_end(h: &VideoHarness) {
    let video = over(h, "Kept").await;
    assert!(!h.store.finish_purge(video.id, Causes::none()).await.expect("the store answers"));
    assert_eq!(video, h.video(video.id).await);
    // Nobody has begun: it can still be restored.
    restore(h, &video).await;
    assert!(matches!(h.store.begin_purge(video.id, h.now()).await, Err(CatalogError::NotFound)));
}

/// What a crash interrupted is ended before anything else is begun.
pub async fn purges_that_began_are_listed_first(h: &VideoHarness) {
    let first = over(h, "First").await;
    let second = over(h, "Second").await;
    assert_eq!(vec![first.id, second.id], due(h).await);
    h.store.begin_purge(second.id, h.now()).await.expect("its time is over");
    assert_eq!(vec![second.id, first.id], due(h).await);
    assert_eq!(second.id, due_after(h, None, 1).await[0].id);
}

/// A purge that always fails keeps no other back.
pub async fn videos_to_purge_are_listed_page_by_page(h: &VideoHarness) {
    let videos = [over(h, "First").await, over(h, "Second").await, over(h, "Third").await];
    h.store.begin_purge(videos[2].id, h.now()).await.expect("its time is over");
    let (mut listed, mut after) = (Vec::new(), None);
    while let [due] = *due_after(h, after, 1).await {
        // One that is begun, or goes, meanwhile makes no other come twice or not at all.
        h.store.begin_purge(due.id, h.now()).await.expect("its time is over");
        if listed.is_empty() {
            h.store.finish_purge(due.id, Causes::none()).await.expect("the store answers");
        }
        listed.push(due.id);
        after = Some(due);
    }
    assert_eq!(vec![videos[2].id, videos[0].id, videos[1].id], listed);
}
