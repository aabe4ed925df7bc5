//! Each kind of damage is seen, and nothing where there is none.

use vidcore::doctor::{self, Check};
use vidcore::id::JobGroupId;
use vidcore::idempotency::{IdempotencyKey, IdempotencyRecord};
use vidcore::jobs::VIDEO_QUEUE;
use vidcore::storage::{NewUpload, UploadKind};
use vidcore::store::{Causes, Outcome};

use crate::patient::Patient;

#[tokio::test]
async fn a_sound_store_has_no_finding_and_says_what_was_looked_at() {
    let patient = Patient::sound().await;
    let report = patient.examine(true).await;
    assert!(report.is_sound(), "{report:#?}");
    let checked = report.checked;
    assert_eq!((4, 4, 4, 4), (checked.videos, checked.uploads, checked.objects, checked.keys));
    assert_eq!((6, 3010), (checked.jobs, checked.hashed_bytes));
    assert_eq!(0, patient.examine(false).await.checked.hashed_bytes);
}

#[tokio::test]
async fn bytes_under_way_belong_to_their_upload_and_no_longer() {
    let patient = Patient::sound().await;
    let open = patient.h.open(&patient.uploaded, 5).await;
    let (verifying, _) = patient.h.verifying(&patient.uploaded, 5).await;
    let staged = format!("staging/{}/1", open.id);
    let pinned = format!("originals/{}/{}", patient.uploaded.id, verifying.id);
    patient.put(&staged, b"staged").await;
    patient.put(&pinned, b"pinned").await;
    patient.assert_found(&[]).await;
    patient.h.store.abort_upload(open.id, open.user, patient.h.now(), Causes::none()).await.expect("it is open");
    patient.assert_found(&[(Check::Orphan, staged)]).await;
}

#[tokio::test]
async fn outputs_of_an_attempt_belong_to_its_prefix() {
    let patient = Patient::sound().await;
    let row = patient.h.store.renditions(patient.processing.video.id).await.expect("the store answers").remove(0);
    let command = patient.h.begun(&row, patient.processing.lease.fence()).await;
    patient.put(&command.objects[0].key, b"half").await;
    patient.assert_found(&[]).await;
}

#[tokio::test]
async fn outputs_of_an_attempt_that_ended_belong_to_nobody() {
    let patient = Patient::sound().await;
    let row = patient.h.store.renditions(patient.processing.video.id).await.expect("the store answers").remove(0);
    let command = patient.h.begun(&row, patient.processing.lease.fence()).await;
    patient.put(&command.objects[0].key, b"half").await;
    patient.h.store.release(command.fence).await.expect("the lease is held");
    patient.assert_found(&[(Check::Orphan, command.objects[0].key.clone())]).await;
}

#[tokio::test]
async fn an_object_of_nobodys_is_an_orphan() {
    let patient = Patient::sound().await;
    let keys = ["elsewhere", "originals/video_x/upload_x", "renditions/video_x/1/init.mp4"].map(str::to_owned);
    for key in &keys {
        patient.put(key, b"?").await;
    }
    patient.assert_found(&keys.map(|key| (Check::Orphan, key))).await;
}

#[tokio::test]
async fn a_recorded_object_that_is_gone_is_missing() {
    let patient = Patient::sound().await;
    let key = patient.processing.source.object_key.clone();
    patient.objects.delete(&key).await.expect("memory forgets it");
    patient.assert_found(&[(Check::ObjectMissing, key)]).await;
}

#[tokio::test]
async fn a_recorded_object_of_another_size_differs() {
    let patient = Patient::sound().await;
    let key = patient.processing.source.object_key.clone();
    patient.put(&key, b"short").await;
    patient.assert_found(&[(Check::ObjectDiffers, key)]).await;
}

#[tokio::test]
async fn other_bytes_of_the_same_size_differ_in_a_deep_examination() {
    let patient = Patient::sound().await;
    let key = &patient.processing.source.object_key;
    patient.put(key, &[0; 1000]).await;
    assert!(patient.examine(false).await.is_sound());
    let [finding] = &*patient.examine(true).await.findings else { panic!("one object differs") };
    assert_eq!((Check::ObjectDiffers, key), (finding.check, &finding.subject));
}

