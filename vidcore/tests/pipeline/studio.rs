//! A platform in a temporary folder, with an owner, whose time and transcoder a test governs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{TryStreamExt, stream};
use vidcore::Platform;
use vidcore::auth::{Actor, RegisterInput};
use vidcore::catalog::view::{StatusView, VideoView};
use vidcore::catalog::{CreateVideo, VideoStatus, Visibility};
use vidcore::clock::ManualClock;
use vidcore::id::{UploadId, VideoId};
use vidcore::media::Transcoder;
use vidcore::media::playback::{Grant, PlayableObject, PlaybackError};
use vidcore::media::simulated::{SimulatedTranscoder, SimulatedTranscoderBuilder};
use vidcore::platform::Settings;
use vidcore::storage::{OpenUpload, UploadSignature, UploadStatus, UploadView, Visitor};
use vidcore::store::BoxError;
use vidcore::testkit::store::PATIENCE;

/// How long one claim holds here.
pub(crate) const LEASE: Duration = Duration::from_secs(20);

/// A platform and its owner. Both clocks stand still until they are advanced.
pub(crate) struct Studio {
    pub(crate) platform: Platform,
    pub(crate) actor: Actor,
    /// The platform's time.
    pub(crate) clock: ManualClock,
    /// The transcoder's time: encodings end when it is advanced.
    pub(crate) stage: ManualClock,
    folder: tempfile::TempDir,
}

/// What differs from one studio to the next.
pub(crate) struct Plan {
    pub(crate) worker: bool,
    pub(crate) max_attempts: u16,
    /// Renditions made at once.
    pub(crate) concurrency: u16,
    pub(crate) transcoder: fn(SimulatedTranscoderBuilder) -> SimulatedTranscoderBuilder,
    pub(crate) settings: fn(&mut Settings),
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            worker: true,
            max_attempts: 5,
            concurrency: 2,
            transcoder: |builder| builder.encode_time(Duration::ZERO),
            settings: |_| {},
        }
    }
}

impl Studio {
    pub(crate) async fn open(plan: Plan) -> Self {
        let folder = tempfile::tempdir().expect("there is a temporary folder");
        let (clock, stage) = (ManualClock::default(), ManualClock::default());
        let platform = open(folder.path(), &clock, &stage, &plan).await;
        let actor = register(&platform, "owner").await;
        Self { platform, actor, clock, stage, folder }
    }

    /// A studio with a transcoder of the test's own.
    pub(crate) async fn with_transcoder(transcoder: Arc<dyn Transcoder>, plan: Plan) -> Self {
        let folder = tempfile::tempdir().expect("there is a temporary folder");
        let (clock, stage) = (ManualClock::default(), ManualClock::default());
        let platform = open_with(folder.path(), &clock, &plan, transcoder).await;
        let actor = register(&platform, "owner").await;
        Self { platform, actor, clock, stage, folder }
    }

    /// Stops the platform and opens another on the same folder.
    pub(crate) async fn reopen(&mut self, plan: Plan) {
        self.platform.shutdown().await;
        self.platform = open(self.folder.path(), &self.clock, &self.stage, &plan).await;
    }

    /// A second platform on the same folder, as another process of this host has it.
    pub(crate) async fn twin(&self, plan: Plan) -> Platform {
        open(self.folder.path(), &self.clock, &self.stage, &plan).await
    }

    /// The same with a transcoder of the test's own.
    pub(crate) async fn reopen_with(&mut self, transcoder: Arc<dyn Transcoder>, plan: Plan) {
        self.platform.shutdown().await;
        self.platform = open_with(self.folder.path(), &self.clock, &plan, transcoder).await;
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) async fn draft(&self, visibility: Visibility) -> VideoView {
        let input =
            CreateVideo { title: "A day out".to_owned(), description: String::new(), tags: Vec::new(), visibility };
        self.platform.catalog().create(&self.actor, input, None).await.expect("the input is valid").into_inner()
    }

    /// Opens an upload and sends the bytes through its signed URL.
    pub(crate) async fn send(&self, video: VideoId, bytes: Vec<u8>) -> UploadView {
        let uploads = self.platform.uploads();
        let input = OpenUpload { size_bytes: bytes.len() as u64, sha256: None };
        let upload = uploads.open(&self.actor, video, input, None).await.expect("the upload is allowed").into_inner();
        let signature = signature(upload.upload_url.as_deref().expect("an open upload takes bytes"));
        let admitted = uploads.admit(upload.id, &signature, Some(input.size_bytes)).await.expect("the URL is ours");
        uploads.receive(admitted, whole(bytes)).await.expect("the bytes are whole")
    }

    pub(crate) async fn complete(&self, upload: UploadId) -> UploadView {
        self.platform.uploads().complete(&self.actor, upload, None).await.expect("the bytes are there").into_inner()
    }

    /// Sends a fixture for the video and says that it is whole.
    pub(crate) async fn upload(&self, video: VideoId, fixture: &str) -> UploadView {
        let upload = self.send(video, read_fixture(fixture)).await;
        self.complete(upload.id).await
    }

    /// A playable video.
    pub(crate) async fn ready(&self, visibility: Visibility) -> VideoView {
        let draft = self.draft(visibility).await;
        self.upload(draft.id, "landscape.mp4").await;
        self.until(draft.id, VideoStatus::Ready).await;
        self.video(draft.id).await
    }

    pub(crate) async fn video(&self, id: VideoId) -> VideoView {
        let video = self.platform.catalog().read(Some(&self.actor), id).await.expect("it is the owner's");
        video.value.clone()
    }

