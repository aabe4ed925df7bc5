//! The port behind which files are probed and encoded.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::media::RenditionKind;
use crate::store::BoxError;

/// Why media could not be probed or encoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MediaError {
    /// The bytes are not a video this platform accepts; trying again cannot help.
    /// The reason is one sentence for the person who uploaded it.
    #[error("{reason}")]
    Unacceptable {
        /// One sentence with its full stop, without a path or an internal name.
        reason: String,
    },
    /// The work was cancelled through its token.
    #[error("cancelled")]
    Cancelled,
    /// The tool ran longer than it may.
    #[error("took longer than {} s", limit.as_secs())]
    TimedOut {
        /// How long it may run.
        limit: Duration,
    },
    /// The tool or the disk failed; another attempt may succeed.
    #[error("transcoder failed: {message}")]
    Failed {
        /// What happened, for the log (the tool's last words, shortened).
        message: String,
        /// What lies beneath, if anything does.
        #[source]
        source: Option<BoxError>,
    },
}

impl MediaError {
    /// Whether another attempt may succeed without any change of the file.
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::Unacceptable { .. })
    }
}

/// What a probe found in a file. Sizes are as shown, after rotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaInfo {
    /// `mov,mp4,…`, `matroska,webm` and the like; without a probe tool the container's short name.
    pub container: String,
    /// `video/mp4`, `video/webm`, … judged by content.
    pub content_type: String,
    /// Length in milliseconds, if the file says.
    pub duration_ms: Option<u64>,
    /// Width in pixels, if known.
    pub width: Option<u32>,
    /// Height in pixels, if known.
    pub height: Option<u32>,
    /// The video codec's name, if known.
    pub video_codec: Option<String>,
    /// The audio codec's name; `None` without audio, or if not known.
    pub audio_codec: Option<String>,
}

/// One rendition to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenditionPlan {
    /// `720p` and the like, or `original`.
    pub name: String,
    /// How it is played.
    pub kind: RenditionKind,
    /// Width in pixels, even; for `original` the source's own, 0 if not known.
    pub width: u32,
    /// Height in pixels, even; for `original` the source's own, 0 if not known.
    pub height: u32,
    /// Target of the video stream in bits per second; 0 for `original`.
    pub video_bitrate: u32,
    /// Target of the audio stream in bits per second; 0 for `original`.
    pub audio_bitrate: u32,
}

/// Told how far an encoding has come: a share from 0.0 to 1.0 that never goes back.
pub type Progress = Arc<dyn Fn(f32) + Send + Sync>;

/// One encoding.
#[derive(Clone)]
pub struct EncodeRequest {
    /// The original, a local file the server named.
    pub input: PathBuf,
    /// What the probe found in it.
    pub info: MediaInfo,
    /// A private, empty, existing folder; every file of the result is made in it.
    pub output: PathBuf,
    /// What to make.
    pub plan: RenditionPlan,
    /// Told how far it is.
    pub progress: Progress,
    /// Ends the work and every process it started.
    pub cancel: CancellationToken,
}

impl fmt::Debug for EncodeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncodeRequest").field("plan", &self.plan).finish_non_exhaustive()
    }
}

/// A file an encoding made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputFile {
    /// Its name in the output folder: one path segment of ASCII letters, digits, `.`, `_`, `-`.
    pub name: String,
    /// What it is served as.
    pub content_type: &'static str,
}

/// What an encoding made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The files; for HLS the media playlist is `index.m3u8`. Empty for `original`, which is
    /// published as it is.
    pub files: Vec<OutputFile>,
    /// Peak bits per second, measured over the segments.
    pub bandwidth: Option<u32>,
    /// RFC 6381 codecs.
    pub codecs: Option<String>,
    /// Width in pixels, as made.
    pub width: u32,
    /// Height in pixels, as made.
    pub height: u32,
}

/// Probes and encodes files.
///
/// # Contract
/// * A file that is no video this platform accepts is [`MediaError::Unacceptable`], from `probe`
///   where that can be known, else from `encode`; never a panic, whatever the bytes.
/// * Only `input` is read and only `output` is written; no socket is opened.
/// * When the cancel token fires or the future is dropped, every process the call started ends.
/// * `plan` is a pure function of the info, returns 1 to 8 plans with distinct names, best first,
///   none larger than the source.
#[async_trait]
pub trait Transcoder: fmt::Debug + Send + Sync + 'static {
    /// `ffmpeg` or `simulated`: shown in logs, metrics and the API.
    fn name(&self) -> &'static str;

    /// What the file is.
    async fn probe(&self, input: &Path, cancel: &CancellationToken) -> Result<MediaInfo, MediaError>;

    /// Which renditions to make of it.
    fn plan(&self, info: &MediaInfo) -> Vec<RenditionPlan>;

    /// Makes one rendition.
    async fn encode(&self, request: EncodeRequest) -> Result<Encoded, MediaError>;

    /// Whether it makes posters and storyboards.
    fn makes_pictures(&self) -> bool;

    /// Makes a poster (`poster.jpg` in `output`); `None` if this transcoder makes none.
    async fn poster(
        &self,
        input: &Path,
        info: &MediaInfo,
        output: &Path,
        cancel: &CancellationToken,
    ) -> Result<Option<OutputFile>, MediaError>;

    /// Makes a storyboard: pictures at equal distances, many to a sheet, and a WebVTT file
    /// ([`INDEX`](crate::media::storyboard::INDEX), the first of the answer) whose cues say where each is.
    /// Nothing if this transcoder makes none, or the file does not say how long it is.
    async fn storyboard(
        &self,
        input: &Path,
        info: &MediaInfo,
        output: &Path,
        cancel: &CancellationToken,
    ) -> Result<Vec<OutputFile>, MediaError>;
}
