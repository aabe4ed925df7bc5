//! Workflows that somebody or something stops half way: a crash, a cancel, the trash, a new source.

use std::sync::Arc;
use std::time::Duration;

use vidcore::catalog::{VideoStatus, Visibility};
use vidcore::jobs::{JobState, QueueName};
use vidcore::media::RenditionStatus;
use vidcore::store::Causes;

use crate::ladder::{LARGE, Ladder, SMALL, Trouble};
use crate::studio::{Plan, Studio};
use crate::workflow::{
    REASON, jobs, open, open_with, rendition, until_idle_in_time, until_rendition, uploaded, variants,
};

async fn pause(studio: &Studio, queue: &str, paused: bool) {
    let outcome = studio.platform.store().set_paused(&QueueName::new(queue), paused, Causes::none()).await;
    outcome.expect("the store answers");
}

#[tokio::test]
async fn a_crash_between_the_plan_and_the_first_rendition_loses_nothing() {
    let ladder = Ladder::new();
    let mut studio = open(&ladder).await;
    pause(&studio, "media", true).await;
    let video = uploaded(&studio).await;
    studio.eventually(async || (jobs(&studio, "make_rendition").await.len() == 2).then_some(())).await;
    assert_eq!(VideoStatus::Processing, studio.until(video, VideoStatus::Processing).await.status);
    // Its planning has ended; that something of it is live is what keeps it sound.
    studio
        .eventually(async || {
            jobs(&studio, "process_video").await.iter().all(|job| job.state == JobState::Done).then_some(())
        })
        .await;
    studio.assert_sound().await;
    studio.reopen_with(Arc::clone(&ladder) as _, Plan::default()).await;
    pause(&studio, "media", false).await;
    studio.until(video, VideoStatus::Ready).await;
    studio.until_idle().await;
    assert_eq!(2, variants(&studio, video).await);
    studio.close().await;
}

#[tokio::test]
async fn a_crash_before_the_last_word_leaves_it_to_be_said() {
    let ladder = Ladder::holding();
    ladder.trouble(LARGE, &[Trouble::Lasting(REASON)]);
    ladder.trouble(SMALL, &[Trouble::Lasting(REASON)]);
    let mut studio = open(&ladder).await;
    let video = uploaded(&studio).await;
    studio.eventually(async || (ladder.begun(LARGE) + ladder.begun(SMALL) == 2).then_some(())).await;
    // Also that of a single death, which is said in the queue of the renditions.
    for queue in ["video", "media"] {
        pause(&studio, queue, true).await;
    }
    ladder.let_through(&[LARGE, SMALL]);
    studio
        .eventually(async || {
            jobs(&studio, "make_rendition").await.iter().all(|job| job.state == JobState::Dead).then_some(())
        })
        .await;
    assert_eq!(VideoStatus::Processing, studio.status(video).await.status);
    studio.assert_sound().await;
    studio.reopen_with(Arc::clone(&ladder) as _, Plan::default()).await;
    for queue in ["video", "media"] {
        pause(&studio, queue, false).await;
    }
    assert_eq!(Some(REASON), studio.until(video, VideoStatus::Failed).await.failure.as_deref());
    studio.until_idle().await;
    studio.close().await;
}

#[tokio::test]
async fn a_dead_rendition_that_is_replayed_makes_its_failed_video_play() {
    let ladder = Ladder::new();
    ladder.trouble(LARGE, &[Trouble::Lasting(REASON)]);
    ladder.trouble(SMALL, &[Trouble::Lasting(REASON), Trouble::Lasting(REASON)]);
    let studio = open(&ladder).await;
    let video = uploaded(&studio).await;
    studio.until(video, VideoStatus::Failed).await;
    studio.until_idle().await;
    let small = async || {
        let id = rendition(&studio, video, SMALL).await.expect("it was planned").id.to_string();
        let jobs = jobs(&studio, "make_rendition").await;
        jobs.into_iter().find(|job| job.payload["rendition"] == id.as_str()).expect("it is on record").id
    };
    // It has left its group: its second death has a last word of its own.
    studio.platform.jobs().retry(&studio.actor, small().await, None).await.expect("it is dead");
    studio.until_idle().await;
    assert_eq!(VideoStatus::Failed, studio.status(video).await.status);
    studio.assert_sound().await;
    studio.platform.jobs().retry(&studio.actor, small().await, None).await.expect("it is dead");
    studio.until(video, VideoStatus::Ready).await;
    studio.until_idle().await;
    assert_eq!((1, None), (variants(&studio, video).await, studio.video(video).await.failure));
    studio.close().await;
}

