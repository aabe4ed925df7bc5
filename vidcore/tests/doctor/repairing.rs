//! Each kind of damage is repaired, or it is said why not.

use std::sync::Arc;

use vidcore::Platform;
use vidcore::catalog::VideoStatus;
use vidcore::clock::{Clock as _, ManualClock};
use vidcore::doctor::{Check, Remedy, RepairReport};
use vidcore::id::{JobId, VideoId};
use vidcore::idempotency::{IdempotencyKey, IdempotencyRecord};
use vidcore::jobs::{Job, JobFilter, JobState, QueueName, VIDEO_QUEUE};
use vidcore::media::RenditionStatus;
use vidcore::media::simulated::SimulatedTranscoder;
use vidcore::platform::Settings;
use vidcore::store::Causes;
use vidcore::testkit::store::temporary_folder;

use crate::patient::Patient;

impl Patient {
    /// Repairs through a platform of its own that runs no job.
    async fn repair(&self, deep: bool) -> RepairReport {
        let folder = temporary_folder().expect("there is a temporary folder");
        let mut settings = Settings { data_dir: folder.path().to_owned(), ..Settings::default() };
        settings.worker.enabled = false;
        let clock: ManualClock = self.h.clock.clone();
        let transcoder = SimulatedTranscoder::builder(Arc::new(clock.clone())).build();
        let builder = Platform::builder(settings).store(Arc::new(self.h.base().store.clone()));
        let builder = builder.objects(self.objects.clone()).clock(Arc::new(clock)).transcoder(Arc::new(transcoder));
        let platform = builder.open().await.expect("the store is open");
        let report = platform.repair(deep).await.expect("everything answers");
        platform.shutdown().await;
        assert!(report.treated.iter().all(|it| it.note.ends_with('.')), "{report:#?}");
        report
    }

    /// All that is found is repaired, in one go, and nothing is found afterwards.
    async fn assert_repaired(&self, checks: &[Check]) -> RepairReport {
        let report = self.repair(true).await;
        let found: Vec<_> = report.treated.iter().map(|it| it.finding.check).collect();
        assert_eq!(checks, found, "{report:#?}");
        assert!(report.treated.iter().all(|it| it.remedy == Remedy::Repaired), "{report:#?}");
        assert!(report.after.is_sound(), "{report:#?}");
        assert_eq!(RepairReport::default().treated, self.repair(true).await.treated, "a second repair does nothing");
        report
    }

    async fn job(&self, id: JobId) -> Job {
        self.h.store.job(id).await.expect("the store answers").expect("it is there")
    }

    /// Jobs of a queue that are live.
    async fn live(&self, queue: &str, video: Option<VideoId>) -> Vec<Job> {
        let filter = JobFilter { queue: Some(QueueName::new(queue)), video, ..JobFilter::default() };
        let jobs = self.h.store.jobs(&filter, None, 100).await.expect("the store answers");
        jobs.into_iter().filter(|job| !job.state.is_final()).collect()
    }

    async fn queued(&self, queue: &str) -> JobId {
        let job = self.h.store.enqueue(self.h.new_job(queue, "other", None), Causes::none()).await;
        job.expect("the job is new").into_inner().id
    }
}

#[tokio::test]
async fn of_a_sound_store_nothing_is_repaired() {
    let patient = Patient::sound().await;
    patient.assert_repaired(&[]).await;
}

#[tokio::test]
async fn a_job_whose_attempt_is_not_on_record_is_queued_again() {
    let patient = Patient::sound().await;
    let lease = patient.h.lease("other", None).await;
    patient.damage(&format!("UPDATE job_attempts SET ended_at_ms = 1, outcome = 'lost' WHERE token = {}", lease.token));
    patient.assert_repaired(&[Check::Lease]).await;
    assert_eq!(JobState::Queued, patient.job(lease.job.id).await.state);
    assert!(patient.h.store.complete(lease.fence(), Causes::none()).await.is_err(), "the lease is lost");
    assert_eq!(lease.job.id, patient.h.claim(lease.job.queue.as_str()).await.job.id);
}

