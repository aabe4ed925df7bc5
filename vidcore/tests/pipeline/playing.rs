//! Who may play, and until when.

use std::time::Duration;

use vidcore::catalog::{CatalogError, VideoPatch, Visibility};
use vidcore::media::playback::{Grant, MintLinks, PlaybackError};

use crate::studio::{Plan, Studio, public_grant, register};

/// The token in the path of a minted link.
async fn mint(studio: &Studio, video: vidcore::id::VideoId, ttl: Option<Duration>) -> Grant {
    let links = studio
        .platform
        .playback()
        .mint(&studio.actor, video, MintLinks { ttl, ..MintLinks::default() })
        .await
        .expect("it is playable");
    let token = links.url.rsplit('/').nth(1).expect("the token stands before the file");
    Grant::Token(token.to_owned())
}

async fn refused(studio: &Studio, grant: &Grant) -> bool {
    matches!(studio.play(grant).await, Err(PlaybackError::NotFound))
}

#[tokio::test]
async fn a_private_video_plays_by_token_until_the_token_ends() {
    let studio = Studio::open(Plan::default()).await;
    let video = studio.ready(Visibility::Private).await;
    assert_eq!(None, video.playback);
    assert!(refused(&studio, &Grant::Public { video: video.id, epoch: 0 }).await);
    let grant = mint(&studio, video.id, Some(Duration::from_secs(60))).await;
    assert!(!studio.play(&grant).await.expect("it is granted").0.shared);
    studio.clock.advance(Duration::from_secs(60) - Duration::from_millis(1));
    assert!(!refused(&studio, &grant).await);
    studio.clock.advance(Duration::from_millis(1));
    assert!(refused(&studio, &grant).await);
    studio.close().await;
}

#[tokio::test]
async fn revoking_kills_every_link_and_new_ones_work() {
    let studio = Studio::open(Plan::default()).await;
    let video = studio.ready(Visibility::Public).await;
    let (token, public) = (mint(&studio, video.id, None).await, public_grant(&video));
    assert!(!refused(&studio, &token).await && !refused(&studio, &public).await);
    studio.platform.playback().revoke(&studio.actor, video.id, None).await.expect("it is the owner's");
    assert!(refused(&studio, &token).await && refused(&studio, &public).await);
    let (token, public) = (mint(&studio, video.id, None).await, public_grant(&studio.video(video.id).await));
    assert!(!refused(&studio, &token).await && !refused(&studio, &public).await);
    studio.close().await;
}

#[tokio::test]
async fn closing_or_trashing_a_video_kills_its_links() {
    let studio = Studio::open(Plan::default()).await;
    let catalog = studio.platform.catalog();
    let video = studio.ready(Visibility::Unlisted).await;
    let (token, public) = (mint(&studio, video.id, None).await, public_grant(&video));
    let close = VideoPatch { visibility: Some(Visibility::Private), ..VideoPatch::default() };
    catalog.patch(&studio.actor, video.id, video.version, close, None).await.expect("nobody else changed it");
    assert!(refused(&studio, &token).await && refused(&studio, &public).await);
    let token = mint(&studio, video.id, None).await;
    catalog.trash(&studio.actor, video.id, None, None).await.expect("it is the owner's");
    assert!(refused(&studio, &token).await);
    let minted = studio.platform.playback().mint(&studio.actor, video.id, MintLinks::default()).await;
    assert!(matches!(minted, Err(CatalogError::NotFound)), "{minted:?}");
    studio.until_idle().await;
    studio.close().await;
}

#[tokio::test]
async fn a_stranger_gets_no_link_and_a_draft_has_none() {
    let studio = Studio::open(Plan::default()).await;
    let (stranger, draft) = (register(&studio.platform, "stranger").await, studio.draft(Visibility::Public).await);
    let playback = studio.platform.playback();
    let foreign = playback.mint(&stranger, draft.id, MintLinks::default()).await;
    assert!(matches!(foreign, Err(CatalogError::NotFound)), "{foreign:?}");
    let early = playback.mint(&studio.actor, draft.id, MintLinks::default()).await;
    assert!(matches!(early, Err(CatalogError::WrongState { status: "draft", .. })), "{early:?}");
    assert!(refused(&studio, &Grant::Public { video: draft.id, epoch: 0 }).await);
    assert!(refused(&studio, &Grant::Token("A".repeat(68))).await);
    studio.close().await;
}
