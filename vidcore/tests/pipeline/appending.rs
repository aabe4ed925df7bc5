//! Bytes that come in several requests, also by several processes, and files that are here already.

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::sync::oneshot;
use vidcore::catalog::{VideoStatus, Visibility};
use vidcore::id::{UploadId, VideoId};
use vidcore::storage::resumable::{AppendBytes, OpenResumable, UploadTarget};
use vidcore::storage::{Checksum, ChecksumAlgorithm, Upload, UploadError, UploadStatus, Uploads};
use vidcore::store::BoxError;
use vidcore::testkit::store::PATIENCE;

use crate::studio::{Plan, Studio, read_fixture, whole};

async fn open(studio: &Studio, length: usize) -> (VideoId, UploadId) {
    let draft = studio.draft(Visibility::Public).await;
    let length = Some(length as u64);
    let input = OpenResumable {
        target: UploadTarget::Video(draft.id),
        length,
        announced: None,
        metadata: None,
        concatenation: None,
    };
    let upload = studio.platform.uploads().open_resumable(&studio.actor, input).await.expect("it is allowed");
    (draft.id, upload.id)
}

fn at(offset: usize) -> AppendBytes {
    AppendBytes { offset: offset as u64, length: None, announced: None, checksum: None }
}

async fn append(
    studio: &Studio,
    uploads: &Uploads,
    id: UploadId,
    at: AppendBytes,
    bytes: &[u8],
) -> Result<Upload, UploadError> {
    uploads.append(&studio.actor, id, at, whole(bytes.to_vec())).await
}

/// Bytes, then nothing until the test says how it goes on.
fn hanging(
    bytes: &[u8],
    then: oneshot::Receiver<Vec<u8>>,
) -> impl futures_util::Stream<Item = Result<Bytes, BoxError>> + Send + Unpin + 'static {
    let first = Bytes::copy_from_slice(bytes);
    let rest = stream::once(then).map(|rest| rest.map(Bytes::from).map_err(BoxError::from));
    stream::iter([Ok(first)]).chain(rest).boxed()
}

/// Waits until this much is acknowledged.
async fn until_offset(studio: &Studio, id: UploadId, offset: usize) {
    let acknowledged = async {
        while studio.upload_status(id).await.offset_bytes != offset as u64 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, acknowledged).await.expect("it is acknowledged in time");
}

#[tokio::test]
async fn another_process_takes_over_and_what_the_first_still_writes_counts_for_nothing() {
    let studio = Studio::open(Plan::default()).await;
    let twin = studio.twin(Plan { worker: false, ..Plan::default() }).await;
    let (bytes, half) = (read_fixture("landscape.mp4"), 10_001);
    let (video, id) = open(&studio, bytes.len()).await;
    let (wake, sleeps) = oneshot::channel();
    let frozen = tokio::spawn({
        let (uploads, actor, stream) =
            (studio.platform.uploads().clone(), studio.actor, hanging(&bytes[..half], sleeps));
        async move { uploads.append(&actor, id, at(0), stream).await }
    });
    until_offset(&studio, id, half).await;
    let quarter = half + (bytes.len() - half) / 2;
    append(&studio, twin.uploads(), id, at(half), &bytes[half..quarter]).await.expect("the offset is right");

    let garbage = vec![0; bytes.len() - half];
    wake.send(garbage).expect("it still waits");
    let late = frozen.await.expect("no panic");
    assert!(matches!(late, Err(UploadError::Superseded | UploadError::OffsetMismatch { .. })), "{late:?}");
    append(&studio, twin.uploads(), id, at(quarter), &bytes[quarter..]).await.expect("the offset is right");
    studio.until(video, VideoStatus::Ready).await;
    studio.until_idle().await;
    let (_, played) =
        studio.play(&crate::studio::public_grant(&studio.video(video).await)).await.expect("it is public");
    assert!(bytes == played);
    assert!(studio.platform.objects().keys_under("staging").await.expect("the disk answers").is_empty());
    twin.shutdown().await;
    studio.close().await;
}

