//! A transcoder whose renditions a test lets through one by one.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use vidcore::clock::ManualClock;
use vidcore::media::simulated::SimulatedTranscoder;
use vidcore::media::storyboard::{INDEX, INDEX_TYPE};
use vidcore::media::{
    EncodeRequest, Encoded, MediaError, MediaInfo, OutputFile, RenditionKind, RenditionPlan, Transcoder,
};

/// Both renditions, best first.
pub(crate) const LARGE: &str = "720p";
pub(crate) const SMALL: &str = "360p";

/// How an attempt to make something ends instead of well.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trouble {
    /// In a manner another attempt may mend.
    Passing,
    /// For good, with this reason.
    Lasting(&'static str),
}

/// Judges files as the simulated transcoder does and makes two HLS renditions, a poster and a storyboard of
/// each: files of a few bytes that nobody could play.
pub(crate) struct Ladder {
    judge: SimulatedTranscoder,
    state: Mutex<State>,
    /// What may be finished.
    open: watch::Sender<Vec<&'static str>>,
    /// Whether it goes on when it is told to stop.
    is_deaf: bool,
    /// What happens just before the first poster is finished.
    interlude: Mutex<Option<Interlude>>,
}

/// Something that happens while a transcoder works.
type Interlude = BoxFuture<'static, ()>;

#[derive(Default)]
struct State {
    /// Everything that was begun, in order.
    begun: Vec<String>,
    troubles: HashMap<String, Vec<Trouble>>,
}

impl fmt::Debug for Ladder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ladder").finish_non_exhaustive()
    }
}

impl Ladder {
    /// Everything goes through.
    pub(crate) fn new() -> Arc<Self> {
        let ladder = Self::holding();
        ladder.let_through(&[LARGE, SMALL]);
        ladder
    }

    /// Renditions wait until they are let through.
    pub(crate) fn holding() -> Arc<Self> {
        Arc::new(Self::held(false))
    }

    /// Renditions wait until they are let through, also when they are told to stop.
    pub(crate) fn deaf() -> Arc<Self> {
        Arc::new(Self::held(true))
    }

    fn held(is_deaf: bool) -> Self {
        let judge = SimulatedTranscoder::new(Arc::new(ManualClock::default()));
        let open = watch::channel(Vec::new()).0;
        Self { judge, state: Mutex::default(), open, is_deaf, interlude: Mutex::default() }
    }

    /// Only these go through from now on.
    pub(crate) fn let_through(&self, names: &[&'static str]) {
        self.open.send_replace(names.to_vec());
    }

    /// The next attempts at `name` end so, the last of these first; those after them well.
    pub(crate) fn trouble(&self, name: &str, troubles: &[Trouble]) {
        self.state().troubles.insert(name.to_owned(), troubles.to_vec());
    }

    /// This happens just before the first poster is finished, which goes on whatever it is.
    pub(crate) fn before_a_poster(&self, interlude: impl Future<Output = ()> + Send + 'static) {
        *self.interlude.lock().unwrap_or_else(PoisonError::into_inner) = Some(interlude.boxed());
    }

    /// How often it was begun to make `name`.
    pub(crate) fn begun(&self, name: &str) -> usize {
        self.state().begun.iter().filter(|begun| *begun == name).count()
    }

    /// Everything that was begun, in order.
    pub(crate) fn order(&self) -> Vec<String> {
        self.state().begun.clone()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, name: &str) {
        self.state().begun.push(name.to_owned());
    }

    fn end(&self, name: &str) -> Result<(), MediaError> {
        match self.state().troubles.get_mut(name).and_then(Vec::pop) {
            None => Ok(()),
            Some(Trouble::Passing) => {
                Err(MediaError::Failed { message: "a trouble of the test's".into(), source: None })
            }
            Some(Trouble::Lasting(reason)) => Err(MediaError::Unacceptable { reason: reason.to_owned() }),
        }
    }

    async fn write(output: &Path, files: &[(&str, &'static str)]) -> Vec<OutputFile> {
        let mut written = Vec::new();
        for (name, content_type) in files {
            tokio::fs::write(output.join(name), name).await.expect("the folder is private");
            written.push(OutputFile { name: (*name).to_owned(), content_type });
        }
        written
    }
}

fn plan(name: &str, width: u32, height: u32) -> RenditionPlan {
    let kind = RenditionKind::Hls;
    RenditionPlan { name: name.to_owned(), kind, width, height, video_bitrate: 1000, audio_bitrate: 0 }
}

#[async_trait]
impl Transcoder for Ladder {
    fn name(&self) -> &'static str {
        "ladder"
    }

    async fn probe(&self, input: &Path, cancel: &CancellationToken) -> Result<MediaInfo, MediaError> {
        self.judge.probe(input, cancel).await
    }

    fn plan(&self, _: &MediaInfo) -> Vec<RenditionPlan> {
        vec![plan(LARGE, 1280, 720), plan(SMALL, 640, 360)]
    }

    async fn encode(&self, request: EncodeRequest) -> Result<Encoded, MediaError> {
        let name = request.plan.name.as_str();
        self.begin(name);
        (request.progress)(0.5);
        let mut open = self.open.subscribe();
        tokio::select! {
            _ = open.wait_for(|open| open.contains(&name)) => self.end(name)?,
            () = request.cancel.cancelled(), if !self.is_deaf => return Err(MediaError::Cancelled),
        }
        let files = Self::write(&request.output, &[("index.m3u8", "application/vnd.apple.mpegurl")]).await;
        let RenditionPlan { width, height, .. } = request.plan;
        Ok(Encoded { files, bandwidth: Some(height), codecs: Some("avc1.640028".to_owned()), width, height })
    }

    fn makes_pictures(&self) -> bool {
        true
    }

    async fn poster(
        &self,
        _: &Path,
        _: &MediaInfo,
        output: &Path,
        _: &CancellationToken,
    ) -> Result<Option<OutputFile>, MediaError> {
        self.begin("poster");
        let interlude = self.interlude.lock().unwrap_or_else(PoisonError::into_inner).take();
        interlude.unwrap_or_else(|| std::future::ready(()).boxed()).await;
        self.end("poster")?;
        Ok(Self::write(output, &[("poster.jpg", "image/jpeg")]).await.pop())
    }

    async fn storyboard(
        &self,
        _: &Path,
        _: &MediaInfo,
        output: &Path,
        _: &CancellationToken,
    ) -> Result<Vec<OutputFile>, MediaError> {
        self.begin("storyboard");
        self.end("storyboard")?;
        Ok(Self::write(output, &[(INDEX, INDEX_TYPE), ("sheet.jpg", "image/jpeg")]).await)
    }
}
