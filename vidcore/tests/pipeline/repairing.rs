//! After a repair the jobs do the rest: what was broken ends whole, beside a worker that runs all the while.

use std::path::PathBuf;

use vidcore::catalog::{VideoStatus, Visibility};
use vidcore::doctor::{Check, Remedy};
use vidcore::id::VideoId;
use vidcore::storage::UploadStatus;

use crate::ladder::Ladder;
use crate::studio::{Plan, Studio, public_grant};

/// Plants damage in the database, beside everything that runs.
fn damage(studio: &Studio, sql: &str) {
    let file = studio.folder().join(vidcore::store::sqlite::FILE_NAME);
    let db = rusqlite::Connection::open(file).expect("the file opens");
    db.busy_timeout(vidcore::testkit::store::PATIENCE).expect("the timeout is set");
    db.execute_batch(sql).expect("the damage is valid SQL");
}

/// Files of the video whose names end so.
async fn files(studio: &Studio, id: VideoId, end: &str) -> Vec<PathBuf> {
    let keys = studio.platform.objects().keys_under(&format!("renditions/{id}")).await.expect("the disk answers");
    let ours = keys.into_iter().filter(|key| key.ends_with(end));
    ours.map(|key| studio.folder().join("objects").join(key)).collect()
}

/// Repairs, waits for the jobs, and holds the video to be whole and the platform to be sound.
async fn assert_made_whole(studio: Studio, id: VideoId, checks: &[Check]) {
    let report = studio.platform.repair(true).await.expect("everything answers");
    let found: Vec<Check> = report.treated.iter().map(|it| it.finding.check).collect();
    assert!(checks.iter().all(|check| found.contains(check)), "{report:#?}");
    assert!(report.treated.iter().all(|it| it.remedy != Remedy::Left), "{report:#?}");
    assert!(report.after.is_sound(), "{report:#?}");
    studio.until(id, VideoStatus::Ready).await;
    studio.until_idle().await;
    let status = studio.status(id).await;
    assert_eq!(1000, status.progress, "{status:?}");
    studio.close().await;
}

#[tokio::test]
async fn an_upload_whose_jobs_are_lost_ends_as_a_video() {
    let mut studio = Studio::open(Plan { worker: false, ..Plan::default() }).await;
    let draft = studio.draft(Visibility::Public).await;
    let upload = studio.upload(draft.id, "no-audio.mp4").await;
    damage(&studio, "DELETE FROM jobs; DELETE FROM job_owners");
    studio.reopen(Plan::default()).await;
    assert_made_whole_after_upload(studio, draft.id, upload.id).await;
}

async fn assert_made_whole_after_upload(studio: Studio, id: VideoId, upload: vidcore::id::UploadId) {
    let report = studio.platform.repair(false).await.expect("everything answers");
    assert_eq!(Check::Verifying, report.treated[0].finding.check, "{report:#?}");
    studio.until_upload(upload, UploadStatus::Complete).await;
    studio.until(id, VideoStatus::Ready).await;
    studio.until_idle().await;
    studio.close().await;
}

#[tokio::test]
async fn a_video_whose_processing_is_lost_ends_ready() {
    let ladder = Ladder::holding();
    let studio = Studio::with_transcoder(ladder.clone(), Plan::default()).await;
    let draft = studio.draft(Visibility::Public).await;
    studio.upload(draft.id, "landscape.mp4").await;
    studio.eventually(async || (ladder.begun(crate::ladder::SMALL) > 0).then_some(())).await;
    // Jobs, attempts, groups and counts: all that says that anybody is at work. Those who are will be fenced.
    damage(&studio, "DELETE FROM job_attempts; DELETE FROM jobs; DELETE FROM job_groups; DELETE FROM job_owners");
    ladder.let_through(&[crate::ladder::LARGE, crate::ladder::SMALL]);
    assert_made_whole(studio, draft.id, &[Check::Processing]).await;
}

