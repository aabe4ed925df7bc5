//! What a file holds, by ffprobe, and what a source may be at most.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::media::process::{self, Call};
use crate::media::sandbox::{ResourceLimits, Sandbox};
use crate::media::sniff::{Container, Sniffed, sniff_file};
use crate::media::{MediaError, MediaInfo, complaint};
use crate::platform::settings::MediaSettings;

mod report;

use report::info;

/// The longest side an H.264 encoder takes.
const MAX_SIDE: u32 = 16_384;
/// The shortest side accepted: one macroblock.
const MIN_SIDE: u32 = 16;
/// ffprobe's answer is cut down to a few fields per stream; a file of a thousand streams stays below this.
const MAX_REPORT_BYTES: usize = 1 << 20;
/// The fields asked for. No tag but the old one for rotation: titles are the uploader's text.
const FIELDS: &str = "format=format_name,duration\
    :stream=codec_type,codec_name,width,height,sample_aspect_ratio,duration\
    :stream_disposition=attached_pic:stream_tags=rotate:stream_side_data=rotation";

/// How long and how large a source may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceLimits {
    /// The longest source. A file that does not say how long it is passes here.
    pub max_duration: Duration,
    /// Most pixels, width × height.
    pub max_pixels: u64,
}

impl SourceLimits {
    /// The limits of the settings.
    pub fn of(settings: &MediaSettings) -> Self {
        Self { max_duration: Duration::from_secs(settings.max_duration_s), max_pixels: settings.max_pixels }
    }

    /// Checks what is known of a source.
    ///
    /// # Errors
    /// [`MediaError::Unacceptable`], naming the limit.
    pub fn check(&self, info: &MediaInfo) -> Result<(), MediaError> {
        if let Some(millis) = info.duration_ms {
            self.check_duration(Duration::from_millis(millis))?;
        }
        let (Some(width), Some(height)) = (info.width, info.height) else { return Ok(()) };
        if width.min(height) < MIN_SIDE {
            return refuse(format!(
                "The picture of {width}x{height} pixels is too small: a side has at least {MIN_SIDE}."
            ));
        }
        if width.max(height) > MAX_SIDE || u64::from(width) * u64::from(height) > self.max_pixels {
            return refuse(format!("The picture of {width}x{height} pixels is larger than this server accepts."));
        }
        Ok(())
    }

    pub(crate) fn check_duration(&self, duration: Duration) -> Result<(), MediaError> {
        if duration > self.max_duration {
            let minutes = self.max_duration.as_secs() / 60;
            return refuse(format!("The video is longer than the {minutes} minutes this server accepts."));
        }
        Ok(())
    }
}

impl Default for SourceLimits {
    /// 12 hours and 35,000,000 pixels.
    fn default() -> Self {
        Self::of(&MediaSettings::default())
    }
}

/// ffprobe, inside the sandbox.
#[derive(Clone)]
pub struct Prober {
    program: OsString,
    sandbox: Sandbox,
    limits: SourceLimits,
    timeout: Duration,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Prober {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prober").field("program", &self.program).field("sandbox", &self.sandbox).finish_non_exhaustive()
    }
}

impl Prober {
    /// Looks for ffprobe and for the sandbox layers that work with it here.
    ///
    /// # Errors
    /// [`MediaError::Failed`] if there is no working ffprobe.
    pub async fn detect(settings: &MediaSettings, clock: Arc<dyn Clock>) -> Result<Self, MediaError> {
        let timeout = Duration::from_secs(settings.probe_timeout_s);
        let program = lasting(&settings.ffprobe);
        let limits = ResourceLimits {
            address_space_bytes: settings.max_memory_bytes,
            file_bytes: 1 << 30,
            processor_time: timeout.saturating_mul(processors()),
        };
        let bare = Sandbox::new(&[], limits);
        version(&bare, &program, timeout, clock.as_ref()).await?;
        let sandbox = Sandbox::detect(&program, limits, clock.as_ref()).await;
        Ok(Self { program, sandbox, limits: SourceLimits::of(settings), timeout, clock })
    }

