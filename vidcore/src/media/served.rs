//! What an object is served as: a fixed table, by what the object is.
//!
//! What this platform makes is known by its name's ending; an original, whose key has none, by the container that was found in
//! its bytes. No other word of a row is believed, so that bytes somebody uploaded are never a page, a picture that
//! runs scripts, or anything else a browser would act on.

use crate::media::NewObject;
use crate::media::hls::PLAYLIST_TYPE;
use crate::media::sniff::Container;
use crate::media::storyboard::INDEX_TYPE;

/// The media type of an object; `None` for what is in no table: such bytes are for saving, not for showing.
pub fn media_type(object: &NewObject) -> Option<&'static str> {
    let name = object.key.rsplit('/').next().unwrap_or_default();
    match name.rsplit_once('.') {
        Some((_, ending)) => of_ending(ending),
        None => of_container(&object.content_type),
    }
}

fn of_ending(ending: &str) -> Option<&'static str> {
    match ending {
        "m3u8" => Some(PLAYLIST_TYPE),
        "mp4" => Some("video/mp4"),
        // ISO/IEC 23009-1, annex C.
        "m4s" => Some("video/iso.segment"),
        "vtt" => Some(INDEX_TYPE),
        "jpg" => Some("image/jpeg"),
        "png" => Some("image/png"),
        "webp" => Some("image/webp"),
        _ => None,
    }
}

fn of_container(content_type: &str) -> Option<&'static str> {
    Container::ALL.map(Container::content_type).into_iter().find(|known| *known == content_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(key: &str, content_type: &str) -> Option<&'static str> {
        media_type(&NewObject {
            key: key.to_owned(),
            size_bytes: 1,
            sha256: [0; 32],
            content_type: content_type.to_owned(),
        })
    }

    #[test]
    fn what_is_made_here_is_served_by_its_name_whatever_its_row_says() {
        for (name, media_type) in [
            ("index.m3u8", "application/vnd.apple.mpegurl"),
            ("init.mp4", "video/mp4"),
            ("seg_00001.m4s", "video/iso.segment"),
            ("storyboard.vtt", "text/vtt"),
            ("sheet_001_0a.jpg", "image/jpeg"),
            ("poster.png", "image/png"),
            ("poster.webp", "image/webp"),
        ] {
            for row in ["text/html", "", media_type] {
                assert_eq!(Some(media_type), served(&format!("renditions/v.html/1/{name}"), row), "{name}");
            }
        }
    }

    #[test]
    fn an_original_is_served_as_its_container_or_as_nothing_known() {
        for container in Container::ALL {
            assert_eq!(Some(container.content_type()), served("originals/v/u", container.content_type()));
        }
        for row in ["text/html", "image/svg+xml", "application/xml", "video/mp4; x=\"<\"", "VIDEO/MP4", "x", ""] {
            assert_eq!(None, served("originals/v/u", row), "{row}");
        }
        for name in ["a.html", "a.svg", "a.xml", "a.mp4.exe", "a.", ".M4S"] {
            assert_eq!(None, served(&format!("originals/v/{name}"), "video/mp4"), "{name}");
        }
    }
}
