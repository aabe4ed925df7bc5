//! Bytes on their way in.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::sync::oneshot;
use vidcore::catalog::{VideoStatus, Visibility};
use vidcore::storage::{OpenUpload, UploadError, UploadStatus};

use crate::studio::{Plan, Studio, public_grant, read_fixture, signature, whole};

#[tokio::test]
async fn an_uploaded_file_becomes_a_video_that_plays() {
    let studio = Studio::open(Plan::default()).await;
    let draft = studio.draft(Visibility::Public).await;
    assert_eq!((VideoStatus::Draft, None), (draft.status, draft.playback.as_ref()));
    let upload = studio.upload(draft.id, "landscape.mp4").await;
    studio.until(draft.id, VideoStatus::Ready).await;
    studio.until_idle().await;

    let upload = studio.upload_status(upload.id).await;
    assert_eq!((UploadStatus::Complete, None, None), (upload.status, upload.reason, upload.upload_url));
    let status = studio.status(draft.id).await;
    assert_eq!((true, 1000, "simulated"), (status.playable, status.progress, &*status.transcoder));
    let (object, bytes) = studio.play(&public_grant(&studio.video(draft.id).await)).await.expect("it is public");
    assert!(read_fixture("landscape.mp4") == bytes);
    assert_eq!((bytes.len() as u64, "video/mp4"), (object.object.size_bytes, &*object.object.content_type));
    let listed = studio.platform.catalog().public(None, Default::default()).await.expect("the store answers");
    assert_eq!(vec![draft.id], listed.items.iter().map(|video| video.id).collect::<Vec<_>>());
    studio.close().await;
}

#[tokio::test]
async fn bytes_that_are_no_video_are_rejected_with_a_sentence() {
    let studio = Studio::open(Plan::default()).await;
    for fixture in ["text.mp4", "playlist.mp4", "audio-only.mp4", "no-index.mp4"] {
        let draft = studio.draft(Visibility::Public).await;
        let upload = studio.upload(draft.id, fixture).await;
        let rejected = studio.until_upload(upload.id, UploadStatus::Rejected).await;
        let reason = rejected.reason.expect("a rejection says why");
        assert!(reason.ends_with('.') && reason.contains(' ') && !reason.contains('/'), "{fixture}: {reason}");
        assert_eq!(VideoStatus::Draft, studio.video(draft.id).await.status, "{fixture}");
    }
    studio.until_idle().await;
    let keys = studio.platform.objects().keys_under("").await.expect("the disk answers");
    assert!(keys.is_empty(), "{keys:?}");
    let usage = studio.platform.uploads().usage(&studio.actor).await.expect("the store answers");
    assert_eq!((0, 0), (usage.stored_bytes, usage.reserved_bytes));
    studio.close().await;
}

#[tokio::test]
async fn a_draft_whose_bytes_were_rejected_takes_better_ones() {
    let studio = Studio::open(Plan::default()).await;
    let draft = studio.draft(Visibility::Public).await;
    let upload = studio.upload(draft.id, "text.mp4").await;
    studio.until_upload(upload.id, UploadStatus::Rejected).await;
    studio.upload(draft.id, "no-audio.mp4").await;
    studio.until(draft.id, VideoStatus::Ready).await;
    studio.until_idle().await;
    studio.close().await;
}

