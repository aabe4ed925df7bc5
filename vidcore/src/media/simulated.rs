//! The transcoder that encodes nothing: it takes a video through every state and publishes the
//! original itself as the only rendition.
//!
//! It is what runs where there is no ffmpeg, and what tests program: time, progress, failures. It
//! never invents media bytes.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::media::probe::{Prober, SourceLimits, sniffed};
use crate::media::{
    EncodeRequest, Encoded, MediaError, MediaInfo, OutputFile, RenditionKind, RenditionPlan, Transcoder,
};

/// The only rendition's name.
pub const ORIGINAL: &str = "original";

/// Takes the time it is told to, then hands out the original as it is.
///
/// Files are judged by their bytes ([`sniff`](crate::media::sniff)), or by ffprobe where the builder
/// was given one.
pub struct SimulatedTranscoder {
    clock: Arc<dyn Clock>,
    encode_time: Duration,
    steps: u32,
    failures_left: AtomicU32,
    rejection: Option<String>,
    prober: Option<Prober>,
    limits: SourceLimits,
}

impl fmt::Debug for SimulatedTranscoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedTranscoder")
            .field("encode_time", &self.encode_time)
            .field("prober", &self.prober)
            .finish_non_exhaustive()
    }
}

impl SimulatedTranscoder {
    /// A transcoder with every default.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::builder(clock).build()
    }

    /// A transcoder to be programmed; its time passes on `clock`.
    pub fn builder(clock: Arc<dyn Clock>) -> SimulatedTranscoderBuilder {
        SimulatedTranscoderBuilder(Self {
            clock,
            encode_time: Duration::from_millis(200),
            steps: 10,
            failures_left: AtomicU32::new(0),
            rejection: None,
            prober: None,
            limits: SourceLimits::default(),
        })
    }

    /// Takes one of the failures that are left, if any is.
    fn takes_failure(&self) -> bool {
        let less = |left: u32| left.checked_sub(1);
        self.failures_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    /// The outcome this encoding was programmed to have.
    fn programmed_outcome(&self) -> Result<(), MediaError> {
        if let Some(reason) = &self.rejection {
            return Err(MediaError::Unacceptable { reason: reason.clone() });
        }
        if self.takes_failure() {
            return Err(MediaError::Failed { message: "a programmed failure".to_owned(), source: None });
        }
        Ok(())
    }

    async fn step(&self, cancel: &CancellationToken) -> Result<(), MediaError> {
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(MediaError::Cancelled),
            () = self.clock.sleep(self.encode_time / self.steps) => Ok(()),
        }
    }
}

/// Programs a [`SimulatedTranscoder`].
#[derive(Debug)]
pub struct SimulatedTranscoderBuilder(SimulatedTranscoder);

impl SimulatedTranscoderBuilder {
    /// How long one encoding takes. Default 200 ms.
    #[must_use]
    pub fn encode_time(mut self, time: Duration) -> Self {
        self.0.encode_time = time;
        self
    }

    /// In how many equal steps progress is told; at least 1. Default 10.
    #[must_use]
    pub fn steps(mut self, steps: u32) -> Self {
        self.0.steps = steps.max(1);
        self
    }

    /// How many encodings, from the first, fail half way in a manner another attempt may mend. Default 0.
    #[must_use]
    pub fn fail_first(mut self, encodings: u32) -> Self {
        self.0.failures_left = AtomicU32::new(encodings);
        self
    }

    /// Fails every encoding half way and for good, with this reason. Default: none fails so.
    #[must_use]
    pub fn reject_with(mut self, reason: impl Into<String>) -> Self {
        self.0.rejection = Some(reason.into());
        self
    }

    /// Judges files by ffprobe instead of by their bytes alone. Default: by their bytes.
    #[must_use]
    pub fn probe_with(mut self, prober: Prober) -> Self {
        self.0.prober = Some(prober);
        self
    }

    /// How long and how large a source may be, where no [`Prober`] judges. Default: that of
    /// [`SourceLimits`].
    #[must_use]
    pub fn limits(mut self, limits: SourceLimits) -> Self {
        self.0.limits = limits;
        self
    }

    /// The transcoder.
    pub fn build(self) -> SimulatedTranscoder {
        self.0
    }
}

#[async_trait]
impl Transcoder for SimulatedTranscoder {
    fn name(&self) -> &'static str {
        "simulated"
    }

    async fn probe(&self, input: &Path, cancel: &CancellationToken) -> Result<MediaInfo, MediaError> {
        if let Some(prober) = &self.prober {
            return prober.probe(input, cancel).await;
        }
        if cancel.is_cancelled() {
            return Err(MediaError::Cancelled);
        }
        let info = sniffed(input).await?.info;
        self.limits.check(&info)?;
        Ok(info)
    }

    fn plan(&self, info: &MediaInfo) -> Vec<RenditionPlan> {
        vec![RenditionPlan {
            name: ORIGINAL.to_owned(),
            kind: RenditionKind::File,
            width: info.width.unwrap_or(0),
            height: info.height.unwrap_or(0),
            video_bitrate: 0,
            audio_bitrate: 0,
        }]
    }

    async fn encode(&self, request: EncodeRequest) -> Result<Encoded, MediaError> {
        let EncodeRequest { input, plan, progress, cancel, .. } = request;
        // The bytes are judged again, as the other transcoder does: they are what will be published.
        sniffed(&input).await?;
        for step in 1..=self.steps {
            self.step(&cancel).await?;
            progress(step as f32 / self.steps as f32);
            if step == self.steps.div_ceil(2) {
                self.programmed_outcome()?;
            }
        }
        Ok(Encoded { files: Vec::new(), bandwidth: None, codecs: None, width: plan.width, height: plan.height })
    }

    fn makes_pictures(&self) -> bool {
        false
    }

    async fn poster(
        &self,
        _input: &Path,
        _info: &MediaInfo,
        _output: &Path,
        _cancel: &CancellationToken,
    ) -> Result<Option<OutputFile>, MediaError> {
        Ok(None)
    }

    async fn storyboard(
        &self,
        _input: &Path,
        _info: &MediaInfo,
        _output: &Path,
        _cancel: &CancellationToken,
    ) -> Result<Vec<OutputFile>, MediaError> {
        Ok(Vec::new())
    }
}
