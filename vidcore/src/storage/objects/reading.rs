//! Reading: whole as announced, or an error.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::ops::Range;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use object_store::{GetResult, GetResultPayload};
use tokio_util::io::ReaderStream;

use super::failure::{failure, io_failure};
use super::{ObjectBytes, ObjectError, READ_SIZE};

const OPERATION: &str = "read an object";

/// The bytes of an answer, which fail should they be fewer or more than it announced.
pub(super) async fn bytes_of(result: GetResult) -> Result<ObjectBytes, ObjectError> {
    let range = result.range.clone();
    let announced = range.end - range.start;
    let bytes = match result.payload {
        // The store's own stream reads files 8 KiB at a time, each read a hop to another thread.
        GetResultPayload::File(file, _) => from_file(file, range).await?,
        GetResultPayload::Stream(stream) => stream.map_err(|error| failure(OPERATION, error)).boxed(),
    };
    Ok(whole(bytes, announced))
}

async fn from_file(file: File, range: Range<u64>) -> Result<ObjectBytes, ObjectError> {
    let file = tokio::task::spawn_blocking(move || seek(file, range.start))
        .await
        .map_err(|error| ObjectError::Unavailable { operation: OPERATION, source: error.into() })??;
    let mut file = tokio::fs::File::from_std(file);
    file.set_max_buf_size(READ_SIZE);
    let part = tokio::io::AsyncReadExt::take(file, range.end - range.start);
    Ok(ReaderStream::with_capacity(part, READ_SIZE).map_err(|error| io_failure(OPERATION, error)).boxed())
}

fn seek(mut file: File, to: u64) -> Result<File, ObjectError> {
    file.seek(SeekFrom::Start(to)).map_err(|error| io_failure("seek in an object", error))?;
    Ok(file)
}

/// A line that ends early without an error must not pass for the end of the object.
pub(super) fn whole(bytes: ObjectBytes, announced: u64) -> BoxStream<'static, Result<Bytes, ObjectError>> {
    stream::try_unfold((bytes, announced), |(mut bytes, left)| async move {
        match bytes.try_next().await? {
            Some(chunk) => match left.checked_sub(chunk.len() as u64) {
                Some(left) => Ok(Some((chunk, (bytes, left)))),
                None => Err(unlike("more bytes came than were announced")),
            },
            None if left == 0 => Ok(None),
            None => Err(unlike("fewer bytes came than were announced")),
        }
    })
    .boxed()
}

fn unlike(what: &'static str) -> ObjectError {
    ObjectError::Unavailable { operation: OPERATION, source: what.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(chunks: &[&'static [u8]], announced: u64) -> Result<Vec<Bytes>, ObjectError> {
        let chunks: Vec<_> = chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk))).collect();
        whole(stream::iter(chunks).boxed(), announced).try_collect().await
    }

    #[tokio::test]
    async fn what_ends_early_or_late_is_no_object() {
        assert_eq!(b"abcd", &*read(&[b"ab", b"cd"], 4).await.expect("as announced").concat());
        assert!(read(&[], 0).await.expect("as announced").is_empty());
        assert!(matches!(read(&[b"ab"], 4).await, Err(ObjectError::Unavailable { .. })));
        assert!(matches!(read(&[], 1).await, Err(ObjectError::Unavailable { .. })));
        assert!(matches!(read(&[b"ab", b"cd"], 3).await, Err(ObjectError::Unavailable { .. })));
    }
}