#[tokio::test]
async fn an_attempt_that_holds_nothing_is_ended() {
    let patient = Patient::sound().await;
    let id = patient.queued("other").await;
    let lease = patient.h.claim("other").await;
    patient.damage(
        "INSERT INTO job_attempts (token, job_pk, worker, started_at_ms)
         SELECT 0, pk, 'ghost', 1 FROM jobs WHERE queue = 'other'",
    );
    patient.assert_repaired(&[Check::Lease]).await;
    // The one that holds the job goes on.
    patient.h.store.complete(lease.fence(), Causes::none()).await.expect("the lease is held");
    assert_eq!(JobState::Done, patient.job(id).await.state);
}

#[tokio::test]
async fn a_token_that_went_back_is_fenced() {
    let patient = Patient::sound().await;
    let lease = patient.h.lease("other", None).await;
    patient.damage(&format!(
        "INSERT INTO job_attempts (token, job_pk, worker, started_at_ms, ended_at_ms, outcome)
         SELECT {0} + 1000, job_pk, 'ghost', 1, 2, 'lost' FROM job_attempts WHERE token = {0}",
        lease.token
    ));
    patient.assert_repaired(&[Check::Token]).await;
    let next = patient.h.claim(lease.job.queue.as_str()).await;
    assert!(next.token > lease.token + 1000);
}

#[tokio::test]
async fn counts_of_attempts_are_set_right() {
    let patient = Patient::sound().await;
    let lease = patient.h.lease("other", None).await;
    patient.damage("UPDATE jobs SET attempts = 4 WHERE kind = 'other'");
    patient.assert_repaired(&[Check::Attempts]).await;
    assert_eq!(1, patient.job(lease.job.id).await.attempts);
    patient.damage("UPDATE jobs SET max_attempts = 0 WHERE kind = 'other'");
    let report = patient.repair(false).await;
    assert!(report.after.is_sound(), "{report:#?}");
    assert_eq!(1, patient.job(lease.job.id).await.max_attempts);
}

#[tokio::test]
async fn an_ended_job_has_its_end_again() {
    let patient = Patient::sound().await;
    let lease = patient.h.lease("other", None).await;
    patient.h.store.complete(lease.fence(), Causes::none()).await.expect("the lease is held");
    patient.damage("UPDATE jobs SET finished_at_ms = NULL WHERE kind = 'other'");
    let report = patient.repair(false).await;
    assert!(report.after.is_sound(), "{report:#?}");
    assert_eq!(Some(patient.h.now()), patient.job(lease.job.id).await.finished_at);
}

#[tokio::test]
async fn of_two_jobs_of_one_key_the_older_goes_on() {
    let patient = Patient::sound().await;
    let mut jobs = Vec::new();
    for key in ["one", "two"] {
        let mut job = patient.h.new_job("other", "other", None);
        job.unique_key = Some(key.to_owned());
        jobs.push(patient.h.store.enqueue(job, Causes::none()).await.expect("the job is new").into_inner().id);
    }
    patient.damage("DROP INDEX jobs_unique_live; UPDATE jobs SET unique_key = 'one' WHERE unique_key = 'two'");
    patient.assert_repaired(&[Check::UniqueKey]).await;
    let states = [patient.job(jobs[0]).await.state, patient.job(jobs[1]).await.state];
    assert_eq!([JobState::Queued, JobState::Cancelled], states);
}

#[tokio::test]
async fn places_and_counts_are_set_right() {
    let patient = Patient::sound().await;
    let id = patient.queued("other").await;
    patient.damage("UPDATE jobs SET rank_ms = rank_ms + 1000000 WHERE queue = 'other'");
    patient.assert_repaired(&[Check::Order]).await;
    // No claim sees an owner who is not counted.
    patient.damage("DELETE FROM job_owners WHERE queue = 'other'");
    patient.damage("INSERT INTO job_owners (queue, owner_id, ready, running, turn) VALUES ('ghost', x'', 1, 1, 0)");
    let report = patient.repair(false).await;
    assert!(report.after.is_sound(), "{report:#?}");
    assert_eq!(id, patient.h.claim("other").await.job.id);
}

#[tokio::test]
async fn a_group_that_would_wait_for_ever_is_followed() {
    let patient = Patient::sound().await;
    patient.group().await;
    patient.damage("UPDATE job_groups SET remaining = 3");
    patient.assert_repaired(&[Check::Group]).await;
    assert!(patient.live("next", None).await.is_empty(), "its two jobs are live");
    patient.damage("UPDATE jobs SET group_id = NULL");
    patient.assert_repaired(&[Check::Group]).await;
    assert_eq!(1, patient.live("next", None).await.len());
}

