//! Claims about [`Objects`] over every back end.

use std::fmt;
use std::path::Path;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt, TryStreamExt};

use crate::storage::Objects;
use crate::storage::objects::{ObjectError, WriteError, Written};
use crate::store::BoxError;

/// Objects under test.
pub struct ObjectHarness {
    /// The objects.
    pub objects: Objects,
    /// Holds the objects of a local back end, and the files they are fetched to.
    folder: tempfile::TempDir,
    /// Holds the server that has the objects.
    #[cfg(feature = "s3")]
    server: Option<crate::testkit::TestS3>,
}

impl fmt::Debug for ObjectHarness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectHarness").field("objects", &self.objects).finish_non_exhaustive()
    }
}

impl ObjectHarness {
    /// Objects as files.
    pub async fn local() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let objects = Objects::local(&folder.path().join("objects")).expect("a new folder can be used");
        Some(Self::of(objects, folder))
    }

    /// Objects in memory.
    pub async fn memory() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        Some(Self::of(Objects::memory(), folder))
    }

    /// Objects in a bucket, under a prefix.
    #[cfg(feature = "s3")]
    pub async fn s3() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let server = crate::testkit::TestS3::start();
        let settings = crate::platform::settings::S3Settings { prefix: "shared/by-many".into(), ..server.settings() };
        let objects = Objects::s3(&settings).expect("the settings are usable");
        Some(Self { server: Some(server), ..Self::of(objects, folder) })
    }

    /// Objects that are moving: what is not in memory yet is in files.
    pub async fn moving() -> Option<Self> {
        let Self { objects, folder, .. } = Self::local().await?;
        Some(Self::of(Objects::memory().with_fallback(objects), folder))
    }

    fn of(objects: Objects, folder: tempfile::TempDir) -> Self {
        Self {
            objects,
            folder,
            #[cfg(feature = "s3")]
            server: None,
        }
    }

    /// Whether a write that came to nothing left something that no key leads to.
    fn left_behind(&self) -> bool {
        #[cfg(feature = "s3")]
        return self.server.as_ref().is_some_and(|server| server.parts_left() > 0);
        #[cfg(not(feature = "s3"))]
        false
    }

    /// A folder for files that are no objects.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    async fn put(&self, key: &str, bytes: &[u8]) -> Written {
        self.objects.write(key, whole(bytes), u64::MAX).await.expect("the bytes are written")
    }

    async fn get(&self, key: &str, range: Option<std::ops::Range<u64>>) -> Result<Vec<u8>, ObjectError> {
        let chunks: Vec<Bytes> = self.objects.read(key, range).await?.try_collect().await?;
        Ok(chunks.concat())
    }

    async fn keys(&self, prefix: &str) -> Vec<String> {
        let mut keys = self.objects.keys_under(prefix).await.expect("the back end answers");
        keys.sort();
        keys
    }
}

/// Runs every claim about `Objects` as a test of the module `$name`; `$harness` is a future of
/// `Option<ObjectHarness>`, `None` where the back end's service is missing.
#[macro_export]
macro_rules! objects_contract {
    ($name:ident, $harness:expr) => {
        mod $name {
            $crate::objects_contract!(@claims $harness;
                a_written_stream_is_read_back_with_its_hash,
                an_object_of_no_bytes_is_an_object,
                a_stream_of_exactly_the_limit_is_written_and_one_byte_more_is_not,
                a_broken_stream_leaves_nothing,
                a_dropped_write_leaves_nothing,
                an_object_is_not_visible_before_its_last_byte,
                a_second_write_takes_the_place_of_the_first,
                of_two_writes_of_one_key_one_stands_whole,
                a_range_is_read_as_asked,
                a_range_beyond_the_end_is_refused_or_cut_off,
                an_absent_object_is_not_found,
                a_renamed_object_has_its_new_key_alone,
                a_missing_object_is_not_renamed,
                a_materialized_object_is_a_file_of_its_bytes,
                a_file_that_is_there_is_never_overwritten,
                a_stored_file_is_measured_alike,
                deleting_is_repeatable,
                deleting_under_a_prefix_spares_its_neighbours,
                keys_are_listed_under_their_prefix,
                keys_beyond_one_page_are_listed_each_once,
                folders_are_listed_whole,
                a_write_of_several_parts_that_breaks_leaves_no_parts,
                a_renamed_object_replaces_what_had_its_key,
                a_large_object_is_renamed_part_by_part,
                a_copied_object_is_there_twice,
                a_key_that_climbs_is_refused,
            );
        }
    };
    (@claims $harness:expr; $($claim:ident),+ $(,)?) => { $(
        #[tokio::test]
        async fn $claim() {
            if let Some(h) = $harness.await { $crate::testkit::objects::$claim(&h).await }
        }
    )+ };
}

