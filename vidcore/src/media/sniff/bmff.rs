//! A walk over the boxes of an MP4 or QuickTime file (ISO/IEC 14496-12 §4.2).
//!
//! Only headers and a few small, fixed-size boxes are read; media and tables are stepped over.

use std::io::{Read, Seek};

use super::{Container, Fault, Found, Video, read_at};

/// Boxes one file may have on the walked levels: a twelve-hour recording in fragments of one second
/// has 86,400, and the walk stays below a second.
const MAX_BOXES: usize = 100_000;

type Kind = [u8; 4];

/// MP4 or QuickTime, if a file that begins with `head` is one.
pub(super) fn container(head: &[u8]) -> Option<Container> {
    let brand = head.get(8..12);
    match head.get(4..8)? {
        // Still images and sound share the format; their brands say so.
        b"ftyp" if matches!(brand, Some(b"heic" | b"heix" | b"mif1" | b"avif" | b"avis" | b"M4A " | b"crx ")) => None,
        b"ftyp" if brand == Some(b"qt  ") => Some(Container::QuickTime),
        b"ftyp" => Some(Container::Mp4),
        // QuickTime files from before `ftyp` begin with one of these.
        b"moov" | b"mdat" | b"wide" | b"skip" | b"free" | b"pnot" => Some(Container::QuickTime),
        _ => None,
    }
}

/// Reads what the index says, and checks that what it speaks of is there.
pub(super) fn inspect<R: Read + Seek>(file: &mut R, length: u64) -> Result<Found, Fault> {
    let mut walk = Walk { file, left: MAX_BOXES };
    let top = walk.top_level(length)?;
    let movie = top.movie.ok_or(if top.cut { Fault::Cut } else { Fault::NoIndex })?;
    if top.cut || !top.has_media {
        return Err(Fault::Cut);
    }
    let mut found = Found { video: Video::Absent, ..Found::default() };
    for part in walk.children(movie)? {
        match &part.kind {
            b"mvhd" => found.duration_ms = found.duration_ms.or(walk.movie_duration(part)?),
            b"trak" => walk.track(part)?.add_to(&mut found),
            _ => {}
        }
    }
    Ok(found)
}

/// A sample entry of a track: its four-character code and, for AVC, its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SampleDescription {
    /// `avc1`, `mp4a`, ….
    pub(crate) format: [u8; 4],
    /// Width and height in pixels; zero for sound.
    pub(crate) size: (u16, u16),
    /// Profile, compatibility and level of an `avcC` box (ISO/IEC 14496-15 §5.3.3.1).
    pub(crate) avc_profile: Option<[u8; 3]>,
}

/// The first sample entry of every track of an initialisation segment or file; `None` if the boxes
/// do not hold together.
pub(crate) fn sample_descriptions<R: Read + Seek>(file: &mut R, length: u64) -> Option<Vec<SampleDescription>> {
    let mut walk = Walk { file, left: MAX_BOXES };
    let movie = walk.top_level(length).ok()?.movie?;
    let tracks = walk.children(movie).ok()?;
    let tracks = tracks.into_iter().filter(|part| &part.kind == b"trak");
    tracks.map(|track| walk.sample_description(track).ok().flatten()).collect()
}

/// Whether a media segment is whole: boxes to the very end of the file, among them a fragment and its
/// media (RFC 8216 §3.3).
pub(crate) fn is_whole_segment<R: Read + Seek>(file: &mut R, length: u64) -> std::io::Result<bool> {
    let mut walk = Walk { file, left: MAX_BOXES };
    let (mut at, mut has_fragment, mut has_media) = (0, false, false);
    while at < length {
        match walk.header(at, length) {
            Ok(Some(span)) if span.end <= length => {
                has_fragment |= &span.kind == b"moof";
                has_media |= &span.kind == b"mdat";
                at = span.end;
            }
            Err(Fault::Io(error)) => return Err(error),
            _ => return Ok(false),
        }
    }
    Ok(has_fragment && has_media)
}

