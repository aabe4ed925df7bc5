//! Where the bytes of one write go: straight into parts, or held until it is known whether they fill one.

use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, WriteMultipart};

/// Parts of one object written at once.
const PARTS_IN_FLIGHT: usize = 2;

/// How large the parts are in which objects are put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartSizes {
    /// Bytes of a part, at least.
    pub least: usize,
    /// How many parts an object may have: those of large objects are larger. `None` for as many as it takes.
    pub most: Option<u64>,
}

impl PartSizes {
    /// As many parts as it takes.
    pub fn at_least(least: usize) -> Self {
        Self { least, most: None }
    }

    /// Bytes of each part of an object of at most `limit` bytes. Where nobody knows that, parts are no larger than
    /// the least, and the most there can be is what as many of them hold (48.8 GiB in S3).
    pub fn of(self, limit: u64) -> usize {
        let needed = self.most.filter(|_| limit < u64::MAX).map_or(0, |most| limit.div_ceil(most));
        usize::try_from(needed).unwrap_or(usize::MAX).max(self.least)
    }
}

/// One write under way.
pub(crate) struct Sink {
    store: Arc<dyn ObjectStore>,
    path: Path,
    part_size: usize,
    state: State,
}

enum State {
    /// Not a part's worth yet. What ends like this is put with one request instead of three, and no part of it
    /// can be left behind.
    Held(Vec<Bytes>),
    Parts(WriteMultipart),
}

impl Sink {
    /// Parts from the first byte on.
    pub(crate) async fn parts(
        store: Arc<dyn ObjectStore>,
        path: Path,
        part_size: usize,
    ) -> Result<Self, object_store::Error> {
        let mut sink = Self::held(store, path, part_size);
        sink.begin_parts().await?;
        Ok(sink)
    }

    /// Parts only if there is more than one.
    pub(crate) fn held(store: Arc<dyn ObjectStore>, path: Path, part_size: usize) -> Self {
        Self { store, path, part_size, state: State::Held(Vec::new()) }
    }

    async fn begin_parts(&mut self) -> Result<&mut WriteMultipart, object_store::Error> {
        if let State::Held(held) = &mut self.state {
            let held = std::mem::take(held);
            let upload = self.store.put_multipart(&self.path).await?;
            let mut parts = WriteMultipart::new_with_chunk_size(upload, self.part_size);
            held.into_iter().for_each(|bytes| parts.put(bytes));
            self.state = State::Parts(parts);
        }
        match &mut self.state {
            State::Parts(parts) => Ok(parts),
            State::Held(_) => unreachable!("parts were begun just above"),
        }
    }

    /// Takes the next bytes, and waits while enough parts are on their way.
    pub(crate) async fn put(&mut self, batch: Vec<Bytes>) -> Result<(), object_store::Error> {
        if let State::Held(held) = &mut self.state {
            held.extend(batch);
            if held.iter().map(Bytes::len).sum::<usize>() <= self.part_size {
                return Ok(());
            }
            return self.begin_parts().await?.wait_for_capacity(PARTS_IN_FLIGHT).await;
        }
        let parts = self.begin_parts().await?;
        batch.into_iter().for_each(|bytes| parts.put(bytes));
        parts.wait_for_capacity(PARTS_IN_FLIGHT).await
    }

    /// Makes what was put an object. If that fails, parts are given up.
    pub(crate) async fn finish(self) -> Result<(), object_store::Error> {
        match self.state {
            State::Held(held) => self.store.put(&self.path, PutPayload::from_iter(held)).await.map(drop),
            State::Parts(parts) => parts.finish().await.map(drop),
        }
    }

    /// Gives up what was put.
    pub(crate) async fn abort(self) {
        let State::Parts(parts) = self.state else { return };
        // Another error is the one to tell; parts that stay behind are invisible.
        if let Err(left) = parts.abort().await {
            tracing::warn!(error = %left, "parts of a broken write were left behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_grow_with_the_object_where_their_number_is_bounded() {
        let s3 = PartSizes { least: 5 << 20, most: Some(10_000) };
        assert_eq!(5 << 20, s3.of(16 << 30));
        assert_eq!(5 << 20, s3.of(u64::MAX));
        let large = 5 << 40;
        assert!((s3.of(large) as u64) * 10_000 >= large);
        assert_eq!(1 << 20, PartSizes::at_least(1 << 20).of(large));
    }
}
