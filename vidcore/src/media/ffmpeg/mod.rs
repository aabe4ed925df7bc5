//! The transcoder that makes real renditions: ffmpeg as a child process in a sandbox.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::media::hls::{self, HlsError, MediaPlaylist};
use crate::media::probe::{Prober, SourceLimits, ask, lasting, processors, sniffed, version};
use crate::media::process::{self, Call, Finished};
use crate::media::sandbox::Sandbox;
use crate::media::storyboard::Layout;
use crate::media::{
    EncodeRequest, Encoded, MediaError, MediaInfo, OutputFile, RenditionPlan, Transcoder, complaint, ladder,
};
use crate::platform::settings::MediaSettings;

mod arguments;
mod progress;
mod sheets;

use arguments::{Arguments, Pace};
use progress::ProgressReader;

/// The encoders every rendition needs.
const ENCODERS: [&str; 2] = ["libx264", "aac"];
/// The poster's longest side in pixels.
const POSTER_SIDE: u32 = 1280;
const POSTER: &str = "poster.jpg";
/// The marker every JPEG ends with (ITU-T T.81 §B.2.1).
const JPEG_END: [u8; 2] = [0xff, 0xd9];
/// Up to this distance of two pictures a storyboard is made from every frame; beyond, key frames are near enough.
const EVERY_FRAME_UP_TO: Duration = Duration::from_secs(2);
/// The latest moment the poster is taken from.
const POSTER_LATEST: Duration = Duration::from_secs(10);

/// Probes with ffprobe and encodes with ffmpeg: HLS in fragmented MP4, H.264 and AAC, segments of
/// four seconds that begin with a key frame at the same moments in every rendition.
///
/// Both tools open the file with the one demuxer its bytes call for, within whitelists of protocols
/// and formats, and run inside the [`Sandbox`] layers that work on this machine. Nothing of the
/// environment reaches them but `PATH`; file names in the output are this program's own.
pub struct FfmpegTranscoder {
    program: OsString,
    version: String,
    prober: Prober,
    sandbox: Sandbox,
    arguments: Arguments,
    encode_limit: Duration,
    poster_limit: Duration,
    limits: SourceLimits,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for FfmpegTranscoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FfmpegTranscoder")
            .field("program", &self.program)
            .field("version", &self.version)
            .field("sandbox", &self.sandbox)
            .finish_non_exhaustive()
    }
}

impl FfmpegTranscoder {
    /// Looks for ffmpeg and ffprobe, their encoders, and the sandbox layers that work here; logs
    /// which do not. Takes about half a second.
    ///
    /// # Errors
    /// [`MediaError::Failed`], saying what is missing.
    pub async fn detect(settings: &MediaSettings, clock: Arc<dyn Clock>) -> Result<Self, MediaError> {
        let program = lasting(&settings.ffmpeg);
        let prober = Prober::detect(settings, clock.clone()).await?;
        let encode_limit = Duration::from_secs(settings.encode_timeout_s);
        let poster_limit = Duration::from_secs(settings.probe_timeout_s);
        let sandbox = prober.sandbox().with_processor_time(encode_limit.saturating_mul(processors()));
        let (version, encoders) = tokio::try_join!(
            version(&sandbox, &program, poster_limit, clock.as_ref()),
            ask(&sandbox, &program, &["-hide_banner", "-v", "error", "-encoders"], poster_limit, clock.as_ref()),
        )?;
        if let Some(missing) = ENCODERS.into_iter().find(|name| !has_encoder(&encoders, name)) {
            let message = format!("this ffmpeg has no encoder {missing}");
            return Err(MediaError::Failed { message, source: None });
        }
        report(&version, &sandbox);
        let limits = SourceLimits::of(settings);
        let arguments = Arguments { limits, threads: settings.threads };
        Ok(Self { program, version, prober, sandbox, arguments, encode_limit, poster_limit, limits, clock })
    }

    /// What ffmpeg says of itself, one line.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The sandbox the tools run in, with the layers that work here.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    async fn run(
        &self,
        arguments: Vec<OsString>,
        folder: &Path,
        limit: Duration,
        cancel: &CancellationToken,
        on_output: impl FnMut(&[u8]) + Send,
    ) -> Result<Finished, MediaError> {
        let line = self.sandbox.command_line(&self.program, arguments);
        let finished =
            process::run(Call { line, folder, limit, clock: self.clock.as_ref(), cancel }, on_output).await?;
        // A muxer that could not write its last bytes may still let ffmpeg end well.
        if !finished.status.success() || complaint::says_disk_full(&finished.stderr) {
            return Err(complaint::of("ffmpeg", &finished));
        }
        Ok(finished)
    }

    async fn poster_at(
        &self,
        at: Duration,
        input: &Path,
        size: (u32, u32),
        output: &Path,
        cancel: &CancellationToken,
    ) -> Result<bool, MediaError> {
        let container = sniffed(input).await?.container;
        let arguments = self.arguments.poster(container, input, at, size, POSTER)?;
        self.run(arguments, output, self.poster_limit, cancel, |_| {}).await?;
        match tokio::fs::read(output.join(POSTER)).await {
            // On a full disk ffmpeg may end well all the same.
            Ok(picture) if !picture.ends_with(&JPEG_END) => {
                Err(MediaError::Failed { message: "the poster is cut off".to_owned(), source: None })
            }
            Ok(_) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed("the poster cannot be read", error)),
        }
    }

    /// Checks the rendition and its length: a source that does not say how long it is shows it here.
    async fn read_back(&self, output: &Path) -> Result<Encoded, MediaError> {
        let folder = output.to_owned();
        let (encoded, playlist) = tokio::task::spawn_blocking(move || hls::read_back(&folder))
            .await
            .map_err(|error| failed("the rendition could not be checked", error))?
            .map_err(|error| match error {
                HlsError::Empty => unacceptable("The file has no picture that could be read."),
                error => failed("the rendition is not whole", error),
            })?;
        self.limits.check_duration(played(&playlist))?;
        Ok(encoded)
    }
}

