//! Where the bytes of an upload gather until all are there.
//!
//! They lie in *segments*: objects under `staging/{upload}/`, in order, each written by one writer alone. A writer that
//! ended in order is followed by one that goes on in its last segment, where the back end can do that; after one that
//! was interrupted, perhaps only frozen, a new segment begins. So two writers never touch the same bytes, and nobody
//! needs a lock: whose bytes count is decided by the row that names the segments, moved by compare-and-set.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::storage::Segment;
use crate::storage::objects::ObjectError;

mod files;
mod hash;
pub(crate) mod intake;
mod objects;

pub use files::FileStaging;
pub use hash::RunningHash;
pub use objects::ObjectStaging;

/// Bytes that came one after the other, shared by whoever writes and whoever hashes them.
pub type Batch = Arc<Vec<Bytes>>;

/// Where a writer begins.
#[derive(Debug, Clone)]
pub struct StartAt {
    /// The folder of the upload, without a slash at its end.
    pub prefix: String,
    /// The place of the next new segment.
    pub next_seq: u32,
    /// The segment to go on with, which nobody else writes to. Bytes beyond its size are dropped.
    pub last: Option<Segment>,
    /// What tells this writer's segments from those of all others.
    pub nonce: [u8; 8],
    /// The most bytes that may come.
    pub room: u64,
}

/// Opens writers.
///
/// # Contract
/// * A committed segment holds its bytes whatever happens to its writer, to the process or to the machine.
/// * What was written and not committed may be there or not; it is never counted, and is dropped by whoever goes on.
/// * Writers of different nonces never change each other's segments.
#[async_trait]
pub trait Staging: fmt::Debug + Send + Sync + 'static {
    /// A writer. Nothing is visible of it before its first commit, except as objects that nobody names.
    ///
    /// # Errors
    /// [`ObjectError::Unavailable`]; [`ObjectError::NotFound`] if the segment to go on with is gone.
    async fn writer(&self, start: StartAt) -> Result<Box<dyn StagingWriter>, ObjectError>;

    /// Bytes after which a commit is worth its cost.
    fn commit_after(&self) -> u64;
}

/// Writes bytes one after the other.
#[async_trait]
pub trait StagingWriter: fmt::Debug + Send {
    /// Takes bytes. They need not be durable yet.
    ///
    /// # Errors
    /// [`ObjectError`]; the writer is of no use afterwards, and what it committed stands.
    async fn write(&mut self, batch: &Batch) -> Result<(), ObjectError>;

    /// Makes everything written durable; the segments that are new or have grown since the last commit, in order.
    ///
    /// # Errors
    /// [`ObjectError`]; as for [`write`](Self::write).
    async fn commit(&mut self) -> Result<Vec<Segment>, ObjectError>;

    /// Takes back what the last commit named, as far as it can be removed: nobody will ever record it.
    async fn retract(&mut self);

    /// Gives up what was not committed, as far as it can be removed.
    async fn abandon(self: Box<Self>);
}

impl StartAt {
    /// The key of a new segment.
    pub(crate) fn key(&self, seq: u32) -> String {
        format!("{}/{seq:05}-{}", self.prefix, hex::encode(self.nonce))
    }
}

/// How many bytes a batch holds.
fn len(batch: &Batch) -> u64 {
    batch.iter().map(|bytes| bytes.len() as u64).sum()
}
