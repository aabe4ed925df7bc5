//! Videos, uploads, sources and renditions as rows: what the claims about them start from.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::auth::{NewAccount, NewSession};
use crate::catalog::{NewVideo, Video, Visibility};
use crate::clock::{Clock, ManualClock, Timestamp};
use crate::entropy::{Entropy, SeededEntropy};
use crate::id::{JobId, RenditionId, SessionId, SourceId, UploadId, UserId, VideoId};
use crate::jobs::{Claim, Lease, NewJob, QueueName, UPLOADS_QUEUE, VIDEO_QUEUE};
use crate::media::jobs::PROCESS_VIDEO;
use crate::media::{MediaInfo, NewObject, PlannedRendition, PublishRendition, Rendition, RenditionKind, Source};
use crate::storage::verify::VERIFY_UPLOAD;
use crate::storage::{CommitSource, NewUpload, Upload, UploadKind};
use crate::store::{Causes, Fence, Store};
use crate::testkit::TestStore;

/// How long a claim of the harness holds.
pub const LEASE: Duration = Duration::from_secs(20);

/// A store under test with a clock that stands still and repeatable randomness.
pub struct VideoHarness {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Its time.
    pub clock: ManualClock,
    entropy: Arc<SeededEntropy>,
    numbers: AtomicU64,
    base: TestStore,
}

impl fmt::Debug for VideoHarness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VideoHarness").field("store", &self.store).finish_non_exhaustive()
    }
}

/// A video whose source is committed, with the claimed job that processes it.
#[derive(Debug)]
pub struct Sourced {
    /// The video, `uploaded`.
    pub video: Video,
    /// Its current source.
    pub source: Source,
    /// The `process_video` job under which its renditions are made.
    pub lease: Lease,
}

impl VideoHarness {
    /// A store in an empty SQLite file.
    pub async fn sqlite() -> Option<Self> {
        let base = TestStore::open().await;
        let (store, clock) = (Arc::new(base.store.clone()), base.clock.clone());
        Some(Self { store, clock, entropy: Arc::clone(&base.entropy), numbers: AtomicU64::new(0), base })
    }

