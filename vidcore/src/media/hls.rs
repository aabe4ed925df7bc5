//! What an HLS rendition consists of, read back from the files an encoder wrote (RFC 8216).
//!
//! Nothing is believed because the encoder exited well (ffmpeg 5.1 does so on a full disk, without a
//! word): every file the playlist names must be there and whole, and bandwidth and codecs are
//! measured on the result.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::Path;

use crate::media::sniff::{SampleDescription, is_whole_segment, sample_descriptions};
use crate::media::{Encoded, OutputFile};

/// The media playlist's name.
pub const PLAYLIST: &str = "index.m3u8";
/// The initialisation segment's name.
pub const INIT_SEGMENT: &str = "init.mp4";
/// What a playlist is served as (RFC 8216 §4).
pub const PLAYLIST_TYPE: &str = "application/vnd.apple.mpegurl";
/// What rows call initialisation and media segments; [`served`](crate::media::served) says what they are served as.
pub const SEGMENT_TYPE: &str = "video/mp4";

/// A playlist of twelve hours in segments of four seconds has less than 1 MiB.
const MAX_PLAYLIST_BYTES: u64 = 8 << 20;

/// What is wrong with a rendition's files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HlsError {
    /// The encoder found nothing to put into a segment.
    #[error("the rendition has no segment")]
    Empty,
    /// The playlist is not of the kind this platform makes.
    #[error("the playlist is not valid: {0}")]
    Playlist(&'static str),
    /// A file the playlist names is absent or empty.
    #[error("the playlist names {0}, which is missing or empty")]
    Missing(String),
    /// A segment ends before its last box does.
    #[error("the segment {0} is cut off")]
    Cut(String),
    /// The initialisation segment does not describe an H.264 track.
    #[error("the initialisation segment describes no h.264 track")]
    InitSegment,
    /// The files cannot be read.
    #[error("the rendition cannot be read")]
    Unreadable(#[from] io::Error),
}

/// A media playlist, as far as this platform's own go.
#[derive(Debug, Clone, PartialEq)]
pub struct MediaPlaylist {
    /// `EXT-X-TARGETDURATION` in seconds.
    pub target_duration: u32,
    /// `EXT-X-MAP`'s file.
    pub init: String,
    /// Segments in order of play.
    pub segments: Vec<Segment>,
}

/// One segment of a playlist.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// Its file.
    pub name: String,
    /// `EXTINF` in seconds.
    pub duration: f64,
}

impl MediaPlaylist {
    /// Reads a finished playlist with one map and flat file names.
    ///
    /// # Errors
    /// [`HlsError::Playlist`] if it is anything else; [`HlsError::Empty`] without segments.
    pub fn parse(text: &str) -> Result<Self, HlsError> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        if lines.next() != Some("#EXTM3U") {
            return Err(HlsError::Playlist("it does not begin with #EXTM3U"));
        }
        let (mut target, mut init, mut duration, mut ended) = (None, None, None, false);
        let mut segments = Vec::new();
        for line in lines {
            if let Some(value) = line.strip_prefix("#EXT-X-TARGETDURATION:") {
                target = value.parse().ok();
            } else if let Some(value) = line.strip_prefix("#EXT-X-MAP:URI=") {
                init = Some(file_name(value.trim_matches('"'))?);
            } else if let Some(value) = line.strip_prefix("#EXTINF:") {
                duration = value.split(',').next().and_then(|value| value.parse::<f64>().ok());
            } else if line == "#EXT-X-ENDLIST" {
                ended = true;
            } else if !line.starts_with('#') {
                let duration = duration.take().filter(|duration| duration.is_finite() && *duration >= 0.0);
                let duration = duration.ok_or(HlsError::Playlist("a segment has no duration"))?;
                segments.push(Segment { name: file_name(line)?, duration });
            }
        }
        if segments.is_empty() {
            return Err(HlsError::Empty);
        }
        if !ended {
            return Err(HlsError::Playlist("it has no end"));
        }
        Ok(Self {
            target_duration: target.ok_or(HlsError::Playlist("it has no target duration"))?,
            init: init.ok_or(HlsError::Playlist("it has no map"))?,
            segments,
        })
    }

    /// How long it plays, in seconds.
    pub fn duration(&self) -> f64 {
        self.segments.iter().map(|segment| segment.duration).sum()
    }
}

/// The peak segment bit rate (RFC 8216 §4.1): the largest rate of any run of segments that together
/// last between 0.5 and 1.5 target durations; of the whole, if no run does.
///
/// Takes each segment's size in bytes and duration in seconds. Rounded up.
pub fn peak_bandwidth(segments: &[(u64, f64)], target_duration: u32) -> u32 {
    let (shortest, longest) = (f64::from(target_duration) * 0.5, f64::from(target_duration) * 1.5);
    let mut peak: f64 = 0.0;
    for start in 0..segments.len() {
        let (mut bytes, mut seconds) = (0_u64, 0.0);
        for (size, duration) in &segments[start..] {
            bytes = bytes.saturating_add(*size);
            seconds += duration;
            if seconds > longest {
                break;
            }
            if seconds >= shortest && seconds > 0.0 {
                peak = peak.max(bytes as f64 * 8.0 / seconds);
            }
        }
    }
    if peak == 0.0 {
        let bytes: u64 = segments.iter().map(|(size, _)| *size).sum();
        let seconds: f64 = segments.iter().map(|(_, duration)| *duration).sum();
        peak = bytes as f64 * 8.0 / seconds.max(0.001);
    }
    // The cast saturates.
    peak.ceil() as u32
}

