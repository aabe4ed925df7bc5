//! Segments as whole objects, for back ends whose objects cannot grow: each commit ends one.

use std::sync::Arc;

use async_trait::async_trait;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, WriteMultipart};

use crate::storage::Segment;
use crate::storage::objects::{ObjectError, PARTS_IN_FLIGHT, failure, path};

use super::{Batch, Staging, StagingWriter, StartAt, len};

/// Each segment is read once more when the upload is complete; too many small ones cost a request each.
const COMMIT_AFTER: u64 = 64 << 20;

const OPERATION: &str = "write a staged object";

/// Staging in any object store.
#[derive(Debug, Clone)]
pub struct ObjectStaging {
    store: Arc<dyn ObjectStore>,
    part_size: usize,
}

impl ObjectStaging {
    /// Staging in `store`; objects of more than `part_size` bytes are put in parts of that size.
    pub fn new(store: Arc<dyn ObjectStore>, part_size: usize) -> Self {
        Self { store, part_size }
    }
}

#[async_trait]
impl Staging for ObjectStaging {
    async fn writer(&self, start: StartAt) -> Result<Box<dyn StagingWriter>, ObjectError> {
        let seq = start.next_seq;
        let (store, part_size) = (Arc::clone(&self.store), self.part_size);
        Ok(Box::new(ObjectWriter { store, part_size, start, seq, written: 0, sink: Sink::Buffer(Vec::new()) }))
    }

    fn commit_after(&self) -> u64 {
        COMMIT_AFTER
    }
}

#[derive(Debug)]
struct ObjectWriter {
    store: Arc<dyn ObjectStore>,
    part_size: usize,
    start: StartAt,
    /// The place of the segment that is being written.
    seq: u32,
    /// Bytes of it.
    written: u64,
    sink: Sink,
}

/// Small objects are put at once, larger ones in parts.
#[derive(Debug)]
enum Sink {
    Buffer(Vec<bytes::Bytes>),
    Parts(WriteMultipart),
}

impl ObjectWriter {
    fn path(&self) -> Result<Path, ObjectError> {
        path(&self.start.key(self.seq))
    }

    async fn begin_parts(&mut self) -> Result<(), ObjectError> {
        let Sink::Buffer(buffer) = &mut self.sink else { return Ok(()) };
        let buffer = std::mem::take(buffer);
        let parts = self.store.put_multipart(&self.path()?).await.map_err(|error| failure(OPERATION, error))?;
        let mut parts = WriteMultipart::new_with_chunk_size(parts, self.part_size);
        buffer.into_iter().for_each(|bytes| parts.put(bytes));
        self.sink = Sink::Parts(parts);
        Ok(())
    }
}

#[async_trait]
impl StagingWriter for ObjectWriter {
    async fn write(&mut self, batch: &Batch) -> Result<(), ObjectError> {
        self.written += len(batch);
        if self.written > self.part_size as u64 {
            self.begin_parts().await?;
        }
        match &mut self.sink {
            Sink::Buffer(buffer) => buffer.extend(batch.iter().cloned()),
            Sink::Parts(parts) => {
                batch.iter().for_each(|bytes| parts.put(bytes.clone()));
                parts.wait_for_capacity(PARTS_IN_FLIGHT).await.map_err(|error| failure(OPERATION, error))?;
            }
        }
        Ok(())
    }

    async fn commit(&mut self) -> Result<Vec<Segment>, ObjectError> {
        if self.written == 0 {
            return Ok(Vec::new());
        }
        let segment = Segment { seq: self.seq, key: self.start.key(self.seq), size_bytes: self.written };
        match std::mem::replace(&mut self.sink, Sink::Buffer(Vec::new())) {
            Sink::Buffer(buffer) => {
                let put = self.store.put(&self.path()?, PutPayload::from_iter(buffer)).await;
                put.map_err(|error| failure(OPERATION, error))?;
            }
            Sink::Parts(parts) => {
                parts.finish().await.map_err(|error| failure(OPERATION, error))?;
            }
        }
        (self.seq, self.written) = (self.seq + 1, 0);
        Ok(vec![segment])
    }

    async fn abandon(self: Box<Self>) {
        if let Sink::Parts(parts) = self.sink
            && let Err(error) = parts.abort().await
        {
            tracing::warn!(%error, "parts of a broken upload were left behind");
        }
    }
}
