//! What is given up of a video that plays: its original, one of its renditions.

use std::time::Duration;

use vidcore::catalog::{CatalogError, Visibility};
use vidcore::doctor::Check;
use vidcore::id::VideoId;
use vidcore::jobs::{Death, JobFilter, JobState};
use vidcore::media::RenditionStatus;

use crate::housekeeping::{pass, seen};
use crate::ladder::{LARGE, Ladder, SMALL};
use crate::studio::{Plan, Studio, public_grant, read_fixture, register};

const HOUR: Duration = Duration::from_secs(3600);

/// Keeps no originals.
fn keepless() -> Plan {
    Plan { settings: |settings| settings.storage.keep_originals = false, ..Plan::default() }
}

/// Keeps originals for a day.
fn forgetful() -> Plan {
    Plan { settings: |settings| settings.storage.originals_keep_s = 86_400, ..Plan::default() }
}

/// With two renditions of each video.
async fn studio(plan: Plan) -> Studio {
    seen(Studio::with_transcoder(Ladder::new(), plan).await).await
}

async fn keys(studio: &Studio, room: &str, video: VideoId) -> usize {
    studio.platform.objects().keys_under(&format!("{room}/{video}")).await.expect("the disk answers").len()
}

async fn ready(studio: &Studio) -> VideoId {
    let video = studio.ready(Visibility::Public).await;
    studio.until_idle().await;
    video.id
}

async fn plays(studio: &Studio, video: VideoId) {
    let video = studio.video(video).await;
    let links = video.playback.as_ref().expect("it is playable");
    assert!(links.poster_url.is_some() && links.storyboard_url.is_some(), "{links:?}");
    let playback = studio.platform.playback();
    let playable =
        playback.open(&public_grant(&video), &vidcore::storage::Visitor::default()).await.expect("it is playable");
    playback.master_playlist(&playable).await.expect("something is ready");
    let object = playback.rendition_object(&playable, LARGE, "index.m3u8").await.expect("it was made");
    drop(playback.bytes(&object, None).await.expect("it is there"));
}

#[tokio::test]
async fn an_original_is_kept_unless_it_is_said_otherwise() {
    let studio = studio(Plan::default()).await;
    let video = ready(&studio).await;
    pass(&studio, 1000 * 24 * HOUR).await;
    assert_eq!(1, keys(&studio, "originals", video).await);
    studio.close().await;
}

#[tokio::test]
async fn an_original_that_is_not_kept_goes_once_all_is_made_and_the_video_plays_on() {
    let studio = studio(keepless()).await;
    let video = ready(&studio).await;
    assert_eq!(1, keys(&studio, "originals", video).await);
    let made = keys(&studio, "renditions", video).await;
    let stored = async || studio.platform.uploads().usage(&studio.actor).await.expect("the store answers").stored_bytes;
    assert_eq!(read_fixture("landscape.mp4").len() as u64, stored().await);
    pass(&studio, HOUR).await;
    assert_eq!(0, stored().await, "what is not kept takes up nothing");
    assert_eq!((0, made), (keys(&studio, "originals", video).await, keys(&studio, "renditions", video).await));
    plays(&studio, video).await;
    let again = studio.platform.catalog().process(&studio.actor, video, None).await;
    assert!(matches!(again, Err(CatalogError::OriginalDropped)), "{again:?}");
    // Another file can be brought.
    studio.upload(video, "landscape.mp4").await;
    studio.until_idle().await;
    assert_eq!(1, keys(&studio, "originals", video).await);
    pass(&studio, HOUR).await;
    assert_eq!(0, keys(&studio, "originals", video).await);
    plays(&studio, video).await;
    studio.close().await;
}

#[tokio::test]
async fn an_original_is_kept_while_something_is_made_of_it() {
    let ladder = Ladder::holding();
    let studio = seen(Studio::with_transcoder(ladder.clone(), keepless()).await).await;
    let draft = studio.draft(Visibility::Public).await;
    studio.upload(draft.id, "landscape.mp4").await;
    ladder.let_through(&[SMALL]);
    studio.until(draft.id, vidcore::catalog::VideoStatus::Ready).await;
    let idle = studio.platform.store().idle_originals(studio.platform.now(), 10).await;
    assert!(idle.expect("the store answers").is_empty());
    ladder.let_through(&[LARGE, SMALL]);
    studio.until_idle().await;
    let idle = studio.platform.store().idle_originals(studio.platform.now(), 10).await;
    assert_eq!(1, idle.expect("the store answers").len());
    studio.close().await;
}

