//! SQL of the purge: a video that goes for good, with everything that is about it.

use rusqlite::{Connection, OptionalExtension, named_params};

use crate::catalog::DuePurge;
use crate::clock::Timestamp;
use crate::id::{UploadId, UserId, VideoId};

/// Videos whose purge has begun, then those whose time in the trash is over, longest ago first.
pub(super) fn due(
    db: &Connection,
    now: Timestamp,
    after: Option<DuePurge>,
    limit: u16,
) -> rusqlite::Result<Vec<DuePurge>> {
    let begun = after.map(|after| after.has_begun);
    let (at, id) = (after.map(|after| after.purge_at), after.map(|after| after.id));
    // Index videos_purge: what waits in the trash is few, what is over is fewer.
    db.prepare_cached(
        "SELECT id, purging, purge_at_ms FROM videos
         WHERE purge_at_ms IS NOT NULL AND (purge_at_ms <= :now OR purging = 1)
            AND (:id IS NULL OR purging < :begun OR (purging = :begun AND (purge_at_ms, id) > (:at, :id)))
         ORDER BY purging DESC, purge_at_ms, id LIMIT :limit",
    )?
    .query_map(named_params! {":now": now, ":begun": begun, ":at": at, ":id": id, ":limit": limit}, |row| {
        Ok(DuePurge { id: row.get(0)?, has_begun: row.get(1)?, purge_at: row.get(2)? })
    })?
    .collect()
}

/// Marks the video; `false` unless its time in the trash is over or it is marked already.
pub(super) fn begin(db: &Connection, id: VideoId, now: Timestamp) -> rusqlite::Result<bool> {
    let rows = db
        .prepare_cached(
            "UPDATE videos SET purging = 1 WHERE id = :id AND deleted_at_ms IS NOT NULL
                AND (purge_at_ms <= :now OR purging = 1)",
        )?
        .execute(named_params! {":id": id, ":now": now})?;
    Ok(rows == 1)
}

/// Whether the purge of the video has begun.
pub(crate) fn has_begun(db: &Connection, id: VideoId) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT EXISTS (SELECT 1 FROM videos WHERE id = :id AND purging = 1)")?
        .query_row(named_params! {":id": id}, |row| row.get(0))
}

/// The uploads whose bytes are still staged.
pub(super) fn uploads(db: &Connection, id: VideoId) -> rusqlite::Result<Vec<UploadId>> {
    // Index uploads_video.
    db.prepare_cached(
        "SELECT id FROM uploads WHERE video_pk = (SELECT pk FROM videos WHERE id = :id)
            AND status IN ('open', 'verifying')",
    )?
    .query_map(named_params! {":id": id}, |row| row.get(0))?
    .collect()
}

/// Deletes every row of a video whose purge has begun; `false` if there is none. A trigger takes it out
/// of the search index.
pub(super) fn finish(db: &Connection, id: VideoId) -> rusqlite::Result<bool> {
    let pk: Option<i64> = db
        .prepare_cached("SELECT pk FROM videos WHERE id = :id AND purging = 1")?
        .query_row(named_params! {":id": id}, |row| row.get(0))
        .optional()?;
    let Some(pk) = pk else { return Ok(false) };
    forget_records(db, id)?;
    // Children before their parents. Indexes (source_pk, name), sources_video, objects_video,
    // prefixes_video, uploads_video, the primary key of video_viewers.
    for sql in [
        "DELETE FROM renditions WHERE source_pk IN (SELECT pk FROM sources WHERE video_pk = :pk)",
        "DELETE FROM sources WHERE video_pk = :pk",
        "DELETE FROM objects WHERE video_pk = :pk",
        "DELETE FROM prefixes WHERE video_pk = :pk",
        "DELETE FROM uploads WHERE video_pk = :pk",
        "DELETE FROM video_viewers WHERE video_pk = :pk",
        "DELETE FROM videos WHERE pk = :pk",
    ] {
        db.prepare_cached(sql)?.execute(named_params! {":pk": pk})?;
    }
    Ok(true)
}

/// What the owner's requests of the last hours did to the video is remembered no longer: a record stands for
/// an effect that is there.
fn forget_records(db: &Connection, id: VideoId) -> rusqlite::Result<()> {
    let owner: UserId = db
        .prepare_cached("SELECT u.id FROM videos v JOIN users u ON u.pk = v.owner_pk WHERE v.id = :id")?
        .query_row(named_params! {":id": id}, |row| row.get(0))?;
    // Primary key: a scope is the caller, a space and the route; `!` is what comes after the space.
    db.prepare_cached(
        "DELETE FROM idempotency WHERE scope > :owner || ' ' AND scope < :owner || '!'
            AND json_valid(CAST(result AS TEXT)) AND :video IN (
                json_extract(CAST(result AS TEXT), '$.id'), json_extract(CAST(result AS TEXT), '$.video'))",
    )?
    .execute(named_params! {":owner": owner.to_string(), ":video": id.to_string()})
    .map(|_| ())
}