#[tokio::test]
async fn cancelling_the_job_of_one_rendition_stops_that_one() {
    let ladder = Ladder::holding();
    let studio = open(&ladder).await;
    let video = uploaded(&studio).await;
    studio.eventually(async || (ladder.begun(LARGE) + ladder.begun(SMALL) == 2).then_some(())).await;
    let id = rendition(&studio, video, LARGE).await.expect("it was planned").id.to_string();
    let making = jobs(&studio, "make_rendition").await;
    let large = making.iter().find(|job| job.payload["rendition"] == id.as_str()).expect("it is on record").id;
    studio.platform.jobs().cancel(&studio.actor, large, None).await.expect("it runs");
    let cancelled = until_rendition(&studio, video, LARGE, RenditionStatus::Failed).await;
    assert_eq!(Some("Processing was cancelled."), cancelled.failure.as_deref());
    assert_eq!(VideoStatus::Processing, studio.status(video).await.status);
    ladder.let_through(&[SMALL]);
    studio.until(video, VideoStatus::Ready).await;
    studio.until_idle().await;
    assert_eq!((1, None), (variants(&studio, video).await, studio.video(video).await.failure));
    studio.close().await;
}

#[tokio::test]
async fn cancelling_every_rendition_fails_the_video_as_cancelled() {
    let ladder = Ladder::holding();
    let studio = open(&ladder).await;
    let video = uploaded(&studio).await;
    studio.eventually(async || (ladder.begun(LARGE) + ladder.begun(SMALL) == 2).then_some(())).await;
    for job in jobs(&studio, "make_rendition").await {
        studio.platform.jobs().cancel(&studio.actor, job.id, None).await.expect("it runs");
    }
    let failed = studio.until(video, VideoStatus::Failed).await;
    assert_eq!(Some("Processing was cancelled."), failed.failure.as_deref());
    studio.until_idle().await;
    studio.close().await;
}

#[tokio::test]
async fn trashing_stops_every_rendition_and_restoring_makes_them_all() {
    let ladder = Ladder::holding();
    let studio = open(&ladder).await;
    let video = uploaded(&studio).await;
    studio.eventually(async || (ladder.begun(LARGE) + ladder.begun(SMALL) == 2).then_some(())).await;
    let catalog = studio.platform.catalog();
    catalog.trash(&studio.actor, video, None, None).await.expect("it is the owner's");
    // Time stands still: they do not wait for a heartbeat to hear of it.
    studio.until_idle().await;
    assert!(jobs(&studio, "make_rendition").await.iter().all(|job| job.state == JobState::Cancelled));
    assert!(jobs(&studio, "settle_video").await.is_empty());
    assert_eq!(VideoStatus::Uploaded, studio.video(video).await.status);
    studio.assert_sound().await;
    ladder.let_through(&[LARGE, SMALL]);
    catalog.restore(&studio.actor, video, None, None).await.expect("it is in the trash");
    studio.until(video, VideoStatus::Ready).await;
    studio.until_idle().await;
    assert_eq!(2, variants(&studio, video).await);
    studio.close().await;
}

#[tokio::test]
async fn a_video_restored_before_its_old_jobs_have_stopped_is_made_whole() {
    let ladder = Ladder::deaf();
    let studio = open_with(&ladder, Plan { concurrency: 4, ..Plan::default() }).await;
    let video = uploaded(&studio).await;
    studio.eventually(async || (ladder.begun(LARGE) + ladder.begun(SMALL) == 2).then_some(())).await;
    let catalog = studio.platform.catalog();
    catalog.trash(&studio.actor, video, None, None).await.expect("it is the owner's");
    catalog.restore(&studio.actor, video, None, None).await.expect("it is in the trash");
    studio.eventually(async || (ladder.begun(LARGE) + ladder.begun(SMALL) == 4).then_some(())).await;
    let live = jobs(&studio, "make_rendition").await.iter().filter(|job| !job.state.is_final()).count();
    assert_eq!(4, live);
    ladder.let_through(&[LARGE, SMALL]);
    until_idle_in_time(&studio).await;
    assert_eq!((VideoStatus::Ready, 2), (studio.status(video).await.status, variants(&studio, video).await));
    // What the stopped attempts had put is nobody's.
    studio.platform.collect_objects().await.expect("everything answers");
    studio.close().await;
}

