//! What a video shows of the source that is played: length, size, pictures.

use rusqlite::{Connection, named_params};

use super::{Result, demand_current, has_ready_rendition, insert_object, live_video};
use crate::catalog::Video;
use crate::catalog::sqlite::sparing_lists;
use crate::clock::Timestamp;
use crate::id::{SourceId, VideoId};
use crate::media::NewObject;
use crate::store::sqlite::Effects;

/// Lets the video show what is known of a source. Where that is what it shows already, its version stays.
pub(super) fn show(db: &Connection, video: VideoId, source: SourceId, now: Timestamp) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE videos SET (duration_ms, width, height, poster_key, storyboard_key) = (
                SELECT duration_ms, width, height, poster_key, storyboard_key FROM sources WHERE id = :source),
            version = version + 1, updated_at_ms = :now
         WHERE id = :id AND (duration_ms, width, height, poster_key, storyboard_key) IS NOT (
                SELECT duration_ms, width, height, poster_key, storyboard_key FROM sources WHERE id = :source)",
    )?
    .execute(named_params! {":id": video, ":source": source, ":now": now})
    .map(|_| ())
}

/// Whether the video shows this source: it is played, or nothing is.
pub(super) fn is_shown(db: &Connection, video: &Video, source: SourceId) -> rusqlite::Result<bool> {
    Ok(!video.is_playable() || has_ready_rendition(db, source)?)
}

/// Which picture of a source is published.
#[derive(Clone, Copy)]
pub(super) enum Picture {
    Poster,
    Storyboard,
}

/// Makes a picture the source's and lets the video show it, if it shows the source.
pub(super) fn publish_picture(
    db: &Connection,
    source: SourceId,
    picture: Picture,
    objects: &[NewObject],
    now: Timestamp,
    effects: &mut Effects,
) -> Result<()> {
    // A picture of a source that was replaced meanwhile would hang on the new one's video.
    let video = live_video(db, demand_current(db, source)?.video)?;
    let sql = match picture {
        Picture::Poster => "UPDATE sources SET poster_key = :key WHERE id = :id AND poster_key IS NULL",
        Picture::Storyboard => "UPDATE sources SET storyboard_key = :key WHERE id = :id AND storyboard_key IS NULL",
    };
    let key = objects.first().map(|object| &object.key);
    if db.prepare_cached(sql)?.execute(named_params! {":id": source, ":key": key})? == 0 {
        // An attempt before this one was faster.
        return Ok(());
    }
    for object in objects {
        insert_object(db, video.id, object, now)?;
    }
    let is_shown = is_shown(db, &video, source)?;
    let show = || if is_shown { show(db, video.id, source, now) } else { Ok(()) };
    Ok(sparing_lists(db, video.id, effects, show)?)
}
