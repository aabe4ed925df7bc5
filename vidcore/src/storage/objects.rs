//! Objects: streaming in and out with bounded memory, over any `object_store` back end.
//!
//! Keys are made by this crate alone (`staging/…`, `originals/…`, `renditions/…`), never of a user's
//! text. Content type, hash and size live in rows, not in attributes of the object store.

use std::fs::File;
use std::io::{ErrorKind, Seek, SeekFrom};
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
use object_store::{GetOptions, GetResultPayload, ObjectStore, ObjectStoreExt, WriteMultipart};
use tokio::sync::Semaphore;
use tokio_util::io::ReaderStream;

use crate::storage::Segment;
use crate::storage::staging::{FileStaging, ObjectStaging, RunningHash, Staging};
use crate::store::BoxError;

/// Bytes hashed at a time, off the async threads.
const HASH_BATCH: usize = 1 << 20;

/// Size of a multipart part: what S3 demands at least.
const PART_SIZE: usize = 5 << 20;

/// Size of a part where nothing demands more.
const LOCAL_PART_SIZE: usize = 1 << 20;

/// Parts of one object written at once.
pub(crate) const PARTS_IN_FLIGHT: usize = 2;

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
    part_size: usize,
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
        Ok(Self { root: Some(root), part_size: LOCAL_PART_SIZE, ..Self::new(Arc::new(store)) })
    }

    /// Objects in memory: gone with the process.
    pub fn memory() -> Self {
        Self { part_size: LOCAL_PART_SIZE, ..Self::new(Arc::new(InMemory::new())) }
    }

    /// Objects in any other back end.
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        let permits = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { store, part_size: PART_SIZE, root: None, hashing: Arc::new(Semaphore::new(permits)) }
    }

    /// How many may hash at once.
    pub(crate) fn hash_permits(&self) -> Arc<Semaphore> {
        Arc::clone(&self.hashing)
    }

    /// Where uploads gather beside these objects, under keys of the same store.
    pub fn staging(&self) -> Arc<dyn Staging> {
        match &self.root {
            Some(root) => Arc::new(FileStaging::new(root.clone())),
            None => Arc::new(ObjectStaging::new(Arc::clone(&self.store), self.part_size)),
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
        let upload = self.store.put_multipart(&path(key)?).await.map_err(|error| failure(OPERATION, error))?;
        let mut sink = WriteMultipart::new_with_chunk_size(upload, self.part_size);
        let fed = self.feed(&mut sink, &mut stream, limit).await;
        match fed {
            Ok(written) => {
                sink.finish().await.map_err(|error| failure(OPERATION, error))?;
                Ok(written)
            }
            Err(error) => {
                // The first error is the one to tell; parts that stay behind are invisible.
                if let Err(left) = sink.abort().await {
                    tracing::warn!(error = %left, "parts of a broken write were left behind");
                }
                Err(error)
            }
        }
    }

    async fn feed(
        &self,
        sink: &mut WriteMultipart,
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
                (hash, batch) = self.hash(hash, batch).await;
                for bytes in batch.drain(..) {
                    sink.put(bytes);
                }
                batched = 0;
                sink.wait_for_capacity(PARTS_IN_FLIGHT).await.map_err(|error| failure("write an object", error))?;
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
        let file = tokio::fs::File::open(file).await.map_err(|error| WriteError::Source(error.into()))?;
        let stream = ReaderStream::with_capacity(file, READ_SIZE).map_err(BoxError::from);
        self.write(key, stream, u64::MAX).await
    }

    /// Gives an object another key, replacing what has it. On a local disk this is one rename.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub async fn rename(&self, from: &str, to: &str) -> Result<(), ObjectError> {
        self.store.rename(&path(from)?, &path(to)?).await.map_err(|error| failure("rename an object", error))
    }

    /// The object's size in bytes; `None` if there is none.
    ///
    /// # Errors
    /// [`ObjectError::Unavailable`].
    pub async fn size(&self, key: &str) -> Result<Option<u64>, ObjectError> {
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

    /// Streams the bytes that count of segments, one after the other.
    pub(crate) fn read_segments(&self, segments: Vec<Segment>) -> ObjectBytes {
        let objects = self.clone();
        futures_util::stream::iter(segments)
            .then(move |segment| {
                let objects = objects.clone();
                async move { objects.read(&segment.key, Some(0..segment.size_bytes)).await }
            })
            .try_flatten()
            .boxed()
    }

    /// Makes one object of segments, which stay. It appears whole or not at all.
    pub(crate) async fn concatenate(&self, segments: &[Segment], key: &str) -> Result<(), ObjectError> {
        let stream = self.read_segments(segments.to_vec()).map_err(BoxError::from);
        let stream = stream.inspect(|_| crate::failpoints::hit("mid-join"));
        match self.write(key, stream, u64::MAX).await {
            Ok(_) => Ok(()),
            Err(WriteError::Object(error)) => Err(error),
            Err(WriteError::Source(source)) => Err(match source.downcast::<ObjectError>() {
                Ok(error) => *error,
                Err(source) => ObjectError::Unavailable { operation: "join segments", source },
            }),
            Err(WriteError::TooLong { .. }) => unreachable!("there is no limit"),
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
        const OPERATION: &str = "read an object";
        let options = GetOptions { range: range.map(Into::into), ..GetOptions::default() };
        let result = self.store.get_opts(&path(key)?, options).await.map_err(|error| failure(OPERATION, error))?;
        let range = result.range.clone();
        match result.payload {
            // The store's own stream reads files 8 KiB at a time, each read a hop to another thread.
            GetResultPayload::File(file, _) => {
                let file = tokio::task::spawn_blocking(move || seek(file, range.start))
                    .await
                    .map_err(|error| ObjectError::Unavailable { operation: OPERATION, source: error.into() })??;
                let mut file = tokio::fs::File::from_std(file);
                file.set_max_buf_size(READ_SIZE);
                let part = tokio::io::AsyncReadExt::take(file, range.end - range.start);
                Ok(ReaderStream::with_capacity(part, READ_SIZE).map_err(|error| io_failure(OPERATION, error)).boxed())
            }
            GetResultPayload::Stream(stream) => Ok(stream.map_err(|error| failure(OPERATION, error)).boxed()),
        }
    }

    /// Makes an object available as the file `to`, which must not exist: a hard link where the back
    /// end is a local folder of the same file system, a copy otherwise. Do not write to the file.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub async fn materialize(&self, key: &str, to: &FilePath) -> Result<(), ObjectError> {
        const OPERATION: &str = "fetch an object";
        if let Some(root) = &self.root
            && tokio::fs::hard_link(root.join(path(key)?.as_ref()), to).await.is_ok()
        {
            return Ok(());
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
        for key in self.keys_under(prefix).await? {
            self.delete(&key).await?;
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
        self.root.is_some()
    }

    /// The folders right under `prefix/`, as prefixes of their own, whether or not an object is in them.
    ///
    /// # Errors
    /// [`ObjectError::Unavailable`].
    pub async fn folders(&self, prefix: &str) -> Result<Vec<String>, ObjectError> {
        let listed = self.store.list_with_delimiter(Some(&path(prefix)?)).await;
        match listed.map_err(|error| failure("list folders", error)) {
            Ok(listed) => Ok(listed.common_prefixes.into_iter().map(String::from).collect()),
            Err(ObjectError::NotFound) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// The keys of all objects, one after the other, in no order.
    pub fn keys(&self) -> BoxStream<'static, Result<String, ObjectError>> {
        self.list(None).boxed()
    }

    /// A file whose name can be no key was not put by this program, and must not hide the others.
    fn list(&self, prefix: Option<&Path>) -> impl Stream<Item = Result<String, ObjectError>> + Send + 'static {
        self.store.list(prefix).filter_map(|listed| {
            std::future::ready(match listed {
                Ok(meta) => Some(Ok(meta.location.to_string())),
                Err(object_store::Error::InvalidPath { source }) => {
                    tracing::warn!(error = %source, "a file among the objects has a name that can be no key");
                    None
                }
                Err(error) => Some(Err(failure("list objects", error))),
            })
        })
    }

    /// The keys of every object under `prefix/`, or of all with an empty prefix.
    ///
    /// # Errors
    /// [`ObjectError::Unavailable`].
    pub async fn keys_under(&self, prefix: &str) -> Result<Vec<String>, ObjectError> {
        let prefix = (!prefix.is_empty()).then(|| path(prefix)).transpose()?;
        self.list(prefix.as_ref()).try_collect().await
    }
}

/// What can be no key is not there.
pub(crate) fn path(key: &str) -> Result<Path, ObjectError> {
    Path::parse(key).map_err(|_| ObjectError::NotFound)
}

fn digest(hash: Context) -> [u8; 32] {
    hash.finish().as_ref().try_into().expect("SHA-256 is 32 bytes long")
}

fn seek(mut file: File, to: u64) -> Result<File, ObjectError> {
    file.seek(SeekFrom::Start(to)).map_err(|error| io_failure("seek in an object", error))?;
    Ok(file)
}

pub(crate) fn io_failure(operation: &'static str, error: std::io::Error) -> ObjectError {
    match error.kind() {
        ErrorKind::NotFound => ObjectError::NotFound,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => ObjectError::Full(error),
        _ => ObjectError::Unavailable { operation, source: error.into() },
    }
}

pub(crate) fn failure(operation: &'static str, error: object_store::Error) -> ObjectError {
    if matches!(error, object_store::Error::NotFound { .. }) {
        return ObjectError::NotFound;
    }
    // A full disk is an I/O error somewhere down the chain.
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(next) = cause {
        if let Some(io) = next.downcast_ref::<std::io::Error>()
            && matches!(io.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
        {
            return ObjectError::Full(std::io::Error::new(io.kind(), error.to_string()));
        }
        cause = next.source();
    }
    ObjectError::Unavailable { operation, source: error.into() }
}

/// The SHA-256 of bytes in memory.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    hash.update(bytes);
    digest(hash)
}
