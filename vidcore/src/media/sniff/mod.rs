//! What a file is, judged by its bytes alone: never by its name or by what a client says.
//!
//! The container is told by its first bytes; for MP4/QuickTime and Matroska/WebM the structure is
//! walked far enough to find the length, the size and whether there is a video at all, and to notice
//! a file that is cut off. Nothing is decoded. Memory stays bounded, whatever the bytes claim: a
//! few kilobytes, and 24 bytes for each of at most 100,000 boxes of one level.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use crate::media::{MediaError, MediaInfo};

mod bmff;
mod ebml;

pub(crate) use bmff::{SampleDescription, is_whole_segment, sample_descriptions};

/// How much of the beginning decides what the file is.
const HEAD_BYTES: u64 = 4096;

/// Containers the platform accepts: those ffmpeg is allowed to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Container {
    /// MP4 and its kin (ISO/IEC 14496-12).
    Mp4,
    /// QuickTime.
    QuickTime,
    /// Matroska (RFC 9559).
    Matroska,
    /// WebM, the subset of Matroska browsers play.
    WebM,
    /// AVI (RIFF).
    Avi,
    /// MPEG-2 transport stream (ISO/IEC 13818-1), packets of 188 or 192 bytes.
    MpegTs,
    /// Flash video.
    Flv,
}

impl Container {
    /// Every one.
    pub const ALL: [Self; 7] =
        [Self::Mp4, Self::QuickTime, Self::Matroska, Self::WebM, Self::Avi, Self::MpegTs, Self::Flv];

    /// The container of a file that begins with `head`; `None` if it is no video file this platform
    /// accepts. At least 1 KiB of a longer file is needed to know a transport stream.
    pub fn of_head(head: &[u8]) -> Option<Self> {
        let tag = |at: usize, text: &[u8]| head.get(at..at + text.len()) == Some(text);
        if let Some(container) = bmff::container(head) {
            return Some(container);
        }
        if head.starts_with(&ebml::MAGIC) {
            return ebml::container(head);
        }
        if tag(0, b"RIFF") && tag(8, b"AVI ") {
            return Some(Self::Avi);
        }
        if tag(0, b"FLV\x01") {
            return Some(Self::Flv);
        }
        is_transport_stream(head).then_some(Self::MpegTs)
    }

    /// Its short name: `mp4`, `mov`, `mkv`, `webm`, `avi`, `ts`, `flv`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mp4 => "mp4",
            Self::QuickTime => "mov",
            Self::Matroska => "mkv",
            Self::WebM => "webm",
            Self::Avi => "avi",
            Self::MpegTs => "ts",
            Self::Flv => "flv",
        }
    }

    /// The media type files of this container are served as.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Mp4 => "video/mp4",
            Self::QuickTime => "video/quicktime",
            Self::Matroska => "video/x-matroska",
            Self::WebM => "video/webm",
            Self::Avi => "video/x-msvideo",
            Self::MpegTs => "video/mp2t",
            Self::Flv => "video/x-flv",
        }
    }

    /// ffmpeg's name of the one demuxer that may read such a file.
    pub fn demuxer(self) -> &'static str {
        match self {
            Self::Mp4 | Self::QuickTime => "mov",
            Self::Matroska | Self::WebM => "matroska",
            Self::Avi => "avi",
            Self::MpegTs => "mpegts",
            Self::Flv => "flv",
        }
    }
}

/// A judged file: its container, and what could be read without decoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sniffed {
    /// Its container.
    pub container: Container,
    /// What is known of it; fields this walk cannot tell are `None`.
    pub info: MediaInfo,
}

/// Judges the file at `path`. Blocks on the disk: call it where blocking is allowed.
///
/// # Errors
/// [`MediaError::Unacceptable`] if it is no whole video file of an accepted container;
/// [`MediaError::Failed`] if it cannot be read.
pub fn sniff_file(path: &Path) -> Result<Sniffed, MediaError> {
    sniff(File::open(path).map_err(unreadable)?)
}

/// Judges what `file` yields from its first byte to its last.
///
/// # Errors
/// As [`sniff_file`].
pub fn sniff<R: Read + Seek>(mut file: R) -> Result<Sniffed, MediaError> {
    let head = read_head(&mut file).map_err(unreadable)?;
    let container = Container::of_head(&head).ok_or_else(|| unacceptable(refusal(&head)))?;
    let length = file.seek(SeekFrom::End(0)).map_err(unreadable)?;
    let found = match container {
        Container::Mp4 | Container::QuickTime => bmff::inspect(&mut file, length),
        Container::Matroska | Container::WebM => ebml::inspect(&mut file, length),
        Container::Avi => inspect_avi(&head, length),
        Container::MpegTs | Container::Flv => Ok(Found::default()),
    };
    let found = found.map_err(|fault| match fault {
        Fault::Io(error) => unreadable(error),
        fault => unacceptable(fault.sentence()),
    })?;
    if found.video == Video::Absent {
        return Err(unacceptable("The file has no video in it."));
    }
    Ok(Sniffed { container, info: found.into_info(container) })
}

