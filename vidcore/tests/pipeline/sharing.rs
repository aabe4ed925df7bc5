//! Two platforms on one folder: what one publishes or hides, the other shows.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::Barrier;
use tokio_util::sync::CancellationToken;
use vidcore::Platform;
use vidcore::auth::Actor;
use vidcore::catalog::{CatalogError, CreateVideo, VideoPatch, VideoStatus, Visibility, Window};
use vidcore::id::VideoId;
use vidcore::media::{
    EncodeRequest, Encoded, MediaError, MediaInfo, OutputFile, RenditionPlan, RenditionStatus, Transcoder,
};
use vidcore::page::PageLimit;
use vidcore::platform::settings::TranscoderChoice;
use vidcore::storage::OpenUpload;
use vidcore::testkit::media::MediaHarness;

use crate::studio::{read_fixture, register, settings, signature, whole};

/// What is cached lives this long: only an invalidation can make a change seen before.
const FOR_EVER_MS: u64 = 3_600_000;

/// How fast a change must be seen elsewhere.
pub(crate) const PROMISE: Duration = Duration::from_secs(1);

/// How long real encodings may take on a busy machine.
const ENCODING_PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn open(folder: &Path, worker: bool) -> Platform {
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
    let popular =
        platform.catalog().popular(Window::default(), None, PageLimit::default()).await.expect("the store answers");
    (page, popular.value.items.iter().any(|video| video.id == id))
}

pub(crate) async fn create(platform: &Platform, actor: &Actor) -> VideoId {
    let input = CreateVideo {
        title: "First".to_owned(),
        description: String::new(),
        tags: Vec::new(),
        visibility: Visibility::Public,
    };
    platform.catalog().create(actor, input, None).await.expect("the input is valid").into_inner().id
}