/// A box: its type and where its content lies. `end` is within its parent.
#[derive(Debug, Clone, Copy)]
struct Span {
    kind: Kind,
    body: u64,
    end: u64,
}

#[derive(Debug, Default)]
struct TopLevel {
    movie: Option<Span>,
    has_media: bool,
    cut: bool,
}

#[derive(Debug, Default)]
struct Track {
    handler: Kind,
    size: Option<(u32, u32)>,
    format: Option<Kind>,
}

impl Track {
    fn add_to(self, found: &mut Found) {
        let codec = self.format.map(codec_name);
        match &self.handler {
            b"vide" if found.video != Video::Present => {
                found.video = Video::Present;
                found.size = self.size;
                found.video_codec = codec;
            }
            b"soun" if found.audio_codec.is_none() => found.audio_codec = codec,
            _ => {}
        }
    }
}

struct Walk<'f, R> {
    file: &'f mut R,
    left: usize,
}

impl<R: Read + Seek> Walk<'_, R> {
    /// The box at `at`; its end is as it says, unchecked against anything. `None` where fewer bytes
    /// are left than a header takes, or the rest is padding.
    fn header(&mut self, at: u64, end: u64) -> Result<Option<Span>, Fault> {
        if end.saturating_sub(at) < 8 {
            return Ok(None);
        }
        self.left = self.left.checked_sub(1).ok_or(Fault::TooManyParts)?;
        let [a, b, c, d, kind @ ..] = read_at::<8>(self.file, at)?;
        let short = u64::from(u32::from_be_bytes([a, b, c, d]));
        let (header, size) = match short {
            0 => (8, end - at),
            1 => (16, u64::from_be_bytes(read_at(self.file, at + 8)?)),
            size => (8, size),
        };
        if size < header {
            return Err(Fault::Damaged);
        }
        Ok(Some(Span { kind, body: at + header, end: at.checked_add(size).ok_or(Fault::Damaged)? }))
    }

    fn top_level(&mut self, length: u64) -> Result<TopLevel, Fault> {
        let mut top = TopLevel::default();
        let mut at = 0;
        loop {
            let span = match self.header(at, length) {
                Ok(Some(span)) => span,
                Ok(None) => return Ok(top),
                // Some writers leave rubbish behind a whole file; players step over it, so do we.
                Err(Fault::Damaged | Fault::Cut) if top.movie.is_some() && top.has_media => return Ok(top),
                Err(fault) => return Err(fault),
            };
            let counts = matches!(&span.kind, b"moov" | b"mdat" | b"moof");
            if span.end > length {
                top.cut = counts || top.movie.is_none() || !top.has_media;
                return Ok(top);
            }
            match &span.kind {
                b"moov" => top.movie = top.movie.or(Some(span)),
                b"mdat" => top.has_media = true,
                _ => {}
            }
            at = span.end;
        }
    }

    fn children(&mut self, parent: Span) -> Result<Vec<Span>, Fault> {
        self.spans(parent.body, parent.end)
    }

    fn spans(&mut self, mut at: u64, end: u64) -> Result<Vec<Span>, Fault> {
        let mut spans = Vec::new();
        while let Some(span) = self.header(at, end)? {
            if span.end > end {
                return Err(Fault::Damaged);
            }
            at = span.end;
            spans.push(span);
        }
        Ok(spans)
    }

    fn child(&mut self, parent: Span, kind: &Kind) -> Result<Option<Span>, Fault> {
        Ok(self.children(parent)?.into_iter().find(|span| &span.kind == kind))
    }

    fn descend(&mut self, from: Span, path: &[&Kind]) -> Result<Option<Span>, Fault> {
        let mut at = Some(from);
        for kind in path {
            let Some(span) = at else { return Ok(None) };
            at = self.child(span, kind)?;
        }
        Ok(at)
    }

    /// `N` bytes of a box's content from `offset`.
    fn field<const N: usize>(&mut self, span: Span, offset: u64) -> Result<[u8; N], Fault> {
        let at = span.body + offset;
        if at + N as u64 > span.end {
            return Err(Fault::Damaged);
        }
        read_at(self.file, at)
    }

    fn is_long_version(&mut self, span: Span) -> Result<bool, Fault> {
        Ok(self.field::<1>(span, 0)? == [1])
    }

    /// `mvhd` (§8.2.2): timescale and duration; `None` where the duration is not stated.
    fn movie_duration(&mut self, span: Span) -> Result<Option<u64>, Fault> {
        let (timescale, duration) = if self.is_long_version(span)? {
            (self.field(span, 20)?, u64::from_be_bytes(self.field(span, 24)?))
        } else {
            let duration = u32::from_be_bytes(self.field(span, 16)?);
            (self.field(span, 12)?, if duration == u32::MAX { u64::MAX } else { duration.into() })
        };
        let timescale = u64::from(u32::from_be_bytes(timescale));
        let stated = timescale > 0 && duration > 0 && duration < u64::MAX;
        Ok(stated.then(|| duration.checked_mul(1000)).flatten().map(|millis| millis / timescale))
    }

    fn track(&mut self, span: Span) -> Result<Track, Fault> {
        let mut track = Track::default();
        for part in self.children(span)? {
            match &part.kind {
                b"tkhd" => track.size = self.shown_size(part)?,
                b"mdia" => {
                    if let Some(handler) = self.child(part, b"hdlr")? {
                        track.handler = self.field(handler, 8)?;
                    }
                }
                _ => {}
            }
        }
        track.format = self.sample_description(span)?.map(|entry| entry.format);
        Ok(track)
    }

    /// `tkhd` (§8.3.2): 16.16 numbers, turned if the matrix turns them.
    fn shown_size(&mut self, span: Span) -> Result<Option<(u32, u32)>, Fault> {
        let matrix = if self.is_long_version(span)? { 52 } else { 40 };
        let corners: [u8; 20] = self.field(span, matrix)?;
        let number = |at: usize| corners[at..at + 4].iter().any(|byte| *byte != 0);
        let turned = !number(0) && number(4) && number(12) && !number(16);
        let [w1, w2, _, _, h1, h2, _, _] = self.field(span, matrix + 36)?;
        let (width, height) = (u16::from_be_bytes([w1, w2]).into(), u16::from_be_bytes([h1, h2]).into());
        let size = if turned { (height, width) } else { (width, height) };
        Ok((width > 0 && height > 0).then_some(size))
    }

    /// `stsd` (§8.5.2): the first entry.
    fn sample_description(&mut self, track: Span) -> Result<Option<SampleDescription>, Fault> {
        let Some(table) = self.descend(track, &[b"mdia", b"minf", b"stbl", b"stsd"])? else { return Ok(None) };
        let Some(entry) = self.header(table.body + 8, table.end)? else { return Ok(None) };
        if entry.end > table.end {
            return Err(Fault::Damaged);
        }
        let mut description = SampleDescription { format: entry.kind, size: (0, 0), avc_profile: None };
        if &entry.kind == b"avc1" {
            // VisualSampleEntry (§12.1.3): 78 bytes of fields, then boxes.
            let [w1, w2, h1, h2] = self.field(entry, 24)?;
            description.size = (u16::from_be_bytes([w1, w2]), u16::from_be_bytes([h1, h2]));
            let boxes = self.spans(entry.body + 78, entry.end)?;
            if let Some(configuration) = boxes.into_iter().find(|span| &span.kind == b"avcC") {
                description.avc_profile = Some(self.field(configuration, 1)?);
            }
        }
        Ok(Some(description))
    }
}