#[tokio::test]
async fn a_broken_stream_keeps_what_came_and_a_restart_goes_on_there() {
    let mut studio = Studio::open(Plan::default()).await;
    let bytes = read_fixture("no-audio.mp4");
    let (video, id) = open(&studio, bytes.len()).await;
    let broken = stream::iter([Ok(Bytes::copy_from_slice(&bytes[..5000])), Err::<Bytes, BoxError>("dead line".into())]);
    let outcome = studio.platform.uploads().append(&studio.actor, id, at(0), broken).await;
    assert!(matches!(outcome, Err(UploadError::BrokenOff(_))), "{outcome:?}");
    studio.reopen(Plan::default()).await;
    let found = studio.platform.uploads().resumable(&studio.actor, id).await.expect("it is open");
    assert_eq!(5000, found.offset_bytes);
    append(&studio, studio.platform.uploads(), id, at(5000), &bytes[5000..]).await.expect("the offset is right");
    studio.until(video, VideoStatus::Ready).await;
    studio.until_idle().await;
    studio.close().await;
}

#[tokio::test]
async fn a_stop_keeps_what_an_append_under_way_has_brought() {
    let mut studio = Studio::open(Plan::default()).await;
    let (_, id) = open(&studio, 100_000).await;
    let (taken, is_taken) = oneshot::channel();
    let never = stream::once(async move {
        taken.send(()).expect("the test waits for it");
        std::future::pending::<Result<Bytes, BoxError>>().await
    });
    let bytes = stream::iter([Ok(Bytes::from_static(&[7; 999]))]).chain(never).boxed();
    let running = tokio::spawn({
        let (uploads, actor) = (studio.platform.uploads().clone(), studio.actor);
        async move { uploads.append(&actor, id, at(0), bytes).await }
    });
    // Asked for more, it has these; they are not acknowledged yet, unless a second has passed.
    is_taken.await.expect("it reads on");
    studio.reopen(Plan::default()).await;
    let ended = running.await.expect("no panic");
    assert!(matches!(ended, Err(UploadError::Superseded)), "{ended:?}");
    assert_eq!(999, studio.upload_status(id).await.offset_bytes);
    studio.close().await;
}

#[tokio::test]
async fn an_abort_ends_whoever_appends_and_leaves_nothing() {
    let studio = Studio::open(Plan::default()).await;
    let (_, id) = open(&studio, 100_000).await;
    let (_wake, sleeps) = oneshot::channel();
    let running = tokio::spawn({
        let (uploads, actor, stream) = (studio.platform.uploads().clone(), studio.actor, hanging(&[7; 999], sleeps));
        async move { uploads.append(&actor, id, at(0), stream).await }
    });
    until_offset(&studio, id, 999).await;
    studio.platform.uploads().terminate(&studio.actor, id).await.expect("it is open");
    let ended = running.await.expect("no panic");
    assert!(matches!(ended, Err(UploadError::Superseded)), "{ended:?}");
    assert_eq!(UploadStatus::Aborted, studio.upload_status(id).await.status);
    assert!(studio.platform.objects().keys_under("").await.expect("the disk answers").is_empty());
    studio.close().await;
}

