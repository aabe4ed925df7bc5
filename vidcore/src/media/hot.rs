//! Small objects that many people play at once, in memory.
//!
//! What is published under a key never changes, so nothing here is ever stale: a new attempt has another key. Who may play
//! is decided before anything is looked for here, by the video's row.
//!
//! What was evicted stays as long as somebody is being sent it. So every buffer holds permits for its size until the last
//! reader has let go of it, and where none are free an object is streamed from where it lies. moka frees what it evicted a
//! little later; it is counted until then.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt, stream};
use moka::future::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::media::NewObject;
use crate::storage::Objects;
use crate::storage::objects::{ObjectBytes, ObjectError};
use crate::store::{Store, StoreError};

/// Larger objects are streamed from where they lie: a segment of four seconds is smaller.
const MAX_OBJECT: u64 = 4 << 20;

/// What is kept and what is being sent may take, in multiples of what may be kept.
const HELD_TO_KEPT: u64 = 2;

/// Bytes of one permit.
const PERMIT: u64 = 1 << 10;

/// Objects that are read into memory at once; beyond that they are streamed.
const READS: usize = 8;

/// Rows that are kept, of some 200 bytes each.
const MAX_ROWS: u64 = 20_000;

/// A repair may correct what a row says of its object.
const ROW_LIFE: Duration = Duration::from_secs(10);

/// What nobody may play any more is not kept for long.
const BYTES_LIFE: Duration = Duration::from_secs(600);

/// Rows and bytes of published objects.
#[derive(Debug, Clone)]
pub(crate) struct HotObjects {
    rows: Cache<String, NewObject>,
    bytes: Cache<String, Bytes>,
    max_bytes: u64,
    reads: Arc<Semaphore>,
    room: Arc<Semaphore>,
}

/// The bytes of an object with the permits for them.
struct Held {
    bytes: BytesMut,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Why an object is not in memory.
#[derive(Debug, thiserror::Error)]
enum NotHeld {
    /// As many bytes as may be are kept or being sent.
    #[error("no room")]
    NoRoom,
    #[error(transparent)]
    Object(#[from] ObjectError),
}

impl HotObjects {
    /// Keeps at most `max_bytes` of objects, and holds at most twice that together with what is being sent; 0 keeps none.
    pub(crate) fn new(max_bytes: u64) -> Self {
        let weigh = |key: &String, bytes: &Bytes| u32::try_from(key.len() + bytes.len()).unwrap_or(u32::MAX);
        Self {
            rows: Cache::builder().max_capacity(MAX_ROWS).time_to_live(ROW_LIFE).build(),
            bytes: Cache::builder().max_capacity(max_bytes).weigher(weigh).time_to_live(BYTES_LIFE).build(),
            max_bytes,
            reads: Arc::new(Semaphore::new(READS)),
            room: Arc::new(Semaphore::new(
                to_index(max_bytes.saturating_mul(HELD_TO_KEPT) / PERMIT).min(Semaphore::MAX_PERMITS),
            )),
        }
    }

    /// The row of a published object; `None` is asked for anew each time.
    pub(crate) async fn row(&self, store: &dyn Store, key: &str) -> Result<Option<NewObject>, StoreError> {
        if let Some(row) = self.rows.get(key).await {
            return Ok(Some(row));
        }
        let row = store.object(key).await?;
        if let Some(row) = &row {
            self.rows.insert(key.to_owned(), row.clone()).await;
        }
        Ok(row)
    }

    /// The bytes of a published object, or a part of it (end exclusive, within the object).
    pub(crate) async fn read(
        &self,
        objects: &Objects,
        object: &NewObject,
        range: Option<Range<u64>>,
    ) -> Result<ObjectBytes, ObjectError> {
        match self.whole(objects, object).await? {
            Some(bytes) => {
                let range = range.unwrap_or(0..object.size_bytes);
                let (start, end) = (to_index(range.start), to_index(range.end));
                Ok(stream::iter([Ok(bytes.slice(start..end.min(bytes.len())))]).boxed())
            }
            None => objects.read(&object.key, range).await,
        }
    }

    /// All bytes, where they are kept or worth keeping. Many who ask for an object at once read it once.
    async fn whole(&self, objects: &Objects, object: &NewObject) -> Result<Option<Bytes>, ObjectError> {
        if object.size_bytes > MAX_OBJECT.min(self.max_bytes / 4) {
            return Ok(None);
        }
        if let Some(bytes) = self.bytes.get(&object.key).await {
            metrics::counter!("vid_hot_objects_total", "outcome" => "hit").increment(1);
            return Ok(Some(bytes));
        }
        let Ok(_permit) = self.reads.try_acquire() else { return Ok(None) };
        let read = self.bytes.try_get_with_by_ref(&object.key, self.collect(objects, object)).await;
        let is_full = read.as_ref().is_err_and(|error| matches!(**error, NotHeld::NoRoom));
        let outcome = if is_full { "no_room" } else { "miss" };
        metrics::counter!("vid_hot_objects_total", "outcome" => outcome).increment(1);
        match read {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => match &*error {
                NotHeld::NoRoom => Ok(None),
                NotHeld::Object(ObjectError::NotFound) => Err(ObjectError::NotFound),
                error => {
                    Err(ObjectError::Unavailable { operation: "read an object", source: error.to_string().into() })
                }
            },
        }
    }

