//! The checks that are one query each: its rows are what is wrong.

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use crate::doctor::{Check, MAX_FINDINGS, Report};
use crate::id::{JobGroupId, JobId, SourceId, UploadId, VideoId};

/// What a rule's rows are about: how their first column is shown.
#[derive(Clone, Copy)]
enum Noun {
    Job,
    Group,
    Video,
    Source,
    Upload,
    /// A text: the key of an object.
    Key,
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
        check: Check::Order,
        noun: Noun::Job,
        explanation: "Its place in the order is not that of its time and priority.",
        sql: "SELECT id FROM jobs WHERE state = 'queued' AND rank_ms <> run_at_ms - priority * 60000",
    },
    Rule {
        check: Check::Group,
        noun: Noun::Job,
        explanation: "It has ended, but its group still waits for it.",
        sql: "SELECT id FROM jobs WHERE group_id IS NOT NULL AND state IN ('done', 'dead', 'cancelled')",
    },
    Rule {
        check: Check::Group,
        noun: Noun::Group,
        explanation: "None of its jobs is live, so nothing would ever write the job that follows them.",
        sql: "SELECT g.id FROM job_groups g WHERE NOT EXISTS (
                SELECT 1 FROM jobs j WHERE j.group_id = g.id AND j.state IN ('queued', 'leased'))",
    },
    Rule {
        check: Check::Group,
        noun: Noun::Group,
        explanation: "It waits for another number of jobs than are live.",
        sql: "SELECT id FROM (
                SELECT g.id, g.remaining, (
                    SELECT count(*) FROM jobs j WHERE j.group_id = g.id AND j.state IN ('queued', 'leased')) AS live
                FROM job_groups g)
              WHERE live > 0 AND live <> remaining",
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
        check: Check::Rendition,
        noun: Noun::Video,
        explanation: "A rendition of it is still to be made, but no live job makes it.",
        sql: "SELECT DISTINCT v.id FROM videos v JOIN sources s ON s.video_pk = v.pk AND s.current = 1
                JOIN renditions r ON r.source_pk = s.pk
              WHERE v.status IN ('ready', 'failed') AND v.deleted_at_ms IS NULL AND r.status IN ('planned', 'encoding')
                AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.video_id = v.id AND j.queue IN ('video', 'media')
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
        noun: Noun::Key,
        explanation: "It is an original that is not recorded with its size and hash.",
        sql: "SELECT s.object_key FROM sources s WHERE s.dropped_at_ms IS NULL AND NOT EXISTS (
                SELECT 1 FROM objects o
                WHERE o.key = s.object_key AND o.size_bytes = s.size_bytes AND o.sha256 = s.sha256)",
    },
    Rule {
        check: Check::ObjectRow,
        noun: Noun::Key,
        explanation: "It is the playlist or the file of a ready rendition, but is not recorded.",
        sql: "SELECT iif(r.kind = 'hls', r.prefix || '/index.m3u8', r.prefix) FROM renditions r WHERE r.status = 'ready' AND NOT EXISTS (
                SELECT 1 FROM objects o WHERE o.key = iif(r.kind = 'hls', r.prefix || '/index.m3u8', r.prefix))",
    },
    Rule {
        check: Check::ObjectRow,
        noun: Noun::Key,
        explanation: "It is the poster of a video, but is not recorded.",
        sql: "SELECT v.poster_key FROM videos v WHERE v.poster_key IS NOT NULL AND NOT EXISTS (
                SELECT 1 FROM objects o WHERE o.key = v.poster_key)",
    },
    Rule {
        check: Check::ObjectRow,
        noun: Noun::Key,
        explanation: "It is the storyboard of a video, but is not recorded.",
        sql: "SELECT v.storyboard_key FROM videos v WHERE v.storyboard_key IS NOT NULL AND NOT EXISTS (
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
    fn show(self, value: ValueRef<'_>) -> rusqlite::Result<String> {
        if let Self::Key = self {
            return Ok(String::from_utf8_lossy(value.as_bytes()?).into_owned());
        }
        let id = value.as_blob()?.try_into().map_err(|_| rusqlite::Error::InvalidQuery)?;
        Ok(match self {
            Self::Job => JobId::from_bytes(id).to_string(),
            Self::Group => JobGroupId::from_bytes(id).to_string(),
            Self::Video => VideoId::from_bytes(id).to_string(),
            Self::Source => SourceId::from_bytes(id).to_string(),
            Self::Upload | Self::Key => UploadId::from_bytes(id).to_string(),
        })
    }
}

/// Applies every rule.
pub(super) fn examine(db: &Connection, report: &mut Report) -> rusqlite::Result<()> {
    for rule in RULES {
        let sql = format!("{} LIMIT {MAX_FINDINGS}", rule.sql);
        let mut statement = db.prepare(&sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            report.add(rule.check, rule.noun.show(row.get_ref(0)?)?, rule.explanation);
        }
    }
    Ok(())
}
