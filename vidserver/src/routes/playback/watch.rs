//! Counting a view from what is played.
//!
//! Getting bytes of a media segment or of the file is watching; a playlist, an initialisation segment, a poster, `HEAD` and an
//! answer without bytes are not. A viewer asks for many: the catalog counts one per viewer and half hour, together with
//! those that foreign players report.

use http::{Method, StatusCode};
use vidcore::media::hls::INIT_SEGMENT;
use vidcore::media::playback::{Playable, PlayableObject};

use crate::routes::ApiState;
use crate::routes::playback::send::Wanted;

/// Counts a view, if this answer makes one. It never keeps anybody from watching, nor waiting.
pub(crate) fn watched(
    state: &ApiState,
    playable: &Playable,
    object: &PlayableObject,
    wanted: &Wanted,
    status: StatusCode,
) {
    let name = object.object.key.rsplit('/').next().unwrap_or_default();
    let is_media = object.media_type().is_some_and(|kind| kind.starts_with("video/")) && name != INIT_SEGMENT;
    // The bucket sends what a viewer is redirected to.
    let is_sent = matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::FOUND);
    let sends = *wanted.method() == Method::GET && is_sent;
    if is_media && sends {
        state.platform.catalog().count_played(playable, wanted.viewer());
    }
}