#[tokio::test]
async fn an_original_expires_when_its_time_is_over() {
    let studio = studio(forgetful()).await;
    let video = ready(&studio).await;
    pass(&studio, 23 * HOUR).await;
    assert_eq!(1, keys(&studio, "originals", video).await);
    pass(&studio, HOUR).await;
    assert_eq!(0, keys(&studio, "originals", video).await);
    plays(&studio, video).await;
    studio.close().await;
}

#[tokio::test]
async fn an_original_that_is_what_plays_is_kept() {
    let studio = seen(Studio::open(keepless()).await).await;
    let video = ready(&studio).await;
    pass(&studio, HOUR).await;
    assert_eq!(1, keys(&studio, "originals", video).await);
    let (_, bytes) = studio.play(&public_grant(&studio.video(video).await)).await.expect("it is playable");
    assert!(!bytes.is_empty());
    studio.close().await;
}

#[tokio::test]
async fn a_crash_after_an_original_was_dropped_leaves_what_the_collection_takes() {
    let studio = studio(Plan::default()).await;
    let video = ready(&studio).await;
    let (store, now) = (studio.platform.store(), studio.platform.now());
    let [source] = *store.idle_originals(now, 10).await.expect("the store answers") else { panic!("one is idle") };
    assert!(store.drop_original(source, now).await.expect("the store answers").is_some());
    assert_eq!(None, store.drop_original(source, now).await.expect("the store answers"));
    let report = studio.platform.examine(true).await.expect("everything answers");
    let [finding] = &*report.findings else { panic!("{report:#?}") };
    assert_eq!(Check::Orphan, finding.check);
    assert_eq!(1, studio.platform.collect_objects().await.expect("everything answers").objects);
    assert_eq!(0, keys(&studio, "originals", video).await);
    studio.close().await;
}

#[tokio::test]
async fn what_is_lost_after_its_original_was_dropped_is_told_plainly_and_the_rest_plays() {
    let studio = studio(keepless()).await;
    let video = ready(&studio).await;
    pass(&studio, HOUR).await;
    let lost = studio.platform.objects().keys_under(&format!("renditions/{video}")).await.expect("the disk answers");
    let lost = lost.into_iter().find(|key| key.ends_with("360p/index.m3u8")).expect("it was made");
    studio.platform.objects().delete(&lost).await.expect("the disk answers");
    studio.platform.repair(false).await.expect("everything answers");
    studio.until_idle().await;
    plays(&studio, video).await;
    let filter = JobFilter { video: Some(video), state: Some(JobState::Dead), ..JobFilter::default() };
    let dead = studio.platform.store().jobs(&filter, None, 10).await.expect("the store answers");
    let told = dead.iter().filter(|job| job.death == Some(Death::Permanent)).filter_map(|job| job.last_error.clone());
    assert!(told.into_iter().any(|reason| reason.starts_with("The original is no longer kept")), "{dead:?}");
    studio.close().await;
}

#[tokio::test]
async fn a_deleted_rendition_is_gone_with_its_objects_and_the_last_one_stays() {
    let studio = studio(Plan::default()).await;
    let video = ready(&studio).await;
    let (before, version) = (keys(&studio, "renditions", video).await, studio.video(video).await.version);
    let catalog = studio.platform.catalog();
    let stranger = register(&studio.platform, "stranger").await;
    let drop = |actor, name: &str| catalog.drop_rendition(actor, video, name.to_owned(), None);
    assert!(matches!(drop(&stranger, SMALL).await, Err(CatalogError::NotFound)));
    assert!(matches!(drop(&studio.actor, "144p").await, Err(CatalogError::NotFound)));
    drop(&studio.actor, SMALL).await.expect("another one plays on");
    assert!(keys(&studio, "renditions", video).await < before);
    assert!(studio.video(video).await.version > version);
    let left = catalog.renditions(None, video).await.expect("it is public");
    assert_eq!([LARGE], *left.iter().map(|row| row.name.as_str()).collect::<Vec<_>>());
    assert!(matches!(drop(&studio.actor, SMALL).await, Err(CatalogError::NotFound)));
    assert!(matches!(drop(&studio.actor, LARGE).await, Err(CatalogError::LastRendition)));
    plays(&studio, video).await;
    studio.assert_sound().await;
    // What was deleted can be made again as long as there is an original.
    catalog.process(&studio.actor, video, None).await.expect("the original is kept");
    studio.until_idle().await;
    let rows = studio.platform.store().renditions(video).await.expect("the store answers");
    assert_eq!(2, rows.iter().filter(|row| row.status == RenditionStatus::Ready).count());
    studio.close().await;
}
