//! SQL of the repairs. Each looks for the damage itself, in the transaction that repairs it, and changes
//! nothing where there is none: a command may have run since it was found.

use rusqlite::{Connection, OptionalExtension, named_params};

use crate::clock::Timestamp;
use crate::doctor::{KeyOwner, Repair};
use crate::id::{SourceId, UploadId, VideoId};
use crate::media::NewObject;
use crate::store::sqlite::Effects;

use super::{is_there, remembered_effect};

/// Why a rendition failed whose objects are not what they were.
const LOST: &str = "Its files were lost or damaged.";

pub(super) fn apply(db: &Connection, repair: &Repair, now: Timestamp, effects: &mut Effects) -> rusqlite::Result<bool> {
    let changed = match repair {
        Repair::Job(id) => crate::jobs::sqlite::repair::job(db, *id, now, effects)?,
        Repair::Owners => crate::jobs::sqlite::repair::owners(db)?,
        Repair::Groups => crate::jobs::sqlite::repair::groups(db, effects)?,
        Repair::SearchIndex => rebuild_search_index(db)?,
        Repair::CurrentSource(video) => choose_source(db, *video)?,
        Repair::Process(video) => wants_processing(db, *video)?,
        Repair::Settle(video) => settle_trashed(db, *video)?,
        Repair::Verify(upload) => wants_verifying(db, *upload)?,
        Repair::Unpublish(video) => unpublish(db, *video, now)?,
        Repair::Record { video, object } => record(db, *video, object, now)?,
        Repair::Forget(key) => forget(db, key, now)?,
        Repair::Upload(upload) => uncount_upload(db, *upload)?,
        Repair::Source(source) => count_source(db, *source, now)?,
        Repair::Remembered(id) => forget_records(db, id)?,
    };
    if !changed {
        effects.causes.jobs.clear();
        effects.causes.changes.clear();
    }
    Ok(changed)
}

fn rebuild_search_index(db: &Connection) -> rusqlite::Result<bool> {
    db.execute("INSERT INTO videos_fts (videos_fts) VALUES ('rebuild')", []).map(|_| true)
}

/// The newest source is the current one; a video without any is a draft.
fn choose_source(db: &Connection, video: VideoId) -> rusqlite::Result<bool> {
    let chosen = db.execute(
        "UPDATE sources SET current = 1 WHERE pk = (
            SELECT max(s.pk) FROM sources s JOIN videos v ON v.pk = s.video_pk WHERE v.id = :video)
            AND NOT EXISTS (SELECT 1 FROM sources o WHERE o.video_pk = sources.video_pk AND o.current = 1)",
        named_params! {":video": video},
    )?;
    let emptied = db.execute(
        "UPDATE videos SET status = 'draft', published_at_ms = NULL, playback_kind = NULL, version = version + 1
         WHERE id = :video AND status <> 'draft' AND NOT EXISTS (SELECT 1 FROM sources s WHERE s.video_pk = videos.pk)",
        named_params! {":video": video},
    )?;
    Ok(chosen + emptied > 0)
}

/// Whether something of the video is still to be made, and nobody makes it.
fn wants_processing(db: &Connection, video: VideoId) -> rusqlite::Result<bool> {
    // Index jobs_video.
    db.query_row(
        "SELECT EXISTS (SELECT 1 FROM videos v JOIN sources s ON s.video_pk = v.pk AND s.current = 1
            WHERE v.id = :video AND v.deleted_at_ms IS NULL AND v.status <> 'draft'
                AND (v.status IN ('uploaded', 'processing') OR EXISTS (
                    SELECT 1 FROM renditions r WHERE r.source_pk = s.pk AND r.status IN ('planned', 'encoding')))
                AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.video_id = v.id AND j.queue IN ('video', 'media')
                    AND j.state IN ('queued', 'leased')))",
        named_params! {":video": video},
        |row| row.get(0),
    )
}

/// A trashed video is not being processed: restoring it plans the work.
fn settle_trashed(db: &Connection, video: VideoId) -> rusqlite::Result<bool> {
    let settled = db.execute(
        "UPDATE videos SET status = 'uploaded' WHERE id = :video AND status = 'processing' AND deleted_at_ms IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.video_id = videos.id AND j.queue IN ('video', 'media')
                AND j.state IN ('queued', 'leased'))",
        named_params! {":video": video},
    )?;
    Ok(settled > 0)
}