    /// The SQLite store underneath, for those who look at rows or damage them.
    pub fn base(&self) -> &TestStore {
        &self.base
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The repeatable randomness.
    pub fn entropy(&self) -> &dyn Entropy {
        &*self.entropy
    }

    /// A number not given out before, from 1.
    pub fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A new user.
    pub async fn user(&self) -> UserId {
        let (now, number) = (self.now(), self.number());
        let id = UserId::new(now, &*self.entropy);
        let account = NewAccount {
            id,
            email: format!("user{number}@example.org"),
            handle: format!("user{number}"),
            display_name: format!("User {number}"),
            password_hash: "$argon2id$none".to_owned(),
            now,
        };
        let mut token_hash = [0; 32];
        self.entropy.fill(&mut token_hash);
        let session = NewSession {
            id: SessionId::new(now, &*self.entropy),
            user: id,
            token_hash,
            now,
            expires_at: now.plus(Duration::from_secs(3600)),
        };
        self.store.create_account(account, session, Causes::none()).await.expect("the account is new");
        id
    }

    /// A draft as it would be made now, not yet stored.
    pub fn new_video(&self, owner: UserId, title: &str) -> NewVideo {
        NewVideo {
            id: VideoId::new(self.now(), &*self.entropy),
            owner,
            title: title.to_owned(),
            description: String::new(),
            tags: Vec::new(),
            visibility: Visibility::Public,
            now: self.now(),
        }
    }

    /// A stored draft.
    pub async fn create(&self, new: NewVideo) -> Video {
        self.store.create_video(new, Causes::none()).await.expect("the owner exists").into_inner()
    }

    /// A stored public draft called `title`.
    pub async fn draft(&self, owner: UserId, title: &str) -> Video {
        self.create(self.new_video(owner, title)).await
    }

    /// The video as it is now.
    pub async fn video(&self, id: VideoId) -> Video {
        self.store.video(id).await.expect("the store answers").expect("the video exists")
    }

    /// A job as it would be enqueued now.
    pub fn new_job(&self, queue: &str, kind: &str, video: Option<VideoId>) -> NewJob {
        NewJob {
            id: JobId::new(self.now(), &*self.entropy),
            queue: QueueName::new(queue),
            kind: kind.to_owned(),
            payload: json!({}),
            priority: 0,
            run_at: self.now(),
            max_attempts: 5,
            unique_key: None,
            owner: None,
            video,
            on_dead: None,
            group: None,
            now: self.now(),
        }
    }

    /// Claims the next due job of a queue.
    pub async fn claim(&self, queue: &str) -> Lease {
        let claim = Claim {
            queues: vec![QueueName::new(queue)],
            limit: 1,
            lease_for: LEASE,
            worker: "harness".to_owned(),
            per_owner: None,
        };
        let leases = self.store.lease(claim).await.expect("the store answers");
        leases.into_iter().next().expect("a job is due")
    }

    /// A claimed job of a queue nobody else uses.
    pub async fn lease(&self, kind: &str, video: Option<VideoId>) -> Lease {
        let queue = format!("harness-{}", self.number());
        self.store.enqueue(self.new_job(&queue, kind, video), Causes::none()).await.expect("the job is new");
        self.claim(&queue).await
    }

    /// A fence whose lease has run out.
    pub async fn lost_fence(&self) -> Fence {
        let lease = self.lease("lost", None).await;
        self.clock.advance(LEASE);
        lease.fence()
    }

    /// An upload of `size_bytes` as it would be opened now: an hour to go, no quota to speak of.
    pub fn new_upload(&self, video: &Video, size_bytes: u64) -> NewUpload {
        NewUpload {
            id: UploadId::new(self.now(), &*self.entropy),
            video: Some(video.id),
            user: video.owner,
            kind: UploadKind::Whole,
            size_bytes: Some(size_bytes),
            declared_sha256: None,
            part_size_bytes: None,
            metadata: None,
            concatenation: None,
            draft: None,
            now: self.now(),
            expires_at: self.now().plus(Duration::from_secs(3600)),
            quota_bytes: 1 << 40,
            max_open: 5,
        }
    }

    /// An open upload.
    pub async fn open(&self, video: &Video, size_bytes: u64) -> Upload {
        let new = self.new_upload(video, size_bytes);
        self.store.create_upload(new, Causes::none()).await.expect("the upload is allowed").into_inner()
    }

    /// An upload whose bytes are there.
    pub async fn received(&self, video: &Video, size_bytes: u64) -> Upload {
        let upload = self.open(video, size_bytes).await;
        let key = format!("staging/{}/whole", upload.id);
        self.store
            .record_received(upload.id, key, size_bytes, sha256(size_bytes))
            .await
            .expect("an open upload takes its bytes")
    }

    /// An upload that is being verified, with the claimed job that does it.
    pub async fn verifying(&self, video: &Video, size_bytes: u64) -> (Upload, Lease) {
        let upload = self.received(video, size_bytes).await;
        let mut job = self.new_job(UPLOADS_QUEUE, VERIFY_UPLOAD, None);
        job.payload = json!({ "upload": upload.id });
        let outcome = self.store.complete_upload(upload.id, upload.user, Causes::none().job(job)).await;
        let upload = outcome.expect("received bytes can be completed").into_inner();
        (upload, self.claim(UPLOADS_QUEUE).await)
    }

    /// What makes the upload the video's source.
    pub fn commit(&self, upload: &Upload, fence: Fence) -> CommitSource {
        let video = upload.video.expect("it is no part");
        let object_key = format!("originals/{video}/{}", upload.id);
        let (size_bytes, content_type) = (upload.size_bytes, "video/mp4".to_owned());
        let sha256 = sha256(size_bytes);
        CommitSource {
            fence,
            upload: upload.id,
            source: Source {
                id: SourceId::new(self.now(), &*self.entropy),
                video,
                upload: upload.id,
                object_key: object_key.clone(),
                size_bytes,
                sha256,
                content_type: content_type.clone(),
            },
            object: NewObject { key: object_key, size_bytes, sha256, content_type },
            now: self.now(),
        }
    }

    /// The job that processes a source, as the service makes it.
    pub fn process_job(&self, source: &Source) -> NewJob {
        let mut job = self.new_job(VIDEO_QUEUE, PROCESS_VIDEO, Some(source.video));
        job.payload = json!({ "video": source.video, "source": source.id });
        job.unique_key = Some(format!("{PROCESS_VIDEO}:{}", source.id));
        job
    }

    /// Gives the video a new current source, with its job queued.
    pub async fn commit_source(&self, video: &Video) -> Source {
        let (upload, lease) = self.verifying(video, 1000).await;
        let command = self.commit(&upload, lease.fence());
        let (source, causes) = (command.source.clone(), Causes::none().job(self.process_job(&command.source)));
        self.store.commit_source(command, causes).await.expect("the lease is held");
        self.store.complete(lease.fence(), Causes::none()).await.expect("the lease is held");
        source
    }

    /// Gives the video a new current source and claims its job.
    pub async fn sourced(&self, video: &Video) -> Sourced {
        let source = self.commit_source(video).await;
        Sourced { video: self.video(video.id).await, source, lease: self.claim(VIDEO_QUEUE).await }
    }

    /// Starts the processing and plans renditions by name.
    pub async fn planned(&self, sourced: &Sourced, names: &[&str]) -> HashMap<String, Rendition> {
        let (fence, source) = (sourced.lease.fence(), sourced.source.id);
        self.store.start_processing(fence, source, self.now()).await.expect("the lease is held");
        let planned = names.iter().map(|name| self.plan(name)).collect();
        let rows = self.store.plan_processing(fence, source, info(), planned, self.now()).await;
        rows.expect("the lease is held").into_iter().map(|row| (row.name.clone(), row)).collect()
    }

    /// A wanted HLS rendition.
    pub fn plan(&self, name: &str) -> PlannedRendition {
        let id = RenditionId::new(self.now(), &*self.entropy);
        PlannedRendition { id, name: name.to_owned(), kind: RenditionKind::Hls, width: 640, height: 360 }
    }

    /// Begins a rendition under the lease and says what would publish it.
    pub async fn begun(&self, rendition: &Rendition, fence: Fence) -> PublishRendition {
        let prefix = format!("renditions/{}/{}/{}", rendition.video, fence.token, rendition.name);
        self.store
            .begin_rendition(fence, rendition.id, prefix.clone(), self.now())
            .await
            .expect("the lease is held and the rendition is not ready");
        let key = format!("{prefix}/index.m3u8");
        let content_type = "application/vnd.apple.mpegurl".to_owned();
        PublishRendition {
            fence,
            rendition: rendition.id,
            bandwidth: Some(800_000),
            codecs: Some("avc1.64001f".to_owned()),
            objects: vec![NewObject { key, size_bytes: 10, sha256: sha256(10), content_type }],
            now: self.now(),
        }
    }

    /// Makes and publishes one rendition of the video's current source under its claimed job.
    pub async fn publish(&self, sourced: &Sourced, name: &str) {
        let rendition = self.planned(sourced, &[name]).await.remove(name).expect("it was planned");
        let command = self.begun(&rendition, sourced.lease.fence()).await;
        self.store.publish_rendition(command, Causes::none()).await.expect("the lease is held");
    }

    /// A playable video, its job done.
    pub async fn playable(&self, new: NewVideo) -> Video {
        let draft = self.create(new).await;
        let sourced = self.sourced(&draft).await;
        self.publish(&sourced, "360p").await;
        self.store.complete(sourced.lease.fence(), Causes::none()).await.expect("the lease is held");
        self.video(draft.id).await
    }

    /// A public, playable video called `title`.
    pub async fn listed(&self, owner: UserId, title: &str) -> Video {
        self.playable(self.new_video(owner, title)).await
    }
}

/// The bytes of every object of this size that the harness records.
pub fn content(size_bytes: u64) -> Vec<u8> {
    (0..size_bytes).map(|i| (i % 251) as u8).collect()
}

fn sha256(size_bytes: u64) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &content(size_bytes));
    digest.as_ref().try_into().expect("SHA-256 is 32 bytes long")
}

/// What a probe may have found.
pub fn info() -> MediaInfo {
    MediaInfo {
        container: "mov,mp4,m4a,3gp,3g2,mj2".to_owned(),
        content_type: "video/mp4".to_owned(),
        duration_ms: Some(2000),
        width: Some(640),
        height: Some(360),
        video_codec: Some("h264".to_owned()),
        audio_codec: None,
    }
}
