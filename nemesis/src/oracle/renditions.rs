//! Renditions once nothing is left to do: each is settled, and published once, by a job that makes it.

use rusqlite::Row;
use vidcore::id::{RenditionId, VideoId};

use crate::Failure;
use crate::findings::Findings;
use crate::oracle::Rows;

/// Nobody is to make them any more, yet they wait to be made.
const UNSETTLED: &str = "
    SELECT v.id, r.id, r.name, r.status FROM renditions r JOIN sources s ON s.pk = r.source_pk
        JOIN videos v ON v.pk = s.video_pk
    WHERE r.status IN ('planned', 'encoding') AND s.current = 1 AND v.deleted_at_ms IS NULL
        AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.video_id = v.id AND j.state IN ('queued', 'leased'))";

/// They are shown, and the attempt that is named had no business to publish them.
const NOBODYS: &str = "
    SELECT v.id, r.id, r.name, r.status FROM renditions r JOIN sources s ON s.pk = r.source_pk
        JOIN videos v ON v.pk = s.video_pk
    WHERE r.status = 'ready' AND NOT EXISTS (
        SELECT 1 FROM job_attempts a JOIN jobs j ON j.pk = a.job_pk
        WHERE a.token = r.token AND j.video_id = v.id AND j.kind = 'make_rendition')";

/// What an attempt published has rows: those of an attempt whose work is not the one that is shown tell of a
/// second publishing.
const TWICE: &str = "
    SELECT o.key FROM objects o WHERE o.key LIKE '%/index.m3u8' AND NOT EXISTS (
        SELECT 1 FROM renditions r WHERE r.status = 'ready' AND r.prefix || '/index.m3u8' = o.key)";

/// Checks all of them, when every job is over.
pub(super) fn check(rows: &Rows, findings: &Findings) -> Result<(), Failure> {
    for rendition in rows.all(UNSETTLED, describe)? {
        findings.add(format!("{rendition}, and no live job of the video is left"));
    }
    for rendition in rows.all(NOBODYS, describe)? {
        findings.add(format!("{rendition}, by no attempt at a job that makes renditions of this video"));
    }
    for key in rows.all(TWICE, |row| row.get::<_, String>(0))? {
        findings.add(format!("{key} was published, and its rendition shows another attempt's work"));
    }
    Ok(())
}

fn describe(row: &Row<'_>) -> rusqlite::Result<String> {
    let (video, id) = (VideoId::from_bytes(row.get(0)?), RenditionId::from_bytes(row.get(1)?));
    let (name, status): (String, String) = (row.get(2)?, row.get(3)?);
    Ok(format!("{id}, the {name} of {video}, is {status}"))
}