#[tokio::test]
async fn a_leased_job_without_its_attempt_is_found() {
    let patient = Patient::sound().await;
    let job = &patient.processing.lease.job;
    patient.damage(&format!(
        "UPDATE job_attempts SET ended_at_ms = 1, outcome = 'lost' WHERE token = {}",
        patient.processing.lease.token
    ));
    patient.assert_found(&[(Check::Lease, job.id.to_string())]).await;
}

#[tokio::test]
async fn a_second_running_attempt_is_found() {
    let patient = Patient::sound().await;
    let job = patient.h.store.enqueue(patient.h.new_job("other", "other", None), Causes::none()).await;
    let job = job.expect("the job is new").into_inner();
    patient.h.claim("other").await;
    patient.damage(
        "INSERT INTO job_attempts (token, job_pk, worker, started_at_ms)
         SELECT 0, pk, 'ghost', 1 FROM jobs WHERE queue = 'other'",
    );
    patient.assert_found(&[(Check::Lease, job.id.to_string())]).await;
}

#[tokio::test]
async fn a_token_that_went_back_is_found() {
    let patient = Patient::sound().await;
    let lease = patient.h.lease("other", None).await;
    patient.damage(&format!(
        "INSERT INTO job_attempts (token, job_pk, worker, started_at_ms, ended_at_ms, outcome)
         SELECT {} + 1000, job_pk, 'ghost', 1, 2, 'lost' FROM job_attempts WHERE token = {}",
        lease.token, lease.token
    ));
    patient.assert_found(&[(Check::Token, lease.job.id.to_string())]).await;
}

#[tokio::test]
async fn too_many_attempts_are_found() {
    let patient = Patient::sound().await;
    let lease = patient.h.lease("other", None).await;
    let job = lease.job.id.to_string();
    patient.damage("UPDATE jobs SET max_attempts = 0 WHERE kind = 'other'");
    let found = patient.examine(false).await.findings;
    // SQLite's own check names the broken rule of the table as well.
    let broken_rules: Vec<_> = found.iter().filter(|f| f.check == Check::Database).collect();
    assert!(broken_rules.iter().all(|f| f.explanation.contains("CHECK constraint failed in jobs")), "{found:#?}");
    assert!(found.iter().any(|f| (f.check, &f.subject) == (Check::Attempts, &job)), "{found:#?}");
}

#[tokio::test]
async fn an_attempt_that_is_not_on_record_is_found() {
    let patient = Patient::sound().await;
    let lease = patient.h.lease("other", None).await;
    patient.damage("UPDATE jobs SET attempts = 2 WHERE kind = 'other'");
    patient.assert_found(&[(Check::Attempts, lease.job.id.to_string())]).await;
}

#[tokio::test]
async fn an_ended_job_without_an_end_is_found() {
    let patient = Patient::sound().await;
    let lease = patient.h.lease("other", None).await;
    patient.h.store.complete(lease.fence(), Causes::none()).await.expect("the lease is held");
    patient.damage("UPDATE jobs SET finished_at_ms = NULL WHERE kind = 'other'");
    let found = patient.examine(false).await.findings;
    assert!(found.iter().any(|f| (f.check, &*f.subject) == (Check::Final, &lease.job.id.to_string())), "{found:#?}");
    assert!(found.iter().all(|f| matches!(f.check, Check::Final | Check::Database)), "{found:#?}");
}

#[tokio::test]
async fn two_live_jobs_of_one_key_are_found() {
    let patient = Patient::sound().await;
    let mut jobs = Vec::new();
    for key in ["one", "two"] {
        let mut job = patient.h.new_job("other", "other", None);
        job.unique_key = Some(key.to_owned());
        jobs.push(patient.h.store.enqueue(job, Causes::none()).await.expect("the job is new").into_inner().id);
    }
    patient.damage("DROP INDEX jobs_unique_live; UPDATE jobs SET unique_key = 'one' WHERE unique_key = 'two'");
    patient.assert_found(&[(Check::UniqueKey, jobs[1].to_string())]).await;
}

