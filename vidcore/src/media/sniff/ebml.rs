//! A walk over the elements of a Matroska or WebM file (RFC 8794, RFC 9559).
//!
//! Stops at the first cluster: what describes the tracks comes before it.

use std::io::{Read, Seek};

use super::{Container, Fault, Found, Video, read_at};

/// The EBML element that begins every such file.
pub(super) const MAGIC: [u8; 4] = [0x1a, 0x45, 0xdf, 0xa3];

const DOC_TYPE: u32 = 0x4282;
const SEGMENT: u32 = 0x1853_8067;
const CLUSTER: u32 = 0x1f43_b675;
const INFO: u32 = 0x1549_a966;
const TIMESTAMP_SCALE: u32 = 0x2a_d7b1;
const DURATION: u32 = 0x4489;
const TRACKS: u32 = 0x1654_ae6b;
const TRACK_ENTRY: u32 = 0xae;
const TRACK_TYPE: u32 = 0x83;
const CODEC_ID: u32 = 0x86;
const VIDEO: u32 = 0xe0;
const PIXEL_WIDTH: u32 = 0xb0;
const PIXEL_HEIGHT: u32 = 0xba;

/// Elements the walk looks at before it gives up; files have a few hundred before the first cluster.
const MAX_ELEMENTS: usize = 10_000;

/// Matroska or WebM by the document type in `head`; `None` for another use of EBML.
pub(super) fn container(head: &[u8]) -> Option<Container> {
    let mut walk = Walk { file: std::io::Cursor::new(head), left: 64 };
    let end = head.len() as u64;
    let header = walk.element(0, end).ok()??;
    let children = walk.children(header.within(end)?).ok()?;
    let doc_type = children.into_iter().find(|element| element.id == DOC_TYPE)?;
    match walk.text(doc_type).ok()?.as_str() {
        "webm" => Some(Container::WebM),
        "matroska" => Some(Container::Matroska),
        _ => None,
    }
}

/// Reads the length and the tracks, and checks that the file is as long as it says.
pub(super) fn inspect<R: Read + Seek>(file: &mut R, length: u64) -> Result<Found, Fault> {
    let mut walk = Walk { file, left: MAX_ELEMENTS };
    let mut found = Found::default();
    let Some(segment) = walk.segment(length)? else { return Err(Fault::Cut) };
    let mut at = segment.body;
    while let Some(element) = walk.element(at, segment.end)? {
        match element.id {
            CLUSTER => break,
            INFO => found.duration_ms = walk.duration(element.within(length).ok_or(Fault::Cut)?)?,
            TRACKS => walk.tracks(element.within(length).ok_or(Fault::Cut)?, &mut found)?,
            _ => {}
        }
        at = element.end;
    }
    Ok(found)
}

/// An element: its id and where its content lies; one of unknown size ends at `u64::MAX`.
#[derive(Debug, Clone, Copy)]
struct Element {
    id: u32,
    body: u64,
    end: u64,
}

impl Element {
    fn within(self, end: u64) -> Option<Self> {
        (self.end <= end).then_some(self)
    }
}

struct Walk<R> {
    file: R,
    left: usize,
}

impl<R: Read + Seek> Walk<R> {
    /// A variable-size integer (RFC 8794 §4): its value, with or without the marker bit, and its
    /// length in bytes. A value of all ones, "unknown", is `u64::MAX`.
    fn vint(&mut self, at: u64, keep_marker: bool) -> Result<(u64, u64), Fault> {
        let [first] = read_at::<1>(&mut self.file, at)?;
        let width = u64::from(first.leading_zeros()) + 1;
        if width > 8 {
            return Err(Fault::Damaged);
        }
        let mut value = if keep_marker { u64::from(first) } else { u64::from(first) & ((1 << (8 - width)) - 1) };
        for offset in 1..width {
            let [byte] = read_at::<1>(&mut self.file, at + offset)?;
            value = (value << 8) | u64::from(byte);
        }
        let unknown = !keep_marker && value == (1 << (7 * width)) - 1;
        Ok((if unknown { u64::MAX } else { value }, width))
    }

