//! SQL of the checks: each is one query whose rows are what is wrong.

use std::collections::HashSet;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, named_params};

use crate::doctor::{Check, DoctorStore, MAX_FINDINGS, Report, search_index, upload_of};
use crate::id::{JobId, RenditionId, SourceId, UploadId, VideoId};
use crate::jobs::UPLOADS_QUEUE;
use crate::media::NewObject;
use crate::store::StoreError;
use crate::store::sqlite::SqliteStore;

/// What a rule's rows are about: how the 16 bytes of their first column are shown.
#[derive(Clone, Copy)]
enum Noun {
    Job,
    Video,
    Source,
    Rendition,
    Upload,
}

/// A query whose rows break a promise.
struct Rule {
    check: Check,
    noun: Noun,
    explanation: &'static str,
    sql: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        check: Check::Lease,
        noun: Noun::Job,
        explanation: "It is leased, but under the token of no running attempt of its own.",
        sql: "SELECT j.id FROM jobs j WHERE j.state = 'leased' AND NOT EXISTS (
                SELECT 1 FROM job_attempts a WHERE a.token = j.token AND a.job_pk = j.pk AND a.ended_at_ms IS NULL)",
    },
    Rule {
        check: Check::Lease,
        noun: Noun::Job,
        explanation: "An attempt of it has not ended and does not hold its lease.",
        sql: "SELECT DISTINCT j.id FROM job_attempts a JOIN jobs j ON j.pk = a.job_pk
              WHERE a.ended_at_ms IS NULL AND (j.state <> 'leased' OR j.token IS NOT a.token)",
    },
    Rule {
        check: Check::Token,
        noun: Noun::Job,
        explanation: "Its token is not that of its newest attempt.",
        sql: "SELECT j.id FROM jobs j WHERE j.token IS NOT (
                SELECT max(a.token) FROM job_attempts a WHERE a.job_pk = j.pk)",
    },
    Rule {
        check: Check::Attempts,
        noun: Noun::Job,
        explanation: "It was claimed more often than it may be.",
        sql: "SELECT id FROM jobs WHERE attempts > max_attempts",
    },
    Rule {
        check: Check::Attempts,
        noun: Noun::Job,
        explanation: "It counts more attempts than are on record.",
        sql: "SELECT j.id FROM jobs j WHERE j.attempts > (
                SELECT count(*) FROM job_attempts a WHERE a.job_pk = j.pk AND a.outcome IS NOT 'released')",
    },
    Rule {
        check: Check::Final,
        noun: Noun::Job,
        explanation: "Its state and the times of its end and its lease contradict each other.",
        sql: "SELECT id FROM jobs
              WHERE (state IN ('done', 'dead', 'cancelled')) <> (finished_at_ms IS NOT NULL)
                OR (state = 'leased') <> (lease_until_ms IS NOT NULL)",
    },
    Rule {
        check: Check::UniqueKey,
        noun: Noun::Job,
        explanation: "Another live job has its unique key.",
        sql: "SELECT id FROM jobs j WHERE unique_key IS NOT NULL AND state IN ('queued', 'leased') AND EXISTS (
                SELECT 1 FROM jobs other WHERE other.unique_key = j.unique_key AND other.pk < j.pk
                    AND other.state IN ('queued', 'leased'))",
    },
    Rule {
        check: Check::Processing,
        noun: Noun::Video,
        explanation: "It is processing, but no live job makes its renditions.",
        sql: "SELECT v.id FROM videos v WHERE v.status = 'processing' AND NOT EXISTS (
                SELECT 1 FROM jobs j WHERE j.video_id = v.id AND j.queue IN ('video', 'media')
                    AND j.state IN ('queued', 'leased'))",
    },
    Rule {
        check: Check::Uploaded,
        noun: Noun::Video,
        explanation: "It waits for its processing, but no live job will begin it.",
        sql: "SELECT v.id FROM videos v WHERE v.status = 'uploaded' AND v.deleted_at_ms IS NULL AND NOT EXISTS (
                SELECT 1 FROM jobs j WHERE j.video_id = v.id AND j.queue IN ('video', 'media')
                    AND j.state IN ('queued', 'leased'))",
    },
    Rule {
        check: Check::Ready,
        noun: Noun::Video,
        explanation: "It is shown as playable, but has no ready rendition.",
        sql: "SELECT v.id FROM videos v WHERE (v.status = 'ready' OR v.published_at_ms IS NOT NULL) AND NOT EXISTS (
                SELECT 1 FROM renditions r JOIN sources s ON s.pk = r.source_pk
                WHERE s.video_pk = v.pk AND r.status = 'ready')",
    },
    Rule {
        check: Check::CurrentSource,
        noun: Noun::Video,
        explanation: "It does not have exactly one current source.",
        sql: "SELECT v.id FROM videos v
              WHERE (v.status <> 'draft' OR EXISTS (SELECT 1 FROM sources s WHERE s.video_pk = v.pk))
                AND 1 <> (SELECT count(*) FROM sources s WHERE s.video_pk = v.pk AND s.current = 1)",
    },
    Rule {
        check: Check::ObjectRow,
        noun: Noun::Source,
        explanation: "Its object is not recorded with its size and hash.",
        sql: "SELECT s.id FROM sources s WHERE NOT EXISTS (
                SELECT 1 FROM objects o
                WHERE o.key = s.object_key AND o.size_bytes = s.size_bytes AND o.sha256 = s.sha256)",
    },
    Rule {
        check: Check::ObjectRow,
        noun: Noun::Rendition,
        explanation: "It is ready, but its playlist or file is not recorded.",
        sql: "SELECT r.id FROM renditions r WHERE r.status = 'ready' AND NOT EXISTS (
                SELECT 1 FROM objects o WHERE o.key = iif(r.kind = 'hls', r.prefix || '/index.m3u8', r.prefix))",
    },
    Rule {
        check: Check::ObjectRow,
        noun: Noun::Video,
        explanation: "Its poster is not recorded.",
        sql: "SELECT v.id FROM videos v WHERE v.poster_key IS NOT NULL AND NOT EXISTS (
                SELECT 1 FROM objects o WHERE o.key = v.poster_key)",
    },
    Rule {
        check: Check::ObjectRow,
        noun: Noun::Video,
        explanation: "Its storyboard is not recorded.",
        sql: "SELECT v.id FROM videos v WHERE v.storyboard_key IS NOT NULL AND NOT EXISTS (
                SELECT 1 FROM objects o WHERE o.key = v.storyboard_key)",
    },
    Rule {
        check: Check::Quota,
        noun: Noun::Upload,
        explanation: "It counts as stored, but no source of its size and video came by it.",
        sql: "SELECT u.id FROM uploads u WHERE u.status = 'complete' AND NOT EXISTS (
                SELECT 1 FROM sources s
                WHERE s.upload_id = u.id AND s.size_bytes = u.size_bytes AND s.video_pk = u.video_pk)",
    },
    Rule {
        check: Check::Quota,
        noun: Noun::Source,
        explanation: "It is stored, but counts against nobody's quota.",
        sql: "SELECT s.id FROM sources s WHERE NOT EXISTS (
                SELECT 1 FROM uploads u WHERE u.id = s.upload_id AND u.status = 'complete')",
    },
];

