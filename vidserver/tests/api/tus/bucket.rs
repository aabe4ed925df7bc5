//! The same with objects in a bucket, where nothing can be appended to.

use vidcore::testkit::TestS3;
use vidcore::testkit::s3::Fault;

use super::{CLIP, HALF, Site};
use crate::app::TestApp;
use crate::storage::{in_bucket, plays};

async fn start(server: &TestS3) -> Site {
    Site::of(TestApp::builder().settings(in_bucket(server)).start().await).await
}

#[tokio::test]
async fn pieces_become_one_object_in_the_bucket() {
    let server = TestS3::start();
    let site = start(&server).await;
    let url = site.create(CLIP.len()).await;
    for (index, piece) in CLIP.chunks(90_001).enumerate() {
        site.patch(&url, index * 90_001, piece).send().await.expect(204);
    }
    let video = site.assert_arrived(&url, CLIP).await;
    let publish = serde_json::json!({"visibility": "public"});
    let path = format!("/api/v1/videos/{}", crate::app::text(&video["id"]));
    let change = site.app.patch(&path).by(&site.ada).header("if-match", "*").json(&publish);
    plays(&site.app, &change.send().await.expect(200).json()).await;
    assert!(site.app.platform.objects().keys_under("staging").await.expect("the bucket answers").is_empty());
    assert_eq!(0, server.parts_left());
    site.finish().await;
}

#[tokio::test]
async fn parts_are_joined_in_the_bucket() {
    let server = TestS3::start();
    let site = start(&server).await;
    let mut parts = Vec::new();
    for piece in [&CLIP[..HALF], &CLIP[HALF..]] {
        let call = site.post().header("upload-length", &piece.len().to_string()).header("upload-concat", "partial");
        let url = call.send().await.expect(201).header("location").to_owned();
        site.patch(&url, 0, piece).send().await.expect(204);
        parts.push(url);
    }
    let call = site.post().header("upload-concat", &format!("final;{}", parts.join(" ")));
    let url = call.send().await.expect(201).header("location").to_owned();
    site.assert_arrived(&url, CLIP).await;
    assert!(site.app.platform.objects().keys_under("staging").await.expect("the bucket answers").is_empty());
    site.finish().await;
}

#[tokio::test]
async fn a_piece_that_the_bucket_does_not_take_counts_for_nothing_and_may_be_sent_again() {
    let server = TestS3::start();
    let site = start(&server).await;
    let url = site.create(CLIP.len()).await;
    site.patch(&url, 0, &CLIP[..HALF]).send().await.expect(204);
    for (fault, status, code) in [
        (Fault::Refuse(503, "SlowDown"), 503, "unavailable"),
        (Fault::Refuse(403, "ExpiredToken"), 503, "unavailable"),
        (Fault::Refuse(507, "XMinioStorageFull"), 507, "storage_full"),
    ] {
        server.always(Some(fault));
        assert_eq!(code, site.patch(&url, HALF, &CLIP[HALF..]).send().await.problem(status), "{fault:?}");
        assert_eq!(HALF, site.offset(&url).await, "{fault:?}");
        server.always(None);
    }
    site.patch(&url, HALF, &CLIP[HALF..]).send().await.expect(204);
    site.assert_arrived(&url, CLIP).await;
    site.finish().await;
}