    /// The element at `at`; `None` at the end.
    fn element(&mut self, at: u64, end: u64) -> Result<Option<Element>, Fault> {
        if at >= end {
            return Ok(None);
        }
        self.left = self.left.checked_sub(1).ok_or(Fault::TooManyParts)?;
        let (id, id_width) = self.vint(at, true)?;
        let (size, size_width) = self.vint(at + id_width, false)?;
        let body = at + id_width + size_width;
        let id = u32::try_from(id).map_err(|_| Fault::Damaged)?;
        Ok(Some(Element { id, body, end: body.saturating_add(size) }))
    }

    fn children(&mut self, parent: Element) -> Result<Vec<Element>, Fault> {
        let mut elements = Vec::new();
        let mut at = parent.body;
        while let Some(element) = self.element(at, parent.end)? {
            elements.push(element.within(parent.end).ok_or(Fault::Damaged)?);
            at = element.end;
        }
        Ok(elements)
    }

    /// The segment, cut to the file's length if its own is unknown.
    fn segment(&mut self, length: u64) -> Result<Option<Element>, Fault> {
        let mut at = 0;
        while let Some(element) = self.element(at, length)? {
            let is_live = element.end == u64::MAX;
            if element.id == SEGMENT {
                return match is_live {
                    true => Ok(Some(Element { end: length, ..element })),
                    false => element.within(length).map(Some).ok_or(Fault::Cut),
                };
            }
            at = element.end;
        }
        Ok(None)
    }

    fn unsigned(&mut self, element: Element) -> Result<u64, Fault> {
        let width = element.end - element.body;
        if width > 8 {
            return Err(Fault::Damaged);
        }
        (element.body..element.end).try_fold(0_u64, |value, at| {
            let [byte] = read_at::<1>(&mut self.file, at)?;
            Ok((value << 8) | u64::from(byte))
        })
    }

    fn float(&mut self, element: Element) -> Result<f64, Fault> {
        match element.end - element.body {
            4 => Ok(f32::from_be_bytes(read_at(&mut self.file, element.body)?).into()),
            8 => Ok(f64::from_be_bytes(read_at(&mut self.file, element.body)?)),
            _ => Err(Fault::Damaged),
        }
    }

    /// The first 32 bytes of a string, without padding.
    fn text(&mut self, element: Element) -> Result<String, Fault> {
        let end = element.end.min(element.body.saturating_add(32));
        let mut text = String::new();
        for at in element.body..end {
            let [byte] = read_at::<1>(&mut self.file, at)?;
            if byte.is_ascii_graphic() {
                text.push(char::from(byte));
            }
        }
        Ok(text)
    }

    fn duration(&mut self, info: Element) -> Result<Option<u64>, Fault> {
        let (mut scale, mut ticks) = (1_000_000, None);
        for element in self.children(info)? {
            match element.id {
                TIMESTAMP_SCALE => scale = self.unsigned(element)?,
                DURATION => ticks = Some(self.float(element)?),
                _ => {}
            }
        }
        let millis = ticks.map(|ticks| ticks * scale as f64 / 1e6);
        // The cast saturates; a length of more than a million years is not a length.
        Ok(millis.filter(|millis| (1.0..3e16).contains(millis)).map(|millis| millis as u64))
    }

    fn tracks(&mut self, tracks: Element, found: &mut Found) -> Result<(), Fault> {
        if found.video == Video::Unknown {
            found.video = Video::Absent;
        }
        for entry in self.children(tracks)? {
            if entry.id == TRACK_ENTRY {
                self.track(entry, found)?;
            }
        }
        Ok(())
    }

