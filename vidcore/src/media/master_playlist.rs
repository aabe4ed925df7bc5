//! The HLS master playlist, made from rows whenever it is asked for and never stored.

use std::fmt::Write;

use crate::media::Rendition;

/// Bandwidth named for a rendition whose own is not known: RFC 8216 §4.3.4.2 demands one.
const UNKNOWN_BANDWIDTH: u32 = 1_000_000;

/// A master playlist (RFC 8216 §4.3.4) over ready HLS renditions, best first. URIs are relative, so
/// they inherit the grant in the path of the playlist itself.
pub(crate) fn master_playlist(renditions: &[&Rendition]) -> String {
    let mut text = String::from("#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n");
    for rendition in renditions {
        let bandwidth = rendition.bandwidth.unwrap_or(UNKNOWN_BANDWIDTH);
        let _ = write!(text, "#EXT-X-STREAM-INF:BANDWIDTH={bandwidth}");
        if rendition.width > 0 && rendition.height > 0 {
            let _ = write!(text, ",RESOLUTION={}x{}", rendition.width, rendition.height);
        }
        if let Some(codecs) = &rendition.codecs {
            let _ = write!(text, ",CODECS=\"{codecs}\"");
        }
        let _ = write!(text, "\n{}/index.m3u8\n", rendition.name);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::id::{RenditionId, SourceId, VideoId};
    use crate::media::{RenditionKind, RenditionStatus};

    #[test]
    fn every_rendition_is_a_variant_with_its_resolution_and_codecs() {
        let rendition = Rendition {
            id: RenditionId::from_bytes([1; 16]),
            video: VideoId::from_bytes([2; 16]),
            source: SourceId::from_bytes([3; 16]),
            name: "720p".to_owned(),
            kind: RenditionKind::Hls,
            status: RenditionStatus::Ready,
            width: 1280,
            height: 720,
            bandwidth: Some(2_000_000),
            codecs: Some("avc1.64001f,mp4a.40.2".to_owned()),
            prefix: None,
            failure: None,
            ready_at: Some(Timestamp::default()),
        };
        let text = master_playlist(&[&rendition]);
        let parsed = m3u8_rs::parse_master_playlist_res(text.as_bytes()).expect("a master playlist");
        assert_eq!(1, parsed.variants.len());
        assert_eq!("720p/index.m3u8", parsed.variants[0].uri);
        assert_eq!(Some("avc1.64001f,mp4a.40.2"), parsed.variants[0].codecs.as_deref());
    }
}
