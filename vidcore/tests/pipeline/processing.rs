//! Renditions that are made, cannot be made, or are no longer wanted.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use vidcore::catalog::{VideoStatus, Visibility};
use vidcore::jobs::{Death, JobError, JobQuery, JobState, JobView};
use vidcore::media::simulated::SimulatedTranscoder;
use vidcore::media::{EncodeRequest, Encoded, MediaError, MediaInfo, OutputFile};
use vidcore::media::{RenditionPlan, RenditionStatus, Transcoder};
use vidcore::storage::UploadStatus;

use crate::studio::{Plan, Studio, public_grant, read_fixture};

/// An encoding takes so long on the stage's clock.
const ENCODING: Duration = Duration::from_secs(10);

/// Encodings end when the stage's clock is advanced.
fn held() -> Plan {
    Plan { transcoder: |builder| builder.encode_time(ENCODING), ..Plan::default() }
}

async fn jobs(studio: &Studio) -> Vec<JobView> {
    let page = studio.platform.jobs().list(&studio.actor, JobQuery::default(), None, Default::default()).await;
    page.expect("the store answers").items.into_iter().filter(|job| job.kind == "make_rendition").collect()
}

/// Waits until an encoding has begun.
async fn until_encoding(studio: &Studio, video: vidcore::id::VideoId) {
    studio
        .eventually(async || {
            let status = studio.status(video).await;
            status.renditions.iter().any(|row| row.status == RenditionStatus::Encoding).then_some(())
        })
        .await;
}

/// Lets encodings end until the video is ready.
async fn until_ready(studio: &Studio, video: vidcore::id::VideoId) {
    studio
        .eventually(async || {
            studio.stage.advance(ENCODING);
            (studio.status(video).await.status == VideoStatus::Ready).then_some(())
        })
        .await;
    studio.until_idle().await;
}