#[tokio::test]
async fn a_video_that_nobody_processes_gets_its_job() {
    let patient = Patient::sound().await;
    let lease = &patient.processing.lease;
    patient.h.store.complete(lease.fence(), Causes::none()).await.expect("the lease is held");
    let next = patient.h.claim(VIDEO_QUEUE).await;
    patient.h.store.complete(next.fence(), Causes::none()).await.expect("the lease is held");
    patient.assert_repaired(&[Check::Processing, Check::Uploaded]).await;
    for video in [patient.processing.video.id, patient.uploaded.id] {
        let [job] = &*patient.live(VIDEO_QUEUE, Some(video)).await else { panic!("there is one job") };
        assert_eq!("process_video", job.kind);
    }
}

#[tokio::test]
async fn a_trashed_video_that_nobody_processes_waits_for_its_restoring() {
    let patient = Patient::sound().await;
    let lease = &patient.processing.lease;
    patient.h.store.complete(lease.fence(), Causes::none()).await.expect("the lease is held");
    patient.damage("UPDATE videos SET deleted_at_ms = 1, purge_at_ms = 9000000000000 WHERE status = 'processing'");
    patient.assert_repaired(&[Check::Processing]).await;
    let id = patient.processing.video.id;
    assert_eq!(VideoStatus::Uploaded, patient.h.video(id).await.status);
    assert!(patient.live(VIDEO_QUEUE, Some(id)).await.is_empty());
}

#[tokio::test]
async fn a_rendition_that_nobody_makes_gets_its_job() {
    let patient = Patient::sound().await;
    patient.damage(
        "INSERT INTO renditions (id, source_pk, name, kind, status, width, height, created_at_ms)
         SELECT x'00000000000000000000000000000001', pk, '720p', 'hls', 'planned', 1, 1, 1 FROM sources
         WHERE video_pk = (SELECT pk FROM videos WHERE status = 'ready')",
    );
    patient.assert_repaired(&[Check::Rendition]).await;
    assert_eq!(1, patient.live(VIDEO_QUEUE, Some(patient.listed.id)).await.len());
    assert_eq!(VideoStatus::Ready, patient.h.video(patient.listed.id).await.status);
}

#[tokio::test]
async fn an_upload_that_nobody_verifies_gets_its_job() {
    let patient = Patient::sound().await;
    let (upload, lease) = patient.h.verifying(&patient.uploaded, 5).await;
    patient.h.store.complete(lease.fence(), Causes::none()).await.expect("the lease is held");
    patient.assert_repaired(&[Check::Verifying]).await;
    let [job] = &*patient.live("uploads", None).await else { panic!("there is one job") };
    assert_eq!(("verify_upload", Some(upload.user)), (&*job.kind, job.owner));
}

#[tokio::test]
async fn a_ready_video_without_a_ready_rendition_is_made_anew() {
    let patient = Patient::sound().await;
    patient.damage("UPDATE renditions SET status = 'failed', ready_at_ms = NULL WHERE status = 'ready'");
    patient.assert_repaired(&[Check::Ready]).await;
    let video = patient.h.video(patient.listed.id).await;
    assert_eq!((VideoStatus::Uploaded, None), (video.status, video.published_at));
    assert_eq!(1, patient.live(VIDEO_QUEUE, Some(video.id)).await.len());
}

#[tokio::test]
async fn the_newest_source_is_current_again() {
    let patient = Patient::sound().await;
    patient.damage("UPDATE sources SET current = 0 WHERE video_pk = (SELECT pk FROM videos WHERE status = 'ready')");
    patient.assert_repaired(&[Check::CurrentSource]).await;
    assert!(patient.h.store.current_source(patient.listed.id).await.expect("the store answers").is_some());
}

#[tokio::test]
async fn an_original_that_is_what_was_uploaded_is_recorded_again() {
    let patient = Patient::sound().await;
    let key = &patient.processing.source.object_key;
    patient.damage(&format!("DELETE FROM objects WHERE key = '{key}'"));
    patient.assert_repaired(&[Check::ObjectRow]).await;
    let object = patient.h.store.object(key).await.expect("the store answers").expect("it is recorded");
    assert_eq!((1000, patient.processing.source.sha256), (object.size_bytes, object.sha256));
}

