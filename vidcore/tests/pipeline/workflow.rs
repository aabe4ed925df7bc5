//! One job per rendition: each appears by itself, fails by itself, and is made again by itself.

use std::sync::Arc;
use std::time::Duration;

use vidcore::catalog::view::RenditionView;
use vidcore::catalog::{VideoStatus, Visibility};
use vidcore::id::VideoId;
use vidcore::jobs::{Death, Job, JobFilter, JobState};
use vidcore::media::RenditionStatus;
use vidcore::storage::Visitor;

use crate::ladder::{LARGE, Ladder, SMALL, Trouble};
use crate::studio::{Plan, Studio, public_grant};

pub(crate) const REASON: &str = "The picture cannot be decoded.";

pub(crate) async fn open(ladder: &Arc<Ladder>) -> Studio {
    open_with(ladder, Plan::default()).await
}

pub(crate) async fn open_with(ladder: &Arc<Ladder>, plan: Plan) -> Studio {
    Studio::with_transcoder(Arc::clone(ladder) as _, plan).await
}

/// A video that is being processed.
pub(crate) async fn uploaded(studio: &Studio) -> VideoId {
    let draft = studio.draft(Visibility::Public).await;
    studio.upload(draft.id, "landscape.mp4").await;
    draft.id
}

pub(crate) async fn rendition(studio: &Studio, video: VideoId, name: &str) -> Option<RenditionView> {
    studio.status(video).await.renditions.into_iter().find(|row| row.name == name)
}

pub(crate) async fn until_rendition(
    studio: &Studio,
    video: VideoId,
    name: &str,
    status: RenditionStatus,
) -> RenditionView {
    studio.eventually(async || rendition(studio, video, name).await.filter(|row| row.status == status)).await
}

/// Jobs of one kind, newest first.
pub(crate) async fn jobs(studio: &Studio, kind: &str) -> Vec<Job> {
    let filter = JobFilter { kind: Some(kind.to_owned()), ..JobFilter::default() };
    studio.platform.store().jobs(&filter, None, 50).await.expect("the store answers")
}

/// How many variants the master playlist names.
pub(crate) async fn variants(studio: &Studio, video: VideoId) -> usize {
    let playback = studio.platform.playback();
    let playable =
        playback.open(&public_grant(&studio.video(video).await), &Visitor::default()).await.expect("it is playable");
    let text = playback.master_playlist(&playable).await.expect("something is ready");
    text.matches("#EXT-X-STREAM-INF").count()
}

