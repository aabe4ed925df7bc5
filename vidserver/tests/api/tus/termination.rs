//! "Termination".

use reqwest::Method;

use super::{CLIP, HALF, Site};

/// "For all future requests to this URL, the Server SHOULD respond with the 404 Not Found or 410 Gone status", and the
/// resources are freed.
#[tokio::test]
async fn a_terminated_upload_is_gone_with_its_bytes() {
    let site = Site::start().await;
    let url = site.create(CLIP.len()).await;
    site.patch(&url, 0, &CLIP[..HALF]).send().await.expect(204);
    let answer = site.call(Method::DELETE, &url).send().await.expect(204);
    assert_eq!("1.0.0", answer.header("tus-resumable"));
    site.head(&url).await.expect(410);
    let patch = site.patch(&url, HALF, &CLIP[HALF..]).send().await;
    assert_eq!("wrong_state", patch.problem(409));
    assert_eq!(0, site.usage().await["reserved_bytes"]);
    assert!(site.app.platform.objects().keys_under("staging").await.expect("the disk answers").is_empty());
    site.finish().await;
}

/// Its bytes are a video's source by then.
#[tokio::test]
async fn a_complete_upload_is_not_terminated() {
    let site = Site::start().await;
    let url = site.create(CLIP.len()).await;
    site.patch(&url, 0, CLIP).send().await.expect(204);
    site.assert_arrived(&url, CLIP).await;
    assert_eq!("wrong_state", site.call(Method::DELETE, &url).send().await.problem(409));
    assert_eq!(CLIP.len(), site.usage().await["stored_bytes"]);
    site.finish().await;
}

#[tokio::test]
async fn a_part_that_is_terminated_leaves_nothing() {
    let site = Site::start().await;
    let call = site.post().header("upload-length", "10").header("upload-concat", "partial");
    let url = call.send().await.expect(201).header("location").to_owned();
    site.patch(&url, 0, b"01234").send().await.expect(204);
    site.call(Method::DELETE, &url).send().await.expect(204);
    site.head(&url).await.expect(404);
    assert!(site.app.platform.objects().keys_under("staging").await.expect("the disk answers").is_empty());
    site.finish().await;
}
