//! SQL of the checks, and of the keys they are about.

use std::collections::HashSet;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, named_params};

use crate::doctor::{Check, DoctorStore, KeyOwner, MAX_FINDINGS, Repair, Report, search_index, upload_of, video_of};
use crate::id::{UploadId, UserId, VideoId};
use crate::jobs::UPLOADS_QUEUE;
use crate::media::NewObject;
use crate::storage::{UploadKind, UploadStatus};
use crate::store::sqlite::SqliteStore;
use crate::store::{Causes, Outcome, StoreError};

/// Whose turn it is is decided by counts that are kept beside the jobs.
fn owners(db: &Connection, report: &mut Report) -> rusqlite::Result<()> {
    let mut statement = db.prepare(
        "WITH counted AS (
            SELECT queue, coalesce(owner_id, x'') AS owner_id, sum(state = 'queued' AND due = 1) AS ready,
                sum(state = 'leased') AS running
            FROM jobs WHERE state IN ('queued', 'leased') GROUP BY 1, 2)
         SELECT coalesce(c.queue, o.queue), coalesce(c.owner_id, o.owner_id)
         FROM counted c FULL OUTER JOIN job_owners o ON o.queue = c.queue AND o.owner_id = c.owner_id
         WHERE coalesce(c.ready, 0) <> coalesce(o.ready, 0) OR coalesce(c.running, 0) <> coalesce(o.running, 0)",
    )?;
    let wrong = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
    for row in wrong.take(MAX_FINDINGS) {
        let (queue, owner) = row?;
        let owner = owner.try_into().map_or_else(|_| "nobody".to_owned(), |id| UserId::from_bytes(id).to_string());
        let explanation = "It is not recorded right how many jobs of this queue and owner wait and run.";
        report.add(Check::Owners, format!("{queue} {owner}"), explanation);
    }
    Ok(())
}

/// A record is written with its effect. What else may have deleted the effect deletes the record as well.
fn remembered(db: &Connection, report: &mut Report) -> rusqlite::Result<()> {
    let mut statement = db.prepare("SELECT scope, result FROM idempotency")?;
    let records = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
    for record in records {
        let (scope, result) = record?;
        let Some(effect) = remembered_effect(&scope, &result) else { continue };
        if !is_there(db, &effect)? {
            let explanation = "A request of its owner is remembered as done, but what it made is not there.";
            report.add(Check::Idempotency, effect, explanation);
        }
    }
    Ok(())
}

/// The video or upload that a record says was made or changed by its owner, and that is to be there.
pub(super) fn remembered_effect(scope: &str, result: &[u8]) -> Option<String> {
    let result: serde_json::Value = serde_json::from_slice(result).ok()?;
    // To be gone is what was done to a part that was given up.
    let says = |member: &str, text: &str| result.get(member).is_some_and(|said| said == text);
    if says("kind", UploadKind::Part.as_str()) && says("status", UploadStatus::Aborted.as_str()) {
        return None;
    }
    let owner = result.get("owner").or_else(|| result.get("user"))?.as_str()?;
    let id = result.get("id")?.as_str()?;
    let is_own = scope.strip_prefix(owner).is_some_and(|rest| rest.starts_with(' '));
    (is_own && (id.parse::<VideoId>().is_ok() || id.parse::<UploadId>().is_ok())).then(|| id.to_owned())
}

/// Whether the video or upload with this id has a row.
pub(super) fn is_there(db: &Connection, id: &str) -> rusqlite::Result<bool> {
    if let Ok(video) = id.parse::<VideoId>() {
        return exists(db, "SELECT 1 FROM videos WHERE id = ?1", &video);
    }
    match id.parse::<UploadId>() {
        Ok(upload) => exists(db, "SELECT 1 FROM uploads WHERE id = ?1", &upload),
        Err(_) => Ok(false),
    }
}

/// A job names its upload in its payload alone.
fn verifying(db: &Connection, report: &mut Report) -> rusqlite::Result<()> {
    let busy: HashSet<String> = db
        .prepare(
            "SELECT json_extract(payload, '$.upload') FROM jobs
             WHERE queue = :queue AND state IN ('queued', 'leased') AND json_extract(payload, '$.upload') IS NOT NULL",
        )?
        .query_map(named_params! {":queue": UPLOADS_QUEUE}, |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut statement = db.prepare("SELECT id FROM uploads WHERE status = 'verifying'")?;
    for upload in statement.query_map([], |row| row.get::<_, UploadId>(0))? {
        let upload = upload?.to_string();
        if !busy.contains(&upload) {
            report.add(Check::Verifying, upload, "It is being verified, but no live job does it or gives it up.");
        }
    }
    Ok(())
}

/// SQLite's own checks. The quick one leaves out whether indexes agree with their tables.
fn database(db: &Connection, deep: bool, report: &mut Report) -> rusqlite::Result<()> {
    let pragma = if deep { "PRAGMA integrity_check(100)" } else { "PRAGMA quick_check(100)" };
    let lines: Vec<String> = db.prepare(pragma)?.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for line in lines.into_iter().filter(|line| line != "ok") {
        report.add(Check::Database, "database", format!("SQLite says: {line}."));
    }
    let broken = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, Option<i64>>(1)?, row.get(2)?));
    let mut statement = db.prepare("PRAGMA foreign_key_check")?;
    for row in statement.query_map([], broken)?.take(MAX_FINDINGS) {
        let (table, rowid, parent): (String, Option<i64>, String) = row?;
        let row = rowid.map_or_else(String::new, |rowid| format!(" {rowid}"));
        report.add(
            Check::Database,
            "database",
            format!("Row{row} of {table} refers to a row of {parent} that is gone."),
        );
    }
    Ok(())
}