/// Whether a walk met a video track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Video {
    /// This container's tracks were not looked at.
    #[default]
    Unknown,
    /// All tracks were seen and none is video.
    Absent,
    /// There is one.
    Present,
}

/// What a walk found.
#[derive(Debug, Default)]
struct Found {
    video: Video,
    duration_ms: Option<u64>,
    size: Option<(u32, u32)>,
    video_codec: Option<String>,
    audio_codec: Option<String>,
}

impl Found {
    fn into_info(self, container: Container) -> MediaInfo {
        MediaInfo {
            container: container.name().to_owned(),
            content_type: container.content_type().to_owned(),
            duration_ms: self.duration_ms.filter(|duration| *duration > 0),
            width: self.size.map(|(width, _)| width),
            height: self.size.map(|(_, height)| height),
            video_codec: self.video_codec,
            audio_codec: self.audio_codec,
        }
    }
}

/// Why a walk gave up.
#[derive(Debug)]
enum Fault {
    /// The file cannot be read; says nothing about its content.
    Io(io::Error),
    /// The file ends before something it announced.
    Cut,
    /// MP4 or QuickTime without its index.
    NoIndex,
    /// Parts that do not fit into each other.
    Damaged,
    /// More parts than a sane file has.
    TooManyParts,
}

impl Fault {
    fn sentence(&self) -> &'static str {
        match self {
            Self::Io(_) => "The file could not be read.",
            Self::Cut => "The file is cut off: it ends before its video does.",
            Self::NoIndex => "The file has no index: the recording or the copy of it was not finished.",
            Self::Damaged => "The file is damaged.",
            Self::TooManyParts => "The file is made of more parts than this server looks through.",
        }
    }
}

impl From<io::Error> for Fault {
    /// A read past the end is the file's fault, any other is the disk's.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::Cut } else { Self::Io(error) }
    }
}

/// Reads exactly `N` bytes at `at`.
fn read_at<const N: usize>(file: &mut (impl Read + Seek), at: u64) -> Result<[u8; N], Fault> {
    let mut bytes = [0; N];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn read_head(file: &mut (impl Read + Seek)) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.by_ref().take(HEAD_BYTES).read_to_end(&mut head)?;
    Ok(head)
}

/// Five packets in step; a shorter file needs all it has, and at least three.
fn is_transport_stream(head: &[u8]) -> bool {
    const SYNC: u8 = 0x47;
    [(0, 188), (4, 192)].into_iter().any(|(first, step)| {
        let mut syncs = head.iter().skip(first).step_by(step).take(5);
        let enough = head.len() > first + 2 * step;
        enough && syncs.all(|byte| *byte == SYNC)
    })
}

/// AVI: the main header has a fixed place, the outer size tells of a cut file.
fn inspect_avi(head: &[u8], length: u64) -> Result<Found, Fault> {
    let number = |at: usize| {
        let bytes: Option<[u8; 4]> = head.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u32::from_le_bytes)
    };
    if number(4).is_some_and(|riff| u64::from(riff) > length.saturating_sub(8)) {
        return Err(Fault::Cut);
    }
    if head.get(20..28) != Some(b"hdrlavih") {
        return Ok(Found::default());
    }
    let micros = number(32).zip(number(48)).map(|(frame, frames)| u64::from(frame) * u64::from(frames));
    let size = number(64).zip(number(68)).filter(|(width, height)| *width > 0 && *height > 0);
    Ok(Found { duration_ms: micros.map(|micros| micros / 1000), size, ..Found::default() })
}

