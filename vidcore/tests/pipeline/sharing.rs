//! Two platforms on one folder: what one publishes or hides, the other shows.

use std::path::Path;
use std::time::{Duration, Instant};

use vidcore::Platform;
use vidcore::catalog::{CatalogError, CreateVideo, VideoPatch, VideoStatus, Visibility};
use vidcore::id::VideoId;
use vidcore::page::PageLimit;
use vidcore::platform::settings::TranscoderChoice;
use vidcore::storage::OpenUpload;

use crate::studio::{read_fixture, register, settings, signature, whole};

/// What is cached lives this long: only an invalidation can make a change seen before.
const FOR_EVER_MS: u64 = 3_600_000;

/// How fast a change must be seen elsewhere.
const PROMISE: Duration = Duration::from_secs(1);

async fn open(folder: &Path, worker: bool) -> Platform {
    let mut settings = settings(folder);
    settings.worker.enabled = worker;
    settings.media.transcoder = TranscoderChoice::Simulated;
    (settings.cache.popular_ttl_ms, settings.cache.video_ttl_ms) = (FOR_EVER_MS, FOR_EVER_MS);
    Platform::open(settings).await.expect("the folder can be used")
}

/// What somebody who is not signed in sees: the video's page, and whether it is popular.
async fn seen(platform: &Platform, id: VideoId) -> (Option<String>, bool) {
    let page = match platform.catalog().read(None, id).await {
        Ok(page) => Some(page.value.title.clone()),
        Err(CatalogError::NotFound) => None,
        Err(error) => panic!("the store answers: {error}"),
    };
    let popular = platform.catalog().popular(PageLimit::default()).await.expect("the store answers");
    (page, popular.value.items.iter().any(|video| video.id == id))
}

/// Asks the other platform until it shows what is expected, and fails if that takes too long.
async fn shown(other: &Platform, id: VideoId, expected: (Option<&str>, bool)) {
    let begun = Instant::now();
    loop {
        let now = seen(other, id).await;
        if (now.0.as_deref(), now.1) == expected {
            return;
        }
        assert!(begun.elapsed() < PROMISE, "after {PROMISE:?} it still shows {now:?}, not {expected:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_publishes_or_hides_the_other_shows_within_a_second() {
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let (front, back) = (open(folder.path(), false).await, open(folder.path(), true).await);
    let actor = register(&front, "owner").await;
    let input = CreateVideo {
        title: "First".to_owned(),
        description: String::new(),
        tags: Vec::new(),
        visibility: Visibility::Public,
    };
    let video = front.catalog().create(&actor, input, None).await.expect("the input is valid").into_inner();
    // Both have cached that there is nothing.
    assert_eq!((None, false), seen(&front, video.id).await);
    assert_eq!((None, false), seen(&back, video.id).await);

    // Sent to the one without a worker, processed by the other, which is woken across the file.
    let bytes = read_fixture("no-audio.mp4");
    let open = OpenUpload { size_bytes: bytes.len() as u64, sha256: None };
    let upload = front.uploads().open(&actor, video.id, open, None).await.expect("it is allowed").into_inner();
    let signature = signature(upload.upload_url.as_deref().expect("an open upload takes bytes"));
    let admitted = front.uploads().admit(upload.id, &signature, None).await.expect("both know the keys");
    front.uploads().receive(admitted, whole(bytes)).await.expect("the bytes are whole");
    front.uploads().complete(&actor, upload.id, None).await.expect("the bytes are there");
    let begun = Instant::now();
    // Asked of the database, so that nothing here depends on the cache.
    while front.catalog().status(Some(&actor), video.id).await.expect("it exists").status != VideoStatus::Ready {
        assert!(begun.elapsed() < vidcore::testkit::store::PATIENCE, "the other one's worker is woken");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    shown(&front, video.id, (Some("First"), true)).await;
    shown(&back, video.id, (Some("First"), true)).await;

    // Renamed here, seen there; hidden there, gone here.
    let version = front.catalog().read(Some(&actor), video.id).await.expect("it exists").value.version;
    let rename = VideoPatch { title: Some("Second".to_owned()), ..VideoPatch::default() };
    let renamed = front.catalog().patch(&actor, video.id, version, rename, None).await.expect("nobody else did");
    assert_eq!((Some("Second".to_owned()), true), seen(&front, video.id).await);
    shown(&back, video.id, (Some("Second"), true)).await;
    let hide = VideoPatch { visibility: Some(Visibility::Private), ..VideoPatch::default() };
    let version = renamed.into_inner().version;
    back.catalog().patch(&actor, video.id, version, hide, None).await.expect("nobody else did");
    assert_eq!((None, false), seen(&back, video.id).await);
    shown(&front, video.id, (None, false)).await;

    let report = back.examine(true).await.expect("everything answers");
    assert!(report.is_sound(), "{report:#?}");
    front.shutdown().await;
    back.shutdown().await;
}
