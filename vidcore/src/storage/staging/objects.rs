//! Segments as whole objects, for back ends whose objects cannot grow: each commit ends one.

use std::sync::Arc;

use async_trait::async_trait;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::storage::Segment;
use crate::storage::objects::failure::failure;
use crate::storage::objects::sink::Sink;
use crate::storage::objects::{ObjectError, PartSizes, path};

use super::{Batch, Staging, StagingWriter, StartAt, len};

/// Each segment is read once more when the upload is complete; too many small ones cost a request each.
const COMMIT_AFTER: u64 = 64 << 20;

const OPERATION: &str = "write a staged object";

/// Staging in any object store.
#[derive(Debug, Clone)]
pub struct ObjectStaging {
    store: Arc<dyn ObjectStore>,
    parts: PartSizes,
}

impl ObjectStaging {
    /// Staging in `store`; objects of more than one part are put in parts.
    pub fn new(store: Arc<dyn ObjectStore>, parts: PartSizes) -> Self {
        Self { store, parts }
    }
}

#[async_trait]
impl Staging for ObjectStaging {
    async fn writer(&self, start: StartAt) -> Result<Box<dyn StagingWriter>, ObjectError> {
        let seq = start.next_seq;
        let (store, part_size) = (Arc::clone(&self.store), self.parts.of(start.room));
        Ok(Box::new(ObjectWriter { store, part_size, start, seq, written: 0, sink: None, last: None }))
    }

    fn commit_after(&self) -> u64 {
        COMMIT_AFTER
    }
}

struct ObjectWriter {
    store: Arc<dyn ObjectStore>,
    part_size: usize,
    start: StartAt,
    /// The place of the segment that is being written.
    seq: u32,
    /// Bytes of it.
    written: u64,
    /// Where they go; nowhere before the first of them.
    sink: Option<Sink>,
    /// The key of the last commit.
    last: Option<String>,
}

impl std::fmt::Debug for ObjectWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectWriter").field("seq", &self.seq).field("written", &self.written).finish_non_exhaustive()
    }
}

#[async_trait]
impl StagingWriter for ObjectWriter {
    async fn write(&mut self, batch: &Batch) -> Result<(), ObjectError> {
        self.written += len(batch);
        let sink = match &mut self.sink {
            Some(sink) => sink,
            empty => {
                let path = path(&self.start.key(self.seq))?;
                empty.insert(Sink::held(Arc::clone(&self.store), path, self.part_size))
            }
        };
        sink.put(batch.to_vec()).await.map_err(|error| failure(OPERATION, error))
    }

    async fn commit(&mut self) -> Result<Vec<Segment>, ObjectError> {
        // What was named before is not this commit's to take back.
        self.last = None;
        let Some(sink) = self.sink.take() else { return Ok(Vec::new()) };
        let segment = Segment { seq: self.seq, key: self.start.key(self.seq), size_bytes: self.written };
        sink.finish().await.map_err(|error| failure(OPERATION, error))?;
        (self.seq, self.written) = (self.seq + 1, 0);
        self.last = Some(segment.key.clone());
        Ok(vec![segment])
    }

    async fn retract(&mut self) {
        let Some(key) = self.last.take() else { return };
        let Ok(path) = path(&key) else { return };
        if let Err(error) = self.store.delete(&path).await {
            tracing::warn!(%error, "a staged object could not be deleted");
        }
    }

    async fn abandon(self: Box<Self>) {
        if let Some(sink) = self.sink {
            sink.abort().await;
        }
    }
}