/// Whether the upload is being verified by nobody.
fn wants_verifying(db: &Connection, upload: UploadId) -> rusqlite::Result<bool> {
    db.query_row(
        "SELECT EXISTS (SELECT 1 FROM uploads WHERE id = :upload AND status = 'verifying') AND NOT EXISTS (
            SELECT 1 FROM jobs WHERE queue = 'uploads' AND state IN ('queued', 'leased')
                AND json_extract(payload, '$.upload') = :text)",
        named_params! {":upload": upload, ":text": upload.to_string()},
        |row| row.get(0),
    )
}

/// A video of which nothing is ready is not shown as playable. One that was `ready` waits to be processed.
fn unpublish(db: &Connection, video: VideoId, now: Timestamp) -> rusqlite::Result<bool> {
    let changed = db.execute(
        "UPDATE videos SET status = iif(status = 'ready', 'uploaded', status), published_at_ms = NULL,
            playback_kind = NULL, version = version + 1, updated_at_ms = :now
         WHERE id = :video AND (status = 'ready' OR published_at_ms IS NOT NULL) AND NOT EXISTS (
            SELECT 1 FROM renditions r JOIN sources s ON s.pk = r.source_pk
            WHERE s.video_pk = videos.pk AND r.status = 'ready')",
        named_params! {":video": video, ":now": now},
    )?;
    Ok(changed > 0)
}

/// Records an original whose bytes are those its source names.
fn record(db: &Connection, video: VideoId, object: &NewObject, now: Timestamp) -> rusqlite::Result<bool> {
    let rows = db.execute(
        "INSERT INTO objects (key, video_pk, size_bytes, sha256, content_type, created_at_ms)
         SELECT s.object_key, s.video_pk, s.size_bytes, s.sha256, :content_type, :now
         FROM sources s JOIN videos v ON v.pk = s.video_pk
         WHERE v.id = :video AND s.object_key = :key AND s.dropped_at_ms IS NULL AND s.size_bytes = :size AND s.sha256 = :sha256
         ON CONFLICT (key) DO UPDATE SET size_bytes = excluded.size_bytes, sha256 = excluded.sha256
            WHERE size_bytes <> excluded.size_bytes OR sha256 <> excluded.sha256",
        named_params! {
            ":video": video,
            ":key": object.key,
            ":size": i64::try_from(object.size_bytes).unwrap_or(i64::MAX),
            ":sha256": object.sha256,
            ":content_type": object.content_type,
            ":now": now,
        },
    )?;
    Ok(rows > 0)
}

/// Whose the key is, by the rows.
pub(super) fn owner(db: &Connection, key: &str) -> rusqlite::Result<KeyOwner> {
    let original = db
        .query_row(
            "SELECT v.id, s.content_type, s.size_bytes, s.sha256 FROM sources s JOIN videos v ON v.pk = s.video_pk
             WHERE s.object_key = :key",
            named_params! {":key": key},
            |row| {
                let object = NewObject {
                    key: key.to_owned(),
                    content_type: row.get(1)?,
                    size_bytes: row.get::<_, i64>(2)?.unsigned_abs(),
                    sha256: row.get(3)?,
                };
                Ok(KeyOwner::Original { video: row.get(0)?, object })
            },
        )
        .optional()?;
    if let Some(original) = original {
        return Ok(original);
    }
    let made = db
        .query_row(
            "SELECT v.id FROM objects o JOIN videos v ON v.pk = o.video_pk WHERE o.key = :key
             UNION ALL
             SELECT v.id FROM videos v WHERE v.poster_key = :key OR v.storyboard_key = :key
             UNION ALL
             SELECT v.id FROM renditions r JOIN sources s ON s.pk = r.source_pk JOIN videos v ON v.pk = s.video_pk
             WHERE r.prefix || '/index.m3u8' = :key LIMIT 1",
            named_params! {":key": key},
            |row| row.get(0),
        )
        .optional()?;
    Ok(made.map_or(KeyOwner::Nobody, |video| KeyOwner::Made { video }))
}

/// Takes an object that is lost or damaged out of everything that shows it: the rendition it is part of has
/// failed, the picture is none. Of an original only what plays it fails. Whether there was anything to take.
fn forget(db: &Connection, key: &str, now: Timestamp) -> rusqlite::Result<bool> {
    let is_original: bool = db.query_row(
        "SELECT EXISTS (SELECT 1 FROM sources WHERE object_key = :key)",
        named_params! {":key": key},
        |row| row.get(0),
    )?;
    let video: Option<VideoId> = match owner(db, key)? {
        KeyOwner::Original { video, .. } | KeyOwner::Made { video } => Some(video),
        KeyOwner::Nobody => None,
    };
    let mut changed = fail_renditions(db, key)?;
    if !is_original {
        changed += forget_picture(db, key)?;
        changed += db.execute("DELETE FROM objects WHERE key = :key", named_params! {":key": key})?;
    }
    if let Some(video) = video {
        unpublish(db, video, now)?;
    }
    Ok(changed > 0)
}

