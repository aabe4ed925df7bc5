//! Workers that die between two steps: what they left is finished by others.
//!
//! The dead worker is played by the test: it claims the job and does some of the handler's steps.

use std::time::Duration;

use vidcore::catalog::{VideoStatus, Visibility};
use vidcore::clock::Timestamp;
use vidcore::entropy::SystemEntropy;
use vidcore::id::{RenditionId, SourceId};
use vidcore::jobs::{Claim, JobFilter, JobState, Lease, NewJob, QueueName};
use vidcore::media::{MediaInfo, NewObject, PlannedRendition, PublishRendition, RenditionKind, Source};
use vidcore::storage::{CommitSource, UploadStatus};
use vidcore::store::Causes;

use crate::studio::{LEASE, Plan, Studio, public_grant, read_fixture};

fn without_worker(max_attempts: u16) -> Plan {
    Plan { worker: false, max_attempts, ..Plan::default() }
}

async fn claim(studio: &Studio, queue: &str) -> Lease {
    let claim = Claim {
        queues: vec![QueueName::new(queue)],
        limit: 1,
        lease_for: LEASE,
        worker: "doomed".to_owned(),
        per_owner: None,
    };
    let leases = studio.platform.store().lease(claim).await;
    leases.expect("the store answers").pop().expect("a job is due")
}

/// The worker is gone; its lease runs out and living workers look after its jobs.
async fn survive(studio: &mut Studio, max_attempts: u16) {
    studio.clock.advance(LEASE + Duration::from_secs(1));
    studio.reopen(Plan { max_attempts, ..Plan::default() }).await;
    studio.until_idle().await;
}

/// What `verify_upload` writes when the bytes are good, all but the end of its job.
async fn commit(studio: &Studio, upload: vidcore::id::UploadId) -> Source {
    let store = studio.platform.store();
    let lease = claim(studio, "uploads").await;
    let upload = store.upload(upload).await.expect("the store answers").expect("it was opened");
    let video = upload.video.expect("it is no part");
    let key = format!("originals/{video}/{}", upload.id);
    studio.platform.objects().rename(upload.staged_key.as_deref().expect("received"), &key).await.expect("staged");
    let (now, sha256) = (studio.platform.now(), upload.received_sha256.expect("received"));
    let content_type = "video/mp4".to_owned();
    let source = Source {
        id: SourceId::new(now, &SystemEntropy),
        video,
        upload: upload.id,
        object_key: key.clone(),
        size_bytes: upload.size_bytes,
        sha256,
        content_type: content_type.clone(),
    };
    let object = NewObject { key, size_bytes: upload.size_bytes, sha256, content_type };
    let command = CommitSource { fence: lease.fence(), upload: upload.id, source: source.clone(), object, now };
    store.commit_source(command, Causes::none().job(process_job(&source, now))).await.expect("the lease is held");
    source
}

fn process_job(source: &Source, now: Timestamp) -> NewJob {
    NewJob {
        id: vidcore::id::JobId::new(now, &SystemEntropy),
        queue: QueueName::new("video"),
        kind: "process_video".to_owned(),
        payload: serde_json::json!({ "video": source.video, "source": source.id }),
        priority: 0,
        run_at: now,
        max_attempts: 5,
        unique_key: None,
        owner: None,
        video: Some(source.video),
        on_dead: None,
        group: None,
        now,
    }
}

/// What `process_video` writes with the simulated transcoder, all but the end of its job.
async fn publish(studio: &Studio, source: &Source) {
    let store = studio.platform.store();
    let (fence, now) = (claim(studio, "video").await.fence(), studio.platform.now());
    store.start_processing(fence, source.id, now).await.expect("the lease is held");
    let info = MediaInfo {
        container: "mp4".to_owned(),
        content_type: "video/mp4".to_owned(),
        duration_ms: None,
        width: None,
        height: None,
        video_codec: None,
        audio_codec: None,
    };
    let (id, kind) = (RenditionId::new(now, &SystemEntropy), RenditionKind::File);
    let plan = PlannedRendition { id, name: "original".to_owned(), kind, width: 0, height: 0 };
    store.plan_processing(fence, source.id, info, vec![plan], now).await.expect("the lease is held");
    store.begin_rendition(fence, id, source.object_key.clone(), now).await.expect("it is planned");
    let command = PublishRendition { fence, rendition: id, bandwidth: None, codecs: None, objects: Vec::new(), now };
    store.publish_rendition(command, Causes::none()).await.expect("the lease is held");
}

async fn states(studio: &Studio) -> Vec<(String, JobState)> {
    let jobs = studio.platform.store().jobs(&JobFilter::default(), None, 50).await.expect("the store answers");
    jobs.into_iter().map(|job| (job.kind, job.state)).collect()
}

