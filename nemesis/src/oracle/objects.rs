//! Objects of nobody: kills leave them behind, and one collection takes them all.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use vidcore::clock::{Clock, SystemClock};
use vidcore::id::UploadId;
use vidcore::storage::objects::Objects;
use vidcore::store::sqlite::{FILE_NAME, Migrations, SqliteOptions, SqliteStore};

use crate::findings::Findings;
use crate::oracle::Rows;
use crate::{BOUND, Failure};

/// How long an attempt that was ended from outside may go on: until its next heartbeat, and some more.
const LAST_BREATH: Duration = Duration::from_millis(500);

/// Files or prefixes named in one finding.
const NAMED: usize = 5;

/// Collects once, then lets the doctor look, every object hashed: nothing may be wrong, and nothing may belong
/// to nobody. The files are compared with the rows besides, temporary ones included, which the doctor does not
/// see. Returns how many files there were of nobody, those included.
pub(super) async fn check(data: &Path, rows: &Rows, findings: &Findings) -> Result<usize, Failure> {
    tokio::time::sleep(LAST_BREATH).await;
    let store = open(data.join(FILE_NAME)).await?;
    let folder = data.join("objects");
    let objects = Objects::local(&folder)?;
    let found = files_of_nobody(&folder, rows)?.len();
    vidcore::housekeeping::collect(&store, &objects).await?;
    let report = vidcore::doctor::examine(&store, &objects, true).await?;
    for finding in report.findings {
        findings.add(format!("after one collection: {finding}"));
    }
    let kept = rows.prefixes()?;
    demand_none(&kept, "prefixes of ended attempts are remembered", findings);
    demand_none(&files_of_nobody(&folder, rows)?, "files belong to no row", findings);
    Ok(found)
}

fn demand_none(left: &[String], what: &str, findings: &Findings) {
    let named = &left[..left.len().min(NAMED)];
    findings.demand(left.is_empty(), || format!("after one collection, {} {what}, such as {named:?}", left.len()));
}

async fn open(database: PathBuf) -> Result<SqliteStore, Failure> {
    let mut options = SqliteOptions::new(database);
    options.migrations = Migrations::Expect(BOUND);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    Ok(tokio::task::spawn_blocking(move || SqliteStore::open(&options, clock, Vec::new())).await??)
}

/// Every file that is neither a recorded object nor staged for an upload that may still take bytes.
fn files_of_nobody(folder: &Path, rows: &Rows) -> Result<Vec<String>, Failure> {
    let (recorded, staging) = (rows.recorded_keys()?, rows.staging_folders()?);
    let mut strays = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let key = path.strip_prefix(folder)?.to_string_lossy().into_owned();
            let is_staged = || key.rsplit_once('/').is_some_and(|(place, _)| staging.contains(place));
            if !recorded.contains(&key) && !is_staged() {
                strays.push(key);
            }
        }
    }
    Ok(strays)
}

impl Rows {
    /// Prefixes that are remembered because an attempt may still put objects under them.
    fn prefixes(&self) -> Result<Vec<String>, Failure> {
        self.all("SELECT prefix FROM prefixes ORDER BY prefix", |row| row.get(0))
    }

    fn recorded_keys(&self) -> Result<HashSet<String>, Failure> {
        Ok(self.all("SELECT key FROM objects", |row| row.get(0))?.into_iter().collect())
    }

    fn staging_folders(&self) -> Result<HashSet<String>, Failure> {
        let ids = self.all("SELECT id FROM uploads WHERE status IN ('open', 'verifying')", |row| row.get(0))?;
        Ok(ids.into_iter().map(|id| format!("staging/{}", UploadId::from_bytes(id))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_row_is_found_whatever_it_is_called() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut options = SqliteOptions::new(folder.path().join(FILE_NAME));
        options.migrations = Migrations::Apply;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let store = SqliteStore::open(&options, clock, Vec::new()).expect("a database is made");
        let place = folder.path().join("objects/renditions/v/1/360p");
        std::fs::create_dir_all(&place).expect("a folder is made");
        std::fs::write(place.join("0.m4s#1"), b"half of it").expect("a file is written");
        let rows = Rows::open(&folder.path().join(FILE_NAME)).expect("the database opens");
        let strays = files_of_nobody(&folder.path().join("objects"), &rows).expect("the folder is read");
        assert_eq!(vec!["renditions/v/1/360p/0.m4s#1"], strays);
        drop(store);
    }
}
