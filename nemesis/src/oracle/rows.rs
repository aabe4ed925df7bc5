//! Rows, read with a connection that cannot write.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row};
use vidcore::id::{JobId, RenditionId, UploadId, VideoId};

use crate::Failure;
use crate::ledger::Published;

/// How long a read waits for the database.
const PATIENCE: Duration = Duration::from_secs(10);

const ATTEMPT: &str = "SELECT j.id, a.token, a.worker, a.started_at_ms, a.ended_at_ms, a.outcome
    FROM job_attempts a JOIN jobs j ON j.pk = a.job_pk";

/// The database, read-only.
#[derive(Debug)]
pub struct Rows(Connection);

/// How much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Jobs.
    pub jobs: u64,
    /// Those that died.
    pub dead: u64,
    /// Attempts on all of them.
    pub attempts: u64,
    /// Videos.
    pub videos: u64,
}

/// One attempt on a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The job.
    pub job: String,
    /// Its token.
    pub token: i64,
    /// Whose it is: `pid-` and the number of the process.
    pub worker: String,
    /// When it was claimed.
    pub started_at_ms: i64,
    /// When it ended, if it has.
    pub ended_at_ms: Option<i64>,
    /// How it ended, if it has.
    pub outcome: Option<String>,
}

/// What a row says of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadRow {
    /// Its status.
    pub status: String,
    /// The SHA-256 of its bytes, once they came.
    pub sha256: Option<String>,
    /// Why it was rejected.
    pub reason: Option<String>,
}