/// Fails the ready renditions that the key is a part of, and forgets the other objects they are made of.
fn fail_renditions(db: &Connection, key: &str) -> rusqlite::Result<usize> {
    let mut changed = 0;
    // The whole key is the prefix of a rendition that is played as a file.
    let ends = key.match_indices('/').map(|(end, _)| end).chain([key.len()]);
    for prefix in ends.map(|end| &key[..end]) {
        // Index renditions_ready_prefix.
        let failed = db.execute(
            "UPDATE renditions SET status = 'failed', failure = :why, ready_at_ms = NULL
             WHERE prefix = :prefix AND status = 'ready'",
            named_params! {":prefix": prefix, ":why": LOST},
        )?;
        if failed > 0 {
            // Keys between `prefix/` and the next string that does not begin so.
            db.execute(
                "DELETE FROM objects WHERE key > :prefix || '/' AND key < :prefix || '0'",
                named_params! {":prefix": prefix},
            )?;
        }
        changed += failed;
    }
    Ok(changed)
}

/// A poster, a storyboard or one of its sheets, which stand beside it.
fn forget_picture(db: &Connection, key: &str) -> rusqlite::Result<usize> {
    let mut changed = 0;
    let beside = key.rsplit_once('/').map_or("", |(folder, _)| folder);
    for (sql, value) in [
        ("UPDATE sources SET poster_key = NULL WHERE poster_key = :value", key),
        ("UPDATE videos SET poster_key = NULL, version = version + 1 WHERE poster_key = :value", key),
        ("UPDATE sources SET storyboard_key = NULL WHERE storyboard_key = :value || '/storyboard.vtt'", beside),
        (
            "UPDATE videos SET storyboard_key = NULL, version = version + 1
             WHERE storyboard_key = :value || '/storyboard.vtt'",
            beside,
        ),
    ] {
        changed += db.execute(sql, named_params! {":value": value})?;
    }
    Ok(changed)
}

/// An upload by which nothing came counts against nobody; one that counts wrongly counts what came.
fn uncount_upload(db: &Connection, upload: UploadId) -> rusqlite::Result<bool> {
    let corrected = db.execute(
        "UPDATE uploads SET offset_bytes = 0, (size_bytes, video_pk) = (
            SELECT s.size_bytes, s.video_pk FROM sources s WHERE s.upload_id = uploads.id)
         WHERE id = :upload AND status = 'complete' AND EXISTS (
            SELECT 1 FROM sources s WHERE s.upload_id = uploads.id
                AND (s.size_bytes <> uploads.size_bytes OR s.video_pk <> uploads.video_pk))",
        named_params! {":upload": upload},
    )?;
    let deleted = db.execute(
        "DELETE FROM uploads WHERE id = :upload AND status = 'complete'
            AND NOT EXISTS (SELECT 1 FROM sources s WHERE s.upload_id = uploads.id)",
        named_params! {":upload": upload},
    )?;
    Ok(corrected + deleted > 0)
}

/// A source counts against the owner of its video, by the upload it came by.
fn count_source(db: &Connection, source: SourceId, now: Timestamp) -> rusqlite::Result<bool> {
    let rows = db.execute(
        "INSERT INTO uploads (id, video_pk, user_pk, kind, status, size_bytes, created_at_ms, updated_at_ms,
            expires_at_ms)
         SELECT s.upload_id, s.video_pk, v.owner_pk, 'whole', 'complete', s.size_bytes, s.created_at_ms, :now, s.created_at_ms
         FROM sources s JOIN videos v ON v.pk = s.video_pk WHERE s.id = :source
         ON CONFLICT (id) DO UPDATE SET status = 'complete', size_bytes = excluded.size_bytes, updated_at_ms = :now
            WHERE status <> 'complete'",
        named_params! {":source": source, ":now": now},
    )?;
    Ok(rows > 0)
}

/// Forgets that the owner's requests made the video or upload with this id, if it is not there.
fn forget_records(db: &Connection, id: &str) -> rusqlite::Result<bool> {
    if is_there(db, id)? {
        return Ok(false);
    }
    let records: Vec<(String, String, Vec<u8>)> = db
        .prepare("SELECT scope, key, result FROM idempotency")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut forgotten = 0;
    for (scope, key, result) in records {
        if remembered_effect(&scope, &result).as_deref() == Some(id) {
            forgotten += db.execute(
                "DELETE FROM idempotency WHERE scope = :scope AND key = :key",
                named_params! {":scope": scope, ":key": key},
            )?;
        }
    }
    Ok(forgotten > 0)
}