/// Waits until no job is live, while retries come due.
pub(crate) async fn until_idle_in_time(studio: &Studio) {
    studio
        .in_time(Duration::from_millis(100), async || {
            let counts = studio.platform.store().job_counts().await.expect("the store answers");
            counts.iter().all(|(_, state, _)| state.is_final()).then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_video_plays_with_its_first_rendition_and_the_next_appears_by_itself() {
    let ladder = Ladder::holding();
    let studio = open(&ladder).await;
    let video = uploaded(&studio).await;
    studio.eventually(async || (ladder.begun(LARGE) + ladder.begun(SMALL) == 2).then_some(())).await;
    assert_eq!(VideoStatus::Processing, studio.status(video).await.status);
    ladder.let_through(&[SMALL]);
    studio.until(video, VideoStatus::Ready).await;
    assert_eq!(1, variants(&studio, video).await);
    let status = studio.status(video).await;
    assert!(status.playable && (1..1000).contains(&status.progress), "{}", status.progress);
    assert_eq!(
        RenditionStatus::Encoding,
        until_rendition(&studio, video, LARGE, RenditionStatus::Encoding).await.status
    );
    studio.assert_sound().await;
    ladder.let_through(&[LARGE]);
    studio.until_idle().await;
    assert_eq!((2, 1000), (variants(&studio, video).await, studio.status(video).await.progress));
    let shown = studio.video(video).await.playback.expect("it is playable");
    assert!(shown.poster_url.is_some() && shown.storyboard_url.is_some());
    studio.close().await;
}

#[tokio::test]
async fn the_smallest_rendition_is_made_first_and_the_storyboard_last() {
    let ladder = Ladder::new();
    let studio = open_with(&ladder, Plan { concurrency: 1, ..Plan::default() }).await;
    uploaded(&studio).await;
    studio.eventually(async || (!jobs(&studio, "settle_video").await.is_empty()).then_some(())).await;
    studio.until_idle().await;
    assert_eq!([SMALL, "poster", LARGE, "storyboard"], *ladder.order());
    studio.close().await;
}

#[tokio::test]
async fn a_failed_rendition_is_made_again_alone_while_the_other_plays() {
    let ladder = Ladder::new();
    ladder.trouble(LARGE, &[Trouble::Passing, Trouble::Passing]);
    let studio = open(&ladder).await;
    let video = uploaded(&studio).await;
    studio.until(video, VideoStatus::Ready).await;
    studio
        .in_time(Duration::from_millis(100), async || {
            rendition(&studio, video, LARGE).await.filter(|row| row.status == RenditionStatus::Ready)
        })
        .await;
    studio.until_idle().await;
    assert_eq!((1, 3), (ladder.begun(SMALL), ladder.begun(LARGE)));
    let mut attempts: Vec<_> = jobs(&studio, "make_rendition").await.iter().map(|job| job.attempts).collect();
    attempts.sort_unstable();
    assert_eq!(vec![1, 3], attempts);
    studio.close().await;
}

#[tokio::test]
async fn a_rendition_that_cannot_be_made_says_why_and_the_video_plays_the_others() {
    let ladder = Ladder::new();
    ladder.trouble(LARGE, &[Trouble::Lasting(REASON)]);
    let studio = open(&ladder).await;
    let video = uploaded(&studio).await;
    let failed = until_rendition(&studio, video, LARGE, RenditionStatus::Failed).await;
    studio.until(video, VideoStatus::Ready).await;
    studio.until_idle().await;
    let status = studio.status(video).await;
    assert_eq!((Some(REASON), None, 1000), (failed.failure.as_deref(), status.failure, status.progress));
    let dead = jobs(&studio, "make_rendition").await.into_iter().find(|job| job.state == JobState::Dead);
    assert_eq!(Some((Some(Death::Permanent), 1)), dead.map(|job| (job.death, job.attempts)));
    studio.close().await;
}

#[tokio::test]
async fn a_video_none_of_whose_renditions_can_be_made_fails_with_what_is_wrong_with_the_file() {
    let ladder = Ladder::new();
    ladder.trouble(LARGE, &[Trouble::Passing, Trouble::Passing]);
    ladder.trouble(SMALL, &[Trouble::Lasting(REASON)]);
    let studio = open_with(&ladder, Plan { max_attempts: 2, ..Plan::default() }).await;
    let video = uploaded(&studio).await;
    until_rendition(&studio, video, SMALL, RenditionStatus::Failed).await;
    // The other one may still come.
    assert_eq!(VideoStatus::Processing, studio.status(video).await.status);
    until_idle_in_time(&studio).await;
    let status = studio.status(video).await;
    assert_eq!((VideoStatus::Failed, Some(REASON)), (status.status, status.failure.as_deref()));
    let large = rendition(&studio, video, LARGE).await.expect("it was planned");
    assert_eq!(RenditionStatus::Failed, large.status);
    assert!(large.failure.is_some_and(|why| why.ends_with('.') && !why.contains("test")));
    studio.close().await;
}

#[tokio::test]
async fn processing_again_makes_only_what_is_missing() {
    let ladder = Ladder::new();
    ladder.trouble(LARGE, &[Trouble::Lasting(REASON)]);
    ladder.trouble("storyboard", &[Trouble::Lasting(REASON)]);
    let studio = open(&ladder).await;
    let video = uploaded(&studio).await;
    until_rendition(&studio, video, LARGE, RenditionStatus::Failed).await;
    studio.until_idle().await;
    assert_eq!(None, studio.video(video).await.playback.expect("it plays").storyboard_url);
    studio.platform.catalog().process(&studio.actor, video, None).await.expect("it has a source");
    studio.until_idle().await;
    let made = ["poster", SMALL, LARGE, "storyboard"].map(|name| ladder.begun(name));
    assert_eq!([1, 1, 2, 2], made);
    assert_eq!(2, variants(&studio, video).await);
    let whole = studio.video(video).await;
    assert!(whole.playback.as_ref().is_some_and(|links| links.storyboard_url.is_some()));
    // Nothing is missing any more.
    studio.platform.catalog().process(&studio.actor, video, None).await.expect("it has a source");
    studio.until_idle().await;
    assert_eq!(6, ladder.order().len());
    assert_eq!(whole, studio.video(video).await);
    studio.close().await;
}

#[tokio::test]
async fn processing_again_doubles_no_job_that_is_live() {
    let ladder = Ladder::holding();
    let studio = open(&ladder).await;
    let video = uploaded(&studio).await;
    studio.eventually(async || (ladder.begun(LARGE) + ladder.begun(SMALL) == 2).then_some(())).await;
    studio.platform.catalog().process(&studio.actor, video, None).await.expect("it has a source");
    studio
        .eventually(async || {
            let settled = jobs(&studio, "settle_video").await;
            settled.iter().any(|job| job.state == JobState::Done).then_some(())
        })
        .await;
    assert_eq!(
        (VideoStatus::Processing, 2),
        (studio.status(video).await.status, jobs(&studio, "make_rendition").await.len())
    );
    assert_eq!(1, jobs(&studio, "make_poster").await.len());
    ladder.let_through(&[LARGE, SMALL]);
    studio.until_idle().await;
    assert_eq!(2, variants(&studio, video).await);
    studio.close().await;
}

#[tokio::test]
async fn a_poster_that_fails_is_made_again_once_and_keeps_no_video_from_playing() {
    let ladder = Ladder::new();
    ladder.trouble("poster", &[Trouble::Passing]);
    ladder.trouble("storyboard", &[Trouble::Passing; 10]);
    let studio = open(&ladder).await;
    let video = uploaded(&studio).await;
    studio.until(video, VideoStatus::Ready).await;
    until_idle_in_time(&studio).await;
    assert_eq!((2, 3), (ladder.begun("poster"), ladder.begun("storyboard")));
    let shown = studio.video(video).await;
    let links = shown.playback.expect("it is playable");
    assert_eq!((true, None, None), (links.poster_url.is_some(), links.storyboard_url, shown.failure));
    studio.close().await;
}
