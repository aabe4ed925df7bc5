//! Links that end: at once in the process that ends them, within a second in every other, though what plays is kept for
//! ever otherwise.

use std::time::{Duration, Instant};

use vidcore::Platform;
use vidcore::auth::Actor;
use vidcore::catalog::{VideoPatch, VideoStatus, Visibility};
use vidcore::id::VideoId;
use vidcore::media::playback::{Grant, MintLinks, PlaybackError};
use vidcore::storage::Visitor;
use vidcore::testkit::store::PATIENCE;

use crate::sharing::{PROMISE, create, open, send};
use crate::studio::{read_fixture, register};

/// What ends links.
#[derive(Debug, Clone, Copy)]
enum End {
    Revoked,
    Private,
    Trashed,
    Replaced,
}

async fn ready(platform: &Platform, actor: &Actor, video: VideoId, fixture: &str) {
    let version = platform.catalog().read(Some(actor), video).await.expect("it exists").value.version;
    send(platform, actor, video, read_fixture(fixture)).await;
    let begun = Instant::now();
    loop {
        let view = platform.catalog().read(Some(actor), video).await.expect("it exists");
        if view.value.status == VideoStatus::Ready && view.value.version > version {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "a worker makes it");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn end(by: &Platform, actor: &Actor, video: VideoId, end: End) {
    let version = by.catalog().read(Some(actor), video).await.expect("it exists").value.version;
    match end {
        End::Revoked => drop(by.playback().revoke(actor, video, None).await.expect("it is the owner's")),
        End::Private => {
            let hide = VideoPatch { visibility: Some(Visibility::Private), ..VideoPatch::default() };
            by.catalog().patch(actor, video, version, hide, None).await.expect("nobody else did");
        }
        End::Trashed => drop(by.catalog().trash(actor, video, None, None).await.expect("it is the owner's")),
        // Published by the worker of the other: seen here when it is.
        End::Replaced => ready(by, actor, video, "no-audio.mp4").await,
    }
}

async fn plays(platform: &Platform, grant: &Grant) -> bool {
    match platform.playback().open(grant, &Visitor::default()).await {
        Ok(_) => true,
        Err(PlaybackError::NotFound) => false,
        Err(error) => panic!("the store answers: {error}"),
    }
}

async fn dead_within_a_second(platform: &Platform, grant: &Grant, what: &str) {
    let begun = Instant::now();
    while plays(platform, grant).await {
        assert!(begun.elapsed() < PROMISE, "after {PROMISE:?} a link still plays: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ended_link_is_dead_at_once_where_it_was_ended_and_within_a_second_elsewhere() {
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let (front, back) = (open(folder.path(), false).await, open(folder.path(), true).await);
    let actor = register(&front, "owner").await;
    for (here, there) in [(&front, &back), (&back, &front)] {
        for what in [End::Revoked, End::Private, End::Trashed, End::Replaced] {
            let video = create(here, &actor).await;
            ready(here, &actor, video, "no-audio.mp4").await;
            let epoch = here.catalog().read(Some(&actor), video).await.expect("it exists");
            let url = epoch.value.playback.as_ref().expect("it is open").url.clone();
            let epoch = url.rsplit('/').nth(1).and_then(|epoch| epoch.parse().ok()).expect("an epoch");
            let links = here.playback().mint(&actor, video, MintLinks::default()).await.expect("it plays");
            let token = links.url.rsplit('/').nth(1).expect("the token stands before the file").to_owned();
            let grants = [Grant::Public { video, epoch }, Grant::Token(token)];
            for grant in &grants {
                // Kept in both from here on.
                assert!(plays(here, grant).await && plays(there, grant).await, "{what:?}");
                assert!(plays(here, grant).await && plays(there, grant).await, "{what:?}");
            }
            end(here, &actor, video, what).await;
            for grant in &grants {
                if !matches!(what, End::Replaced) {
                    assert!(!plays(here, grant).await, "{what:?}: {grant:?} plays where it was ended");
                }
                dead_within_a_second(here, grant, &format!("{what:?}")).await;
                dead_within_a_second(there, grant, &format!("{what:?}")).await;
            }
        }
    }
    front.shutdown().await;
    back.shutdown().await;
}