impl Rows {
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(PATIENCE)?;
        Ok(Self(connection))
    }

    /// The jobs that are not over, of whatever queue, each with its kind and state.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn live_jobs(&self) -> Result<Vec<String>, Failure> {
        self.all("SELECT id, kind, state, attempts, last_error FROM jobs WHERE state IN ('queued', 'leased')", |row| {
            let (kind, state): (String, String) = (row.get(1)?, row.get(2)?);
            let (attempts, error): (i64, Option<String>) = (row.get(3)?, row.get(4)?);
            Ok(format!("{} {kind} {state} after {attempts} attempts, {error:?}", job(row, 0)?))
        })
    }

    /// How many jobs have come to their end.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn ended_jobs(&self) -> Result<u64, Failure> {
        let sql = "SELECT count(*) FROM jobs WHERE state NOT IN ('queued', 'leased')";
        Ok(self.0.query_row(sql, [], |row| row.get::<_, i64>(0))?.unsigned_abs())
    }

    /// Which tokens hold leases now, and until when.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn leases(&self) -> Result<Vec<(i64, i64)>, Failure> {
        self.all("SELECT token, lease_until_ms FROM jobs WHERE state = 'leased'", |row| Ok((row.get(0)?, row.get(1)?)))
    }

    /// Every attempt there was, those on one job together and in order.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn attempts(&self) -> Result<Vec<Attempt>, Failure> {
        self.all(&format!("{ATTEMPT} ORDER BY a.job_pk, a.token"), attempt)
    }

    /// The attempts that hold jobs of the video now.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn holders(&self, video: &str) -> Result<Vec<Attempt>, Failure> {
        let video: VideoId = video.parse().map_err(|_| format!("{video} is no id"))?;
        let mut statement = self
            .0
            .prepare_cached(&format!("{ATTEMPT} WHERE j.video_id = ?1 AND j.state = 'leased' AND j.token = a.token"))?;
        Ok(statement.query_map([video.as_bytes()], attempt)?.collect::<rusqlite::Result<_>>()?)
    }

    /// The state of a job and its attempts, oldest first.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn job(&self, id: &str) -> Result<Option<(String, Vec<Attempt>)>, Failure> {
        let id: JobId = id.parse().map_err(|_| format!("{id} is no id"))?;
        let sql = "SELECT state FROM jobs WHERE id = ?1";
        let state = self.0.prepare_cached(sql)?.query_row([id.as_bytes()], |row| row.get(0)).optional()?;
        let Some(state) = state else { return Ok(None) };
        let mut statement = self.0.prepare_cached(&format!("{ATTEMPT} WHERE j.id = ?1 ORDER BY a.token"))?;
        let attempts = statement.query_map([id.as_bytes()], attempt)?.collect::<rusqlite::Result<_>>()?;
        Ok(Some((state, attempts)))
    }

    /// Ready renditions with the work that made them so.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn published(&self) -> Result<Vec<(String, Published)>, Failure> {
        self.all("SELECT id, token, prefix, ready_at_ms FROM renditions WHERE status = 'ready'", |row| {
            let id = RenditionId::from_bytes(row.get(0)?).to_string();
            Ok((id, Published { token: row.get(1)?, prefix: row.get(2)?, ready_at_ms: row.get(3)? }))
        })
    }

    /// Whether the video is ready.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn is_ready(&self, video: &str) -> Result<bool, Failure> {
        let video: VideoId = video.parse().map_err(|_| format!("{video} is no id"))?;
        let sql = "SELECT EXISTS (SELECT 1 FROM videos WHERE id = ?1 AND status = 'ready')";
        Ok(self.0.prepare_cached(sql)?.query_row([video.as_bytes()], |row| row.get(0))?)
    }

    /// The attempts that made the video's ready renditions.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn publishers(&self, video: &str) -> Result<Vec<i64>, Failure> {
        let video: VideoId = video.parse().map_err(|_| format!("{video} is no id"))?;
        let sql = "SELECT r.token FROM renditions r JOIN sources s ON s.pk = r.source_pk
                   JOIN videos v ON v.pk = s.video_pk WHERE v.id = ?1 AND r.status = 'ready'";
        let mut statement = self.0.prepare_cached(sql)?;
        Ok(statement.query_map([video.as_bytes()], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
    }

    /// How much there is.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn counts(&self) -> Result<Counts, Failure> {
        let count = |table: &str| -> Result<u64, Failure> {
            let sql = format!("SELECT count(*) FROM {table}");
            Ok(self.0.query_row(&sql, [], |row| row.get::<_, i64>(0))?.unsigned_abs())
        };
        let dead = count("jobs WHERE state = 'dead'")?;
        Ok(Counts { jobs: count("jobs")?, dead, attempts: count("job_attempts")?, videos: count("videos")? })
    }

    /// The status and the hash of an upload.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn upload(&self, id: &str) -> Result<Option<UploadRow>, Failure> {
        let id: UploadId = id.parse().map_err(|_| format!("{id} is no id"))?;
        let found = self
            .0
            .prepare_cached("SELECT status, received_sha256, reason FROM uploads WHERE id = ?1")?
            .query_row([id.as_bytes()], |row| {
                let sha256 = row.get::<_, Option<Vec<u8>>>(1)?.map(hex::encode);
                Ok(UploadRow { status: row.get(0)?, sha256, reason: row.get(2)? })
            })
            .optional()?;
        Ok(found)
    }

    /// The title of a video.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn title(&self, id: &str) -> Result<Option<String>, Failure> {
        let id: VideoId = id.parse().map_err(|_| format!("{id} is no id"))?;
        let sql = "SELECT title FROM videos WHERE id = ?1";
        Ok(self.0.prepare_cached(sql)?.query_row([id.as_bytes()], |row| row.get(0)).optional()?)
    }

    pub(super) fn all<T>(
        &self,
        sql: &str,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, Failure> {
        Ok(self.0.prepare_cached(sql)?.query_map([], read)?.collect::<rusqlite::Result<_>>()?)
    }
}

fn job(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    Ok(JobId::from_bytes(row.get(column)?).to_string())
}

fn attempt(row: &Row<'_>) -> rusqlite::Result<Attempt> {
    Ok(Attempt {
        job: job(row, 0)?,
        token: row.get(1)?,
        worker: row.get(2)?,
        started_at_ms: row.get(3)?,
        ended_at_ms: row.get(4)?,
        outcome: row.get(5)?,
    })
}
