//! Paths of this platform's own resources, as they stand in bodies.

use crate::catalog::Video;
use crate::catalog::view::PlaybackLinks;
use crate::clock::Timestamp;
use crate::id::{UploadId, VideoId};
use crate::media::RenditionKind;
use crate::media::storyboard::INDEX;

/// Where the API is mounted.
pub const API_PREFIX: &str = "/api/v1";

/// Makes path-absolute URLs under the path of the public URL, so that a platform nested under a path
/// of somebody's own server shows the right ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Links {
    base: String,
}

impl Links {
    /// Links under the path of `public_url` (`https://example.org/media` gives `/media/api/v1/…`).
    pub fn new(public_url: &str) -> Self {
        let after_scheme = public_url.split_once("://").map_or(public_url, |(_, rest)| rest);
        let path = after_scheme.find('/').map_or("", |start| &after_scheme[start..]);
        let path = path.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
        Self { base: format!("{path}{API_PREFIX}") }
    }

    /// The prefix of every API path, such as `/api/v1`.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The video itself.
    pub fn video(&self, id: VideoId) -> String {
        format!("{}/videos/{id}", self.base)
    }

    /// The upload itself.
    pub fn upload(&self, id: UploadId) -> String {
        format!("{}/uploads/{id}", self.base)
    }

    /// Where an upload's bytes are put, with its signed query.
    pub fn upload_bytes(&self, id: UploadId, query: &str) -> String {
        format!("{}/uploads/{id}/bytes?{query}", self.base)
    }

    /// Where uploads are made by the tus protocol; each lies below it, by its id.
    pub fn tus(&self) -> String {
        format!("{}/uploads/tus", self.base)
    }

    /// How everybody plays an open video; `None` while it is not playable.
    pub fn public_playback(&self, video: &Video) -> Option<PlaybackLinks> {
        self.playback(video, &format!("public/{}/{}", video.id, video.playback_epoch), None)
    }

    /// How the holder of `token` plays a video; `None` while it is not playable.
    pub fn token_playback(&self, video: &Video, token: &str, expires_at: Timestamp) -> Option<PlaybackLinks> {
        self.playback(video, token, Some(expires_at))
    }

    fn playback(&self, video: &Video, grant: &str, expires_at: Option<Timestamp>) -> Option<PlaybackLinks> {
        let kind = video.playback_kind?;
        let file = match kind {
            RenditionKind::Hls => "master.m3u8",
            RenditionKind::File => "file.mp4",
        };
        let root = format!("{}/playback/{grant}", self.base);
        let poster_url = video.poster_key.as_ref().map(|_| format!("{root}/poster.jpg"));
        let storyboard_url = video.storyboard_key.as_ref().map(|_| format!("{root}/storyboard/{INDEX}"));
        Some(PlaybackLinks { kind, url: format!("{root}/{file}"), poster_url, storyboard_url, expires_at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stand_under_the_path_of_the_public_url() {
        for (public_url, base) in [
            ("http://127.0.0.1:8080", "/api/v1"),
            ("https://example.org/", "/api/v1"),
            ("https://example.org/media/", "/media/api/v1"),
            ("https://example.org/a/b?x=1", "/a/b/api/v1"),
        ] {
            assert_eq!(base, Links::new(public_url).base(), "{public_url}");
        }
    }
}