#[tokio::test]
async fn a_rendition_that_lost_a_file_is_made_again_while_the_other_plays() {
    let studio = Studio::with_transcoder(Ladder::new(), Plan::default()).await;
    let video = studio.ready(Visibility::Public).await;
    studio.until_idle().await;
    let playlist = files(&studio, video.id, "360p/index.m3u8").await;
    std::fs::remove_file(&playlist[0]).expect("it is there");
    let report = studio.platform.repair(false).await.expect("everything answers");
    assert_eq!(Check::ObjectMissing, report.treated[0].finding.check, "{report:#?}");
    // The other rendition plays all the while.
    assert_eq!(VideoStatus::Ready, studio.status(video.id).await.status);
    studio.until_idle().await;
    assert_eq!(1, files(&studio, video.id, "360p/index.m3u8").await.len());
    assert_made_whole(studio, video.id, &[]).await;
}

#[tokio::test]
async fn a_video_that_lost_every_rendition_and_picture_is_made_anew() {
    let studio = Studio::with_transcoder(Ladder::new(), Plan::default()).await;
    let video = studio.ready(Visibility::Public).await;
    studio.until_idle().await;
    let folder = studio.folder().join("objects/renditions");
    std::fs::remove_dir_all(folder).expect("it is there");
    let id = video.id;
    let report = studio.platform.repair(false).await.expect("everything answers");
    assert!(report.treated.iter().all(|it| it.remedy == Remedy::Repaired), "{report:#?}");
    studio.until(id, VideoStatus::Ready).await;
    studio.until_idle().await;
    let again = studio.video(id).await;
    let links = again.playback.expect("it is playable");
    assert!(links.poster_url.is_some() && links.storyboard_url.is_some(), "{links:?}");
    assert_made_whole(studio, id, &[]).await;
}

#[tokio::test]
async fn a_changed_file_is_made_again_after_a_deep_examination() {
    let studio = Studio::with_transcoder(Ladder::new(), Plan::default()).await;
    let video = studio.ready(Visibility::Public).await;
    studio.until_idle().await;
    let playlist = files(&studio, video.id, "720p/index.m3u8").await.remove(0);
    let mut bytes = std::fs::read(&playlist).expect("it is there");
    bytes[0] ^= 1;
    std::fs::write(&playlist, bytes).expect("there is room");
    assert_made_whole(studio, video.id, &[Check::ObjectDiffers]).await;
}

#[tokio::test]
async fn a_video_whose_file_is_lost_says_so_and_is_whole_after_another_upload() {
    let studio = Studio::open(Plan::default()).await;
    let video = studio.ready(Visibility::Public).await;
    studio.until_idle().await;
    // The original itself is what plays.
    let (object, _) = studio.play(&public_grant(&video)).await.expect("it is ready");
    drop(object);
    std::fs::remove_dir_all(studio.folder().join("objects/originals")).expect("it is there");
    let report = studio.platform.repair(false).await.expect("everything answers");
    let [treated] = &*report.treated else { panic!("one thing was found: {report:#?}") };
    assert_eq!((Check::ObjectMissing, Remedy::Left), (treated.finding.check, treated.remedy));
    let failed = studio.until(video.id, VideoStatus::Failed).await;
    assert_eq!(Some("The stored file is missing."), failed.failure.as_deref());
    studio.until_idle().await;
    studio.upload(video.id, "no-audio.mp4").await;
    studio.until(video.id, VideoStatus::Ready).await;
    studio.platform.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_work_under_way_nothing_is_found_and_nothing_disturbed() {
    let studio = Studio::with_transcoder(Ladder::new(), Plan::default()).await;
    let mut videos = Vec::new();
    for _ in 0..6 {
        let draft = studio.draft(Visibility::Public).await;
        studio.upload(draft.id, "no-audio.mp4").await;
        videos.push(draft.id);
        let report = studio.platform.repair(true).await.expect("everything answers");
        assert!(report.treated.is_empty(), "{report:#?}");
    }
    loop {
        let report = studio.platform.repair(false).await.expect("everything answers");
        assert!(report.treated.is_empty(), "{report:#?}");
        let mut ready = 0;
        for id in &videos {
            ready += usize::from(studio.status(*id).await.progress == 1000);
        }
        if ready == videos.len() {
            break;
        }
    }
    studio.until_idle().await;
    studio.close().await;
}