#[tokio::test]
async fn a_file_of_this_machine_becomes_a_source_and_stays_what_it_is() {
    let studio = Studio::open(Plan::default()).await;
    let draft = studio.draft(Visibility::Public).await;
    let file = studio.folder().join("film.mp4");
    std::fs::write(&file, read_fixture("landscape.mp4")).expect("the folder is writable");
    let uploads = studio.platform.uploads();
    let upload = uploads.ingest_file(&studio.actor, draft.id, &file).await.expect("it is a file");
    assert_eq!(UploadStatus::Verifying, upload.status);
    studio.until(draft.id, VideoStatus::Ready).await;
    studio.until_idle().await;
    assert!(read_fixture("landscape.mp4") == std::fs::read(&file).expect("it is still there"));

    std::fs::write(&file, "").expect("the folder is writable");
    let empty = uploads.ingest_file(&studio.actor, draft.id, &file).await;
    assert!(matches!(empty, Err(UploadError::Invalid(_))), "{empty:?}");
    let absent = uploads.ingest_file(&studio.actor, draft.id, &studio.folder().join("none")).await;
    assert!(matches!(absent, Err(UploadError::File(_))), "{absent:?}");
    let folder = uploads.ingest_file(&studio.actor, draft.id, studio.folder()).await;
    assert!(folder.is_err(), "{folder:?}");
    assert_eq!(0, uploads.usage(&studio.actor).await.expect("the store answers").reserved_bytes);
    studio.close().await;
}

/// An upload whose length is said at the end.
async fn open_deferred(studio: &Studio) -> UploadId {
    let draft = studio.draft(Visibility::Public).await;
    let input = OpenResumable {
        target: UploadTarget::Video(draft.id),
        length: None,
        announced: None,
        metadata: None,
        concatenation: None,
    };
    studio.platform.uploads().open_resumable(&studio.actor, input).await.expect("it is allowed").id
}

/// Bytes that lie in the folder for uploads, acknowledged or not.
fn staged_bytes(studio: &Studio) -> u64 {
    fn sum(folder: &std::path::Path) -> u64 {
        let entries = std::fs::read_dir(folder).map(|entries| entries.flatten().collect::<Vec<_>>());
        let size = |entry: &std::fs::DirEntry| match entry.metadata() {
            Ok(found) if found.is_dir() => sum(&entry.path()),
            Ok(found) => found.len(),
            Err(_) => 0,
        };
        entries.map(|entries| entries.iter().map(size).sum()).unwrap_or(0)
    }
    sum(&studio.folder().join("objects/staging"))
}

#[tokio::test]
async fn what_the_quota_refuses_of_an_upload_without_a_length_does_not_stay() {
    let settings: fn(&mut vidcore::platform::Settings) = |settings| settings.uploads.quota_bytes = 100_000;
    let studio = Studio::open(Plan { settings, ..Plan::default() }).await;
    let (id, too_many) = (open_deferred(&studio).await, vec![7; 100_001]);
    let sha256 = vidcore::storage::objects::sha256(&too_many).to_vec();
    let checksum = Checksum::new(ChecksumAlgorithm::Sha256, sha256).expect("32 bytes");
    for at in [at(0), AppendBytes { checksum: Some(checksum), ..at(0) }] {
        for _ in 0..3 {
            let refused = append(&studio, studio.platform.uploads(), id, at.clone(), &too_many).await;
            assert!(matches!(refused, Err(UploadError::QuotaExceeded { .. })), "{refused:?}");
            assert_eq!((0, 0), (staged_bytes(&studio), studio.upload_status(id).await.offset_bytes));
        }
    }
    let announced = AppendBytes { announced: Some(100_001), ..at(0) };
    let refused = append(&studio, studio.platform.uploads(), id, announced, b"").await;
    assert!(matches!(refused, Err(UploadError::QuotaExceeded { .. })), "before a byte comes: {refused:?}");
    append(&studio, studio.platform.uploads(), id, at(0), &too_many[1..]).await.expect("as much as there is room for");
    assert_eq!(100_000, staged_bytes(&studio));
    studio.close().await;
}

