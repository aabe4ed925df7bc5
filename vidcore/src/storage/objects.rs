//! Objects: streaming in and out with bounded memory, over any `object_store` back end.
//!
//! Keys are made by this crate alone (`staging/…`, `originals/…`, `renditions/…`), never of a user's
//! text. Content type, hash and size live in rows, not in attributes of the object store.

pub mod direct;
pub(crate) mod failure;
mod fallback;
mod listing;
mod reading;
#[cfg(feature = "s3")]
mod s3;
pub(crate) mod sink;

use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt};
use tokio::sync::Semaphore;
use tokio_util::io::ReaderStream;

use self::direct::DirectStore;
use self::failure::failure;
pub(crate) use self::failure::io_failure;
pub use self::sink::PartSizes;
use self::sink::Sink;
use crate::storage::Segment;
use crate::storage::staging::{FileStaging, ObjectStaging, RunningHash, Staging};
use crate::store::BoxError;

/// Bytes hashed at a time, off the async threads.
const HASH_BATCH: usize = 1 << 20;

/// Size of a multipart part: what S3 demands at least.
const PART_SIZE: usize = 5 << 20;

/// Size of a part where nothing demands more.
const LOCAL_PART_SIZE: usize = 1 << 20;

/// Bytes read from a local file at a time.
const READ_SIZE: usize = 256 << 10;

/// Why an object could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// No object has this key.
    #[error("object not found")]
    NotFound,
    /// The disk is full; nothing was made visible.
    #[error("no space left for objects")]
    Full(#[source] std::io::Error),
    /// The back end did not answer; trying again later is safe.
    #[error("object store unavailable: {operation}")]
    Unavailable {
        /// What was being done, for the log.
        operation: &'static str,
        /// The back end's own words.
        #[source]
        source: BoxError,
    },
}

/// Why a stream did not become an object. Whatever had been written is gone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The stream itself failed.
    #[error("source of the bytes failed")]
    Source(#[source] BoxError),
    /// More bytes came than the limit.
    #[error("more than {limit} bytes")]
    TooLong {
        /// The most there may be.
        limit: u64,
    },
    /// The object store failed.
    #[error(transparent)]
    Object(#[from] ObjectError),
}

/// What was written, measured on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// How many bytes.
    pub size_bytes: u64,
    /// Their SHA-256.
    pub sha256: [u8; 32],
}

/// Bytes of an object, in order.
pub type ObjectBytes = BoxStream<'static, Result<Bytes, ObjectError>>;

/// The objects of a platform. Clones share the back end.
#[derive(Debug, Clone)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    parts: PartSizes,
    /// The largest object that the back end copies by itself.
    copy_limit: Option<u64>,
    /// Whether an object of one part is put with one request.
    holds_small: bool,
    /// What clients may be sent to.
    direct: Option<Arc<dyn DirectStore>>,
    /// Where objects are looked for that are not here.
    fallback: Option<Arc<Objects>>,
    /// The folder of a local back end, for hard links instead of copies.
    root: Option<PathBuf>,
    hashing: Arc<Semaphore>,
}

impl Objects {
    /// Objects as files under `root`, which is made; every write is fsynced before it is visible.
    ///
    /// # Errors
    /// [`ObjectError::Unavailable`] if the folder cannot be made or opened.
    pub fn local(root: &FilePath) -> Result<Self, ObjectError> {
        let operation = "open the object folder";
        std::fs::create_dir_all(root).map_err(|error| ObjectError::Unavailable { operation, source: error.into() })?;
        let root = root.canonicalize().map_err(|error| ObjectError::Unavailable { operation, source: error.into() })?;
        let store = LocalFileSystem::new_with_prefix(&root)
            .map_err(|error| failure(operation, error))?
            .with_fsync(true)
            .with_automatic_cleanup(true);
        Ok(Self { root: Some(root), parts: PartSizes::at_least(LOCAL_PART_SIZE), ..Self::new(Arc::new(store)) })
    }

    /// Objects in memory: gone with the process.
    pub fn memory() -> Self {
        Self { parts: PartSizes::at_least(LOCAL_PART_SIZE), ..Self::new(Arc::new(InMemory::new())) }
    }

