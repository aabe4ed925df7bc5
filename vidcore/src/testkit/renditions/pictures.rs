//! Posters and storyboards.

use super::{publish, sourced};
use crate::catalog::CatalogError;
use crate::media::NewObject;
use crate::store::Causes;
use crate::testkit::videos::{LEASE, Sourced, VideoHarness};

fn poster(sourced: &Sourced) -> NewObject {
    let key = format!("renditions/{}/{}/poster/poster.jpg", sourced.video.id, sourced.lease.token);
    NewObject { key, size_bytes: 5, sha256: [4; 32], content_type: "image/jpeg".to_owned() }
}

/// Both or neither.
pub async fn a_poster_is_the_videos_with_its_object(h: &VideoHarness) {
    let sourced = sourced(h, "Pretty").await;
    let (fence, poster, video) = (sourced.lease.fence(), poster(&sourced), sourced.video.id);
    let outcome = h.store.publish_poster(fence, sourced.source.id, poster.clone(), h.now(), Causes::none()).await;
    outcome.expect("the lease is held");
    assert_eq!(Some(&poster.key), h.video(video).await.poster_key.as_ref());
    assert_eq!(Some(poster.clone()), h.store.object(&poster.key).await.expect("the store answers"));
}

/// Whoever lost the lease hangs no picture.
pub async fn a_poster_without_the_lease_is_nobodys(h: &VideoHarness) {
    let sourced = sourced(h, "Plain").await;
    let poster = poster(&sourced);
    h.clock.advance(LEASE);
    let outcome =
        h.store.publish_poster(sourced.lease.fence(), sourced.source.id, poster.clone(), h.now(), Causes::none()).await;
    assert!(matches!(outcome, Err(CatalogError::Fenced)), "{outcome:?}");
    assert_eq!(None, h.video(sourced.video.id).await.poster_key);
    assert_eq!(None, h.store.object(&poster.key).await.expect("the store answers"));
}

/// The new source's own may hang already.
pub async fn a_poster_of_a_replaced_source_is_nobodys(h: &VideoHarness) {
    let old = sourced(h, "Repainted").await;
    let poster = poster(&old);
    h.sourced(&old.video).await;
    let outcome =
        h.store.publish_poster(old.lease.fence(), old.source.id, poster.clone(), h.now(), Causes::none()).await;
    assert!(matches!(outcome, Err(CatalogError::NotFound)), "{outcome:?}");
    assert_eq!(None, h.video(old.video.id).await.poster_key);
    assert_eq!(None, h.store.object(&poster.key).await.expect("the store answers"));
}

/// Each attempt would otherwise make it anew, and every cached copy stale.
pub async fn a_second_poster_of_a_source_changes_nothing(h: &VideoHarness) {
    let sourced = sourced(h, "Painted").await;
    let (fence, source, first) = (sourced.lease.fence(), sourced.source.id, poster(&sourced));
    h.store.publish_poster(fence, source, first.clone(), h.now(), Causes::none()).await.expect("the lease is held");
    let before = h.video(sourced.video.id).await;
    let second = NewObject { key: format!("{}.again", first.key), ..first };
    let key = second.key.clone();
    h.store.publish_poster(fence, source, second, h.now(), Causes::none()).await.expect("the lease is held");
    assert_eq!(before, h.video(sourced.video.id).await);
    assert_eq!(None, h.store.object(&key).await.expect("the store answers"));
}

/// The older one's hangs until then.
pub async fn a_poster_of_a_new_source_waits_until_the_source_is_played(h: &VideoHarness) {
    let first = sourced(h, "Repainted").await;
    let (old, source) = (poster(&first), first.source.id);
    h.store
        .publish_poster(first.lease.fence(), source, old.clone(), h.now(), Causes::none())
        .await
        .expect("the lease is held");
    h.publish(&first, "360p").await;
    let second = h.sourced(&first.video).await;
    let row = h.planned(&second, &["360p"]).await.remove("360p").expect("it was planned");
    let (new, fence) = (poster(&second), second.lease.fence());
    h.store
        .publish_poster(fence, second.source.id, new.clone(), h.now(), Causes::none())
        .await
        .expect("the lease is held");
    assert_eq!(Some(old.key), h.video(first.video.id).await.poster_key);
    publish(h, h.begun(&row, fence).await).await.expect("the lease is held");
    assert_eq!(Some(new.key), h.video(first.video.id).await.poster_key);
}

fn storyboard(sourced: &Sourced) -> Vec<NewObject> {
    let prefix = format!("renditions/{}/{}/storyboard", sourced.video.id, sourced.lease.token);
    let object = |name: &str, content_type: &str| NewObject {
        key: format!("{prefix}/{name}"),
        size_bytes: 5,
        sha256: [5; 32],
        content_type: content_type.to_owned(),
    };
    vec![object("storyboard.vtt", "text/vtt"), object("sheet_001.jpg", "image/jpeg")]
}

/// All or nothing; the first is what the video names.
pub async fn a_storyboard_is_the_videos_with_all_its_objects(h: &VideoHarness) {
    let sourced = sourced(h, "Sketched").await;
    let (fence, source, objects) = (sourced.lease.fence(), sourced.source.id, storyboard(&sourced));
    let outcome = h.store.publish_storyboard(fence, source, objects.clone(), h.now(), Causes::none()).await;
    outcome.expect("the lease is held");
    let video = h.video(sourced.video.id).await;
    assert_eq!((Some(&objects[0].key), None), (video.storyboard_key.as_ref(), video.poster_key.as_ref()));
    for object in objects {
        assert_eq!(Some(object.clone()), h.store.object(&object.key).await.expect("the store answers"));
    }
}

/// Nor one of a source that was replaced.
pub async fn a_storyboard_without_the_lease_is_nobodys(h: &VideoHarness) {
    let old = sourced(h, "Late").await;
    let objects = storyboard(&old);
    h.sourced(&old.video).await;
    let replaced =
        h.store.publish_storyboard(old.lease.fence(), old.source.id, objects.clone(), h.now(), Causes::none()).await;
    assert!(matches!(replaced, Err(CatalogError::NotFound)), "{replaced:?}");
    let lost = h.lost_fence().await;
    let late = h.store.publish_storyboard(lost, old.source.id, objects.clone(), h.now(), Causes::none()).await;
    assert!(matches!(late, Err(CatalogError::Fenced)), "{late:?}");
    assert_eq!(None, h.video(old.video.id).await.storyboard_key);
    assert_eq!(None, h.store.object(&objects[0].key).await.expect("the store answers"));
}