#[tokio::test]
async fn bytes_that_another_upload_was_faster_with_do_not_stay() {
    let settings: fn(&mut vidcore::platform::Settings) = |settings| settings.uploads.quota_bytes = 100_000;
    let studio = Studio::open(Plan { settings, ..Plan::default() }).await;
    let (slow, fast) = (open_deferred(&studio).await, open_deferred(&studio).await);
    append(&studio, studio.platform.uploads(), slow, at(0), &[7; 10_000]).await.expect("there is room");
    let (wake, sleeps) = oneshot::channel();
    let running = tokio::spawn({
        let (uploads, actor, stream) = (studio.platform.uploads().clone(), studio.actor, hanging(b"x", sleeps));
        async move { uploads.append(&actor, slow, at(10_000), stream).await }
    });
    until_offset(&studio, slow, 10_001).await;
    append(&studio, studio.platform.uploads(), fast, at(0), &[7; 80_000]).await.expect("there is room");
    wake.send(vec![7; 20_000]).expect("it still waits");
    let refused = running.await.expect("no panic");
    assert!(matches!(refused, Err(UploadError::QuotaExceeded { .. })), "{refused:?}");
    assert_eq!(90_001, staged_bytes(&studio));
    append(&studio, studio.platform.uploads(), slow, at(10_001), &[7; 9_999]).await.expect("as much as there is");
    assert_eq!(100_000, staged_bytes(&studio));
    studio.close().await;
}

#[tokio::test]
async fn an_upload_whose_only_writer_never_ended_becomes_a_source_of_its_own() {
    let studio = Studio::open(Plan::default()).await;
    let twin = studio.twin(Plan { worker: false, ..Plan::default() }).await;
    let bytes = read_fixture("no-audio.mp4");
    let id = open_deferred(&studio).await;
    let (wake, sleeps) = oneshot::channel();
    let frozen = tokio::spawn({
        let (uploads, actor, stream) = (twin.uploads().clone(), studio.actor, hanging(&bytes, sleeps));
        async move { uploads.append(&actor, id, at(0), stream).await }
    });
    until_offset(&studio, id, bytes.len()).await;
    // All that is left to say is that this was all, and somebody else says it.
    let length = Some(bytes.len() as u64);
    append(&studio, studio.platform.uploads(), id, AppendBytes { length, ..at(bytes.len()) }, b"")
        .await
        .expect("the offset is right");
    studio.until_upload(id, UploadStatus::Complete).await;
    wake.send(vec![0; 1000]).expect("it still waits");
    let late = frozen.await.expect("no panic");
    assert!(late.is_err(), "{late:?}");
    studio.until_idle().await;
    let originals = studio.platform.objects().keys_under("originals").await.expect("the disk answers");
    let stored = studio.platform.objects().measure(&originals[0]).await.expect("it is there");
    assert_eq!(vidcore::storage::objects::sha256(&bytes), stored.sha256);
    twin.shutdown().await;
    studio.close().await;
}

/// Its line is dead, and it only finds out when somebody else is long at work.
#[tokio::test]
async fn a_request_that_was_followed_and_brings_nothing_more_takes_back_nothing() {
    let studio = Studio::open(Plan::default()).await;
    let twin = studio.twin(Plan { worker: false, ..Plan::default() }).await;
    let (bytes, half) = (read_fixture("landscape.mp4"), 10_001);
    let (video, id) = open(&studio, bytes.len()).await;
    let (wake, sleeps) = oneshot::channel();
    let dead = tokio::spawn({
        let (uploads, actor, stream) =
            (studio.platform.uploads().clone(), studio.actor, hanging(&bytes[..half], sleeps));
        async move { uploads.append(&actor, id, at(0), stream).await }
    });
    until_offset(&studio, id, half).await;
    append(&studio, twin.uploads(), id, at(half), &bytes[half..half + 7]).await.expect("the offset is right");
    drop(wake);
    let late = dead.await.expect("no panic");
    assert!(late.is_err(), "{late:?}");
    append(&studio, twin.uploads(), id, at(half + 7), &bytes[half + 7..]).await.expect("the offset is right");
    studio.until(video, VideoStatus::Ready).await;
    studio.until_idle().await;
    twin.shutdown().await;
    studio.close().await;
}