    /// Objects in any other back end.
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        let permits = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            store,
            parts: PartSizes::at_least(PART_SIZE),
            copy_limit: None,
            holds_small: false,
            direct: None,
            fallback: None,
            root: None,
            hashing: Arc::new(Semaphore::new(permits)),
        }
    }

    /// Has larger objects copied through this process when they are renamed. Default: as the back end needs it.
    #[must_use]
    pub fn with_copy_limit(self, bytes: u64) -> Self {
        Self { copy_limit: Some(bytes), ..self }
    }

    /// How many may hash at once.
    pub(crate) fn hash_permits(&self) -> Arc<Semaphore> {
        Arc::clone(&self.hashing)
    }

    /// Where uploads gather beside these objects, under keys of the same store.
    pub fn staging(&self) -> Arc<dyn Staging> {
        match &self.root {
            Some(root) => Arc::new(FileStaging::new(root.clone())),
            None => Arc::new(ObjectStaging::new(Arc::clone(&self.store), self.parts)),
        }
    }

    /// Writes a stream as one object that appears whole or not at all, hashing on the way.
    /// Memory stays below four parts (4 MiB on a local disk, 20 MiB elsewhere) whatever the size.
    ///
    /// # Errors
    /// As [`WriteError`] says; then no object exists.
    ///
    /// # Cancel safety
    /// Dropping the future leaves no object, but may leave parts for the back end to collect.
    pub async fn write(
        &self,
        key: &str,
        mut stream: impl Stream<Item = Result<Bytes, BoxError>> + Send + Unpin,
        limit: u64,
    ) -> Result<Written, WriteError> {
        const OPERATION: &str = "write an object";
        let (store, path, part_size) = (Arc::clone(&self.store), path(key)?, self.parts.of(limit));
        let mut sink = if self.holds_small {
            Sink::held(store, path, part_size)
        } else {
            Sink::parts(store, path, part_size).await.map_err(|error| failure(OPERATION, error))?
        };
        match self.feed(&mut sink, &mut stream, limit).await {
            Ok(written) => {
                sink.finish().await.map_err(|error| failure(OPERATION, error))?;
                Ok(written)
            }
            Err(error) => {
                sink.abort().await;
                Err(error)
            }
        }
    }

    async fn feed(
        &self,
        sink: &mut Sink,
        stream: &mut (impl Stream<Item = Result<Bytes, BoxError>> + Send + Unpin),
        limit: u64,
    ) -> Result<Written, WriteError> {
        let mut hash = Context::new(&SHA256);
        let (mut size_bytes, mut batch, mut batched) = (0_u64, Vec::new(), 0_usize);
        loop {
            let next = stream.next().await.transpose().map_err(WriteError::Source)?;
            let ended = next.is_none();
            if let Some(bytes) = next {
                size_bytes += bytes.len() as u64;
                if size_bytes > limit {
                    return Err(WriteError::TooLong { limit });
                }
                batched += bytes.len();
                batch.push(bytes);
            }
            if batched >= HASH_BATCH || (ended && batched > 0) {
                let hashed;
                (hash, hashed) = self.hash(hash, std::mem::take(&mut batch)).await;
                batched = 0;
                sink.put(hashed).await.map_err(|error| failure("write an object", error))?;
            }
            if ended {
                return Ok(Written { size_bytes, sha256: digest(hash) });
            }
        }
    }

    async fn hash(&self, mut hash: Context, batch: Vec<Bytes>) -> (Context, Vec<Bytes>) {
        let permit = Arc::clone(&self.hashing).acquire_owned().await;
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            for bytes in &batch {
                hash.update(bytes);
            }
            (hash, batch)
        })
        .await
        .expect("hashing does not panic and is not aborted")
    }

    /// Stores a local file as one object.
    ///
    /// # Errors
    /// As [`WriteError`] says.
    pub async fn put_file(&self, key: &str, file: &FilePath) -> Result<Written, WriteError> {
        let unreadable = |error: std::io::Error| WriteError::Source(error.into());
        let file = tokio::fs::File::open(file).await.map_err(unreadable)?;
        let size_bytes = file.metadata().await.map_err(unreadable)?.len();
        let stream = ReaderStream::with_capacity(file, READ_SIZE).map_err(BoxError::from);
        self.write(key, stream, size_bytes).await
    }

    /// Gives an object another key, replacing what has it. On a local disk this is one rename; elsewhere a copy,
    /// whatever the size, and the object goes from its old key only when it stands whole under the new one.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub async fn rename(&self, from: &str, to: &str) -> Result<(), ObjectError> {
        match self.rename_here(from, to).await {
            Err(ObjectError::NotFound) => self.rename_from_fallback(from, to).await,
            Ok(()) => self.delete_in_fallback(from).await,
            failed => failed,
        }
    }

    async fn rename_here(&self, from: &str, to: &str) -> Result<(), ObjectError> {
        if let Some(limit) = self.copy_limit {
            let size_bytes = self.size_here(from).await?.ok_or(ObjectError::NotFound)?;
            if size_bytes > limit {
                self.copy_from(self, from, to).await?;
                return self.delete_here(from).await;
            }
        }
        self.store.rename(&path(from)?, &path(to)?).await.map_err(|error| failure("rename an object", error))
    }

    /// Copies an object of `source` through this process, part by part, and checks its length.
    ///
    /// # Errors
    /// [`ObjectError`]; then nothing has the key `to` that had it not before.
    pub async fn copy_from(&self, source: &Self, from: &str, to: &str) -> Result<Written, ObjectError> {
        const OPERATION: &str = "copy an object";
        let size_bytes = source.size(from).await?.ok_or(ObjectError::NotFound)?;
        let stream = source.read(from, None).await?.map_err(BoxError::from);
        let unlike = |source: BoxError| ObjectError::Unavailable { operation: OPERATION, source };
        match self.write(to, stream, size_bytes).await {
            Ok(written) => Ok(written),
            Err(WriteError::Object(error)) => Err(error),
            Err(WriteError::Source(error)) => Err(unlike(error)),
            Err(error @ WriteError::TooLong { .. }) => Err(unlike(error.into())),
        }
    }

    /// The object's size in bytes; `None` if there is none.
    ///
    /// # Errors
    /// [`ObjectError::Unavailable`].
    pub async fn size(&self, key: &str) -> Result<Option<u64>, ObjectError> {
        match (self.size_here(key).await?, &self.fallback) {
            (None, Some(fallback)) => fallback.size_here(key).await,
            (found, _) => Ok(found),
        }
    }

    /// The same without the fallback.
    pub(crate) async fn size_here(&self, key: &str) -> Result<Option<u64>, ObjectError> {
        let Ok(path) = path(key) else { return Ok(None) };
        match self.store.head(&path).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failure("look at an object", error)),
        }
    }

    /// Reads an object once more and measures it.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub async fn measure(&self, key: &str) -> Result<Written, ObjectError> {
        let mut stream = self.read(key, None).await?;
        let (mut hash, mut size_bytes) = (Context::new(&SHA256), 0);
        while let Some(bytes) = stream.try_next().await? {
            size_bytes += bytes.len() as u64;
            (hash, _) = self.hash(hash, vec![bytes]).await;
        }
        Ok(Written { size_bytes, sha256: digest(hash) })
    }

    /// Streams the bytes that count of segments, one after the other. One that is shorter than it should be is an
    /// error, not the end.
    pub(crate) fn read_segments(&self, segments: Vec<Segment>) -> ObjectBytes {
        let objects = self.clone();
        futures_util::stream::iter(segments)
            .then(move |segment| {
                let objects = objects.clone();
                async move {
                    let bytes = objects.read(&segment.key, Some(0..segment.size_bytes)).await?;
                    Ok(reading::whole(bytes, segment.size_bytes))
                }
            })
            .try_flatten()
            .boxed()
    }

    /// Makes one object of segments, which stay. It appears whole or not at all.
    pub(crate) async fn concatenate(&self, segments: &[Segment], key: &str) -> Result<(), ObjectError> {
        let stream = self.read_segments(segments.to_vec()).map_err(BoxError::from);
        let stream = stream.inspect(|_| crate::failpoints::hit("mid-join"));
        let limit = segments.iter().map(|segment| segment.size_bytes).sum();
        match self.write(key, stream, limit).await {
            Ok(_) => Ok(()),
            Err(WriteError::Object(error)) => Err(error),
            Err(WriteError::Source(source)) => Err(match source.downcast::<ObjectError>() {
                Ok(error) => *error,
                Err(source) => ObjectError::Unavailable { operation: "join segments", source },
            }),
            Err(error @ WriteError::TooLong { .. }) => {
                Err(ObjectError::Unavailable { operation: "join segments", source: error.into() })
            }
        }
    }

    /// The hash of segments, to be gone on with.
    pub(crate) async fn hash_segments(&self, segments: &[Segment]) -> Result<RunningHash, ObjectError> {
        let (mut stream, mut hash) = (self.read_segments(segments.to_vec()), RunningHash::default());
        while let Some(bytes) = stream.try_next().await? {
            let permit = self.hash_permits().acquire_owned().await;
            let hashing = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                hash.update(&Arc::new(vec![bytes]));
                hash
            });
            hash = hashing.await.expect("hashing does not panic and is not aborted");
        }
        Ok(hash)
    }

    /// Streams an object, or a part of it (byte offsets, end exclusive).
    ///
    /// # Errors
    /// [`ObjectError`]; an error after the first byte comes through the stream.
    pub async fn read(&self, key: &str, range: Option<Range<u64>>) -> Result<ObjectBytes, ObjectError> {
        match (self.read_here(key, range.clone()).await, &self.fallback) {
            (Err(ObjectError::NotFound), Some(fallback)) => fallback.read_here(key, range).await,
            (read, _) => read,
        }
    }

    async fn read_here(&self, key: &str, range: Option<Range<u64>>) -> Result<ObjectBytes, ObjectError> {
        // Services read offsets as signed numbers.
        let range = range.map(|range| (range.start..range.end.min(i64::MAX as u64)).into());
        let options = GetOptions { range, ..GetOptions::default() };
        let result = self.store.get_opts(&path(key)?, options).await.map_err(|error| failure("read an object", error));
        reading::bytes_of(result?).await
    }

    /// Makes an object available as the file `to`, which must not exist: a hard link where the back
    /// end is a local folder of the same file system, a copy otherwise. Do not write to the file.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub async fn materialize(&self, key: &str, to: &FilePath) -> Result<(), ObjectError> {
        const OPERATION: &str = "fetch an object";
        for here in std::iter::once(self).chain(self.fallback.as_deref()) {
            if let Some(root) = &here.root
                && tokio::fs::hard_link(root.join(path(key)?.as_ref()), to).await.is_ok()
            {
                return Ok(());
            }
        }
        let mut bytes = self.read(key, None).await?;
        // Never truncates a file that is there: it may be a hard link to this very object.
        let mut file = tokio::fs::File::create_new(to).await.map_err(|error| io_failure(OPERATION, error))?;
        while let Some(chunk) = bytes.try_next().await? {
            tokio::io::AsyncWriteExt::write_all(&mut file, &chunk)
                .await
                .map_err(|error| io_failure(OPERATION, error))?;
        }
        tokio::io::AsyncWriteExt::flush(&mut file).await.map_err(|error| io_failure(OPERATION, error))
    }

    /// Deletes an object; one that does not exist is fine.
    ///
    /// # Errors
    /// [`ObjectError::Unavailable`].
    pub async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        // The old place first: what is gone here alone would be found there again.
        self.delete_in_fallback(key).await?;
        self.delete_here(key).await
    }

    async fn delete_here(&self, key: &str) -> Result<(), ObjectError> {
        match self.store.delete(&path(key)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failure("delete an object", error)),
        }
    }

    /// Deletes every object under `prefix/`, and what broken writes left there.
    ///
    /// # Errors
    /// [`ObjectError::Unavailable`].
    pub async fn delete_under(&self, prefix: &str) -> Result<(), ObjectError> {
        for here in self.fallback.as_deref().into_iter().chain([self]) {
            here.delete_under_here(prefix).await?;
        }
        Ok(())
    }

    async fn delete_under_here(&self, prefix: &str) -> Result<(), ObjectError> {
        for key in self.list_under(prefix).await? {
            self.delete_here(&key).await?;
        }
        // A killed process leaves the temporary file of its write, which the store itself hides.
        if let Some(root) = &self.root {
            match tokio::fs::remove_dir_all(root.join(prefix)).await {
                Ok(()) => {}
                // There is none, or an object has this very key: it is not under it.
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
                Err(error) => return Err(io_failure("delete an object folder", error)),
            }
        }
        Ok(())
    }

    /// Whether broken writes leave files here that no key leads to.
    pub(crate) fn hides_broken_writes(&self) -> bool {
        std::iter::once(self).chain(self.fallback.as_deref()).any(|here| here.root.is_some())
    }
}

/// What can be no key is not there.
pub(crate) fn path(key: &str) -> Result<Path, ObjectError> {
    Path::parse(key).map_err(|_| ObjectError::NotFound)
}

fn digest(hash: Context) -> [u8; 32] {
    hash.finish().as_ref().try_into().expect("SHA-256 is 32 bytes long")
}

/// The SHA-256 of bytes in memory.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    hash.update(bytes);
    digest(hash)
}