/// Reads back the rendition an encoder left in `folder`: checks it and measures it. Blocks on the disk.
///
/// # Errors
/// [`HlsError`] by what is wrong; the folder is left as it is.
pub fn read_back(folder: &Path) -> Result<(Encoded, MediaPlaylist), HlsError> {
    let path = folder.join(PLAYLIST);
    match fs::metadata(&path) {
        Ok(metadata) if metadata.len() > MAX_PLAYLIST_BYTES => return Err(HlsError::Playlist("it is too large")),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(HlsError::Missing(PLAYLIST.to_owned())),
        Err(error) => return Err(error.into()),
    }
    let playlist = MediaPlaylist::parse(&fs::read_to_string(&path)?)?;
    size_of(folder, &playlist.init)?;
    let mut measured = Vec::with_capacity(playlist.segments.len());
    for segment in &playlist.segments {
        let size = size_of(folder, &segment.name)?;
        if !is_whole_segment(&mut BufReader::new(File::open(folder.join(&segment.name))?), size)? {
            return Err(HlsError::Cut(segment.name.clone()));
        }
        measured.push((size, segment.duration));
    }
    let tracks = tracks_of(&folder.join(&playlist.init))?;
    let (codecs, (width, height)) = describe(&tracks).ok_or(HlsError::InitSegment)?;
    let encoded = Encoded {
        files: files_of(&playlist),
        bandwidth: Some(peak_bandwidth(&measured, playlist.target_duration)),
        codecs: Some(codecs),
        width: width.into(),
        height: height.into(),
    };
    Ok((encoded, playlist))
}

/// Every file of the rendition, the playlist last: whoever stores them in this order never shows a
/// playlist whose segments are not there yet.
fn files_of(playlist: &MediaPlaylist) -> Vec<OutputFile> {
    let names = std::iter::once(&playlist.init).chain(playlist.segments.iter().map(|segment| &segment.name));
    let segments = names.map(|name| OutputFile { name: name.clone(), content_type: SEGMENT_TYPE });
    segments.chain([OutputFile { name: PLAYLIST.to_owned(), content_type: PLAYLIST_TYPE }]).collect()
}

fn size_of(folder: &Path, name: &str) -> Result<u64, HlsError> {
    match fs::symlink_metadata(folder.join(name)) {
        Ok(metadata) if metadata.is_file() && metadata.len() > 0 => Ok(metadata.len()),
        Ok(_) => Err(HlsError::Missing(name.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(HlsError::Missing(name.to_owned())),
        Err(error) => Err(error.into()),
    }
}

fn tracks_of(init: &Path) -> Result<Vec<SampleDescription>, HlsError> {
    let file = File::open(init)?;
    let length = file.metadata()?.len();
    sample_descriptions(&mut BufReader::new(file), length).ok_or(HlsError::InitSegment)
}

/// RFC 6381 codecs and the picture's size. `avc1` takes profile, compatibility and level as six hex
/// digits; the encoder makes no AAC but LC, object type 2.
fn describe(tracks: &[SampleDescription]) -> Option<(String, (u16, u16))> {
    let video = tracks.iter().find(|track| &track.format == b"avc1")?;
    let mut codecs = format!("avc1.{}", hex::encode(video.avc_profile?));
    if tracks.iter().any(|track| &track.format == b"mp4a") {
        codecs.push_str(",mp4a.40.2");
    }
    Some((codecs, video.size))
}

/// A name that is one path segment of the letters object keys may have.
fn file_name(text: &str) -> Result<String, HlsError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.is_empty() || text.starts_with('.') || !text.chars().all(plain) {
        return Err(HlsError::Playlist("it names something other than a plain file"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:4\n#EXT-X-MAP:URI=\"init.mp4\"\n\
                         #EXTINF:4.000000,\nseg_00000.m4s\n#EXTINF:1.500000,\nseg_00001.m4s\n#EXT-X-ENDLIST\n";

    #[test]
    fn a_finished_playlist_is_read() {
        let playlist = MediaPlaylist::parse(PLAIN).expect("the playlist is valid");
        assert_eq!((4, "init.mp4"), (playlist.target_duration, playlist.init.as_str()));
        let names: Vec<_> = playlist.segments.iter().map(|segment| segment.name.as_str()).collect();
        assert_eq!(vec!["seg_00000.m4s", "seg_00001.m4s"], names);
        assert!((playlist.duration() - 5.5).abs() < 1e-9);
    }

    #[test]
    fn a_playlist_without_its_end_is_refused() {
        assert!(matches!(MediaPlaylist::parse(&PLAIN.replace("#EXT-X-ENDLIST", "")), Err(HlsError::Playlist(_))));
    }

    #[test]
    fn a_name_outside_the_folder_is_refused() {
        for name in ["../seg.m4s", "/etc/passwd", "file:x", "http://host/x", ".hidden"] {
            let text = PLAIN.replace("seg_00000.m4s", name);
            assert!(matches!(MediaPlaylist::parse(&text), Err(HlsError::Playlist(_))), "{name}");
        }
    }

    #[test]
    fn the_peak_is_that_of_the_worst_run_of_the_right_length() {
        // One short, dense segment is no run on its own; with its neighbour it is.
        let segments = [(500_000, 4.0), (400_000, 1.0), (500_000, 4.0)];
        assert_eq!(1_440_000, peak_bandwidth(&segments, 4));
    }

    #[test]
    fn a_rendition_shorter_than_any_run_counts_as_a_whole() {
        assert_eq!(80_000, peak_bandwidth(&[(1000, 0.1)], 1));
    }

    #[test]
    fn a_missing_segment_is_noticed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join(PLAYLIST), PLAIN).expect("the folder is writable");
        fs::write(folder.path().join("init.mp4"), b"x").expect("the folder is writable");
        assert!(matches!(read_back(folder.path()), Err(HlsError::Missing(name)) if name == "seg_00000.m4s"));
    }
}