/// Lets encodings end and heartbeats come until no job is live.
async fn until_all_have_ended(studio: &Studio) {
    studio
        .eventually(async || {
            studio.stage.advance(ENCODING);
            studio.clock.advance(Duration::from_millis(100));
            let counts = studio.platform.store().job_counts().await.expect("the store answers");
            counts.iter().all(|(_, state, _)| state.is_final()).then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_video_that_cannot_be_processed_fails_with_a_reason_and_can_be_tried_again() {
    const REASON: &str = "The picture cannot be decoded.";
    let hopeless = |builder: vidcore::media::simulated::SimulatedTranscoderBuilder| {
        builder.encode_time(Duration::ZERO).reject_with(REASON)
    };
    let mut studio = Studio::open(Plan { transcoder: hopeless, ..Plan::default() }).await;
    let draft = studio.draft(Visibility::Public).await;
    studio.upload(draft.id, "landscape.mp4").await;
    let failed = studio.until(draft.id, VideoStatus::Failed).await;
    studio.until_idle().await;
    assert_eq!((Some(REASON), false), (failed.failure.as_deref(), failed.playable));
    let [making] = &*jobs(&studio).await else { panic!("there is one rendition") };
    assert_eq!((JobState::Dead, Some(Death::Permanent), 1), (making.state, making.death, making.attempts));
    let source = studio.platform.store().current_source(draft.id).await.expect("the store answers").expect("kept");
    assert!(studio.platform.objects().size(&source.object_key).await.expect("the disk answers").is_some());
    studio.assert_sound().await;

    studio.reopen(Plan::default()).await;
    studio.platform.catalog().process(&studio.actor, draft.id, None).await.expect("it has a source");
    let ready = studio.until(draft.id, VideoStatus::Ready).await;
    studio.until_idle().await;
    assert_eq!(None, ready.failure);
    studio.close().await;
}

#[tokio::test]
async fn a_failure_that_may_pass_is_tried_again_after_a_while() {
    let flaky = |builder: vidcore::media::simulated::SimulatedTranscoderBuilder| {
        builder.encode_time(Duration::ZERO).fail_first(2)
    };
    let studio = Studio::open(Plan { transcoder: flaky, ..Plan::default() }).await;
    let draft = studio.draft(Visibility::Public).await;
    studio.upload(draft.id, "landscape.mp4").await;
    studio
        .in_time(Duration::from_millis(100), async || {
            (studio.status(draft.id).await.status == VideoStatus::Ready).then_some(())
        })
        .await;
    studio.until_idle().await;
    let [making] = &*jobs(&studio).await else { panic!("there is one rendition") };
    assert_eq!((JobState::Done, 3), (making.state, making.attempts));
    studio.close().await;
}

#[tokio::test]
async fn failures_that_do_not_pass_end_with_a_reason_that_names_no_inner_part() {
    let broken = |builder: vidcore::media::simulated::SimulatedTranscoderBuilder| {
        builder.encode_time(Duration::ZERO).fail_first(u32::MAX)
    };
    let studio = Studio::open(Plan { transcoder: broken, max_attempts: 2, ..Plan::default() }).await;
    let draft = studio.draft(Visibility::Public).await;
    studio.upload(draft.id, "landscape.mp4").await;
    let failed = studio
        .in_time(Duration::from_millis(100), async || {
            Some(studio.status(draft.id).await).filter(|status| status.status == VideoStatus::Failed)
        })
        .await;
    studio.until_idle().await;
    let reason = failed.failure.expect("a failure says why");
    assert!(reason.ends_with('.') && !reason.contains("programmed"), "{reason}");
    let [making] = &*jobs(&studio).await else { panic!("there is one rendition") };
    assert_eq!((Some(Death::Exhausted), 2, None), (making.death, making.attempts, making.last_error.as_deref()));
    studio.close().await;
}

#[tokio::test]
async fn trashing_stops_the_processing_and_restoring_begins_it_anew() {
    let studio = Studio::open(held()).await;
    let draft = studio.draft(Visibility::Public).await;
    studio.upload(draft.id, "landscape.mp4").await;
    until_encoding(&studio, draft.id).await;
    let catalog = studio.platform.catalog();
    catalog.trash(&studio.actor, draft.id, None, None).await.expect("it is the owner's");
    // The running job hears of it at its next heartbeat.
    let cancelled = studio
        .in_time(Duration::from_secs(1), async || {
            let jobs = jobs(&studio).await;
            jobs.iter().all(|job| job.state == JobState::Cancelled).then_some(jobs.len())
        })
        .await;
    assert_eq!(1, cancelled);
    let trashed = studio.video(draft.id).await;
    assert_eq!((VideoStatus::Uploaded, None), (trashed.status, trashed.playback));
    studio.assert_sound().await;

    catalog.restore(&studio.actor, draft.id, None, None).await.expect("it is in the trash");
    until_ready(&studio, draft.id).await;
    assert!(studio.play(&public_grant(&studio.video(draft.id).await)).await.is_ok());
    studio.close().await;
}

#[tokio::test]
async fn a_video_restored_at_once_is_processed_anew() {
    let studio = Studio::open(held()).await;
    let draft = studio.draft(Visibility::Public).await;
    studio.upload(draft.id, "landscape.mp4").await;
    until_encoding(&studio, draft.id).await;
    let catalog = studio.platform.catalog();
    catalog.trash(&studio.actor, draft.id, None, None).await.expect("it is the owner's");
    catalog.restore(&studio.actor, draft.id, None, None).await.expect("it is in the trash");
    until_all_have_ended(&studio).await;
    assert_eq!(VideoStatus::Ready, studio.status(draft.id).await.status);
    studio.close().await;
}

#[tokio::test]
async fn a_video_stays_playable_while_a_new_source_takes_the_place_of_the_old() {
    let mut studio = Studio::open(Plan::default()).await;
    let video = studio.ready(Visibility::Public).await;
    studio.until_idle().await;
    studio.reopen(held()).await;
    studio.upload(video.id, "no-audio.mp4").await;
    until_encoding(&studio, video.id).await;

    let between = studio.video(video.id).await;
    assert_eq!(VideoStatus::Processing, between.status);
    let (_, bytes) = studio.play(&public_grant(&between)).await.expect("the old source is played");
    assert!(read_fixture("landscape.mp4") == bytes);
    studio.assert_sound().await;

    until_ready(&studio, video.id).await;
    let (_, bytes) = studio.play(&public_grant(&studio.video(video.id).await)).await.expect("it is ready");
    assert!(read_fixture("no-audio.mp4") == bytes);
    assert_eq!(video.published_at, studio.video(video.id).await.published_at);
    studio.close().await;
}

#[tokio::test]
async fn a_new_source_stops_the_processing_of_the_one_before() {
    let studio = Studio::open(held()).await;
    let draft = studio.draft(Visibility::Public).await;
    studio.upload(draft.id, "landscape.mp4").await;
    until_encoding(&studio, draft.id).await;
    let upload = studio.upload(draft.id, "no-audio.mp4").await;
    studio.until_upload(upload.id, vidcore::storage::UploadStatus::Complete).await;
    until_all_have_ended(&studio).await;
    let (_, bytes) = studio.play(&public_grant(&studio.video(draft.id).await)).await.expect("it is ready");
    assert!(read_fixture("no-audio.mp4") == bytes);
    studio.close().await;
}

#[tokio::test]
async fn processing_a_ready_video_again_leaves_it_ready() {
    let studio = Studio::open(Plan::default()).await;
    let video = studio.ready(Visibility::Public).await;
    studio.until_idle().await;
    studio.platform.catalog().process(&studio.actor, video.id, None).await.expect("it has a source");
    studio.until_idle().await;
    assert_eq!(1, jobs(&studio).await.len());
    assert_eq!(video, studio.video(video.id).await);
    studio.close().await;
}

/// Finds nothing to be made of any file.
#[derive(Debug)]
struct Planless(SimulatedTranscoder);

#[async_trait]
impl Transcoder for Planless {
    fn name(&self) -> &'static str {
        "planless"
    }

    async fn probe(&self, input: &Path, cancel: &CancellationToken) -> Result<MediaInfo, MediaError> {
        self.0.probe(input, cancel).await
    }

    fn plan(&self, _: &MediaInfo) -> Vec<RenditionPlan> {
        Vec::new()
    }

    async fn encode(&self, request: EncodeRequest) -> Result<Encoded, MediaError> {
        self.0.encode(request).await
    }

    async fn poster(
        &self,
        input: &Path,
        info: &MediaInfo,
        output: &Path,
        cancel: &CancellationToken,
    ) -> Result<Option<OutputFile>, MediaError> {
        self.0.poster(input, info, output, cancel).await
    }

    fn makes_pictures(&self) -> bool {
        false
    }

    async fn storyboard(
        &self,
        input: &Path,
        info: &MediaInfo,
        output: &Path,
        cancel: &CancellationToken,
    ) -> Result<Vec<OutputFile>, MediaError> {
        self.0.storyboard(input, info, output, cancel).await
    }
}

#[tokio::test]
async fn a_video_of_which_nothing_can_be_made_fails_instead_of_waiting_for_ever() {
    let clock = Arc::new(vidcore::clock::ManualClock::default());
    let studio = Studio::with_transcoder(Arc::new(Planless(SimulatedTranscoder::new(clock))), Plan::default()).await;
    let draft = studio.draft(Visibility::Public).await;
    let upload = studio.upload(draft.id, "landscape.mp4").await;
    studio.until_upload(upload.id, UploadStatus::Complete).await;
    studio.until_idle().await;
    let status = studio.status(draft.id).await;
    assert_eq!((VideoStatus::Failed, true), (status.status, status.failure.is_some_and(|why| why.ends_with('.'))));
    studio.close().await;
}

#[tokio::test]
async fn what_follows_a_cancelled_job_cannot_be_cancelled_itself() {
    let mut studio = Studio::open(Plan { worker: false, ..Plan::default() }).await;
    let draft = studio.draft(Visibility::Public).await;
    let upload = studio.upload(draft.id, "landscape.mp4").await;
    let queued = async |studio: &Studio| {
        let query = JobQuery { state: Some(JobState::Queued), ..JobQuery::default() };
        let page = studio.platform.jobs().list(&studio.actor, query, None, Default::default()).await;
        let [job] = page.expect("the store answers").items.try_into().expect("one job waits");
        job
    };
    let verify = queued(&studio).await;
    studio.platform.jobs().cancel(&studio.actor, verify.id, None).await.expect("it waits");
    let follow_up = queued(&studio).await;
    assert_eq!("give_up_upload", follow_up.kind);
    let refused = studio.platform.jobs().cancel(&studio.actor, follow_up.id, None).await;
    assert!(matches!(refused, Err(JobError::WrongState { state: JobState::Queued, .. })), "{refused:?}");

    studio.reopen(Plan::default()).await;
    studio.until_upload(upload.id, UploadStatus::Rejected).await;
    studio.until_idle().await;
    studio.close().await;
}