#[tokio::test]
async fn a_poster_that_was_finished_in_the_trash_is_made_again_by_a_restoring() {
    let ladder = Ladder::new();
    let studio = open(&ladder).await;
    let draft = studio.draft(Visibility::Public).await;
    let (platform, actor) = (studio.platform.clone(), studio.actor);
    ladder.before_a_poster(async move {
        let are_made = async || {
            let rows = platform.store().renditions(draft.id).await.expect("the store answers");
            !rows.is_empty() && rows.iter().all(|row| row.status == RenditionStatus::Ready)
        };
        while !are_made().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        platform.catalog().trash(&actor, draft.id, None, None).await.expect("it is the owner's");
    });
    studio.upload(draft.id, "landscape.mp4").await;
    studio.eventually(async || studio.video(draft.id).await.deleted_at.map(|_| ())).await;
    studio.until_idle().await;
    assert_eq!(1, ladder.begun("poster"));
    studio.platform.catalog().restore(&studio.actor, draft.id, None, None).await.expect("it is in the trash");
    studio
        .eventually(async || {
            let video = studio.platform.store().video(draft.id).await.expect("the store answers");
            video.and_then(|video| video.poster_key)
        })
        .await;
    studio.until_idle().await;
    assert_eq!(2, ladder.begun("poster"));
    studio.platform.collect_objects().await.expect("everything answers");
    studio.close().await;
}

#[tokio::test]
async fn a_new_source_stops_the_renditions_of_the_one_before_and_its_own_are_played() {
    let ladder = Ladder::holding();
    let studio = open(&ladder).await;
    let video = uploaded(&studio).await;
    studio.eventually(async || (ladder.begun(LARGE) + ladder.begun(SMALL) == 2).then_some(())).await;
    studio.upload(video, "no-audio.mp4").await;
    studio
        .in_time(Duration::from_secs(1), async || (ladder.begun(LARGE) + ladder.begun(SMALL) == 4).then_some(()))
        .await;
    ladder.let_through(&[LARGE, SMALL]);
    until_idle_in_time(&studio).await;
    let making = jobs(&studio, "make_rendition").await;
    let ended = |state| making.iter().filter(|job| job.state == state).count();
    assert_eq!((2, 2), (ended(JobState::Done), ended(JobState::Cancelled)));
    let shown = studio.video(video).await;
    assert_eq!((VideoStatus::Ready, Some(320), 2), (shown.status, shown.width, variants(&studio, video).await));
    studio.close().await;
}

#[tokio::test]
async fn a_new_source_that_fails_leaves_what_the_video_shows_of_the_old_one() {
    let ladder = Ladder::new();
    let studio = open(&ladder).await;
    let video = uploaded(&studio).await;
    studio.until(video, VideoStatus::Ready).await;
    studio.until_idle().await;
    let before = studio.video(video).await;
    ladder.trouble(LARGE, &[Trouble::Lasting(REASON)]);
    ladder.trouble(SMALL, &[Trouble::Lasting(REASON)]);
    studio.upload(video, "no-audio.mp4").await;
    studio.eventually(async || (jobs(&studio, "make_rendition").await.len() == 4).then_some(())).await;
    studio.until_idle().await;
    let after = studio.video(video).await;
    assert_eq!((VideoStatus::Ready, Some(REASON)), (after.status, after.failure.as_deref()));
    let shown = |video: &vidcore::catalog::view::VideoView| (video.duration_ms, video.width, video.height);
    assert_eq!((shown(&before), before.playback), (shown(&after), after.playback.clone()));
    assert_eq!((Some(640), 2), (after.width, variants(&studio, video).await));
    studio.close().await;
}
