//! "Expiration".

use std::time::Duration;

use super::{CLIP, HALF, Site};

const DAY: Duration = Duration::from_secs(86_400);

/// "Upload-Expires … MUST be included in every PATCH response if the upload is going to expire", in the format of
/// RFC 9110 §5.6.7; also where it is created and where it is asked for.
#[tokio::test]
async fn every_answer_about_an_open_upload_says_when_it_expires() {
    let site = Site::start().await;
    let created = site.post().header("upload-length", &CLIP.len().to_string()).send().await.expect(201);
    let url = created.header("location").to_owned();
    let patched = site.patch(&url, 0, &CLIP[..HALF]).send().await.expect(204);
    let head = site.head(&url).await.expect(200);
    for answer in [&created, &patched, &head] {
        let expires = httpdate::parse_http_date(answer.header("upload-expires")).expect("a date of HTTP");
        let seconds = expires.duration_since(std::time::SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
        let expected = site.app.platform.now().plus(DAY).as_secs();
        assert_eq!(expected, i64::try_from(seconds).expect("a time of ours"));
    }
    let last = site.patch(&url, HALF, &CLIP[HALF..]).send().await.expect(204);
    assert!(!last.headers.contains_key("upload-expires"));
    site.assert_arrived(&url, CLIP).await;
    site.finish().await;
}

/// "If a Client does attempt to resume an upload which has since been removed by the Server, the Server SHOULD respond
/// with the 404 Not Found or 410 Gone status."
#[tokio::test]
async fn an_expired_upload_is_gone_and_its_reservation_too() {
    let site = Site::start().await;
    let url = site.create(CLIP.len()).await;
    site.patch(&url, 0, &CLIP[..HALF]).send().await.expect(204);
    site.app.clock.advance(DAY);
    let site = site.signed_in_again().await;
    assert!(!site.head(&url).await.expect(410).headers.contains_key("upload-offset"));
    assert_eq!("upload_expired", site.patch(&url, HALF, &CLIP[HALF..]).send().await.problem(410));
    site.finish().await;
}

/// Whoever keeps bringing bytes has more time, and not for ever.
#[tokio::test]
async fn bytes_put_the_expiry_off_up_to_a_week() {
    let mut site = Site::start().await;
    let url = site.create(CLIP.len()).await;
    for (day, piece) in CLIP[..8].chunks(1).enumerate() {
        site.app.clock.advance(DAY - Duration::from_secs(60));
        site = site.signed_in_again().await;
        let answer = site.patch(&url, day, piece).send().await;
        if day < 7 {
            answer.expect(204);
        } else {
            assert_eq!("upload_expired", answer.problem(410));
        }
    }
    site.finish().await;
}
