//! What players and caches read off the headers: other origins, HEAD, and what may be kept.

use http::{HeaderMap, Method};
use serde_json::json;
use vidcore::testkit::media::MediaHarness;

use crate::app::{Answer, TestApp, text};
use crate::playback::{mint, playing, public};

const PAGE: &str = "https://player.example";

/// What a player sends without asking first is in the Fetch standard (CORS-safelisted); everything else is asked for.
#[tokio::test]
async fn a_player_on_another_origin_may_send_conditions_and_read_what_came() {
    let app = TestApp::builder().http(|http| http.cors_origins = vec![PAGE.to_owned()]).start().await;
    let (_, video) = playing(&app).await;
    let asked = ["range", "if-range", "if-match", "if-none-match", "authorization"];
    let preflight = app
        .call(Method::OPTIONS, public(&video))
        .header("origin", PAGE)
        .header("access-control-request-method", "GET")
        .header("access-control-request-headers", &asked.join(","));
    let answer = preflight.send().await.expect(200);
    assert_eq!(PAGE, answer.header("access-control-allow-origin"));
    let list = |text: &str| text.to_lowercase().split(',').map(|name| name.trim().to_owned()).collect::<Vec<_>>();
    let allowed = list(answer.header("access-control-allow-headers"));
    for name in asked {
        assert!(allowed.contains(&name.to_owned()), "{name} is not in {allowed:?}");
    }
    let part = app.get(public(&video)).header("origin", PAGE).header("range", "bytes=0-1").send().await.expect(206);
    assert_eq!(PAGE, part.header("access-control-allow-origin"));
    let exposed = list(part.header("access-control-expose-headers"));
    for name in ["content-range", "content-length", "etag", "accept-ranges", "content-disposition", "retry-after"] {
        assert!(exposed.contains(&name.to_owned()), "{name} is not in {exposed:?}");
    }
    assert!(
        list(part.header("vary")).contains(&"origin".to_owned()),
        "an answer for one origin is not kept for another"
    );
    app.finish().await;
}

/// Without what belongs to the one request: its date, its id, what is left of a limit.
fn of_the_file(answer: &Answer) -> HeaderMap {
    let mut headers = answer.headers.clone();
    for name in ["date", "x-request-id", "ratelimit", "x-ratelimit-remaining", "x-ratelimit-reset"] {
        headers.remove(name);
    }
    headers
}

/// HEAD says what GET says (RFC 9110 section 9.3.2), and a condition that holds what may be kept.
async fn is_told_alike(app: &TestApp, path: &str, kept: &str, media_type: &str) {
    let got = app.get(path).send().await.expect(200);
    let head = app.head(path).send().await.expect(200);
    assert_eq!(of_the_file(&got), of_the_file(&head), "{path}");
    assert_eq!((got.body.len().to_string().as_str(), 0), (head.header("content-length"), head.body.len()), "{path}");
    assert_eq!((kept, media_type), (got.header("cache-control"), got.header("content-type")), "{path}");
    let tag = got.header("etag");
    for method in [Method::GET, Method::HEAD] {
        let same = app.call(method.clone(), path).header("if-none-match", tag).send().await.expect(304);
        assert_eq!((tag, kept, 0), (same.header("etag"), same.header("cache-control"), same.body.len()), "{path}");
        // It would be that of the whole.
        assert!(!same.headers.contains_key("content-length"), "{method} {path}");
        let other = app.call(method, path).header("if-match", "\"x\"").header("if-none-match", tag).send().await;
        other.expect(412);
    }
}

const FOR_GOOD: &str = "public, max-age=31536000, immutable";
const SHORT: &str = "public, max-age=60";
const OWN: &str = "private, max-age=60";

#[tokio::test]
async fn head_is_get_without_the_bytes_and_only_what_is_open_is_public() {
    let Some(media) = MediaHarness::ffmpeg().await else { return };
    let app = TestApp::builder().any_transcoder(media.transcoder).start().await;
    let (ada, video) = playing(&app).await;
    let path = format!("/api/v1/videos/{}", text(&video["id"]));
    let video = app.until(&ada, &path, |video| !video["playback"]["storyboard_url"].is_null()).await;
    let token = mint(&app, &ada, &video, json!({"download": true})).await;
    let first = |text: &str| text.lines().find(|line| !line.starts_with('#')).expect("a line").to_owned();
    for (links, open) in [(&video["playback"], true), (&token, false)] {
        let kept = |kept| if open { kept } else { OWN };
        let master = text(&links["url"]);
        let (root, _) = master.rsplit_once('/').expect("a file");
        is_told_alike(&app, master, kept(SHORT), "application/vnd.apple.mpegurl").await;
        let listed = String::from_utf8(app.get(master).send().await.expect(200).body.to_vec()).expect("text");
        let index = format!("{root}/{}", first(&listed));
        is_told_alike(&app, &index, kept(SHORT), "application/vnd.apple.mpegurl").await;
        let segments = String::from_utf8(app.get(&index).send().await.expect(200).body.to_vec()).expect("text");
        let (rendition, _) = index.rsplit_once('/').expect("a file");
        is_told_alike(&app, &format!("{rendition}/init.mp4"), kept(FOR_GOOD), "video/mp4").await;
        is_told_alike(&app, &format!("{rendition}/{}", first(&segments)), kept(FOR_GOOD), "video/iso.segment").await;
        is_told_alike(&app, &format!("{root}/poster.jpg"), kept(FOR_GOOD), "image/jpeg").await;
        let index = format!("{root}/storyboard/storyboard.vtt");
        is_told_alike(&app, &index, kept(SHORT), "text/vtt").await;
        let cues = String::from_utf8(app.get(&index).send().await.expect(200).body.to_vec()).expect("text");
        let sheet = cues.lines().find_map(|line| line.split_once("#xywh=")).expect("a cue").0;
        is_told_alike(&app, &format!("{root}/storyboard/{sheet}"), kept(FOR_GOOD), "image/jpeg").await;
    }
    let (root, _) = text(&token["url"]).rsplit_once('/').expect("a file");
    is_told_alike(&app, &format!("{root}/download"), OWN, "video/mp4").await;
    app.finish().await;
}

#[tokio::test]
async fn head_of_the_original_is_get_without_the_bytes() {
    let app = TestApp::start().await;
    let (ada, video) = playing(&app).await;
    is_told_alike(&app, public(&video), FOR_GOOD, "video/mp4").await;
    let token = mint(&app, &ada, &video, json!({"download": true})).await;
    is_told_alike(&app, text(&token["url"]), OWN, "video/mp4").await;
    let private = app.ready(&ada, "Mine", "private").await;
    let token = mint(&app, &ada, &private, json!({})).await;
    is_told_alike(&app, text(&token["url"]), OWN, "video/mp4").await;
    app.finish().await;
}