/// One sentence on why the beginning of a file rules it out.
fn refusal(head: &[u8]) -> String {
    if head.is_empty() {
        return "The file is empty.".to_owned();
    }
    if head.starts_with(b"#EXTM3U") {
        return "The file is a playlist, not a video.".to_owned();
    }
    let kind = infer::get(head).and_then(|kind| match kind.matcher_type() {
        infer::MatcherType::Image => Some("an image"),
        infer::MatcherType::Audio => Some("a sound file"),
        infer::MatcherType::Archive => Some("an archive or a disk image"),
        infer::MatcherType::Doc | infer::MatcherType::Book => Some("a document"),
        infer::MatcherType::App => Some("a program"),
        infer::MatcherType::Font => Some("a font"),
        infer::MatcherType::Video => Some("a video of a kind this server does not accept"),
        infer::MatcherType::Text | infer::MatcherType::Custom => None,
    });
    match kind {
        Some(kind) if kind.starts_with("a video") => format!("The file is {kind}."),
        Some(kind) => format!("The file is {kind}, not a video."),
        None if is_text(head) => "The file is text, not a video.".to_owned(),
        None => "The file is not a video this server knows.".to_owned(),
    }
}

fn is_text(head: &[u8]) -> bool {
    // The end of the head may fall inside a character; up to there it must be text.
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.is_empty() && text.chars().all(|c| !c.is_control() || c.is_ascii_whitespace())
}

fn unacceptable(reason: impl Into<String>) -> MediaError {
    MediaError::Unacceptable { reason: reason.into() }
}

fn unreadable(error: io::Error) -> MediaError {
    MediaError::Failed { message: "the original cannot be read".to_owned(), source: Some(Box::new(error)) }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    fn refused(bytes: &[u8]) -> String {
        match sniff(Cursor::new(bytes)) {
            Err(MediaError::Unacceptable { reason }) => reason,
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    #[test]
    fn what_is_no_video_is_named_for_what_it_is() {
        assert_eq!("The file is empty.", refused(b""));
        assert_eq!("The file is text, not a video.", refused("Grüße\n".as_bytes()));
        assert_eq!("The file is a playlist, not a video.", refused(b"#EXTM3U\nfile:///etc/passwd\n"));
        assert_eq!("The file is an image, not a video.", refused(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"));
        assert_eq!("The file is an archive or a disk image, not a video.", refused(b"PK\x03\x04\x14\0\0\0\x08\0"));
        assert_eq!("The file is not a video this server knows.", refused(&[0xfe, 0xff, 0x01, 0x02, 0x03]));
    }

    #[test]
    fn a_transport_stream_is_known_by_packets_in_step() {
        let mut stream = vec![0xff; 188 * 5];
        stream.iter_mut().step_by(188).for_each(|byte| *byte = 0x47);
        assert_eq!(Some(Container::MpegTs), Container::of_head(&stream));
        stream[188 * 2] = 0;
        assert_eq!(None, Container::of_head(&stream));
    }

    #[test]
    fn an_avi_shorter_than_it_says_is_cut_off() {
        let mut avi = b"RIFF\x40\0\0\0AVI ".to_vec();
        avi.resize(0x48, 0);
        assert!(sniff(Cursor::new(&avi)).is_ok());
        avi.pop();
        assert!(refused(&avi).contains("cut off"));
    }

    /// Bytes that get past the first look of each container, then anything.
    fn near_videos() -> impl Strategy<Value = Vec<u8>> {
        let starts = prop_oneof![
            Just(b"\0\0\0\x10ftypisom\0\0\0\0".to_vec()),
            Just(b"\0\0\0\x10ftypqt  \0\0\0\0".to_vec()),
            Just([&ebml::MAGIC[..], b"\x87\x42\x82\x84webm\x18\x53\x80\x67"].concat()),
            Just(b"RIFF\0\0\0\0AVI LIST\0\0\0\0hdrlavih".to_vec()),
            Just(Vec::new()),
        ];
        let piece = prop_oneof![
            3 => proptest::collection::vec(any::<u8>(), 0..24),
            2 => Just(b"\0\0\0\x08mdat".to_vec()),
            2 => Just(b"\0\0\0\x40moov\0\0\0\x38trak".to_vec()),
            1 => Just(b"\0\0\0\x01moov\xff\xff\xff\xff\xff\xff\xff\xff".to_vec()),
            1 => Just(b"\x16\x54\xae\x6b\x90\xae\x8e\x83\x81\x01\xe0\x89".to_vec()),
            1 => Just(b"\x15\x49\xa9\x66\x8f\x44\x89\x88".to_vec()),
        ];
        (starts, proptest::collection::vec(piece, 0..12)).prop_map(|(start, pieces)| [start, pieces.concat()].concat())
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in near_videos()) {
            let _ = sniff(Cursor::new(bytes));
        }

        #[test]
        fn a_refusal_is_one_clean_sentence(bytes in near_videos()) {
            if let Err(MediaError::Unacceptable { reason }) = sniff(Cursor::new(bytes)) {
                prop_assert!(reason.starts_with("The file ") && reason.ends_with('.') && !reason.contains('\n'));
            }
        }
    }
}
