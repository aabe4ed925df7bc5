//! The verdict on a video of which nothing more is made.

use rusqlite::{Connection, named_params};

use super::{current_source, has_ready_rendition, renditions};
use crate::id::{RenditionId, VideoId};
use crate::media::jobs::{PROCESS_VIDEO, rendition_key};
use crate::media::{RenditionStatus, SettleVideo};

/// Whether a job that plans the video's renditions is queued or runs. One that the trashing or a new source
/// told to stop, and that nothing follows any more, is no longer waited for.
fn is_being_planned(db: &Connection, video: VideoId) -> rusqlite::Result<bool> {
    // Index jobs_video.
    db.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM jobs
            WHERE video_id = :video AND kind = :process AND state IN ('queued', 'leased')
                AND (cancel_requested = 0 OR on_dead IS NOT NULL))",
    )?
    .query_row(named_params! {":video": video, ":process": PROCESS_VIDEO}, |row| row.get(0))
}

/// Whether a job that makes the rendition is queued or runs: by its unique key, which one that was told to
/// stop by the trashing or a new source has given up.
fn is_being_made(db: &Connection, rendition: RenditionId) -> rusqlite::Result<bool> {
    // Index jobs_unique_live.
    db.prepare_cached("SELECT EXISTS (SELECT 1 FROM jobs WHERE unique_key = :key AND state IN ('queued', 'leased'))")?
        .query_row(named_params! {":key": rendition_key(rendition)}, |row| row.get(0))
}

/// Fails the renditions of the current source that nobody makes any more; returns whether one is still made.
fn fail_unmade(db: &Connection, command: &SettleVideo) -> rusqlite::Result<bool> {
    let mut is_making = false;
    for row in renditions(db, command.video)?.iter().filter(|row| row.status != RenditionStatus::Ready) {
        if is_being_made(db, row.id)? {
            is_making = true;
            continue;
        }
        let own = command.renditions.iter().find(|(id, _)| *id == row.id).map(|(_, reason)| reason);
        db.prepare_cached(
            "UPDATE renditions SET status = 'failed', failure = :reason
             WHERE id = :id AND status IN ('planned', 'encoding')",
        )?
        .execute(named_params! {":id": row.id, ":reason": own.unwrap_or(&command.reason)})?;
    }
    Ok(is_making)
}

/// The verdict once nothing is on its way.
fn judge(db: &Connection, command: &SettleVideo, is_ready: bool) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE videos SET status = iif(published_at_ms IS NULL, 'failed', 'ready'),
            failure = iif(:is_ready, NULL, :reason), version = version + 1, updated_at_ms = :now
         WHERE id = :id AND status IN ('uploaded', 'processing') AND deleted_at_ms IS NULL",
    )?
    .execute(named_params! {
        ":id": command.video, ":is_ready": is_ready, ":reason": command.reason, ":now": command.now,
    })
    .map(|_| ())
}

pub(super) fn settle(db: &Connection, command: &SettleVideo) -> rusqlite::Result<()> {
    // A trashed video waits for its restoring, which plans anew.
    let is_live = crate::catalog::sqlite::find(db, command.video)?.is_some_and(|video| video.deleted_at.is_none());
    if !is_live || is_being_planned(db, command.video)? {
        return Ok(());
    }
    let Some(source) = current_source(db, command.video)? else { return Ok(()) };
    if fail_unmade(db, command)? {
        return Ok(());
    }
    judge(db, command, has_ready_rendition(db, source.id)?)
}
