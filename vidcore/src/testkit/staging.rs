//! Claims about every [`Staging`](crate::storage::staging::Staging), beside the objects its segments are.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;

use crate::storage::Segment;
use crate::storage::staging::{Batch, StagingWriter, StartAt};
use crate::testkit::objects::ObjectHarness;

/// Runs every claim about a `Staging` as a test of the module `$name`; `$harness` is a future of
/// `Option<ObjectHarness>`, `None` where the back end's service is missing.
#[macro_export]
macro_rules! staging_contract {
    ($name:ident, $harness:expr) => {
        mod $name {
            $crate::staging_contract!(@claims $harness;
                committed_bytes_are_read_back_in_order,
                a_commit_of_nothing_names_no_segment,
                bytes_of_several_parts_are_kept,
                a_writer_goes_on_where_a_quiet_one_ended,
                what_was_not_committed_is_dropped_by_whoever_goes_on,
                writers_at_one_offset_do_not_touch_each_others_bytes,
                a_writer_that_wakes_up_late_changes_nothing_that_was_committed,
                an_abandoned_writer_leaves_what_it_committed_and_no_more,
                what_is_taken_back_leaves_what_was_committed_before_and_no_more,
                every_segment_lies_under_the_prefix,
                segments_become_one_object_and_stay,
            );
        }
    };
    (@claims $harness:expr; $($claim:ident),+ $(,)?) => { $(
        #[tokio::test]
        async fn $claim() {
            if let Some(h) = $harness.await { $crate::testkit::staging::$claim(&h).await }
        }
    )+ };
}

/// More than one part of any back end.
const LARGE: usize = (11 << 20) + 17;

fn start(nonce: u8, next_seq: u32, last: Option<&Segment>) -> StartAt {
    StartAt { prefix: "staging/upload".to_owned(), next_seq, last: last.cloned(), nonce: [nonce; 8], room: 1 << 30 }
}

async fn writer(h: &ObjectHarness, start: StartAt) -> Box<dyn StagingWriter> {
    h.objects.staging().writer(start).await.expect("the back end answers")
}

fn batch(bytes: &[u8]) -> Batch {
    Arc::new(bytes.chunks(100_000).map(Bytes::copy_from_slice).collect())
}

async fn write(writer: &mut Box<dyn StagingWriter>, bytes: &[u8]) {
    writer.write(&batch(bytes)).await.expect("the back end answers");
}

async fn commit(writer: &mut Box<dyn StagingWriter>) -> Vec<Segment> {
    writer.commit().await.expect("the back end answers")
}

/// What rows would say after commits: the newest of each place.
fn rows(commits: &[Vec<Segment>]) -> Vec<Segment> {
    let mut rows = std::collections::BTreeMap::new();
    for segment in commits.iter().flatten() {
        rows.insert(segment.seq, segment.clone());
    }
    rows.into_values().collect()
}

async fn read(h: &ObjectHarness, segments: &[Segment]) -> Vec<u8> {
    let chunks: Vec<Bytes> = h.objects.read_segments(segments.to_vec()).try_collect().await.expect("they are there");
    chunks.concat()
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 31 + i / 251) as u8).collect()
}

/// Whatever a back end makes of the commits.
pub async fn committed_bytes_are_read_back_in_order(h: &ObjectHarness) {
    let mut writer = writer(h, start(1, 0, None)).await;
    let mut commits = Vec::new();
    for piece in ["one ", "two ", "three"] {
        write(&mut writer, piece.as_bytes()).await;
        commits.push(commit(&mut writer).await);
        assert_eq!(1, commits.last().map_or(0, Vec::len));
    }
    let segments = rows(&commits);
    assert_eq!((0..segments.len() as u32).collect::<Vec<_>>(), segments.iter().map(|s| s.seq).collect::<Vec<_>>());
    assert_eq!(b"one two three", read(h, &segments).await.as_slice());
}

/// Also after one that named some.
pub async fn a_commit_of_nothing_names_no_segment(h: &ObjectHarness) {
    let mut writer = writer(h, start(1, 0, None)).await;
    assert_eq!(Vec::<Segment>::new(), commit(&mut writer).await);
    write(&mut writer, b"bytes").await;
    assert_eq!(1, commit(&mut writer).await.len());
    assert_eq!(Vec::<Segment>::new(), commit(&mut writer).await);
}

/// Object stores put large objects in parts.
pub async fn bytes_of_several_parts_are_kept(h: &ObjectHarness) {
    let (bytes, mut writer) = (pattern(LARGE), writer(h, start(1, 0, None)).await);
    for piece in bytes.chunks(1 << 20) {
        write(&mut writer, piece).await;
    }
    let segments = commit(&mut writer).await;
    assert_eq!(LARGE as u64, segments.iter().map(|segment| segment.size_bytes).sum::<u64>());
    assert!(bytes == read(h, &segments).await);
}

/// In its segment or in one of its own.
pub async fn a_writer_goes_on_where_a_quiet_one_ended(h: &ObjectHarness) {
    let mut first = writer(h, start(1, 0, None)).await;
    write(&mut first, b"first ").await;
    let mut commits = vec![commit(&mut first).await];
    drop(first);
    let mut second = writer(h, start(2, 1, commits[0].last())).await;
    write(&mut second, b"second").await;
    commits.push(commit(&mut second).await);
    assert_eq!(b"first second", read(h, &rows(&commits)).await.as_slice());
}

