//! What clients asked for and what they were told: a file that only grows, one JSON object a line.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::Failure;

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was answered with success: the promise holds from here on.
    Acknowledged,
    /// It was answered with a refusal: it changed nothing.
    Refused,
    /// It was sent, and the answer never came or tells nothing: it may have happened.
    Maybe,
    /// It was not sent: there was nobody to connect to.
    NotSent,
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When it ended, in milliseconds since 1970-01-01.
    #[serde(default)]
    pub at_ms: u64,
    /// Who called.
    pub user: usize,
    /// Which call, such as `create` or `complete`.
    pub call: String,
    /// The id of what it was about; empty if there was none yet.
    pub subject: String,
    /// The idempotency key, if the call had one.
    pub key: Option<String>,
    /// What became of it.
    pub outcome: Outcome,
    /// The answer's status, if one came.
    pub status: Option<u16>,
    /// What the answer promised: an id, a title, a hash.
    pub value: Option<String>,
}

/// The file, and how much stands in it.
#[derive(Debug)]
pub struct History {
    path: PathBuf,
    file: Mutex<File>,
    acknowledged: AtomicU64,
    maybe: AtomicU64,
}

impl History {
    /// Begins a history in the file `path`, which must not exist.
    ///
    /// # Errors
    /// The file system's own.
    pub fn begin(path: &Path) -> Result<Self, Failure> {
        let file = Mutex::new(File::create_new(path)?);
        Ok(Self { path: path.to_owned(), file, acknowledged: AtomicU64::new(0), maybe: AtomicU64::new(0) })
    }

    /// Adds a call. A history that cannot be written is no history: the campaign ends.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn add(&self, mut entry: Entry) {
        match entry.outcome {
            Outcome::Acknowledged => self.acknowledged.fetch_add(1, Ordering::Relaxed),
            Outcome::Maybe => self.maybe.fetch_add(1, Ordering::Relaxed),
            Outcome::Refused | Outcome::NotSent => 0,
        };
        entry.at_ms = now_ms();
        let mut line = serde_json::to_vec(&entry).expect("plain members serialize");
        line.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&line).expect("the history can be written");
    }

    /// How many calls were acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// How many may or may not have happened.
    pub fn maybe(&self) -> u64 {
        self.maybe.load(Ordering::Relaxed)
    }

    /// Reads it all back from the file.
    ///
    /// # Errors
    /// The file cannot be read, or a line is none of ours.
    pub fn read(&self) -> Result<Vec<Entry>, Failure> {
        let lines = BufReader::new(File::open(&self.path)?).lines();
        lines.map(|line| Ok(serde_json::from_str(&line?)?)).collect()
    }
}

/// Milliseconds since 1970-01-01: rows and logs of the programs under test go by the same clock.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