#[async_trait]
impl Transcoder for FfmpegTranscoder {
    fn name(&self) -> &'static str {
        "ffmpeg"
    }

    async fn probe(&self, input: &Path, cancel: &CancellationToken) -> Result<MediaInfo, MediaError> {
        self.prober.probe(input, cancel).await
    }

    fn plan(&self, info: &MediaInfo) -> Vec<RenditionPlan> {
        ladder::plan(info)
    }

    async fn encode(&self, request: EncodeRequest) -> Result<Encoded, MediaError> {
        let EncodeRequest { input, info, output, plan, progress, cancel } = request;
        let container = sniffed(&input).await?.container;
        let arguments = self.arguments.rendition(container, &input, &plan)?;
        let begun = self.clock.monotonic();
        let mut reader = ProgressReader::new(info.duration_ms, progress.clone());
        self.run(arguments, &output, self.encode_limit, &cancel, |piece| reader.take(piece)).await?;
        let encoded = self.read_back(&output).await?;
        let elapsed = self.clock.monotonic().saturating_sub(begun);
        metrics::histogram!("vid_media_encode_seconds", "rendition" => plan.name).record(elapsed);
        progress(1.0);
        Ok(encoded)
    }

    fn makes_pictures(&self) -> bool {
        true
    }

    async fn poster(
        &self,
        input: &Path,
        info: &MediaInfo,
        output: &Path,
        cancel: &CancellationToken,
    ) -> Result<Option<OutputFile>, MediaError> {
        let Some(source) = info.width.zip(info.height) else {
            return Err(MediaError::Failed { message: "the source's size is not known".to_owned(), source: None });
        };
        let size = ladder::within(source, POSTER_SIDE);
        let tenth = Duration::from_millis(info.duration_ms.unwrap_or(0) / 10);
        // Behind the last key frame of a file whose length is wrong there is no picture; at its
        // beginning there is one, or the file has none.
        for at in [tenth.min(POSTER_LATEST), Duration::ZERO] {
            if self.poster_at(at, input, size, output, cancel).await? {
                return Ok(Some(OutputFile { name: POSTER.to_owned(), content_type: "image/jpeg" }));
            }
        }
        Err(unacceptable("The file has no picture that could be read."))
    }

    async fn storyboard(
        &self,
        input: &Path,
        info: &MediaInfo,
        output: &Path,
        cancel: &CancellationToken,
    ) -> Result<Vec<OutputFile>, MediaError> {
        let (Some(size), Some(length)) = (info.width.zip(info.height), info.duration_ms.map(Duration::from_millis))
        else {
            return Ok(Vec::new());
        };
        let layout = Layout::of(size, length);
        let container = sniffed(input).await?.container;
        let pace = if layout.interval > EVERY_FRAME_UP_TO { Pace::KeyFrames } else { Pace::Frames };
        let arguments = self.arguments.storyboard(container, input, &layout, pace)?;
        self.run(arguments, output, self.encode_limit, cancel, |_| {}).await?;
        let folder = output.to_owned();
        tokio::task::spawn_blocking(move || sheets::finish(&folder, &layout, length))
            .await
            .map_err(|error| failed("the storyboard could not be checked", error))?
            .map_err(|error| failed("the storyboard is not whole", error))
    }
}

/// Lines of `ffmpeg -encoders` are flags, name, description.
fn has_encoder(listing: &str, name: &str) -> bool {
    listing.lines().any(|line| line.split_whitespace().nth(1) == Some(name))
}

fn report(version: &str, sandbox: &Sandbox) {
    let names = |layers: &[_]| layers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let (active, absent) = (names(sandbox.layers()), names(&sandbox.absent()));
    tracing::info!(version, sandbox = active, "ffmpeg found");
    if !absent.is_empty() {
        tracing::warn!(absent, "sandbox layers do not work here: ffmpeg runs without {absent}");
    }
}

fn played(playlist: &MediaPlaylist) -> Duration {
    Duration::try_from_secs_f64(playlist.duration()).unwrap_or(Duration::MAX)
}

fn unacceptable(reason: &str) -> MediaError {
    MediaError::Unacceptable { reason: reason.to_owned() }
}

fn failed(message: &str, error: impl std::error::Error + Send + Sync + 'static) -> MediaError {
    MediaError::Failed { message: message.to_owned(), source: Some(Box::new(error)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoder_is_known_by_its_whole_name() {
        let listing = " V....D libx264rgb           H.264 RGB\n A..... aac                  AAC\n";
        assert!(has_encoder(listing, "aac"));
        assert!(!has_encoder(listing, "libx264"));
    }
}
