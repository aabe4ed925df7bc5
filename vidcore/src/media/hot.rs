//! Small objects that many people play at once, in memory.
//!
//! What is published under a key never changes, so nothing here is ever stale: a new attempt has another key. Who may play
//! is decided before anything is looked for here, by the video's row.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt, stream};
use moka::future::Cache;
use tokio::sync::Semaphore;

use crate::media::NewObject;
use crate::storage::Objects;
use crate::storage::objects::{ObjectBytes, ObjectError};
use crate::store::{Store, StoreError};

/// Larger objects are streamed from where they lie: a segment of four seconds is smaller.
const MAX_OBJECT: u64 = 4 << 20;

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
}

impl HotObjects {
    /// Keeps at most `max_bytes` of objects; 0 keeps none.
    pub(crate) fn new(max_bytes: u64) -> Self {
        let weigh = |key: &String, bytes: &Bytes| u32::try_from(key.len() + bytes.len()).unwrap_or(u32::MAX);
        Self {
            rows: Cache::builder().max_capacity(MAX_ROWS).time_to_live(ROW_LIFE).build(),
            bytes: Cache::builder().max_capacity(max_bytes).weigher(weigh).time_to_live(BYTES_LIFE).build(),
            max_bytes,
            reads: Arc::new(Semaphore::new(READS)),
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
        metrics::counter!("vid_hot_objects_total", "outcome" => "miss").increment(1);
        let read = self.bytes.try_get_with_by_ref(&object.key, collect(objects, object)).await;
        read.map(Some).map_err(|error| match &*error {
            ObjectError::NotFound => ObjectError::NotFound,
            error => ObjectError::Unavailable { operation: "read an object", source: error.to_string().into() },
        })
    }
}

/// Reads an object whole. One of another size than its row says is not kept: it is damaged.
async fn collect(objects: &Objects, object: &NewObject) -> Result<Bytes, ObjectError> {
    let mut stream = objects.read(&object.key, None).await?;
    let mut whole = BytesMut::with_capacity(to_index(object.size_bytes));
    while let Some(bytes) = stream.try_next().await? {
        whole.extend_from_slice(&bytes);
    }
    if whole.len() as u64 == object.size_bytes {
        return Ok(whole.freeze());
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

    #[tokio::test]
    async fn nothing_is_kept_where_there_is_no_room() {
        let (hot, objects) = (HotObjects::new(0), Objects::memory());
        let object = put(&objects, "renditions/a", b"0123456789".to_vec()).await;
        assert_eq!(b"0123456789", read(&hot, &objects, &object, None).await.as_slice());
        objects.delete(&object.key).await.expect("in memory");
        assert!(hot.read(&objects, &object, None).await.is_err());
    }
}