pub(crate) async fn send(platform: &Platform, actor: &Actor, video: VideoId, bytes: Vec<u8>) {
    let open = OpenUpload { size_bytes: bytes.len() as u64, sha256: None };
    let upload = platform.uploads().open(actor, video, open, None).await.expect("it is allowed").into_inner();
    let signature = signature(upload.upload_url.as_deref().expect("an open upload takes bytes"));
    let admitted = platform.uploads().admit(upload.id, &signature, None).await.expect("all know the keys");
    platform.uploads().receive(admitted, whole(bytes)).await.expect("the bytes are whole");
    platform.uploads().complete(actor, upload.id, None).await.expect("the bytes are there");
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
    let video = create(&front, &actor).await;
    // Both have cached that there is nothing.
    assert_eq!((None, false), seen(&front, video).await);
    assert_eq!((None, false), seen(&back, video).await);

    // Sent to the one without a worker, processed by the other, which is woken across the file.
    send(&front, &actor, video, read_fixture("no-audio.mp4")).await;
    let begun = Instant::now();
    // Asked of the database, so that nothing here depends on the cache.
    while front.catalog().status(Some(&actor), video).await.expect("it exists").status != VideoStatus::Ready {
        assert!(begun.elapsed() < vidcore::testkit::store::PATIENCE, "the other one's worker is woken");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    shown(&front, video, (Some("First"), true)).await;
    shown(&back, video, (Some("First"), true)).await;

    // Renamed here, seen there; hidden there, gone here.
    let version = front.catalog().read(Some(&actor), video).await.expect("it exists").value.version;
    let rename = VideoPatch { title: Some("Second".to_owned()), ..VideoPatch::default() };
    let renamed = front.catalog().patch(&actor, video, version, rename, None).await.expect("nobody else did");
    assert_eq!((Some("Second".to_owned()), true), seen(&front, video).await);
    shown(&back, video, (Some("Second"), true)).await;
    let hide = VideoPatch { visibility: Some(Visibility::Private), ..VideoPatch::default() };
    let version = renamed.into_inner().version;
    back.catalog().patch(&actor, video, version, hide, None).await.expect("nobody else did");
    assert_eq!((None, false), seen(&back, video).await);
    shown(&front, video, (None, false)).await;

    let report = back.examine(true).await.expect("everything answers");
    assert!(report.is_sound(), "{report:#?}");
    front.shutdown().await;
    back.shutdown().await;
}

/// Lets nobody encode alone: whoever comes first waits for a second.
struct Meeting {
    inner: Arc<dyn Transcoder>,
    door: Barrier,
}

impl fmt::Debug for Meeting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meeting").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[async_trait]
impl Transcoder for Meeting {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn probe(&self, input: &Path, cancel: &CancellationToken) -> Result<MediaInfo, MediaError> {
        self.inner.probe(input, cancel).await
    }

    fn plan(&self, info: &MediaInfo) -> Vec<RenditionPlan> {
        self.inner.plan(info)
    }

    async fn encode(&self, request: EncodeRequest) -> Result<Encoded, MediaError> {
        tokio::select! {
            _ = self.door.wait() => self.inner.encode(request).await,
            () = request.cancel.cancelled() => Err(MediaError::Cancelled),
        }
    }

    fn makes_pictures(&self) -> bool {
        self.inner.makes_pictures()
    }

    async fn poster(
        &self,
        input: &Path,
        info: &MediaInfo,
        output: &Path,
        cancel: &CancellationToken,
    ) -> Result<Option<OutputFile>, MediaError> {
        self.inner.poster(input, info, output, cancel).await
    }

    async fn storyboard(
        &self,
        input: &Path,
        info: &MediaInfo,
        output: &Path,
        cancel: &CancellationToken,
    ) -> Result<Vec<OutputFile>, MediaError> {
        self.inner.storyboard(input, info, output, cancel).await
    }
}

/// A worker that makes one rendition at a time.
async fn lone_worker(folder: &Path, transcoder: &Arc<Meeting>) -> Platform {
    let mut settings = settings(folder);
    settings.worker.concurrency = 1;
    let builder = Platform::builder(settings).transcoder(Arc::clone(transcoder) as _);
    builder.open().await.expect("the folder can be used")
}

/// Two workers that make one rendition at a time make both of a video's at once: one alone would wait for ever.
async fn made_at_once(inner: Arc<dyn Transcoder>) {
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let meeting = Arc::new(Meeting { inner, door: Barrier::new(2) });
    let (one, other) = (lone_worker(folder.path(), &meeting).await, lone_worker(folder.path(), &meeting).await);
    let actor = register(&one, "owner").await;
    let video = create(&one, &actor).await;
    send(&one, &actor, video, read_fixture("demo.mp4")).await;
    let begun = Instant::now();
    loop {
        let status = one.catalog().status(Some(&actor), video).await.expect("it exists");
        if (status.status, status.progress) == (VideoStatus::Ready, 1000) {
            let made: Vec<_> = status.renditions.iter().map(|row| (row.name.as_str(), row.status)).collect();
            assert_eq!([("720p", RenditionStatus::Ready), ("360p", RenditionStatus::Ready)], *made);
            break;
        }
        assert!(begun.elapsed() < ENCODING_PATIENCE, "{status:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    until_idle(&one).await;
    let links = one.catalog().read(Some(&actor), video).await.expect("it exists").value.playback.clone();
    assert!(links.is_some_and(|links| links.poster_url.is_some() && links.storyboard_url.is_some()));
    let report = one.examine(true).await.expect("everything answers");
    assert!(report.is_sound(), "{report:#?}");
    one.shutdown().await;
    other.shutdown().await;
}

async fn until_idle(platform: &Platform) {
    let begun = Instant::now();
    loop {
        let counts = platform.store().job_counts().await.expect("the store answers");
        if counts.iter().all(|(_, state, _)| state.is_final()) {
            return;
        }
        assert!(begun.elapsed() < ENCODING_PATIENCE, "{counts:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_make_two_renditions_of_a_video_at_once() {
    made_at_once(crate::ladder::Ladder::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_make_two_renditions_of_a_video_at_once_with_ffmpeg() {
    let Some(ffmpeg) = MediaHarness::ffmpeg().await else { return };
    made_at_once(ffmpeg.transcoder).await;
}
