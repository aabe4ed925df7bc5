//! "Concatenation".

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use vidcore::storage::objects::sha256;

use super::{BYTES, CLIP, HALF, Site, TUS, base64, id_of, path_of};
use crate::app::{TestApp, text};

/// A part that holds `bytes`.
async fn part(site: &Site, bytes: &[u8]) -> String {
    let call = site.post().header("upload-length", &bytes.len().to_string()).header("upload-concat", "partial");
    let url = call.send().await.expect(201).header("location").to_owned();
    for (index, piece) in bytes.chunks(70_000).enumerate() {
        site.patch(&url, index * 70_000, piece).send().await.expect(204);
    }
    url
}

/// "The final upload … MUST be concatenated in the order of the list". "The response to a HEAD request against a final
/// upload MUST NOT contain Upload-Offset unless the concatenation has been successfully finished. After successful
/// concatenation, the Upload-Offset and Upload-Length MUST be set and their values MUST be equal."
#[tokio::test]
async fn parts_are_joined_in_the_order_of_the_list() {
    let site = Site::start().await;
    // Uploaded in another order than they are joined in, named absolutely and by path.
    let (end, begin) = (part(&site, &CLIP[HALF..]).await, part(&site, &CLIP[..HALF]).await);
    assert_eq!(CLIP.len(), site.usage().await["reserved_bytes"]);
    let concat = format!("final;{} {end}", path_of(&begin));
    let metadata = format!("filename {}", base64("joined.mp4"));
    let call = site.post().header("upload-concat", &concat).header("upload-metadata", &metadata);
    let url = call.send().await.expect(201).header("location").to_owned();
    let video = site.assert_arrived(&url, CLIP).await;
    assert_eq!("joined.mp4", text(&video["title"]));
    let head = site.head(&url).await.expect(200);
    assert_eq!(CLIP.len().to_string(), head.header("upload-length"));
    assert_eq!(CLIP.len().to_string(), head.header("upload-offset"));
    assert_eq!(concat, head.header("upload-concat"));
    assert_eq!(metadata, head.header("upload-metadata"));
    let usage = site.usage().await;
    assert_eq!((&json!(CLIP.len()), &json!(0)), (&usage["stored_bytes"], &usage["reserved_bytes"]));
    assert!(site.app.platform.objects().keys_under("staging").await.expect("the disk answers").is_empty());
    site.finish().await;
}

/// It is known once they are joined, and is what a file sent whole would say.
#[tokio::test]
async fn a_joined_upload_tells_its_hash_once_it_is_complete() {
    let site = Site::start().await;
    let (begin, end) = (part(&site, &CLIP[..HALF]).await, part(&site, &CLIP[HALF..]).await);
    let call = site.post().header("upload-concat", &format!("final;{begin} {end}"));
    let url = call.send().await.expect(201).header("location").to_owned();
    site.assert_arrived(&url, CLIP).await;
    assert_eq!(hex::encode(sha256(CLIP)), text(&site.upload(&url).await["sha256"]));
    site.finish().await;
}

/// Joining has succeeded; that the whole is no video is another matter.
#[tokio::test]
async fn a_joined_upload_that_is_rejected_has_an_offset() {
    let site = Site::start().await;
    let (begin, end) = (part(&site, b"some ").await, part(&site, b"text").await);
    let call = site.post().header("upload-concat", &format!("final;{begin} {end}"));
    let url = call.send().await.expect(201).header("location").to_owned();
    let path = format!("/api/v1/uploads/{}", id_of(&url));
    let upload = site.app.until(&site.ada, &path, |upload| upload["status"] == "rejected").await;
    assert_eq!(hex::encode(sha256(b"some text")), text(&upload["sha256"]));
    let head = site.head(&url).await.expect(200);
    assert_eq!(("9", "9"), (head.header("upload-offset"), head.header("upload-length")));
    site.finish().await;
}

/// "The Client MAY send the list of URLs as absolute or relative": what they lead to has to be here.
#[tokio::test]
async fn only_urls_of_this_server_lead_to_its_parts() {
    let public_url =
        |settings: &mut vidcore::platform::Settings| settings.public_url = "https://Media.example.org/v".to_owned();
    let site = Site::of(TestApp::builder().settings(public_url).start().await).await;
    let create =
        || site.post().header("upload-length", "4").header("upload-concat", "partial").header("content-type", BYTES);
    let url = create().bytes("film").send().await.expect(201).header("location").to_owned();
    let id = id_of(&url);
    for foreign in [
        format!("https://elsewhere.example/v{TUS}/{id}"),
        format!("http://media.example.org/v{TUS}/{id}"),
        format!("https://media.example.org:8443/v{TUS}/{id}"),
        format!("https://media.example.org/w{TUS}/{id}"),
        format!("https://media.example.org{TUS}/{id}"),
        format!("https://media.example.org@elsewhere.example/v{TUS}/{id}"),
        format!("//elsewhere.example/v{TUS}/{id}"),
        format!("{TUS}/{id}"),
        format!("/other{TUS}/{id}"),
        format!("/v/api/v1/uploads/{id}"),
        format!("/v{TUS}/x/{id}"),
    ] {
        let answer = site.post().header("upload-concat", &format!("final;{foreign}")).send().await;
        assert_eq!("parts_not_joinable", answer.problem(409), "{foreign}");
    }
    let ours = [
        url.clone(),
        format!("HTTPS://MEDIA.EXAMPLE.ORG:443/v{TUS}/{id}"),
        format!("//media.example.org/v{TUS}/{id}"),
        format!("/v{TUS}/{id}"),
        format!("tus/{id}"),
        format!("/v{TUS}/../tus/{id}"),
    ];
    for ours in ours {
        let part = create().bytes("film").send().await.expect(201).header("location").to_owned();
        let named = ours.replace(id, id_of(&part));
        site.post().header("upload-concat", &format!("final;{named}")).send().await.expect(201);
    }
    site.finish().await;
}

