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
    for offset in [0, HALF, CLIP.len()] {
        assert_eq!("upload_expired", site.patch(&url, offset, &CLIP[HALF..]).send().await.problem(410), "{offset}");
    }
    assert_eq!("upload_expired", site.call(Method::DELETE, &url).send().await.problem(410));
    let over = site.call(Method::POST, &url).header("x-http-method-override", "DELETE");
    assert_eq!("upload_expired", over.send().await.problem(410));
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

/// Nor one whose time was over before it was given up.
#[tokio::test]
async fn an_expired_upload_is_gone_to_whoever_gives_it_up() {
    let site = Site::start().await;
    let url = site.create(10).await;
    site.app.clock.advance(std::time::Duration::from_secs(2 * 86_400));
    let site = site.signed_in_again().await;
    // Whether housekeeping was here before is its own business.
    let first = site.call(Method::DELETE, &url).send().await.status;
    assert!(matches!(first, 204 | 410), "{first}");
    site.head(&url).await.expect(410);
    assert_eq!("upload_expired", site.call(Method::DELETE, &url).send().await.problem(410));
    assert_eq!("upload_expired", site.patch(&url, 0, b"x").send().await.problem(410));
    site.finish().await;
}

/// Where an upload can still be read, giving it up once more is a matter of its state; a repeated request is answered
/// as the first was.
#[tokio::test]
async fn an_aborted_upload_is_read_and_not_aborted_again() {
    let site = Site::start().await;
    let url = site.create(10).await;
    let path = format!("/api/v1/uploads/{}", super::id_of(&url));
    let abort = |key| site.app.delete(&path).by(&site.ada).key(key);
    let first = abort("once").send().await.expect(200).json();
    assert_eq!(first, abort("once").send().await.expect(200).json());
    assert_eq!("wrong_state", abort("again").send().await.problem(409));
    assert_eq!("aborted", site.upload(&url).await["status"]);
    assert_eq!("upload_expired", site.call(Method::DELETE, &url).send().await.problem(410));
    site.finish().await;
}
