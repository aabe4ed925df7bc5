//! What was checked is what is published: nothing that a client has a URL for is checked.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use vidcore::catalog::{VideoStatus, Visibility};
use vidcore::clock::SystemClock;
use vidcore::media::simulated::SimulatedTranscoder;
use vidcore::media::{EncodeRequest, Encoded, MediaError, MediaInfo, OutputFile, RenditionPlan, Transcoder};

use crate::studio::{Studio, public_grant, read_fixture};

/// While it looks at a file, somebody who still holds the upload's URL puts other bytes where they were sent.
#[derive(Debug)]
struct Swapped {
    inner: SimulatedTranscoder,
    staged: OnceLock<PathBuf>,
}

#[async_trait]
impl Transcoder for Swapped {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn probe(&self, input: &Path, cancel: &CancellationToken) -> Result<MediaInfo, MediaError> {
        if let Some(staged) = self.staged.get() {
            std::fs::create_dir_all(staged.parent().expect("it is in a folder")).expect("the folder is writable");
            std::fs::write(staged, read_fixture("no-audio.mp4")).expect("the folder is writable");
        }
        self.inner.probe(input, cancel).await
    }

    fn plan(&self, info: &MediaInfo) -> Vec<RenditionPlan> {
        self.inner.plan(info)
    }

    async fn encode(&self, request: EncodeRequest) -> Result<Encoded, MediaError> {
        self.inner.encode(request).await
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
}

#[tokio::test]
async fn bytes_put_in_place_of_those_being_checked_are_not_published() {
    let inner = SimulatedTranscoder::builder(Arc::new(SystemClock::new())).encode_time(Duration::ZERO).build();
    let transcoder = Arc::new(Swapped { inner, staged: OnceLock::new() });
    let studio = Studio::with_transcoder(transcoder.clone()).await;
    let draft = studio.draft(Visibility::Public).await;
    let upload = studio.send(draft.id, read_fixture("landscape.mp4")).await;
    let stored = studio.platform.store().upload(upload.id).await.expect("the store answers").expect("it was opened");
    let staged = studio.folder().join("objects").join(stored.staged_key.expect("it was received"));
    assert!(staged.is_file(), "{} holds what was sent", staged.display());
    transcoder.staged.set(staged).expect("it is set once");
    studio.complete(upload.id).await;
    studio.until(draft.id, VideoStatus::Ready).await;
    studio.until_idle().await;
    let (_, bytes) = studio.play(&public_grant(&studio.video(draft.id).await)).await.expect("it is ready");
    assert!(read_fixture("landscape.mp4") == bytes, "what was checked is what plays");
}