fn count(db: &Connection, sql: &str) -> rusqlite::Result<u64> {
    db.prepare(sql)?.query_row([], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
}

fn examine(db: &Connection, deep: bool) -> rusqlite::Result<Report> {
    let mut report = Report::default();
    report.checked.jobs = count(db, "SELECT count(*) FROM jobs")?;
    report.checked.videos = count(db, "SELECT count(*) FROM videos")?;
    report.checked.uploads = count(db, "SELECT count(*) FROM uploads")?;
    database(db, deep, &mut report)?;
    rules::examine(db, &mut report)?;
    owners(db, &mut report)?;
    verifying(db, &mut report)?;
    remembered(db, &mut report)?;
    search_index::examine(db, deep, &mut report)?;
    Ok(report)
}

mod repairs;
mod rules;

/// Queries that find the row to which a key belongs as a whole. Primary key of objects; unique index of
/// sources, indexes sources_poster and sources_storyboard. A key that sources alone name is damage, but no
/// garbage.
const OWNERS: [&str; 4] = [
    "SELECT 1 FROM objects WHERE key = ?1",
    "SELECT 1 FROM sources WHERE object_key = ?1 AND dropped_at_ms IS NULL",
    "SELECT 1 FROM sources WHERE poster_key = ?1",
    "SELECT 1 FROM sources WHERE storyboard_key = ?1",
];

/// Queries that find the row to which every key under a prefix belongs. Index renditions_ready_prefix,
/// primary key of prefixes.
const OWNERS_OF_PREFIX: [&str; 2] = [
    "SELECT 1 FROM renditions WHERE prefix = ?1 AND status = 'ready'",
    "SELECT 1 FROM prefixes p WHERE p.prefix = ?1 AND EXISTS (
        SELECT 1 FROM job_attempts a JOIN jobs j ON j.pk = a.job_pk
        WHERE a.token = p.token AND j.id = p.job_id AND a.ended_at_ms IS NULL)",
];

fn exists(db: &Connection, sql: &str, value: &dyn rusqlite::ToSql) -> rusqlite::Result<bool> {
    Ok(db.prepare_cached(sql)?.query_row([value], |_| Ok(())).optional()?.is_some())
}

/// Whether a row, the prefix of a running attempt, a live upload or the purge of its video accounts for
/// this key.
fn is_known(db: &Connection, key: &str) -> rusqlite::Result<bool> {
    for owner in OWNERS {
        if exists(db, owner, &key)? {
            return Ok(true);
        }
    }
    for (end, _) in key.match_indices('/') {
        for owner in OWNERS_OF_PREFIX {
            if exists(db, owner, &&key[..end])? {
                return Ok(true);
            }
        }
    }
    if let Some(video) = video_of(key)
        && crate::catalog::sqlite::purge::has_begun(db, video)?
    {
        return Ok(true);
    }
    // Bytes are pinned before they are committed; until then the upload is being verified.
    let live = if key.starts_with("originals/") {
        "SELECT 1 FROM uploads WHERE id = ?1 AND status = 'verifying'"
    } else {
        "SELECT 1 FROM uploads u WHERE u.id = ?1 AND (u.status IN ('open', 'verifying') OR EXISTS (
            SELECT 1 FROM uploads j WHERE j.pk = u.used_by_pk AND j.status = 'verifying'))"
    };
    upload_of(key).map_or(Ok(false), |upload| exists(db, live, &upload))
}

#[async_trait]
impl DoctorStore for SqliteStore {
    async fn examine_rows(&self, deep: bool) -> Result<Report, StoreError> {
        self.read("examine the rows", move |db| Ok(examine(db, deep)?)).await
    }

    async fn recorded_objects(&self, after: &str, limit: u16) -> Result<Vec<NewObject>, StoreError> {
        let after = after.to_owned();
        self.read("list recorded objects", move |db| {
            // Primary key.
            let objects = db
                .prepare_cached(
                    "SELECT o.key, o.size_bytes, o.sha256, o.content_type
                     FROM objects o JOIN videos v ON v.pk = o.video_pk
                     WHERE o.key > :after AND v.purging = 0 ORDER BY o.key LIMIT :limit",
                )?
                .query_map(named_params! {":after": after, ":limit": limit}, |row| {
                    Ok(NewObject {
                        key: row.get(0)?,
                        size_bytes: row.get::<_, i64>(1)?.unsigned_abs(),
                        sha256: row.get(2)?,
                        content_type: row.get(3)?,
                    })
                })?
                .collect::<rusqlite::Result<_>>()?;
            Ok(objects)
        })
        .await
    }

    async fn unknown_keys(&self, keys: Vec<String>) -> Result<Vec<String>, StoreError> {
        self.read("look for unknown keys", move |db| {
            let mut unknown = Vec::new();
            for key in keys {
                if !is_known(db, &key)? {
                    unknown.push(key);
                }
            }
            Ok(unknown)
        })
        .await
    }

    async fn key_owner(&self, key: &str) -> Result<KeyOwner, StoreError> {
        let key = key.to_owned();
        self.read("find whose a key is", move |db| Ok(repairs::owner(db, &key)?)).await
    }

    async fn repair(&self, repair: Repair, causes: Causes) -> Result<bool, StoreError> {
        self.command_with("repair rows", causes, move |db, now, effects| Ok(repairs::apply(db, &repair, now, effects)?))
            .await
            .map(Outcome::into_inner)
    }

    async fn knows_videos(&self) -> Result<bool, StoreError> {
        self.read("look for a video", |db| {
            Ok(db.prepare_cached("SELECT EXISTS (SELECT 1 FROM videos)")?.query_row([], |row| row.get(0))?)
        })
        .await
    }
}