#[tokio::test]
async fn a_video_that_nobody_processes_is_found() {
    let patient = Patient::sound().await;
    let lease = &patient.processing.lease;
    patient.h.store.complete(lease.fence(), Causes::none()).await.expect("the lease is held");
    patient.assert_found(&[(Check::Processing, patient.processing.video.id.to_string())]).await;
}

#[tokio::test]
async fn an_uploaded_video_that_nobody_will_process_is_found() {
    let patient = Patient::sound().await;
    let lease = patient.h.claim(VIDEO_QUEUE).await;
    patient.h.store.complete(lease.fence(), Causes::none()).await.expect("the lease is held");
    patient.assert_found(&[(Check::Uploaded, patient.uploaded.id.to_string())]).await;
    patient.damage("UPDATE videos SET deleted_at_ms = 1, purge_at_ms = 2 WHERE status = 'uploaded'");
    patient.assert_found(&[]).await;
}

#[tokio::test]
async fn an_upload_that_nobody_verifies_is_found() {
    let patient = Patient::sound().await;
    let (upload, lease) = patient.h.verifying(&patient.uploaded, 5).await;
    patient.h.verifying(&patient.uploaded, 6).await;
    patient.assert_found(&[]).await;
    patient.h.store.complete(lease.fence(), Causes::none()).await.expect("the lease is held");
    patient.assert_found(&[(Check::Verifying, upload.id.to_string())]).await;
}

#[tokio::test]
async fn a_ready_video_without_a_ready_rendition_is_found() {
    let patient = Patient::sound().await;
    patient.damage("UPDATE renditions SET status = 'failed', ready_at_ms = NULL WHERE status = 'ready'");
    patient.assert_found(&[(Check::Ready, patient.listed.id.to_string())]).await;
}

#[tokio::test]
async fn a_video_without_a_current_source_is_found() {
    let patient = Patient::sound().await;
    patient.damage("UPDATE sources SET current = 0 WHERE video_pk = (SELECT pk FROM videos WHERE status = 'ready')");
    patient.assert_found(&[(Check::CurrentSource, patient.listed.id.to_string())]).await;
}

#[tokio::test]
async fn a_ready_rendition_without_its_rows_is_found() {
    let patient = Patient::sound().await;
    let rendition = patient.h.store.renditions(patient.listed.id).await.expect("the store answers").remove(0);
    patient.damage("DELETE FROM objects WHERE key LIKE 'renditions/%'");
    let playlist = format!("{}/index.m3u8", rendition.prefix.expect("it is ready"));
    patient.assert_found(&[(Check::ObjectRow, playlist)]).await;
}

#[tokio::test]
async fn a_source_without_its_row_is_found() {
    let patient = Patient::sound().await;
    let source = &patient.processing.source;
    patient.damage(&format!("DELETE FROM objects WHERE key = '{}'", source.object_key));
    patient.assert_found(&[(Check::ObjectRow, source.object_key.clone())]).await;
}

#[tokio::test]
async fn a_poster_without_its_row_is_found() {
    let patient = Patient::sound().await;
    patient.damage("UPDATE videos SET poster_key = 'renditions/gone/poster.jpg' WHERE status = 'ready'");
    patient.assert_found(&[(Check::ObjectRow, "renditions/gone/poster.jpg".to_owned())]).await;
}

#[tokio::test]
async fn bytes_that_count_wrongly_are_found() {
    let patient = Patient::sound().await;
    let upload = patient.processing.source.upload;
    patient.damage(&format!(
        "UPDATE uploads SET size_bytes = 1 WHERE id = x'{}'",
        upload.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    ));
    patient.assert_found(&[(Check::Quota, upload.to_string())]).await;
    patient.damage("UPDATE uploads SET status = 'aborted' WHERE size_bytes = 1");
    patient.assert_found(&[(Check::Quota, patient.processing.source.id.to_string())]).await;
}