#[tokio::test]
async fn one_part_may_be_all_there_is() {
    let site = Site::start().await;
    let only = part(&site, CLIP).await;
    let call = site.post().header("upload-concat", &format!("final;{only}"));
    let url = call.send().await.expect(201).header("location").to_owned();
    site.assert_arrived(&url, CLIP).await;
    site.finish().await;
}

/// "The response to a HEAD request for a partial upload MUST contain the Upload-Offset header", and "Upload-Concat …
/// as received in the upload creation request".
#[tokio::test]
async fn a_part_says_that_it_is_one_and_is_no_upload_of_a_video() {
    let site = Site::start().await;
    let url = part(&site, b"0123456789").await;
    let head = site.head(&url).await.expect(200);
    assert_eq!(("partial", "10"), (head.header("upload-concat"), head.header("upload-offset")));
    let upload = site.upload(&url).await;
    assert_eq!(("part", "open"), (text(&upload["kind"]), text(&upload["status"])));
    assert!(upload["video_id"].is_null());
    let complete = site.app.post(&format!("/api/v1/uploads/{}/complete", id_of(&url))).by(&site.ada);
    assert_eq!("wrong_state", complete.send().await.problem(409));
    site.finish().await;
}

/// "The Server MUST respond with the 403 Forbidden status to PATCH requests against a final upload URL and MUST NOT
/// modify the final or its partial uploads."
#[tokio::test]
async fn nothing_is_appended_to_what_was_joined() {
    let site = Site::start().await;
    let only = part(&site, CLIP).await;
    let call = site.post().header("upload-concat", &format!("final;{only}"));
    let url = call.send().await.expect(201).header("location").to_owned();
    assert_eq!("upload_not_appendable", site.patch(&url, 0, b"x").send().await.problem(403));
    assert_eq!("upload_not_appendable", site.patch(&url, CLIP.len(), b"x").send().await.problem(403));
    site.patch(&only, CLIP.len(), b"").send().await.expect(409);
    site.assert_arrived(&url, CLIP).await;
    site.finish().await;
}

/// Parts that are not whole, not there, not the caller's, no parts, named twice or used before.
#[tokio::test]
async fn what_cannot_be_joined_is_refused_and_stays() {
    let site = Site::start().await;
    let whole = part(&site, b"01234").await;
    let short = site.post().header("upload-length", "10").header("upload-concat", "partial");
    let short = short.send().await.expect(201).header("location").to_owned();
    let ordinary = site.create(10).await;
    let bob = Site { ada: site.app.user("bob").await, app: site.app };
    let foreign = part(&bob, b"56789").await;
    let site = Site { ada: bob.app.user("cleo").await, app: bob.app };
    let mine = part(&site, b"01234").await;
    let absent = format!("{TUS}/upload_01h00000000000000000000000");
    for bad in [&whole, &short, &ordinary, &foreign, &absent, &mine] {
        let answer = site.post().header("upload-concat", &format!("final;{mine} {bad}")).send().await;
        assert_eq!("parts_not_joinable", answer.problem(409), "{bad}");
    }
    for bad in ["final", "final;", "final;http://elsewhere/x", "partially", "final;,"] {
        assert_eq!("bad_request", site.post().header("upload-concat", bad).send().await.problem(400), "{bad}");
    }
    // "The Client MUST NOT include the Upload-Length header in the final upload creation."
    let length = site.post().header("upload-concat", &format!("final;{mine}")).header("upload-length", "5");
    assert_eq!("bad_request", length.send().await.problem(400));
    assert_eq!(5, site.offset(&mine).await);
    assert_eq!(5, site.usage().await["reserved_bytes"]);
    let mine_list = site.app.get(&format!("/api/v1/users/{}/videos", site.ada.id)).by(&site.ada).send().await.json();
    assert_eq!(0, mine_list["items"].as_array().expect("items").len());
    site.finish().await;
}

#[tokio::test]
async fn an_expired_part_is_gone() {
    let site = Site::start().await;
    let url = part(&site, b"0123456789").await;
    site.app.clock.advance(Duration::from_secs(86_400 + 3600));
    let site = site.signed_in_again().await;
    let gone = site.call(Method::HEAD, &url).send().await.status;
    assert!(matches!(gone, 404 | 410), "{gone}");
    site.finish().await;
}

#[tokio::test]
async fn open_parts_of_one_user_are_bounded() {
    let app = TestApp::builder().settings(|settings| settings.uploads.max_open_parts = 2).start().await;
    let site = Site::of(app).await;
    for _ in 0..2 {
        part(&site, b"0123456789").await;
    }
    let call = site.post().header("upload-length", "10").header("upload-concat", "partial");
    assert_eq!("too_many_open_uploads", call.send().await.problem(409));
    site.finish().await;
}
