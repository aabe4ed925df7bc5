//! What the URL of an upload permits to whoever has it: to bring its bytes, and nothing else.

use std::time::Duration;

use reqwest::Method;
use vidcore::keys::Purpose;

use super::{BYTES, CLIP, HALF, Site, TUS, base64, id_of, path_of};
use crate::app::{Call, text};

const DAY: Duration = Duration::from_secs(86_400);

impl Site {
    /// A request of nobody's in particular.
    fn anonymous(&self, method: Method, url: &str) -> Call<'_> {
        self.app.call(method, path_of(url)).header("tus-resumable", "1.0.0")
    }

    fn bring(&self, url: &str, offset: usize, bytes: &[u8]) -> Call<'_> {
        let call = self.anonymous(Method::PATCH, url).header("content-type", BYTES);
        call.header("upload-offset", &offset.to_string()).bytes(bytes.to_vec())
    }

    /// The URL of a part with these bytes.
    async fn part(&self, bytes: &'static [u8]) -> String {
        let call = self.post().header("upload-length", &bytes.len().to_string()).header("upload-concat", "partial");
        call.header("content-type", BYTES).bytes(bytes).send().await.expect(201).header("location").to_owned()
    }

    fn join(&self, parts: &[&str]) -> Call<'_> {
        self.anonymous(Method::POST, TUS).header("upload-concat", &format!("final;{}", parts.join(" ")))
    }
}

/// A client sends the headers it was started with, and its token lives for minutes.
#[tokio::test]
async fn an_upload_goes_on_by_its_url_when_the_token_has_run_out() {
    let site = Site::start().await;
    let url = site.create(CLIP.len()).await;
    site.patch(&url, 0, &CLIP[..HALF]).send().await.expect(204);
    site.app.clock.advance(Duration::from_secs(3600));
    let head = site.anonymous(Method::HEAD, &url).send().await.expect(200);
    assert_eq!(HALF.to_string(), head.header("upload-offset"));
    site.bring(&url, HALF, &CLIP[HALF..]).send().await.expect(204);
    let site = site.signed_in_again().await;
    site.assert_arrived(&url, CLIP).await;
    site.finish().await;
}

/// Whoever says who they are is believed or refused, whatever the URL says.
#[tokio::test]
async fn a_token_that_is_sent_counts_and_not_the_url() {
    let site = Site::start().await;
    let url = site.create(4).await;
    let bob = site.app.user("bob").await;
    assert_eq!("not_found", site.bring(&url, 0, b"film").by(&bob).send().await.problem(404));
    site.app.clock.advance(Duration::from_secs(3600));
    let forged = site.bring(&url, 0, b"film").header("authorization", "Bearer x");
    assert_eq!("unauthenticated", forged.send().await.problem(401));
    // One that was good and has run out is left out of account, for what the URL permits.
    assert_eq!(0, site.offset(&url).await);
    site.patch(&url, 0, b"fi").send().await.expect(204);
    let (bare, _) = url.split_once('?').expect("a query");
    assert_eq!("unauthenticated", site.patch(bare, 2, b"lm").send().await.problem(401));
    assert_eq!("unauthenticated", site.call(Method::DELETE, &url).send().await.problem(401));
    let site = site.signed_in_again().await;
    assert_eq!(2, site.offset(&url).await);
    site.finish().await;
}

#[tokio::test]
async fn the_url_gives_nothing_up_and_opens_nothing_else() {
    let site = Site::start().await;
    let (url, other) = (site.create(4).await, site.create(4).await);
    let query = url.split_once('?').expect("a query").1;
    let elsewhere = [
        (Method::DELETE, path_of(&url).to_owned()),
        (Method::GET, format!("/api/v1/uploads/{}?{query}", id_of(&url))),
        (Method::DELETE, format!("/api/v1/uploads/{}?{query}", id_of(&url))),
        (Method::POST, format!("{TUS}?{query}")),
    ];
    for (method, path) in elsewhere {
        assert_eq!("unauthenticated", site.anonymous(method, &path).send().await.problem(401), "{path}");
    }
    let by_override = site.anonymous(Method::PATCH, &url).header("x-http-method-override", "DELETE");
    assert_eq!("unauthenticated", by_override.send().await.problem(401));
    let of_other = format!("{TUS}/{}?{query}", id_of(&other));
    assert_eq!("invalid_signature", site.bring(&of_other, 0, b"film").send().await.problem(403));
    for bare in [format!("{TUS}/{}", id_of(&url)), format!("{TUS}/{}?kid=x", id_of(&url))] {
        assert_eq!("unauthenticated", site.bring(&bare, 0, b"film").send().await.problem(401));
    }
    assert_eq!((0, 0), (site.offset(&url).await, site.offset(&other).await));
    site.finish().await;
}