#[tokio::test]
async fn a_title_the_index_does_not_know_is_found() {
    let patient = Patient::sound().await;
    patient.damage("DROP TRIGGER videos_fts_update; UPDATE videos SET title = 'Changed' WHERE title = 'Uploaded'");
    patient.assert_found(&[(Check::SearchIndex, patient.uploaded.id.to_string())]).await;
}

#[tokio::test]
async fn a_tag_the_index_does_not_know_is_found_in_a_deep_examination() {
    let patient = Patient::sound().await;
    patient.damage("DROP TRIGGER videos_fts_update; UPDATE videos SET tags = '[\"new\"]' WHERE status = 'ready'");
    assert!(patient.examine(false).await.is_sound());
    let [finding] = &*patient.examine(true).await.findings else { panic!("one video differs") };
    assert_eq!((Check::SearchIndex, patient.listed.id.to_string()), (finding.check, finding.subject.clone()));
}

#[tokio::test]
async fn a_video_that_is_not_in_the_index_is_found() {
    let patient = Patient::sound().await;
    patient.damage(
        "INSERT INTO videos_fts (videos_fts, rowid, title, description, tags)
         SELECT 'delete', pk, title, description, tags FROM videos WHERE title = 'Uploaded'",
    );
    patient.assert_found(&[(Check::SearchIndex, patient.uploaded.id.to_string())]).await;
}

#[tokio::test]
async fn a_row_that_is_only_in_the_index_is_found() {
    let patient = Patient::sound().await;
    patient.damage("INSERT INTO videos_fts (rowid, title, description, tags) VALUES (999, 'ghost', '', '')");
    patient.assert_found(&[(Check::SearchIndex, "database".to_owned())]).await;
}

#[tokio::test]
async fn a_row_that_refers_to_nothing_is_found() {
    let patient = Patient::sound().await;
    patient.damage("INSERT INTO prefixes VALUES ('renditions/ghost', 999, x'00000000000000000000000000000000', 1, 1)");
    patient.assert_found(&[(Check::Database, "database".to_owned())]).await;
}

#[tokio::test]
async fn an_index_that_lost_an_entry_is_found_in_a_deep_examination() {
    let patient = Patient::sound().await;
    // The entries of the index are no longer those its definition asks for.
    patient.damage(
        "PRAGMA writable_schema = 1;
         UPDATE sqlite_schema SET sql = replace(sql, '(expires_at_ms)', '(size_bytes)')
            WHERE name = 'uploads_expiry';
         PRAGMA writable_schema = 0;",
    );
    // The readers keep the schema they have read; another store sees the damaged one.
    let fresh = patient.h.base().neighbour(Vec::new()).await;
    let report = doctor::examine(&fresh, &patient.objects, true).await.expect("everything answers");
    assert!(report.findings.iter().all(|f| f.check == Check::Database), "{report:#?}");
    assert!(!report.is_sound());
}

#[tokio::test]
async fn a_job_out_of_its_place_is_found() {
    let patient = Patient::sound().await;
    let job = patient.h.store.enqueue(patient.h.new_job("other", "other", None), Causes::none()).await;
    patient.damage("UPDATE jobs SET rank_ms = rank_ms + 1 WHERE queue = 'other'");
    let job = job.expect("the job is new").into_inner();
    patient.assert_found(&[(Check::Order, job.id.to_string())]).await;
}

#[tokio::test]
async fn a_wrong_count_of_an_owners_jobs_is_found() {
    let patient = Patient::sound().await;
    patient.h.store.enqueue(patient.h.new_job("other", "other", None), Causes::none()).await.expect("the job is new");
    patient.damage("UPDATE job_owners SET ready = 2 WHERE queue = 'other'");
    patient.assert_found(&[(Check::Owners, "other nobody".to_owned())]).await;
    patient.damage("UPDATE job_owners SET ready = 1, running = 1 WHERE queue = 'other'");
    patient.assert_found(&[(Check::Owners, "other nobody".to_owned())]).await;
    patient.damage("DELETE FROM job_owners WHERE queue = 'other'");
    patient.assert_found(&[(Check::Owners, "other nobody".to_owned())]).await;
}