    /// The sandbox ffprobe runs in.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// What the file is: its container by its bytes, everything else by ffprobe, which is held to
    /// that container's demuxer.
    ///
    /// # Errors
    /// [`MediaError::Unacceptable`] if it is no video, or beyond the limits; [`MediaError::Cancelled`],
    /// [`MediaError::TimedOut`], [`MediaError::Failed`].
    ///
    /// # Cancel safety
    /// Dropping the future kills ffprobe.
    pub async fn probe(&self, input: &Path, cancel: &CancellationToken) -> Result<MediaInfo, MediaError> {
        let sniffed = sniffed(input).await?;
        self.limits.check(&sniffed.info)?;
        let mut report = Vec::new();
        let call = Call {
            line: self.sandbox.command_line(&self.program, self.arguments(sniffed.container, input)?),
            folder: Path::new("/"),
            limit: self.timeout,
            clock: self.clock.as_ref(),
            cancel,
        };
        let keep = |piece: &[u8]| {
            if report.len() <= MAX_REPORT_BYTES {
                report.extend_from_slice(piece);
            }
        };
        let finished = process::run(call, keep).await?;
        if !finished.status.success() {
            return Err(complaint::of("ffprobe", &finished));
        }
        let info = info(&report, sniffed)?;
        self.limits.check(&info)?;
        Ok(info)
    }

    fn arguments(&self, container: Container, input: &Path) -> Result<Vec<OsString>, MediaError> {
        let mut words: Vec<OsString> = ["-hide_banner", "-v", "error"].map(OsString::from).into();
        words.extend(guarded_input(container, self.limits.max_pixels, input)?);
        words.extend(["-show_entries", FIELDS, "-of", "json"].map(OsString::from));
        Ok(words)
    }
}

/// The words that open a hostile file, for ffprobe and ffmpeg alike: one demuxer and no other, no
/// protocol that leaves the machine, no format that names further files, no picture beyond memory.
pub(crate) fn guarded_input(container: Container, max_pixels: u64, input: &Path) -> Result<Vec<OsString>, MediaError> {
    let input = std::path::absolute(input).map_err(|error| MediaError::Failed {
        message: "the original has no path".to_owned(),
        source: Some(Box::new(error)),
    })?;
    let mut words: Vec<OsString> = [
        "-protocol_whitelist",
        "file,crypto,data",
        "-format_whitelist",
        "mov,matroska,webm,avi,mpegts,flv",
        "-max_pixels",
        &max_pixels.to_string(),
        "-f",
        container.demuxer(),
        "-i",
    ]
    .map(OsString::from)
    .into();
    let mut url = OsString::from("file:");
    url.push(input);
    words.push(url);
    Ok(words)
}

/// Judges the bytes, away from the async threads.
pub(crate) async fn sniffed(input: &Path) -> Result<Sniffed, MediaError> {
    let input = input.to_owned();
    tokio::task::spawn_blocking(move || sniff_file(&input)).await.map_err(|error| MediaError::Failed {
        message: "the original could not be judged".to_owned(),
        source: Some(Box::new(error)),
    })?
}