#[tokio::test]
async fn an_original_that_is_lost_or_changed_is_left() {
    let patient = Patient::sound().await;
    let (lost, changed) = (&patient.processing.source.object_key, current_key(&patient).await);
    patient.objects.delete(lost).await.expect("memory forgets it");
    patient.put(&changed, &[0; 1000]).await;
    let before = patient.examine(true).await;
    let report = patient.repair(true).await;
    assert_eq!(before.findings, report.after.findings);
    assert!(report.treated.iter().all(|it| it.remedy == Remedy::Left), "{report:#?}");
    assert_eq!(2, report.treated.len());
    // What was made of it plays on.
    assert_eq!(VideoStatus::Ready, patient.h.video(patient.listed.id).await.status);
}

async fn current_key(patient: &Patient) -> String {
    let source = patient.h.store.current_source(patient.listed.id).await.expect("the store answers");
    source.expect("it has one").object_key
}

#[tokio::test]
async fn a_rendition_whose_object_is_lost_or_changed_is_made_again() {
    for lost in [true, false] {
        let patient = Patient::sound().await;
        let id = patient.listed.id;
        let row = patient.h.store.renditions(id).await.expect("the store answers").remove(0);
        let key = format!("{}/index.m3u8", row.prefix.expect("it is ready"));
        match lost {
            true => patient.objects.delete(&key).await.expect("memory forgets it"),
            false => patient.put(&key, &[0; 10]).await,
        }
        let report = patient.repair(true).await;
        assert!(report.after.is_sound(), "{report:#?}");
        assert!(report.treated.iter().all(|it| it.remedy == Remedy::Repaired), "{report:#?}");
        assert_eq!(None, patient.objects.size(&key).await.expect("memory answers"), "the damaged one was collected");
        let video = patient.h.video(id).await;
        assert_eq!((VideoStatus::Uploaded, None), (video.status, video.published_at));
        let row = patient.h.store.renditions(id).await.expect("the store answers").remove(0);
        assert_eq!(RenditionStatus::Failed, row.status);
        assert_eq!(1, patient.live(VIDEO_QUEUE, Some(id)).await.len());
    }
}

#[tokio::test]
async fn a_ready_rendition_without_its_rows_is_made_again() {
    let patient = Patient::sound().await;
    patient.damage("DELETE FROM objects WHERE key LIKE 'renditions/%'");
    let report = patient.repair(true).await;
    assert!(report.after.is_sound(), "{report:#?}");
    assert_eq!(Check::ObjectRow, report.treated[0].finding.check);
    assert_eq!(1, patient.live(VIDEO_QUEUE, Some(patient.listed.id)).await.len());
}

#[tokio::test]
async fn pictures_that_are_lost_are_shown_no_more() {
    let patient = Patient::sound().await;
    patient.damage(
        "UPDATE videos SET poster_key = 'renditions/gone/poster.jpg', storyboard_key = 'renditions/gone/storyboard.vtt'
            WHERE status = 'ready'",
    );
    let report = patient.repair(true).await;
    assert!(report.after.is_sound(), "{report:#?}");
    let video = patient.h.video(patient.listed.id).await;
    assert_eq!((None, None, VideoStatus::Ready), (video.poster_key, video.storyboard_key, video.status));
    assert_eq!(1, patient.live(VIDEO_QUEUE, Some(video.id)).await.len(), "it makes them again");
}

#[tokio::test]
async fn orphans_are_collected_and_what_is_not_ours_is_left() {
    let patient = Patient::sound().await;
    let stray = format!("originals/{}/none", patient.listed.id);
    patient.put(&stray, b"?").await;
    patient.put("elsewhere", b"theirs").await;
    let report = patient.repair(false).await;
    assert_eq!(None, patient.objects.size(&stray).await.expect("memory answers"));
    let [left] = &*report.after.findings else { panic!("one is left: {report:#?}") };
    assert_eq!((Check::Orphan, "elsewhere"), (left.check, &*left.subject));
    let treated = report.treated.iter().find(|it| it.finding.subject == "elsewhere").expect("it was found");
    assert_eq!(Remedy::Left, treated.remedy);
}