/// Enough for several parts of any back end.
const LARGE: usize = (5 << 20) + 12_345;

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 31 + i / 251) as u8).collect()
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().try_into().expect("SHA-256 is 32 bytes long")
}

fn chunks(bytes: &[u8]) -> Vec<Result<Bytes, BoxError>> {
    bytes.chunks(60_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect()
}

fn whole(bytes: &[u8]) -> impl Stream<Item = Result<Bytes, BoxError>> + Send + Unpin + use<> {
    stream::iter(chunks(bytes))
}

fn broken(bytes: &[u8]) -> impl Stream<Item = Result<Bytes, BoxError>> + Send + Unpin + use<> {
    whole(bytes).chain(stream::iter([Err(BoxError::from("the line went dead"))]))
}

/// Whatever its parts were.
pub async fn a_written_stream_is_read_back_with_its_hash(h: &ObjectHarness) {
    for length in [1, 59_999, 60_000, 1 << 20, LARGE] {
        let bytes = pattern(length);
        let written = h.put("originals/a/b", &bytes).await;
        assert_eq!(Written { size_bytes: length as u64, sha256: sha256(&bytes) }, written);
        assert!(bytes == h.get("originals/a/b", None).await.expect("it was written"), "{length} bytes");
        assert_eq!(Some(length as u64), h.objects.size("originals/a/b").await.expect("the back end answers"));
        assert_eq!(written, h.objects.measure("originals/a/b").await.expect("it was written"));
    }
}

/// An empty playlist is no missing playlist.
pub async fn an_object_of_no_bytes_is_an_object(h: &ObjectHarness) {
    assert_eq!(Written { size_bytes: 0, sha256: sha256(b"") }, h.put("renditions/empty", b"").await);
    assert_eq!(Some(0), h.objects.size("renditions/empty").await.expect("the back end answers"));
    assert_eq!(Vec::<u8>::new(), h.get("renditions/empty", None).await.expect("it was written"));
}

/// Both sides of the bound, and nothing kept beyond it.
pub async fn a_stream_of_exactly_the_limit_is_written_and_one_byte_more_is_not(h: &ObjectHarness) {
    let bytes = pattern(200_000);
    h.objects.write("staging/fits", whole(&bytes), 200_000).await.expect("it fits");
    let outcome = h.objects.write("staging/long", whole(&bytes), 199_999).await;
    assert!(matches!(outcome, Err(WriteError::TooLong { limit: 199_999 })), "{outcome:?}");
    assert_eq!(["staging/fits"], *h.keys("staging").await);
}

/// Neither the object nor what there was of it.
pub async fn a_broken_stream_leaves_nothing(h: &ObjectHarness) {
    for length in [0, 100, LARGE] {
        let outcome = h.objects.write("staging/u/broken", broken(&pattern(length)), u64::MAX).await;
        assert!(matches!(outcome, Err(WriteError::Source(_))), "{outcome:?}");
        assert_eq!(None, h.objects.size("staging/u/broken").await.expect("the back end answers"));
    }
    assert!(h.keys("").await.is_empty());
}

/// A caller that goes away.
pub async fn a_dropped_write_leaves_nothing(h: &ObjectHarness) {
    let stalled = whole(&pattern(LARGE)).chain(stream::pending());
    let mut write = Box::pin(h.objects.write("staging/u/stalled", stalled, u64::MAX));
    for _ in 0..50 {
        assert!(futures_util::poll!(&mut write).is_pending());
        tokio::task::yield_now().await;
    }
    drop(write);
    assert_eq!(None, h.objects.size("staging/u/stalled").await.expect("the back end answers"));
    assert!(h.keys("").await.is_empty());
}

/// Whole or not at all, also for those who look on.
pub async fn an_object_is_not_visible_before_its_last_byte(h: &ObjectHarness) {
    let (last, waiting) = tokio::sync::oneshot::channel();
    let tail = stream::once(Box::pin(async move { waiting.await.map_err(BoxError::from) }));
    let mut write = Box::pin(h.objects.write("originals/slow", whole(&pattern(LARGE)).chain(tail), u64::MAX));
    for _ in 0..50 {
        assert!(futures_util::poll!(&mut write).is_pending());
        tokio::task::yield_now().await;
    }
    assert_eq!(None, h.objects.size("originals/slow").await.expect("the back end answers"));
    assert!(h.keys("").await.is_empty());
    last.send(Bytes::from_static(b"!")).expect("the write waits for it");
    let written = write.await.expect("the stream is whole");
    assert_eq!(Some(written.size_bytes), h.objects.size("originals/slow").await.expect("the back end answers"));
}

/// The last whole one stands; a broken one changes nothing.
pub async fn a_second_write_takes_the_place_of_the_first(h: &ObjectHarness) {
    h.put("renditions/x", b"first").await;
    assert!(h.objects.write("renditions/x", broken(b"half"), u64::MAX).await.is_err());
    assert_eq!(b"first", &*h.get("renditions/x", None).await.expect("it was written"));
    h.put("renditions/x", b"the second").await;
    assert_eq!(b"the second", &*h.get("renditions/x", None).await.expect("it was written"));
}

/// Never a mixture of both.
pub async fn of_two_writes_of_one_key_one_stands_whole(h: &ObjectHarness) {
    let (one, two) = (vec![1; 3 << 20], vec![2; 2 << 20]);
    tokio::join!(h.put("originals/race", &one), h.put("originals/race", &two));
    let stands = h.get("originals/race", None).await.expect("both were written");
    assert!(stands == one || stands == two);
}

/// Offsets, end exclusive.
pub async fn a_range_is_read_as_asked(h: &ObjectHarness) {
    let bytes = pattern(LARGE);
    h.put("originals/ranged", &bytes).await;
    let end = LARGE as u64;
    for range in [0..1, 0..end, end - 1..end, 300_000..300_001, 1..LARGE as u64 - 1] {
        let read = h.get("originals/ranged", Some(range.clone())).await.expect("the range lies within");
        assert!(bytes[range.start as usize..range.end as usize] == read, "{range:?}");
    }
}

/// Never more than there is, never a panic.
pub async fn a_range_beyond_the_end_is_refused_or_cut_off(h: &ObjectHarness) {
    h.put("originals/short", b"0123456789").await;
    assert_eq!(b"89", &*h.get("originals/short", Some(8..u64::MAX)).await.expect("it begins within"));
    for range in [10..11, 11..20, u64::MAX - 1..u64::MAX] {
        let outcome = h.get("originals/short", Some(range.clone())).await;
        assert!(matches!(outcome, Err(ObjectError::Unavailable { .. })), "{range:?}: {outcome:?}");
    }
}

/// Whatever is asked of it.
pub async fn an_absent_object_is_not_found(h: &ObjectHarness) {
    assert_eq!(None, h.objects.size("originals/none").await.expect("the back end answers"));
    assert!(matches!(h.get("originals/none", None).await, Err(ObjectError::NotFound)));
    assert!(matches!(h.get("originals/none", Some(0..1)).await, Err(ObjectError::NotFound)));
    assert!(matches!(h.objects.measure("originals/none").await, Err(ObjectError::NotFound)));
    let file = h.folder().join("none");
    assert!(matches!(h.objects.materialize("originals/none", &file).await, Err(ObjectError::NotFound)));
    assert!(!file.exists());
}

/// Into a folder that was not there before.
pub async fn a_renamed_object_has_its_new_key_alone(h: &ObjectHarness) {
    h.put("staging/u/1", b"pinned").await;
    h.objects.rename("staging/u/1", "originals/v/u").await.expect("it is there");
    assert_eq!(["originals/v/u"], *h.keys("").await);
    assert_eq!(b"pinned", &*h.get("originals/v/u", None).await.expect("it was renamed"));
}

/// And what has the new key stays.
pub async fn a_missing_object_is_not_renamed(h: &ObjectHarness) {
    h.put("originals/v/u", b"pinned before").await;
    let outcome = h.objects.rename("staging/u/1", "originals/v/u").await;
    assert!(matches!(outcome, Err(ObjectError::NotFound)), "{outcome:?}");
    assert_eq!(b"pinned before", &*h.get("originals/v/u", None).await.expect("it is still there"));
}

/// A link or a copy: the tools that read it cannot tell.
pub async fn a_materialized_object_is_a_file_of_its_bytes(h: &ObjectHarness) {
    let bytes = pattern(LARGE);
    h.put("originals/v/u", &bytes).await;
    let file = h.folder().join("source");
    h.objects.materialize("originals/v/u", &file).await.expect("it is there");
    assert!(bytes == std::fs::read(&file).expect("the file is there"));
    std::fs::remove_file(&file).expect("the file is there");
    assert_eq!(Some(LARGE as u64), h.objects.size("originals/v/u").await.expect("the back end answers"));
}

/// It may be a link to the object itself.
pub async fn a_file_that_is_there_is_never_overwritten(h: &ObjectHarness) {
    h.put("originals/v/u", b"precious").await;
    let file = h.folder().join("source");
    h.objects.materialize("originals/v/u", &file).await.expect("it is there");
    assert!(h.objects.materialize("originals/v/u", &file).await.is_err());
    assert_eq!(b"precious", &*std::fs::read(&file).expect("the file is there"));
    assert_eq!(b"precious", &*h.get("originals/v/u", None).await.expect("it is there"));
}

/// As an encoder leaves them.
pub async fn a_stored_file_is_measured_alike(h: &ObjectHarness) {
    let (bytes, file) = (pattern(700_000), h.folder().join("segment.m4s"));
    std::fs::write(&file, &bytes).expect("the folder is writable");
    let written = h.objects.put_file("renditions/v/1/segment.m4s", &file).await.expect("the file is there");
    assert_eq!(Written { size_bytes: 700_000, sha256: sha256(&bytes) }, written);
    let missing = h.objects.put_file("renditions/v/1/none", &h.folder().join("none")).await;
    assert!(matches!(missing, Err(WriteError::Source(_))), "{missing:?}");
    assert_eq!(["renditions/v/1/segment.m4s"], *h.keys("renditions").await);
}

/// Twice is as good as once.
pub async fn deleting_is_repeatable(h: &ObjectHarness) {
    h.put("staging/u/1", b"x").await;
    for _ in 0..2 {
        h.objects.delete("staging/u/1").await.expect("gone is gone");
        h.objects.delete_under("staging/u").await.expect("gone is gone");
    }
    assert!(h.keys("").await.is_empty());
}

/// A prefix is a folder, not a beginning of a name.
pub async fn deleting_under_a_prefix_spares_its_neighbours(h: &ObjectHarness) {
    for key in ["staging/u/1", "staging/u/deep/2", "staging/u2/3", "staging/uu", "originals/u/4"] {
        h.put(key, b"x").await;
    }
    h.objects.delete_under("staging/u").await.expect("the back end answers");
    assert_eq!(["originals/u/4", "staging/u2/3", "staging/uu"], *h.keys("").await);
    h.objects.delete_under("staging/uu").await.expect("nothing is under an object");
    assert_eq!(["originals/u/4", "staging/u2/3", "staging/uu"], *h.keys("").await);
}

/// All of them, those of a folder, those of none.
pub async fn keys_are_listed_under_their_prefix(h: &ObjectHarness) {
    for key in ["renditions/v/1/index.m3u8", "renditions/v/1/init.mp4", "renditions/v/10/index.m3u8"] {
        h.put(key, b"x").await;
    }
    assert_eq!(["renditions/v/1/index.m3u8", "renditions/v/1/init.mp4"], *h.keys("renditions/v/1").await);
    assert_eq!(3, h.keys("").await.len());
    assert!(h.keys("renditions/w").await.is_empty());
}

/// A service lists a thousand at a time.
pub async fn keys_beyond_one_page_are_listed_each_once(h: &ObjectHarness) {
    let mut expected: Vec<String> = (0..1005).map(|number| format!("renditions/v/1/{number:05}.m4s")).collect();
    let put = stream::iter(expected.clone()).map(|key| async move { h.put(&key, b"x").await });
    put.buffer_unordered(16).for_each(|_| std::future::ready(())).await;
    expected.sort();
    assert_eq!(expected, h.keys("renditions/v").await);
    let mut all: Vec<String> = h.objects.keys().try_collect().await.expect("the back end answers");
    all.sort();
    assert_eq!(expected, all);
    h.objects.delete_under("renditions/v").await.expect("the back end answers");
    assert!(h.keys("").await.is_empty());
}

/// One below the prefix, and no objects among them.
pub async fn folders_are_listed_whole(h: &ObjectHarness) {
    for key in ["staging/a/1", "staging/a/2", "staging/b/deep/3", "staging/object", "originals/c/4"] {
        h.put(key, b"x").await;
    }
    let mut folders = h.objects.folders("staging").await.expect("the back end answers");
    folders.sort();
    assert_eq!(["staging/a", "staging/b"], *folders);
    assert!(h.objects.folders("renditions").await.expect("the back end answers").is_empty());
}

/// They would be paid for, and nobody would see them.
pub async fn a_write_of_several_parts_that_breaks_leaves_no_parts(h: &ObjectHarness) {
    let bytes = pattern(2 * LARGE);
    assert!(h.objects.write("staging/u/broken", broken(&bytes), u64::MAX).await.is_err());
    assert!(h.objects.write("staging/u/long", whole(&bytes), bytes.len() as u64 - 1).await.is_err());
    assert!(!h.left_behind());
    h.put("staging/u/whole", &bytes).await;
    assert!(!h.left_behind());
    assert_eq!(["staging/u/whole"], *h.keys("").await);
}

/// As a second attempt does.
pub async fn a_renamed_object_replaces_what_had_its_key(h: &ObjectHarness) {
    h.put("originals/v/u", b"of an earlier attempt").await;
    h.put("staging/u/1", b"pinned").await;
    h.objects.rename("staging/u/1", "originals/v/u").await.expect("it is there");
    assert_eq!(["originals/v/u"], *h.keys("").await);
    assert_eq!(b"pinned", &*h.get("originals/v/u", None).await.expect("it was renamed"));
}

/// Where a back end copies no object of that size by itself.
pub async fn a_large_object_is_renamed_part_by_part(h: &ObjectHarness) {
    let objects = h.objects.clone().with_copy_limit(1 << 20);
    let (at_limit, above) = (pattern(1 << 20), pattern(2 * LARGE));
    for (bytes, to) in [(&at_limit, "originals/v/small"), (&above, "originals/v/large")] {
        let written = h.put("staging/u/1", bytes).await;
        objects.rename("staging/u/1", to).await.expect("it is there");
        assert_eq!(written, h.objects.measure(to).await.expect("it was renamed"));
    }
    assert_eq!(["originals/v/large", "originals/v/small"], *h.keys("").await);
    let missing = objects.rename("staging/u/none", "originals/v/large").await;
    assert!(matches!(missing, Err(ObjectError::NotFound)), "{missing:?}");
    assert_eq!(Some(above.len() as u64), h.objects.size("originals/v/large").await.expect("the back end answers"));
}

/// From any back end into any other, measured on the way.
pub async fn a_copied_object_is_there_twice(h: &ObjectHarness) {
    let other = Objects::memory();
    let written = h.put("originals/v/u", &pattern(LARGE)).await;
    assert_eq!(written, other.copy_from(&h.objects, "originals/v/u", "copied").await.expect("it is there"));
    assert_eq!(written, h.objects.copy_from(&other, "copied", "originals/v/back").await.expect("it is there"));
    assert_eq!(written, h.objects.measure("originals/v/back").await.expect("it was copied"));
    assert_eq!(["originals/v/back", "originals/v/u"], *h.keys("").await);
    let missing = h.objects.copy_from(&other, "none", "originals/v/none").await;
    assert!(matches!(missing, Err(ObjectError::NotFound)), "{missing:?}");
}

/// Keys are ours; should one ever not be, it reaches nothing.
pub async fn a_key_that_climbs_is_refused(h: &ObjectHarness) {
    std::fs::write(h.folder().join("secret"), b"secret").expect("the folder is writable");
    for key in ["../secret", "originals/../../secret", "originals//x", "./secret"] {
        assert!(h.get(key, None).await.is_err(), "{key}");
        assert!(h.objects.write(key, whole(b"x"), 1).await.is_err(), "{key}");
        assert!(h.objects.materialize(key, &h.folder().join("copy")).await.is_err(), "{key}");
        assert!(h.objects.delete_under(key).await.is_err(), "{key}");
    }
    assert_eq!(b"secret", &*std::fs::read(h.folder().join("secret")).expect("it is untouched"));
}