/// It was never acknowledged.
pub async fn what_was_not_committed_is_dropped_by_whoever_goes_on(h: &ObjectHarness) {
    let mut first = writer(h, start(1, 0, None)).await;
    write(&mut first, b"kept ").await;
    let mut commits = vec![commit(&mut first).await];
    write(&mut first, b"never acknowledged").await;
    drop(first);
    let mut second = writer(h, start(2, 1, commits[0].last())).await;
    write(&mut second, b"and more").await;
    commits.push(commit(&mut second).await);
    assert_eq!(b"kept and more", read(h, &rows(&commits)).await.as_slice());
}

/// Neither waits for the other.
pub async fn writers_at_one_offset_do_not_touch_each_others_bytes(h: &ObjectHarness) {
    let (mut one, mut two) = (writer(h, start(1, 0, None)).await, writer(h, start(2, 0, None)).await);
    for _ in 0..3 {
        tokio::join!(write(&mut one, b"one "), write(&mut two, b"zwei "));
    }
    let (one, two) = (commit(&mut one).await, commit(&mut two).await);
    assert_eq!(b"one one one ", read(h, &one).await.as_slice());
    assert_eq!(b"zwei zwei zwei ", read(h, &two).await.as_slice());
}

/// It was frozen, and somebody took over with a segment of their own.
pub async fn a_writer_that_wakes_up_late_changes_nothing_that_was_committed(h: &ObjectHarness) {
    let mut frozen = writer(h, start(1, 0, None)).await;
    write(&mut frozen, b"early ").await;
    let mut commits = vec![commit(&mut frozen).await];
    let mut next = writer(h, start(2, 1, None)).await;
    write(&mut next, b"next").await;
    commits.push(commit(&mut next).await);
    write(&mut frozen, b"late").await;
    let _ = frozen.commit().await;
    assert_eq!(b"early next", read(h, &rows(&commits)).await.as_slice());
}

/// Whether or not it had begun parts.
pub async fn an_abandoned_writer_leaves_what_it_committed_and_no_more(h: &ObjectHarness) {
    let mut nothing = writer(h, start(1, 0, None)).await;
    write(&mut nothing, &pattern(LARGE)).await;
    nothing.abandon().await;
    assert!(h.objects.keys_under("staging").await.expect("the back end answers").is_empty());
    let mut some = writer(h, start(2, 0, None)).await;
    write(&mut some, b"kept").await;
    let segments = commit(&mut some).await;
    write(&mut some, &pattern(LARGE)).await;
    some.abandon().await;
    assert_eq!(b"kept", read(h, &segments).await.as_slice());
}

/// Nobody will ever record it.
pub async fn what_is_taken_back_leaves_what_was_committed_before_and_no_more(h: &ObjectHarness) {
    let mut nothing = writer(h, start(1, 0, None)).await;
    write(&mut nothing, b"refused").await;
    assert_eq!(1, commit(&mut nothing).await.len());
    nothing.retract().await;
    nothing.abandon().await;
    assert!(h.objects.keys_under("staging").await.expect("the back end answers").is_empty());
    let mut some = writer(h, start(2, 0, None)).await;
    write(&mut some, b"kept").await;
    let segments = commit(&mut some).await;
    write(&mut some, b" and refused").await;
    commit(&mut some).await;
    some.retract().await;
    some.abandon().await;
    assert_eq!(b"kept", read(h, &segments).await.as_slice());
    let mut stored = 0;
    for key in h.objects.keys_under("staging").await.expect("the back end answers") {
        stored += h.objects.size(&key).await.expect("the back end answers").unwrap_or(0);
    }
    assert_eq!(4, stored);
    // A commit of nothing has nothing to take back.
    let mut idle = writer(h, start(3, 0, None)).await;
    write(&mut idle, b"acknowledged").await;
    let segments = commit(&mut idle).await;
    assert!(commit(&mut idle).await.is_empty());
    idle.retract().await;
    idle.abandon().await;
    assert_eq!(b"acknowledged", read(h, &segments).await.as_slice());
}

/// The collection goes by it.
pub async fn every_segment_lies_under_the_prefix(h: &ObjectHarness) {
    let mut writer = writer(h, start(1, 3, None)).await;
    write(&mut writer, b"bytes").await;
    let segments = commit(&mut writer).await;
    let keys = h.objects.keys_under("staging/upload").await.expect("the back end answers");
    assert_eq!(keys, segments.iter().map(|segment| segment.key.clone()).collect::<Vec<_>>());
    assert_eq!([3], *segments.iter().map(|segment| segment.seq).collect::<Vec<_>>());
}

/// They are deleted once the object is somebody's.
pub async fn segments_become_one_object_and_stay(h: &ObjectHarness) {
    let mut commits = Vec::new();
    for (seq, piece) in ["one ", "two ", "three"].into_iter().enumerate() {
        let mut writer = writer(h, start(seq as u8, seq as u32, None)).await;
        write(&mut writer, piece.as_bytes()).await;
        commits.push(commit(&mut writer).await);
    }
    let segments = rows(&commits);
    h.objects.concatenate(&segments, "originals/whole").await.expect("the back end answers");
    assert_eq!(13, h.objects.measure("originals/whole").await.expect("it is there").size_bytes);
    assert_eq!(b"one two three", read(h, &segments).await.as_slice());
    let missing = Segment { key: "staging/upload/none".to_owned(), ..segments[0].clone() };
    assert!(h.objects.concatenate(&[missing], "originals/other").await.is_err());
    assert_eq!(None, h.objects.size("originals/other").await.expect("the back end answers"));
}