    pub(crate) async fn status(&self, id: VideoId) -> StatusView {
        self.platform.catalog().status(Some(&self.actor), id).await.expect("it is the owner's")
    }

    pub(crate) async fn upload_status(&self, id: UploadId) -> UploadView {
        self.platform.uploads().read(&self.actor, id).await.expect("it is the owner's")
    }

    /// Waits until the video has this status; the worker has its own threads.
    pub(crate) async fn until(&self, id: VideoId, status: VideoStatus) -> StatusView {
        self.eventually(async || Some(self.status(id).await).filter(|now| now.status == status)).await
    }

    pub(crate) async fn until_upload(&self, id: UploadId, status: UploadStatus) -> UploadView {
        self.eventually(async || Some(self.upload_status(id).await).filter(|now| now.status == status)).await
    }

    /// Waits until no job is queued or leased.
    pub(crate) async fn until_idle(&self) {
        self.eventually(async || {
            let counts = self.platform.store().job_counts().await.expect("the store answers");
            counts.iter().all(|(_, state, _)| state.is_final()).then_some(())
        })
        .await;
    }

    /// Asks until there is an answer, within bounds.
    pub(crate) async fn eventually<T>(&self, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
        let asking = async {
            loop {
                if let Some(answer) = ask().await {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.expect("it happens in time")
    }

    /// Like [`eventually`](Self::eventually), while this much time passes between two questions.
    pub(crate) async fn in_time<T>(&self, step: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
        self.eventually(async || {
            let answer = ask().await;
            if answer.is_none() {
                self.clock.advance(step);
            }
            answer
        })
        .await
    }

    /// Whole bytes of what the grant leads to.
    pub(crate) async fn play(&self, grant: &Grant) -> Result<(PlayableObject, Vec<u8>), PlaybackError> {
        let playback = self.platform.playback();
        let object = playback.file(&playback.open(grant, &Visitor::default()).await?).await?;
        let chunks: Vec<Bytes> = playback.bytes(&object, None).await?.try_collect().await?;
        Ok((object, chunks.concat()))
    }

    /// Ends the platform and looks for anything that is not as it must be.
    pub(crate) async fn close(self) {
        self.assert_sound().await;
        self.platform.shutdown().await;
        let scratch = self.folder().join("scratch");
        let left: Vec<_> = std::fs::read_dir(scratch).map(|entries| entries.flatten().collect()).unwrap_or_default();
        assert!(left.is_empty(), "{left:?}");
    }

    pub(crate) async fn assert_sound(&self) {
        let report = self.platform.examine(true).await.expect("everything answers");
        assert!(report.is_sound(), "{report:#?}");
    }
}

async fn open(folder: &Path, clock: &ManualClock, stage: &ManualClock, plan: &Plan) -> Platform {
    let transcoder = (plan.transcoder)(SimulatedTranscoder::builder(Arc::new(stage.clone())).steps(1)).build();
    open_with(folder, clock, plan, Arc::new(transcoder)).await
}

async fn open_with(folder: &Path, clock: &ManualClock, plan: &Plan, transcoder: Arc<dyn Transcoder>) -> Platform {
    let mut settings = settings(folder);
    (plan.settings)(&mut settings);
    settings.worker.enabled = plan.worker;
    settings.worker.max_attempts = plan.max_attempts;
    settings.uploads.verify_attempts = plan.max_attempts;
    settings.worker.concurrency = plan.concurrency;
    settings.worker.lease_ms = u64::try_from(LEASE.as_millis()).expect("short");
    let builder = Platform::builder(settings).clock(Arc::new(clock.clone()));
    builder.transcoder(transcoder).open().await.expect("the folder can be used")
}

pub(crate) fn settings(folder: &Path) -> Settings {
    let mut settings = Settings { data_dir: folder.to_owned(), ..Settings::default() };
    settings.sqlite.reader_threads = 2;
    settings
}

pub(crate) async fn register(platform: &Platform, handle: &str) -> Actor {
    let input = RegisterInput {
        email: format!("{handle}@example.org"),
        handle: handle.to_owned(),
        display_name: None,
        password: "correct horse battery".into(),
    };
    let signed_in = platform.auth().register(input, None).await.expect("the account is new").into_inner();
    platform.auth().authenticate(signed_in.access_token.expose()).await.expect("the token is fresh")
}

pub(crate) fn read_fixture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name);
    std::fs::read(path).expect("the fixture is there")
}

pub(crate) fn whole(
    bytes: Vec<u8>,
) -> impl futures_util::Stream<Item = Result<Bytes, BoxError>> + Send + Unpin + 'static {
    let chunks: Vec<_> = bytes.chunks(10_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    stream::iter(chunks)
}

/// What a client would send back of an upload URL.
pub(crate) fn signature(url: &str) -> UploadSignature {
    let (_, query) = url.split_once('?').expect("a signed URL has a query");
    let value = |name: &str| {
        let pair = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        pair.unwrap_or_else(|| panic!("{name} is missing in {query}")).to_owned()
    };
    let expires = value("expires").parse().expect("seconds");
    UploadSignature { expires, kid: value("kid"), signature: value("signature") }
}

/// The grant in the path of a playback URL of an open video.
pub(crate) fn public_grant(video: &VideoView) -> Grant {
    let url = &video.playback.as_ref().expect("an open, playable video shows its links").url;
    let mut segments = url.rsplit('/').skip(1);
    let epoch = segments.next().and_then(|epoch| epoch.parse().ok()).expect("the epoch stands before the file");
    Grant::Public { video: video.id, epoch }
}