impl Noun {
    fn show(self, id: [u8; 16]) -> String {
        match self {
            Self::Job => JobId::from_bytes(id).to_string(),
            Self::Video => VideoId::from_bytes(id).to_string(),
            Self::Source => SourceId::from_bytes(id).to_string(),
            Self::Rendition => RenditionId::from_bytes(id).to_string(),
            Self::Upload => UploadId::from_bytes(id).to_string(),
        }
    }
}

fn apply(db: &Connection, rule: &Rule, report: &mut Report) -> rusqlite::Result<()> {
    let sql = format!("{} LIMIT {MAX_FINDINGS}", rule.sql);
    let ids: Vec<[u8; 16]> = db.prepare(&sql)?.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for id in ids {
        report.add(rule.check, rule.noun.show(id), rule.explanation);
    }
    Ok(())
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
    for rule in RULES {
        apply(db, rule, &mut report)?;
    }
    verifying(db, &mut report)?;
    search_index::examine(db, deep, &mut report)?;
    Ok(report)
}

/// Whether a recorded object, an attempt's prefix or a live upload accounts for this key.
fn is_known(db: &Connection, key: &str) -> rusqlite::Result<bool> {
    let exists = |sql: &str, value: &dyn rusqlite::ToSql| {
        let found = db.prepare_cached(sql)?.query_row([value], |_| Ok(())).optional()?;
        Ok::<_, rusqlite::Error>(found.is_some())
    };
    // Primary keys of objects and prefixes, unique index of uploads.
    if exists("SELECT 1 FROM objects WHERE key = ?1", &key)? {
        return Ok(true);
    }
    for (end, _) in key.match_indices('/') {
        if exists("SELECT 1 FROM prefixes WHERE prefix = ?1", &&key[..end])? {
            return Ok(true);
        }
    }
    // Bytes are pinned before they are committed; until then the upload is being verified.
    let live = if key.starts_with("originals/") {
        "SELECT 1 FROM uploads WHERE id = ?1 AND status = 'verifying'"
    } else {
        "SELECT 1 FROM uploads WHERE id = ?1 AND status IN ('open', 'verifying')"
    };
    upload_of(key).map_or(Ok(false), |upload| exists(live, &upload))
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
                    "SELECT key, size_bytes, sha256, content_type FROM objects WHERE key > :after
                     ORDER BY key LIMIT :limit",
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
}