/// A URL to put all bytes to is another permission, and so is this one.
#[tokio::test]
async fn signatures_of_uploads_that_are_sent_whole_are_others() {
    let site = Site::start().await;
    let draft = site.app.draft(&site.ada, "A film", "private").await;
    let whole = site.app.upload(&site.ada, text(&draft["id"]), 4).await;
    let put = text(&whole["upload_url"]).split_once('?').expect("a query").1.to_owned();
    let url = site.create(4).await;
    let resume = url.split_once('?').expect("a query").1;
    for path in [format!("{TUS}/{}?{put}", id_of(&url)), format!("{TUS}/{}?{put}", text(&whole["id"]))] {
        assert_eq!("invalid_signature", site.bring(&path, 0, b"film").send().await.problem(403));
    }
    let call = site.app.put(&format!("/api/v1/uploads/{}/bytes?{resume}", id_of(&url))).bytes("film");
    assert_eq!("invalid_signature", call.send().await.problem(403));
    site.finish().await;
}

#[tokio::test]
async fn a_url_that_was_changed_is_refused() {
    let site = Site::start().await;
    let url = site.create(4).await;
    let expires = url.split_once("expires=").expect("an end").1.split('&').next().expect("a number");
    let later = (expires.parse::<i64>().expect("seconds") + 1).to_string();
    let last = if url.ends_with('A') { 'E' } else { 'A' };
    let changed = [url.replace(expires, &later), format!("{}{last}", &url[..url.len() - 1]), format!("{url}A")];
    for changed in changed {
        assert_eq!("invalid_signature", site.bring(&changed, 0, b"film").send().await.problem(403), "{changed}");
        site.anonymous(Method::HEAD, &changed).send().await.expect(403);
    }
    site.app.platform.keys().rotate(Purpose::UploadUrl).expect("keys rotate");
    site.anonymous(Method::HEAD, &url).send().await.expect(200);
    site.app.platform.keys().rotate(Purpose::UploadUrl).expect("keys rotate");
    site.anonymous(Method::HEAD, &url).send().await.expect(403);
    site.finish().await;
}

/// It ends with the longest life an upload can have, and is of no use to one that ended before.
#[tokio::test]
async fn the_url_ends_with_its_upload() {
    let site = Site::start().await;
    let (url, given_up) = (site.create(CLIP.len()).await, site.create(4).await);
    site.call(Method::DELETE, &given_up).send().await.expect(204);
    assert_eq!("upload_expired", site.bring(&given_up, 0, b"film").send().await.problem(410));
    for (day, piece) in CLIP[..8].chunks(1).enumerate() {
        site.app.clock.advance(DAY - Duration::from_secs(60));
        let answer = site.bring(&url, day, piece).send().await;
        if day < 7 {
            answer.expect(204);
        } else {
            assert_eq!("upload_expired", answer.problem(410));
        }
    }
    site.anonymous(Method::HEAD, &url).send().await.expect(410);
    site.finish().await;
}

#[tokio::test]
async fn parts_are_joined_by_their_urls() {
    let site = Site::start().await;
    let (begin, end) = (site.part(&CLIP[..HALF]).await, site.part(&CLIP[HALF..]).await);
    let url = site.join(&[&begin, path_of(&end)]).send().await.expect(201).header("location").to_owned();
    site.assert_arrived(&url, CLIP).await;
    let head = site.anonymous(Method::HEAD, &url).send().await.expect(200);
    assert_eq!(CLIP.len().to_string(), head.header("upload-offset"));
    site.finish().await;
}

#[tokio::test]
async fn joining_by_urls_takes_all_of_them_of_one_owner_and_reaches_no_video() {
    let site = Site::start().await;
    let (mine, another) = (site.part(b"one").await, site.part(b"two").await);
    let bare = path_of(&another).split('?').next().expect("a path");
    assert_eq!("unauthenticated", site.join(&[&mine, bare]).send().await.problem(401));
    let query = mine.split_once('?').expect("a query").1;
    assert_eq!("invalid_signature", site.join(&[&mine, &format!("{bare}?{query}")]).send().await.problem(403));
    let draft = site.app.draft(&site.ada, "Mine", "private").await;
    let metadata = format!("video_id {}", base64(text(&draft["id"])));
    assert_eq!("not_found", site.join(&[&mine]).header("upload-metadata", &metadata).send().await.problem(404));
    let of_ada = site.ada.clone();
    let bob = Site { ada: site.app.user("bob").await, app: site.app };
    let theirs = bob.part(b"three").await;
    assert_eq!("parts_not_joinable", bob.join(&[&mine, &theirs]).send().await.problem(409));
    let stale = bob.join(&[&mine]).header("authorization", "Bearer x");
    assert_eq!("unauthenticated", stale.send().await.problem(401));
    let site = Site { ada: of_ada, app: bob.app };
    assert_eq!((3, 3), (site.offset(&mine).await, site.offset(&another).await));
    site.finish().await;
}

/// Parts that took longer to bring than a token lives are joined all the same.
#[tokio::test]
async fn parts_are_joined_by_their_urls_when_the_token_has_run_out() {
    let site = Site::start().await;
    let parts = [site.part(&CLIP[..HALF]).await, site.part(&CLIP[HALF..]).await];
    site.app.clock.advance(Duration::from_secs(3600));
    let named = format!("final;{} {}", parts[0], parts[1]);
    let whole = site.post().header("upload-concat", &named).send().await.expect(201).header("location").to_owned();
    let opened = site.post().header("upload-length", "4").send().await;
    assert_eq!("unauthenticated", opened.problem(401));
    let site = site.signed_in_again().await;
    site.assert_arrived(&whole, CLIP).await;
    site.finish().await;
}
