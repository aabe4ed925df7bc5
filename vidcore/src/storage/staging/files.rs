//! Segments as files that grow.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::task::{JoinError, JoinHandle};

use crate::storage::Segment;
use crate::storage::objects::{ObjectError, io_failure};

use super::{Batch, Staging, StagingWriter, StartAt, len};

/// A commit waits for the disk; this much is some tenths of a second of it.
const COMMIT_AFTER: u64 = 64 << 20;

/// Bytes after which the disk begins to take them, while more come: what a commit waits for is the rest.
const FLUSH_AFTER: u64 = 8 << 20;

/// Staging in a local folder.
#[derive(Debug, Clone)]
pub struct FileStaging {
    root: PathBuf,
}

impl FileStaging {
    /// Staging under `root`, the folder of a local object store: a segment's key is its path there.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }
}

#[async_trait]
impl Staging for FileStaging {
    async fn writer(&self, start: StartAt) -> Result<Box<dyn StagingWriter>, ObjectError> {
        let root = self.root.clone();
        let writer = blocking("open a staged file", move || match &start.last {
            Some(last) => go_on(&root, last.clone()),
            None => begin(&root, &start),
        });
        Ok(Box::new(writer.await?))
    }

    fn commit_after(&self) -> u64 {
        COMMIT_AFTER
    }
}

fn begin(root: &Path, start: &StartAt) -> std::io::Result<FileWriter> {
    let segment = Segment { seq: start.next_seq, key: start.key(start.next_seq), size_bytes: 0 };
    let path = root.join(&segment.key);
    std::fs::create_dir_all(root.join(&start.prefix))?;
    let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
    Ok(FileWriter::new(file, root, true, segment))
}

/// What lies beyond the segment was never acknowledged.
fn go_on(root: &Path, segment: Segment) -> std::io::Result<FileWriter> {
    let file = OpenOptions::new().write(true).open(root.join(&segment.key))?;
    let found = file.metadata()?.len();
    if found < segment.size_bytes {
        return Err(Error::other(format!("a staged file has {found} bytes of {}", segment.size_bytes)));
    }
    file.set_len(segment.size_bytes)?;
    Ok(FileWriter::new(file, root, false, segment))
}

#[derive(Debug)]
struct FileWriter {
    file: Arc<File>,
    root: PathBuf,
    /// Its size is what has been written.
    segment: Segment,
    committed: u64,
    /// What was committed before the last commit.
    before: u64,
    /// Whether its name may not be on the disk yet.
    is_new: bool,
    /// How far the disk was asked to take it.
    flushed: u64,
    /// The disk at work. What it says is heard before anything is committed.
    flushing: Option<JoinHandle<std::io::Result<()>>>,
}

impl FileWriter {
    fn new(file: File, root: &Path, is_new: bool, segment: Segment) -> Self {
        let committed = segment.size_bytes;
        let (file, root) = (Arc::new(file), root.to_owned());
        Self { file, root, committed, before: committed, is_new, flushed: committed, flushing: None, segment }
    }

    /// Has the disk take what was written, once it is much and the disk is done with what came before.
    async fn flush(&mut self) -> Result<(), ObjectError> {
        let is_busy = self.flushing.as_ref().is_some_and(|task| !task.is_finished());
        if self.segment.size_bytes - self.flushed < FLUSH_AFTER || is_busy {
            return Ok(());
        }
        self.flushed().await?;
        let file = Arc::clone(&self.file);
        self.flushed = self.segment.size_bytes;
        self.flushing = Some(tokio::task::spawn_blocking(move || file.sync_data()));
        Ok(())
    }

    /// Waits for the disk. An error is told once, to whoever syncs first: it must not get lost.
    async fn flushed(&mut self) -> Result<(), ObjectError> {
        match self.flushing.take() {
            Some(task) => joined("sync a staged file", task.await),
            None => Ok(()),
        }
    }

    async fn remove(&self) {
        if let Err(error) = tokio::fs::remove_file(self.root.join(&self.segment.key)).await
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(%error, "a staged file could not be removed");
        }
    }
}

#[async_trait]
impl StagingWriter for FileWriter {
    async fn write(&mut self, batch: &Batch) -> Result<(), ObjectError> {
        let (file, batch) = (Arc::clone(&self.file), Arc::clone(batch));
        let mut at = self.segment.size_bytes;
        self.segment.size_bytes += len(&batch);
        blocking("write a staged file", move || {
            for bytes in batch.iter() {
                file.write_all_at(bytes, at)?;
                at += bytes.len() as u64;
            }
            Ok(())
        })
        .await?;
        self.flush().await
    }

    async fn commit(&mut self) -> Result<Vec<Segment>, ObjectError> {
        if self.committed == self.segment.size_bytes {
            // What was named before is not this commit's to take back.
            self.before = self.committed;
            return Ok(Vec::new());
        }
        self.flushed().await?;
        let (file, folder, root) = (Arc::clone(&self.file), self.root.join(&self.segment.key), self.root.clone());
        let is_new = std::mem::take(&mut self.is_new);
        blocking("sync a staged file", move || {
            file.sync_data()?;
            if is_new { sync_folders(&folder, &root) } else { Ok(()) }
        })
        .await?;
        self.before = std::mem::replace(&mut self.committed, self.segment.size_bytes);
        self.flushed = self.committed;
        Ok(vec![self.segment.clone()])
    }

    async fn retract(&mut self) {
        self.committed = self.before;
        self.flushed = self.before;
        if self.committed == 0 {
            return self.remove().await;
        }
        // Nobody else writes to it: whoever follows somebody at work begins a file of their own.
        let (file, length) = (Arc::clone(&self.file), self.committed);
        if let Err(error) = blocking("cut a staged file", move || file.set_len(length)).await {
            tracing::warn!(%error, "a staged file could not be cut");
        }
    }

    async fn abandon(self: Box<Self>) {
        // A committed segment is cut by whoever goes on with it.
        if self.committed == 0 {
            self.remove().await;
        }
    }
}

/// A new file is there after a power cut only if the folders that lead to it are.
fn sync_folders(file: &Path, root: &Path) -> std::io::Result<()> {
    for folder in file.ancestors().skip(1).take_while(|folder| folder.starts_with(root)) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    operation: &'static str,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, ObjectError> {
    joined(operation, tokio::task::spawn_blocking(work).await)
}

fn joined<T>(operation: &'static str, ended: Result<std::io::Result<T>, JoinError>) -> Result<T, ObjectError> {
    ended
        .map_err(|error| ObjectError::Unavailable { operation, source: error.into() })?
        .map_err(|error| io_failure(operation, error))
}