#[tokio::test]
async fn a_group_that_would_wait_for_ever_is_found() {
    let patient = Patient::sound().await;
    let group = patient.group().await;
    patient.assert_found(&[]).await;
    patient.damage("UPDATE job_groups SET remaining = 3");
    patient.assert_found(&[(Check::Group, group.to_string())]).await;
    patient.damage("UPDATE jobs SET group_id = NULL");
    patient.assert_found(&[(Check::Group, group.to_string())]).await;
}

#[tokio::test]
async fn an_ended_member_of_a_group_is_found() {
    let patient = Patient::sound().await;
    let group: JobGroupId = patient.group().await;
    let job = patient.h.claim("other").await.job;
    patient.damage(
        "UPDATE job_attempts SET ended_at_ms = 1, outcome = 'done' WHERE ended_at_ms IS NULL AND job_pk = (
            SELECT pk FROM jobs WHERE queue = 'other' AND state = 'leased');
         UPDATE jobs SET state = 'done', finished_at_ms = 1, lease_until_ms = NULL
            WHERE queue = 'other' AND state = 'leased'",
    );
    patient.assert_found(&[(Check::Group, job.id.to_string()), (Check::Group, group.to_string())]).await;
}

#[tokio::test]
async fn a_rendition_that_nobody_makes_is_found() {
    let patient = Patient::sound().await;
    patient.damage(
        "INSERT INTO renditions (id, source_pk, name, kind, status, width, height, created_at_ms)
         SELECT x'00000000000000000000000000000001', pk, '720p', 'hls', 'planned', 1, 1, 1 FROM sources
         WHERE video_pk = (SELECT pk FROM videos WHERE status = 'ready')",
    );
    patient.assert_found(&[(Check::Rendition, patient.listed.id.to_string())]).await;
}

#[tokio::test]
async fn a_remembered_request_without_its_effect_is_found() {
    let patient = Patient::sound().await;
    let owner = patient.listed.owner;
    let mut videos = Vec::new();
    for (number, caller) in [owner.to_string(), "somebody".to_owned()].into_iter().enumerate() {
        let scope = format!("{caller} POST /videos");
        let key = IdempotencyKey { scope, key: number.to_string(), fingerprint: [1; 32] };
        let expires_at = patient.h.now().plus(std::time::Duration::from_secs(60));
        let causes = Causes::none().idempotent(Some(IdempotencyRecord { key, expires_at, sealed: None }));
        let video = patient.h.store.create_video(patient.h.new_video(owner, "Remembered"), causes).await;
        videos.push(video.expect("the owner exists").into_inner().id);
    }
    patient.assert_found(&[]).await;
    patient.damage("DELETE FROM videos WHERE title = 'Remembered'");
    // Of what others than the owner did, nobody says that it is still there.
    patient.assert_found(&[(Check::Idempotency, videos[0].to_string())]).await;
}

/// It is forgotten at once, and the request that gave it up is answered again all the same.
#[tokio::test]
async fn a_part_that_was_given_up_under_a_key_is_missed_by_nobody() {
    let patient = Patient::sound().await;
    let new = NewUpload { kind: UploadKind::Part, video: None, ..patient.h.new_upload(&patient.uploaded, 10) };
    let part = patient.h.store.create_upload(new, Causes::none()).await.expect("there is room").into_inner();
    let abort = || {
        let key = IdempotencyKey {
            scope: format!("{} DELETE /uploads", part.user),
            key: "k".to_owned(),
            fingerprint: [1; 32],
        };
        let expires_at = patient.h.now().plus(std::time::Duration::from_secs(60));
        let causes = Causes::none().idempotent(Some(IdempotencyRecord { key, expires_at, sealed: None }));
        patient.h.store.abort_upload(part.id, part.user, patient.h.now(), causes)
    };
    assert!(matches!(abort().await, Ok(Outcome::Done(_))));
    assert_eq!(None, patient.h.store.upload(part.id).await.expect("the store answers"));
    patient.assert_found(&[]).await;
    assert!(matches!(abort().await, Ok(Outcome::Replayed { .. })));
}