    /// Reads an object whole, if there is room for it.
    async fn collect(&self, objects: &Objects, object: &NewObject) -> Result<Bytes, NotHeld> {
        let permits = u32::try_from(object.size_bytes.div_ceil(PERMIT)).map_err(|_| NotHeld::NoRoom)?;
        let room = Arc::clone(&self.room).try_acquire_many_owned(permits).map_err(|_| NotHeld::NoRoom)?;
        let bytes = collect(objects, object).await?;
        Ok(Bytes::from_owner(Held { bytes, _room: room }))
    }
}

/// Reads an object whole. One of another size than its row says is not kept: it is damaged.
async fn collect(objects: &Objects, object: &NewObject) -> Result<BytesMut, ObjectError> {
    let mut stream = objects.read(&object.key, None).await?;
    let mut whole = BytesMut::with_capacity(to_index(object.size_bytes));
    while let Some(bytes) = stream.try_next().await? {
        whole.extend_from_slice(&bytes);
    }
    if whole.len() as u64 == object.size_bytes {
        return Ok(whole);
    }
    let source = format!("{} bytes of {}", whole.len(), object.size_bytes).into();
    Err(ObjectError::Unavailable { operation: "read an object whole", source })
}

fn to_index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn put(objects: &Objects, key: &str, bytes: Vec<u8>) -> NewObject {
        let size_bytes = bytes.len() as u64;
        let written = objects.write(key, stream::iter([Ok(Bytes::from(bytes))]), u64::MAX).await.expect("in memory");
        NewObject { key: key.to_owned(), size_bytes, sha256: written.sha256, content_type: "video/mp4".to_owned() }
    }

    async fn read(hot: &HotObjects, objects: &Objects, object: &NewObject, range: Option<Range<u64>>) -> Vec<u8> {
        let chunks: Vec<Bytes> =
            hot.read(objects, object, range).await.expect("it is there").try_collect().await.expect("whole");
        chunks.concat()
    }

    #[tokio::test]
    async fn a_small_object_is_read_once_and_sent_in_parts() {
        let (hot, objects) = (HotObjects::new(1 << 20), Objects::memory());
        let object = put(&objects, "renditions/a", b"0123456789".to_vec()).await;
        assert_eq!(b"0123456789", read(&hot, &objects, &object, None).await.as_slice());
        objects.delete(&object.key).await.expect("in memory");
        assert_eq!(b"345", read(&hot, &objects, &object, Some(3..6)).await.as_slice());
        assert_eq!(b"9", read(&hot, &objects, &object, Some(9..10)).await.as_slice());
    }

    #[tokio::test]
    async fn a_large_object_and_one_of_another_size_are_not_kept() {
        let (hot, objects) = (HotObjects::new(1 << 20), Objects::memory());
        let large = put(&objects, "renditions/large", vec![7; (1 << 18) + 1]).await;
        assert_eq!(large.size_bytes, read(&hot, &objects, &large, None).await.len() as u64);
        let cut = NewObject { size_bytes: 11, ..put(&objects, "renditions/cut", b"0123456789".to_vec()).await };
        assert!(hot.read(&objects, &cut, None).await.is_err());
        for object in [&large, &cut] {
            objects.delete(&object.key).await.expect("in memory");
            assert!(matches!(hot.read(&objects, object, None).await, Err(ObjectError::NotFound)), "{}", object.key);
        }
    }

    /// Bytes that are kept or being sent, by the permits that are out.
    fn held(hot: &HotObjects) -> u64 {
        hot.max_bytes * HELD_TO_KEPT - hot.room.available_permits() as u64 * PERMIT
    }

    #[tokio::test]
    async fn slow_readers_of_many_objects_hold_no_more_than_the_bound() {
        const KEPT: u64 = 1 << 20;
        let (hot, objects) = (HotObjects::new(KEPT), Objects::memory());
        let mut readers = Vec::new();
        for number in 0..64_u8 {
            let size = to_index(KEPT / 8) - usize::from(number);
            let object = put(&objects, &format!("renditions/{number}"), vec![number; size]).await;
            let mut reader = hot.read(&objects, &object, None).await.expect("it is there");
            // Every reader has its first bytes, and reads no more of them.
            let first = reader.try_next().await.expect("it is there").expect("it is not empty");
            readers.push((number, size, first, reader));
            hot.bytes.run_pending_tasks().await;
            assert!(held(&hot) <= 2 * KEPT, "{} bytes are held", held(&hot));
        }
        assert!(held(&hot) > KEPT, "what was evicted is still being sent");
        for (number, size, first, rest) in readers {
            let rest: Vec<Bytes> = rest.try_collect().await.expect("whole");
            assert!(vec![number; size] == [first.to_vec(), rest.concat()].concat(), "object {number}");
        }
        hot.bytes.invalidate_all();
        hot.bytes.run_pending_tasks().await;
        // moka frees what it has evicted while it is asked for other things.
        for _ in 0..1000 {
            assert_eq!(None, hot.bytes.get("renditions/none").await);
        }
        assert_eq!(0, held(&hot), "the last one who has it lets go of it");
    }

    /// However many are sent one object, it is there once.
    #[tokio::test]
    async fn many_readers_of_one_object_hold_it_once() {
        let (hot, objects) = (HotObjects::new(1 << 20), Objects::memory());
        let object = put(&objects, "renditions/a", vec![7; 1 << 18]).await;
        let mut readers = Vec::new();
        for _ in 0..64 {
            readers.push(hot.read(&objects, &object, Some(0..1)).await.expect("it is there"));
        }
        assert_eq!(1 << 18, held(&hot));
    }

    #[tokio::test]
    async fn nothing_is_kept_where_there_is_no_room() {
        let (hot, objects) = (HotObjects::new(0), Objects::memory());
        let object = put(&objects, "renditions/a", b"0123456789".to_vec()).await;
        assert_eq!(b"0123456789", read(&hot, &objects, &object, None).await.as_slice());
        objects.delete(&object.key).await.expect("in memory");
        assert!(hot.read(&objects, &object, None).await.is_err());
    }
}