/// The name ffmpeg has for a sample entry's code; the code itself if it is none of the common ones.
fn codec_name(format: Kind) -> String {
    let name = match &format {
        b"avc1" | b"avc3" => "h264",
        b"hvc1" | b"hev1" => "hevc",
        b"vp09" => "vp9",
        b"av01" => "av1",
        b"mp4v" => "mpeg4",
        b"mp4a" => "aac",
        b"Opus" => "opus",
        b"ac-3" => "ac3",
        _ => return format.iter().map(|byte| char::from(*byte)).filter(char::is_ascii_graphic).collect(),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn boxed(kind: &Kind, body: &[u8]) -> Vec<u8> {
        let size = u32::try_from(8 + body.len()).expect("a test box is small");
        [&size.to_be_bytes()[..], kind, body].concat()
    }

    fn movie(handler: &Kind) -> Vec<u8> {
        let mut header = vec![0; 100];
        header[12..16].copy_from_slice(&1000_u32.to_be_bytes());
        header[16..20].copy_from_slice(&5000_u32.to_be_bytes());
        let mut track = vec![0; 84];
        track[76..80].copy_from_slice(&(640_u32 << 16).to_be_bytes());
        track[80..84].copy_from_slice(&(360_u32 << 16).to_be_bytes());
        let handler = boxed(b"hdlr", &[&[0; 8][..], handler, &[0; 12]].concat());
        let media = boxed(b"mdia", &handler);
        let track = boxed(b"trak", &[boxed(b"tkhd", &track), media].concat());
        boxed(b"moov", &[boxed(b"mvhd", &header), track].concat())
    }

    fn look(parts: &[Vec<u8>]) -> Result<Found, Fault> {
        let bytes = parts.concat();
        let length = bytes.len() as u64;
        inspect(&mut Cursor::new(bytes), length)
    }

    #[test]
    fn length_size_and_video_are_read_from_the_index() {
        let found = look(&[boxed(b"ftyp", b"isom"), boxed(b"mdat", &[0; 9]), movie(b"vide")]).expect("a whole file");
        assert_eq!((Video::Present, Some(5000), Some((640, 360))), (found.video, found.duration_ms, found.size));
    }

    #[test]
    fn a_file_whose_media_is_cut_is_refused_and_its_last_whole_byte_accepted() {
        let whole = [movie(b"vide"), boxed(b"mdat", &[0; 9])].concat();
        assert!(look(std::slice::from_ref(&whole)).is_ok());
        assert!(matches!(look(&[whole[..whole.len() - 1].to_vec()]), Err(Fault::Cut)));
    }

    #[test]
    fn a_file_without_index_or_media_is_refused() {
        assert!(matches!(look(&[boxed(b"mdat", &[0; 9])]), Err(Fault::NoIndex)));
        assert!(matches!(look(&[movie(b"vide")]), Err(Fault::Cut)));
    }

    #[test]
    fn sound_alone_is_no_video() {
        let found = look(&[movie(b"soun"), boxed(b"mdat", &[0; 9])]).expect("a whole file");
        assert_eq!(Video::Absent, found.video);
    }

    #[test]
    fn rubbish_behind_a_whole_file_is_stepped_over() {
        assert!(look(&[movie(b"vide"), boxed(b"mdat", &[0; 9]), b"\0\0\0\x03rubbish".to_vec()]).is_ok());
    }

    #[test]
    fn a_child_larger_than_its_parent_is_damage() {
        let bad = boxed(b"moov", b"\x00\x00\x10\x00trak");
        assert!(matches!(look(&[bad, boxed(b"mdat", &[0; 9])]), Err(Fault::Damaged)));
    }

    #[test]
    fn a_segment_is_whole_to_its_last_byte_or_not_at_all() {
        let whole = [boxed(b"styp", b"msdh"), boxed(b"moof", &[0; 8]), boxed(b"mdat", &[0; 9])].concat();
        for length in 0..=whole.len() {
            let mut part = Cursor::new(&whole[..length]);
            let is_whole = is_whole_segment(&mut part, length as u64).expect("memory can be read");
            assert_eq!(length == whole.len(), is_whole, "{length}");
        }
    }

    #[test]
    fn a_file_of_endless_tiny_boxes_is_given_up() {
        let parts = vec![boxed(b"free", b""); MAX_BOXES + 1];
        assert!(matches!(look(&parts), Err(Fault::TooManyParts)));
    }
}