/// The first line of `program -version`.
pub(crate) async fn version(
    sandbox: &Sandbox,
    program: &OsString,
    limit: Duration,
    clock: &dyn Clock,
) -> Result<String, MediaError> {
    let text = ask(sandbox, program, &["-version"], limit, clock).await?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// What the program prints when asked about itself, at most 1 MiB of it.
pub(crate) async fn ask(
    sandbox: &Sandbox,
    program: &OsString,
    question: &[&str],
    limit: Duration,
    clock: &dyn Clock,
) -> Result<String, MediaError> {
    let line = sandbox.command_line(program, question.iter().map(OsString::from).collect());
    let mut text = Vec::new();
    let keep = |piece: &[u8]| {
        if text.len() <= MAX_REPORT_BYTES {
            text.extend_from_slice(piece);
        }
    };
    let cancel = CancellationToken::new();
    let call = Call { line, folder: Path::new("/"), limit, clock, cancel: &cancel };
    let finished = process::run(call, keep).await?;
    if !finished.status.success() {
        let name = program.to_string_lossy();
        let message = format!("{name} ended with {}: {}", finished.status, complaint::last_lines(&finished.stderr));
        return Err(MediaError::Failed { message, source: None });
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// A program's path that stays right in another folder; a bare name stays one, looked up in `PATH`.
pub(crate) fn lasting(program: &Path) -> OsString {
    let is_name = program.components().count() == 1 && !program.is_absolute();
    let path = if is_name { Ok(program.to_owned()) } else { std::path::absolute(program) };
    path.unwrap_or_else(|_| PathBuf::from(program)).into_os_string()
}

pub(crate) fn processors() -> u32 {
    std::thread::available_parallelism().ok().and_then(|count| u32::try_from(count.get()).ok()).unwrap_or(1)
}

fn refuse<T>(reason: impl Into<String>) -> Result<T, MediaError> {
    Err(MediaError::Unacceptable { reason: reason.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(report: &str) -> Result<MediaInfo, MediaError> {
        let info = MediaInfo {
            container: "mp4".to_owned(),
            content_type: "video/mp4".to_owned(),
            duration_ms: None,
            width: None,
            height: None,
            video_codec: None,
            audio_codec: None,
        };
        super::info(report.as_bytes(), Sniffed { container: Container::Mp4, info })
    }

    fn shown(stream: &str) -> (Option<u32>, Option<u32>) {
        let report = format!(r#"{{"streams":[{{"codec_type":"video","codec_name":"h264",{stream}}}]}}"#);
        let info = read(&report).expect("there is a video");
        (info.width, info.height)
    }

    #[test]
    fn a_quarter_turn_swaps_the_sides_whichever_way_it_is_told() {
        let upright = (Some(360), Some(640));
        assert_eq!(upright, shown(r#""width":640,"height":360,"side_data_list":[{},{"rotation":-90}]"#));
        assert_eq!(upright, shown(r#""width":640,"height":360,"tags":{"rotate":"270"}"#));
        assert_eq!((Some(640), Some(360)), shown(r#""width":640,"height":360,"side_data_list":[{"rotation":180}]"#));
    }

    #[test]
    fn pixels_that_are_not_square_are_counted_as_shown() {
        assert_eq!((Some(1024), Some(576)), shown(r#""width":720,"height":576,"sample_aspect_ratio":"64:45""#));
        assert_eq!((Some(720), Some(576)), shown(r#""width":720,"height":576,"sample_aspect_ratio":"0:1""#));
    }

    #[test]
    fn cover_art_is_no_video() {
        let report = r#"{"streams":[{"codec_type":"audio","codec_name":"aac"},
            {"codec_type":"video","codec_name":"mjpeg","width":600,"height":600,"disposition":{"attached_pic":1}}]}"#;
        assert!(
            matches!(read(report), Err(MediaError::Unacceptable { reason }) if reason == "The file has no video in it.")
        );
    }

    #[tokio::test]
    async fn even_past_the_first_look_a_playlist_opens_no_socket() {
        let settings = MediaSettings::default();
        let clock = Arc::new(crate::clock::SystemClock::new());
        let prober = Prober::detect(&settings, clock.clone()).await;
        if !crate::testkit::require("ffprobe", prober.is_ok()) {
            return;
        }
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket option");
        let address = listener.local_addr().expect("a bound port");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let playlist = folder.path().join("x.mp4");
        let entry = format!("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://{address}/x.ts\n#EXT-X-ENDLIST\n");
        std::fs::write(&playlist, entry).expect("the folder is writable");
        let bare = Sandbox::new(&[], prober.expect("it was just required").sandbox.limits());
        for container in [Container::Mp4, Container::WebM, Container::MpegTs, Container::Avi, Container::Flv] {
            // Neither the judgement by content nor the sandbox stands in the way here: the command
            // line alone has to.
            let input = guarded_input(container, settings.max_pixels, &playlist).expect("an absolute path");
            let words: Vec<&str> = input.iter().map(|word| word.to_str().expect("all words are text")).collect();
            let asked = ask(&bare, &"ffprobe".into(), &words, Duration::from_secs(30), clock.as_ref()).await;
            assert!(asked.is_err(), "{container:?}");
        }
        assert!(listener.accept().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
    }

    #[test]
    fn an_empty_answer_is_no_video_and_a_broken_one_is_not_the_files_fault() {
        assert!(matches!(read("{}"), Err(MediaError::Unacceptable { .. })));
        assert!(matches!(read("{"), Err(MediaError::Failed { .. })));
    }

    #[test]
    fn each_limit_admits_its_last_value_and_refuses_the_next() {
        let limits = SourceLimits { max_duration: Duration::from_secs(5), max_pixels: 640 * 360 };
        let source = |duration_ms, width, height| {
            let report = format!(
                r#"{{"streams":[{{"codec_type":"video","codec_name":"h264","width":{width},"height":{height}}}],
                "format":{{"duration":"{}"}}}}"#,
                f64::from(duration_ms) / 1000.0
            );
            limits.check(&read(&report).expect("there is a video"))
        };
        assert!(source(5000, 640, 360).is_ok());
        assert!(source(5001, 640, 360).is_err());
        assert!(source(5000, 640, 361).is_err());
        assert!(source(5000, 16, 16).is_ok());
        assert!(source(5000, 15, 16).is_err());
    }
}