    fn track(&mut self, entry: Element, found: &mut Found) -> Result<(), Fault> {
        let (mut kind, mut codec, mut size) = (0, None, None);
        for element in self.children(entry)? {
            match element.id {
                TRACK_TYPE => kind = self.unsigned(element)?,
                CODEC_ID => codec = Some(codec_name(&self.text(element)?)),
                VIDEO => size = self.size(element)?,
                _ => {}
            }
        }
        match kind {
            1 if found.video != Video::Present => {
                found.video = Video::Present;
                found.size = size;
                found.video_codec = codec;
            }
            2 if found.audio_codec.is_none() => found.audio_codec = codec,
            _ => {}
        }
        Ok(())
    }

    fn size(&mut self, video: Element) -> Result<Option<(u32, u32)>, Fault> {
        let (mut width, mut height) = (0, 0);
        for element in self.children(video)? {
            match element.id {
                PIXEL_WIDTH => width = self.unsigned(element)?,
                PIXEL_HEIGHT => height = self.unsigned(element)?,
                _ => {}
            }
        }
        let size = u32::try_from(width).ok().zip(u32::try_from(height).ok());
        Ok(size.filter(|(width, height)| *width > 0 && *height > 0))
    }
}

/// The name ffmpeg has for a Matroska codec id; the id in lower case if it is none of the common ones.
fn codec_name(id: &str) -> String {
    let name = match id {
        "V_VP8" => "vp8",
        "V_VP9" => "vp9",
        "V_AV1" => "av1",
        "V_MPEG4/ISO/AVC" => "h264",
        "V_MPEGH/ISO/HEVC" => "hevc",
        "A_OPUS" => "opus",
        "A_VORBIS" => "vorbis",
        _ if id.starts_with("A_AAC") => "aac",
        _ => return id.to_ascii_lowercase(),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn element(id: u32, body: &[u8]) -> Vec<u8> {
        let id: Vec<u8> = id.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
        let size = (body.len() as u64 | (1 << 56)).to_be_bytes();
        [&id, &size[..], body].concat()
    }

    fn file(kind: u8, scale: u32) -> Vec<u8> {
        let header = element(0x1a45_dfa3, &element(DOC_TYPE, b"webm"));
        let length = element(DURATION, &4000_f64.to_be_bytes());
        let info = element(INFO, &[element(TIMESTAMP_SCALE, &scale.to_be_bytes()), length].concat());
        let size = [element(PIXEL_WIDTH, &[1, 0xaa]), element(PIXEL_HEIGHT, &[240])].concat();
        let parts = [element(TRACK_TYPE, &[kind]), element(CODEC_ID, b"V_VP9"), element(VIDEO, &size)];
        let tracks = element(TRACKS, &element(TRACK_ENTRY, &parts.concat()));
        [header, element(SEGMENT, &[info, tracks, element(CLUSTER, &[0; 7])].concat())].concat()
    }

    #[test]
    fn length_size_and_codec_are_read_before_the_first_cluster() {
        let bytes = file(1, 1_000_000);
        assert_eq!(Some(Container::WebM), container(&bytes));
        let length = bytes.len() as u64;
        let found = inspect(&mut Cursor::new(bytes), length).expect("a whole file");
        assert_eq!((Some(4000), Some((426, 240))), (found.duration_ms, found.size));
        assert_eq!((Video::Present, Some("vp9")), (found.video, found.video_codec.as_deref()));
    }

    #[test]
    fn sound_alone_is_no_video() {
        let bytes = file(2, 1_000_000);
        let length = bytes.len() as u64;
        assert_eq!(Video::Absent, inspect(&mut Cursor::new(bytes), length).expect("a whole file").video);
    }

    #[test]
    fn a_segment_longer_than_the_file_is_cut_off() {
        let mut bytes = file(1, 1_000_000);
        bytes.pop();
        let length = bytes.len() as u64;
        assert!(matches!(inspect(&mut Cursor::new(bytes), length), Err(Fault::Cut)));
    }

    #[test]
    fn another_use_of_ebml_is_no_video() {
        assert_eq!(None, container(&element(0x1a45_dfa3, &element(DOC_TYPE, b"other"))));
    }
}