#[tokio::test]
async fn a_broken_delivery_may_be_repeated_and_a_whole_one_may_not() {
    let studio = Studio::open(Plan::default()).await;
    let (draft, bytes) = (studio.draft(Visibility::Public).await, read_fixture("no-audio.mp4"));
    let uploads = studio.platform.uploads();
    let input = OpenUpload { size_bytes: bytes.len() as u64, sha256: None };
    let upload = uploads.open(&studio.actor, draft.id, input, None).await.expect("it is allowed").into_inner();
    let signature = signature(upload.upload_url.as_deref().expect("an open upload takes bytes"));

    let admitted = uploads.admit(upload.id, &signature, None).await.expect("the URL is ours");
    let short = uploads.receive(admitted.clone(), whole(bytes[1..].to_vec())).await;
    assert!(matches!(short, Err(UploadError::SizeMismatch { .. })), "{short:?}");
    let long = uploads.receive(admitted.clone(), whole([&*bytes, b"!"].concat())).await;
    assert!(matches!(long, Err(UploadError::SizeMismatch { .. })), "{long:?}");
    let broken = futures_util::stream::iter([Ok(bytes[..100].to_vec().into()), Err("the line went dead".into())]);
    let broken = uploads.receive(admitted.clone(), broken).await;
    assert!(matches!(broken, Err(UploadError::BrokenOff(_))), "{broken:?}");
    assert!(studio.platform.objects().keys_under("").await.expect("the disk answers").is_empty());

    let two = [(); 2].map(|()| uploads.receive(admitted.clone(), whole(bytes.clone())));
    let outcomes = futures_util::future::join_all(two).await;
    assert_eq!(1, outcomes.iter().filter(|outcome| outcome.is_ok()).count(), "{outcomes:?}");
    assert!(outcomes.iter().any(|outcome| matches!(outcome, Err(UploadError::AlreadyReceived))), "{outcomes:?}");
    let again = uploads.admit(upload.id, &signature, None).await;
    assert!(matches!(again, Err(UploadError::AlreadyReceived)), "{again:?}");
    assert_eq!(1, studio.platform.objects().keys_under("staging").await.expect("the disk answers").len());

    studio.complete(upload.id).await;
    studio.until(draft.id, VideoStatus::Ready).await;
    studio.until_idle().await;
    studio.close().await;
}

#[tokio::test]
async fn an_upload_that_nobody_ends_is_cleared_after_its_time() {
    let studio = Studio::open(Plan::default()).await;
    let draft = studio.draft(Visibility::Public).await;
    let upload = studio.send(draft.id, read_fixture("no-audio.mp4")).await;
    assert_eq!(1, studio.platform.objects().keys_under("staging").await.expect("the disk answers").len());
    studio.clock.advance(upload.expires_at.since(studio.platform.now()));
    let expired = studio
        .in_time(Duration::from_secs(30), async || {
            Some(studio.upload_status(upload.id).await).filter(|now| now.status == UploadStatus::Expired)
        })
        .await;
    assert_eq!(None, expired.upload_url);
    // The row comes first.
    studio
        .eventually(async || {
            let keys = studio.platform.objects().keys_under("").await.expect("the disk answers");
            keys.is_empty().then_some(())
        })
        .await;
    let usage = studio.platform.uploads().usage(&studio.actor).await.expect("the store answers");
    assert_eq!(0, usage.reserved_bytes);
    studio.close().await;
}

#[tokio::test]
async fn an_aborted_upload_leaves_no_bytes() {
    let studio = Studio::open(Plan::default()).await;
    let draft = studio.draft(Visibility::Public).await;
    let upload = studio.send(draft.id, read_fixture("no-audio.mp4")).await;
    let uploads = studio.platform.uploads();
    uploads.abort(&studio.actor, upload.id, None).await.expect("it is open");
    assert!(studio.platform.objects().keys_under("").await.expect("the disk answers").is_empty());
    let late = uploads.complete(&studio.actor, upload.id, None).await;
    assert!(matches!(late, Err(UploadError::WrongState { .. })), "{late:?}");
    studio.close().await;
}

#[tokio::test]
async fn bytes_still_on_their_way_when_the_upload_is_given_up_are_told_so() {
    let studio = Studio::open(Plan::default()).await;
    let draft = studio.draft(Visibility::Public).await;
    let (uploads, bytes) = (studio.platform.uploads(), read_fixture("landscape.mp4"));
    let input = OpenUpload { size_bytes: bytes.len() as u64, sha256: None };
    let upload = uploads.open(&studio.actor, draft.id, input, None).await.expect("it is allowed").into_inner();
    let admitted = uploads.admit_own(&studio.actor, upload.id).await.expect("it is the actor's");
    let ((polled, begun), (go, gone)) = (oneshot::channel(), oneshot::channel::<()>());
    let stream = stream::once(async move {
        polled.send(()).expect("the test waits");
        gone.await.expect("the test goes on");
        Ok(Bytes::from(bytes))
    });
    let receiving = tokio::spawn({
        let uploads = uploads.clone();
        async move { uploads.receive(admitted, stream.boxed()).await }
    });
    begun.await.expect("the first bytes are asked for");
    uploads.abort(&studio.actor, upload.id, None).await.expect("it is open");
    go.send(()).expect("the delivery is running");
    let outcome = receiving.await.expect("it does not panic");
    let told = matches!(outcome, Err(UploadError::WrongState { status: UploadStatus::Aborted, .. }));
    assert!(told, "{outcome:?}");
    studio.close().await;
}