#[tokio::test]
async fn bytes_pinned_and_not_committed_are_committed_by_the_next_attempt() {
    let mut studio = Studio::open(without_worker(5)).await;
    let draft = studio.draft(Visibility::Public).await;
    let upload = studio.upload(draft.id, "landscape.mp4").await;
    claim(&studio, "uploads").await;
    let staged = studio.platform.store().upload(upload.id).await.expect("the store answers").expect("it was opened");
    let key = format!("originals/{}/{}", draft.id, upload.id);
    let staged_key = staged.staged_key.expect("received");
    studio.platform.objects().rename(&staged_key, &key).await.expect("it is staged");
    studio.assert_sound().await;
    survive(&mut studio, 5).await;
    assert_eq!(VideoStatus::Ready, studio.video(draft.id).await.status);
    studio.close().await;
}

#[tokio::test]
async fn a_source_committed_by_the_last_attempt_of_a_job_keeps_its_bytes() {
    let mut studio = Studio::open(without_worker(1)).await;
    let draft = studio.draft(Visibility::Public).await;
    let upload = studio.upload(draft.id, "landscape.mp4").await;
    commit(&studio, upload.id).await;
    survive(&mut studio, 1).await;
    let states = states(&studio).await;
    assert!(states.contains(&("verify_upload".to_owned(), JobState::Dead)), "{states:?}");
    assert!(states.contains(&("give_up_upload".to_owned(), JobState::Done)), "{states:?}");
    assert_eq!(UploadStatus::Complete, studio.upload_status(upload.id).await.status);
    let (_, bytes) = studio.play(&public_grant(&studio.video(draft.id).await)).await.expect("it is ready");
    assert!(read_fixture("landscape.mp4") == bytes);
    studio.close().await;
}

#[tokio::test]
async fn an_upload_whose_check_keeps_dying_is_rejected_and_leaves_no_bytes() {
    let mut studio = Studio::open(without_worker(1)).await;
    let draft = studio.draft(Visibility::Public).await;
    let upload = studio.upload(draft.id, "landscape.mp4").await;
    claim(&studio, "uploads").await;
    survive(&mut studio, 1).await;
    let rejected = studio.upload_status(upload.id).await;
    assert_eq!(UploadStatus::Rejected, rejected.status);
    assert!(rejected.reason.is_some_and(|reason| reason.ends_with('.')));
    assert_eq!(VideoStatus::Draft, studio.video(draft.id).await.status);
    assert!(studio.platform.objects().keys_under("").await.expect("the disk answers").is_empty());
    studio.close().await;
}

#[tokio::test]
async fn a_rejection_that_died_before_it_tidied_up_is_tidied_by_the_next_attempt() {
    let mut studio = Studio::open(without_worker(5)).await;
    let draft = studio.draft(Visibility::Public).await;
    let upload = studio.upload(draft.id, "text.mp4").await;
    let lease = claim(&studio, "uploads").await;
    let store = studio.platform.store();
    let staged = store.upload(upload.id).await.expect("the store answers").expect("it was opened").staged_key;
    let key = format!("originals/{}/{}", draft.id, upload.id);
    studio.platform.objects().rename(&staged.expect("received"), &key).await.expect("it is staged");
    let reason = "This is a text file.".to_owned();
    store.reject_upload(lease.fence(), upload.id, reason, studio.platform.now()).await.expect("the lease is held");
    survive(&mut studio, 5).await;
    assert!(studio.platform.objects().keys_under("").await.expect("the disk answers").is_empty());
    studio.close().await;
}

#[tokio::test]
async fn a_video_published_by_an_attempt_that_died_stays_ready() {
    let mut studio = Studio::open(without_worker(5)).await;
    let draft = studio.draft(Visibility::Public).await;
    let upload = studio.upload(draft.id, "landscape.mp4").await;
    let source = commit(&studio, upload.id).await;
    publish(&studio, &source).await;
    assert_eq!(VideoStatus::Ready, studio.video(draft.id).await.status);
    survive(&mut studio, 5).await;
    assert_eq!(VideoStatus::Ready, studio.video(draft.id).await.status);
    assert!(states(&studio).await.iter().all(|(_, state)| *state == JobState::Done));
    studio.close().await;
}

#[tokio::test]
async fn a_scratch_folder_of_a_job_that_ended_is_removed() {
    let studio = Studio::open(Plan::default()).await;
    let video = studio.ready(Visibility::Public).await;
    studio.until_idle().await;
    let jobs = studio.platform.store().jobs(&JobFilter::default(), None, 1).await.expect("the store answers");
    let left = studio.folder().join("scratch").join(jobs[0].id.to_string()).join("1");
    std::fs::create_dir_all(&left).expect("the folder is writable");
    std::fs::write(left.join("source"), b"left by a killed process").expect("the folder is writable");
    studio.in_time(Duration::from_secs(30), async || (!left.exists()).then_some(())).await;
    assert_eq!(VideoStatus::Ready, studio.video(video.id).await.status);
    studio.close().await;
}