#[tokio::test]
async fn one_collection_takes_every_orphan_that_was_found() {
    let patient = Patient::sound().await;
    for name in ["one", "three", "two"] {
        patient.put(&format!("originals/{}/{name}", patient.listed.id), b"?").await;
    }
    let report = patient.repair(false).await;
    assert!(report.after.is_sound(), "{report:#?}");
    let remedies: Vec<_> = report.treated.iter().map(|it| it.remedy).collect();
    assert_eq!(vec![Remedy::Repaired, Remedy::Gone, Remedy::Gone], remedies);
}

#[tokio::test]
async fn bytes_that_count_wrongly_count_rightly_again() {
    let patient = Patient::sound().await;
    let owner = patient.listed.owner;
    let stored = async || patient.h.store.storage_usage(owner).await.expect("the store answers").stored_bytes;
    let sound = stored().await;
    let id = patient.processing.source.upload.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    patient.damage(&format!("UPDATE uploads SET size_bytes = 1 WHERE id = x'{id}'"));
    patient.assert_repaired(&[Check::Quota]).await;
    assert_eq!(sound, stored().await);
    patient.damage(&format!("DELETE FROM uploads WHERE id = x'{id}'"));
    patient.assert_repaired(&[Check::Quota]).await;
    assert_eq!(sound, stored().await);
    patient.damage("UPDATE uploads SET status = 'complete' WHERE status = 'open'");
    patient.assert_repaired(&[Check::Quota]).await;
    assert_eq!(sound, stored().await);
}

#[tokio::test]
async fn the_search_index_is_built_anew() {
    let patient = Patient::sound().await;
    patient.damage("DROP TRIGGER videos_fts_update; UPDATE videos SET title = 'Changed' WHERE status = 'ready'");
    patient.damage("INSERT INTO videos_fts (rowid, title, description, tags) VALUES (999, 'ghost', '', '')");
    let report = patient.repair(true).await;
    assert!(report.after.is_sound(), "{report:#?}");
    let terms = vidcore::catalog::SearchTerms::parse("changed").expect("a word");
    assert_eq!(1, patient.h.store.search_videos(&terms, 0, 10).await.expect("the store answers").len());
}

#[tokio::test]
async fn a_remembered_request_without_its_effect_is_forgotten() {
    let patient = Patient::sound().await;
    let owner = patient.listed.owner;
    let key = IdempotencyKey { scope: format!("{owner} POST /videos"), key: "k".to_owned(), fingerprint: [1; 32] };
    let expires_at = patient.h.clock.now().plus(std::time::Duration::from_secs(60));
    let remember = || Causes::none().idempotent(Some(IdempotencyRecord { key: key.clone(), expires_at, sealed: None }));
    let new = patient.h.new_video(owner, "Remembered");
    patient.h.store.create_video(new.clone(), remember()).await.expect("the owner exists");
    patient.damage("DELETE FROM videos WHERE title = 'Remembered'");
    patient.assert_repaired(&[Check::Idempotency]).await;
    // The same request makes the video now.
    patient.h.store.create_video(new.clone(), remember()).await.expect("the owner exists");
    assert_eq!(new.id, patient.h.video(new.id).await.id);
}

#[tokio::test]
async fn damage_of_the_file_itself_is_left_with_a_word() {
    let patient = Patient::sound().await;
    patient.damage("INSERT INTO prefixes VALUES ('renditions/ghost', 999, x'00000000000000000000000000000000', 1, 1)");
    let report = patient.repair(false).await;
    let [treated] = &*report.treated else { panic!("one thing was found: {report:#?}") };
    assert_eq!((Check::Database, Remedy::Left), (treated.finding.check, treated.remedy));
    assert_eq!(vec![treated.finding.clone()], report.after.findings);
}

#[tokio::test]
async fn damage_of_many_kinds_at_once_is_repaired_at_once() {
    let patient = Patient::sound().await;
    patient.group().await;
    patient.h.store.complete(patient.processing.lease.fence(), Causes::none()).await.expect("the lease is held");
    patient.damage(
        "DELETE FROM job_owners;
         UPDATE job_groups SET remaining = 9;
         UPDATE jobs SET rank_ms = 0 WHERE state = 'queued';
         UPDATE renditions SET status = 'failed', ready_at_ms = NULL WHERE status = 'ready';
         DELETE FROM objects WHERE key LIKE 'originals/%';
         UPDATE sources SET current = 0",
    );
    patient.put(&format!("renditions/{}/99/x", patient.listed.id), b"?").await;
    let report = patient.repair(true).await;
    assert!(report.after.is_sound(), "{report:#?}");
}
