//! Watching: links, ranges, what may be kept, and how links end.

use std::time::Duration;

use serde_json::{Value, json};
use vidcore::testkit::media::MediaHarness;

use crate::app::{CLIP, TestApp, User, text};

const NOBODY: &str = "/api/v1/playback/public/video_00000000000000000000000000/0/file.mp4";

/// The public path of a video's file.
pub(crate) fn public(video: &Value) -> &str {
    text(&video["playback"]["url"])
}

/// A signed-up user with a public video that plays.
pub(crate) async fn playing(app: &TestApp) -> (User, Value) {
    let ada = app.user("ada").await;
    let video = app.ready(&ada, "A film", "public").await;
    (ada, video)
}

pub(crate) async fn mint(app: &TestApp, owner: &User, video: &Value, body: Value) -> Value {
    let path = format!("/api/v1/videos/{}/playback-tokens", text(&video["id"]));
    app.post(&path).by(owner).json(&body).send().await.expect(201).json()
}

#[tokio::test]
async fn a_public_video_is_sent_whole_and_may_be_kept() {
    let app = TestApp::start().await;
    let (_, video) = playing(&app).await;
    let answer = app.get(public(&video)).send().await.expect(200);
    assert_eq!(CLIP, answer.body);
    assert_eq!("video/mp4", answer.header("content-type"));
    assert_eq!("public, max-age=31536000, immutable", answer.header("cache-control"));
    assert_eq!(("bytes", "inline"), (answer.header("accept-ranges"), answer.header("content-disposition")));
    let tag = answer.header("etag").to_owned();
    for held in [tag.as_str(), "*", &format!("\"x\", {tag}"), &format!("W/{tag}")] {
        let same = app.get(public(&video)).header("if-none-match", held).send().await.expect(304);
        assert_eq!((tag.as_str(), 0), (same.header("etag"), same.body.len()));
    }
    app.get(public(&video)).header("if-none-match", "nonsense").send().await.expect(200);
    app.finish().await;
}

#[tokio::test]
async fn one_range_is_sent_alone() {
    let app = TestApp::start().await;
    let (_, video) = playing(&app).await;
    let (size, last) = (CLIP.len(), CLIP.len() - 1);
    for (range, from, to) in [
        ("bytes=0-0".to_owned(), 0, 0),
        ("bytes=10-19".to_owned(), 10, 19),
        ("bytes=10-".to_owned(), 10, last),
        ("bytes=-10".to_owned(), size - 10, last),
        (format!("bytes=-{}", size * 2), 0, last),
        (format!("bytes={last}-99999999999999999999"), last, last),
    ] {
        let part = app.get(public(&video)).header("range", &range).send().await.expect(206);
        assert_eq!(format!("bytes {from}-{to}/{size}"), part.header("content-range"), "{range}");
        assert_eq!(CLIP[from..=to], part.body, "{range}");
        assert_eq!((to - from + 1).to_string(), part.header("content-length"));
    }
    for whole in ["bytes=0-1,5-1", "bytes=5-1", "bytes=x-", "items=0-1", "bytes=", "-"] {
        assert_eq!(CLIP, app.get(public(&video)).header("range", whole).send().await.expect(200).body, "{whole}");
    }
    app.finish().await;
}

/// RFC 9110 §14.6 and §15.3.7.2, with the framing of RFC 2046 §5.1.
#[tokio::test]
async fn several_ranges_come_as_parts_with_their_places() {
    let app = TestApp::start().await;
    let (_, video) = playing(&app).await;
    let size = CLIP.len();
    let range = format!("bytes=100-199,0-0,{}-", size - 5);
    let answer = app.get(public(&video)).header("range", &range).send().await.expect(206);
    assert!(!answer.headers.contains_key("content-range"));
    let kind = answer.header("content-type").to_owned();
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").expect("parts");
    let mut expected = Vec::new();
    for part in [100..200, 0..1, size - 5..size] {
        let place = format!("bytes {}-{}/{size}", part.start, part.end - 1);
        let head = format!("\r\n--{boundary}\r\ncontent-type: video/mp4\r\ncontent-range: {place}\r\n\r\n");
        expected.extend_from_slice(head.as_bytes());
        expected.extend_from_slice(&CLIP[part]);
    }
    expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    assert_eq!(expected.len().to_string(), answer.header("content-length"));
    assert!(expected == answer.body);
    let many = (0..17).map(|i| format!("{0}-{0}", i * 2)).collect::<Vec<_>>().join(",");
    app.get(public(&video)).header("range", &format!("bytes={many}")).send().await.expect(200);
    app.finish().await;
}

#[tokio::test]
async fn a_file_that_is_not_the_expected_one_is_412() {
    let app = TestApp::start().await;
    let (_, video) = playing(&app).await;
    let tag = app.head(public(&video)).send().await.expect(200).header("etag").to_owned();
    for held in [tag.as_str(), "*", &format!("\"x\", {tag}")] {
        app.get(public(&video)).header("if-match", held).send().await.expect(200);
    }
    for other in ["\"x\"", &format!("W/{tag}")] {
        let refused = app.get(public(&video)).header("if-match", other).header("if-none-match", &tag).send().await;
        assert_eq!("version_mismatch", refused.problem(412), "{other}");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_range_outside_the_file_is_416_with_its_size() {
    let app = TestApp::start().await;
    let (_, video) = playing(&app).await;
    for range in [format!("bytes={}-", CLIP.len()), "bytes=-0".to_owned(), "bytes=99999999999999999999-".to_owned()] {
        let refused = app.get(public(&video)).header("range", &range).send().await;
        assert_eq!(format!("bytes */{}", CLIP.len()), refused.header("content-range"));
        assert_eq!("range_not_satisfiable", refused.problem(416));
    }
    app.finish().await;
}

#[tokio::test]
async fn a_range_of_another_version_gets_the_whole() {
    let app = TestApp::start().await;
    let (_, video) = playing(&app).await;
    let tag = app.head(public(&video)).send().await.expect(200).header("etag").to_owned();
    let ranged = |condition: &str| app.get(public(&video)).header("range", "bytes=0-9").header("if-range", condition);
    ranged(&tag).send().await.expect(206);
    for other in ["\"other\"", &*format!("W/{tag}"), "Thu, 01 Jan 2026 00:00:00 GMT", "ü"] {
        assert_eq!(CLIP.len(), ranged(other).send().await.expect(200).body.len(), "{other}");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_head_tells_the_length_and_sends_nothing() {
    let app = TestApp::start().await;
    let (ada, video) = playing(&app).await;
    let token = mint(&app, &ada, &video, json!({})).await;
    for path in [public(&video), text(&token["url"])] {
        let head = app.head(path).send().await.expect(200);
        assert_eq!((CLIP.len().to_string().as_str(), 0), (head.header("content-length"), head.body.len()));
        // Ranges are defined for GET alone (RFC 9110 section 14.2).
        let ranged = app.head(path).header("range", "bytes=0-1").send().await.expect(200);
        assert_eq!(CLIP.len().to_string(), ranged.header("content-length"));
        app.head(path).header("if-none-match", head.header("etag")).send().await.expect(304);
    }
    app.head(NOBODY).send().await.expect(404);
    app.finish().await;
}

#[tokio::test]
async fn a_token_plays_a_private_video_until_it_expires() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    let video = app.ready(&ada, "A film", "private").await;
    assert_eq!(Value::Null, video["playback"]);
    let guess = format!("/api/v1/playback/public/{}/0/file.mp4", text(&video["id"]));
    app.get(&guess).send().await.expect(404);

    let path = format!("/api/v1/videos/{}/playback-tokens", text(&video["id"]));
    let minted = app.post(&path).by(&ada).json(&json!({"ttl_s": 60})).send().await.expect(201);
    insta::assert_json_snapshot!(minted.redacted());
    let links = minted.json();
    let answer = app.get(text(&links["url"])).send().await.expect(200);
    assert_eq!(CLIP, answer.body);
    assert_eq!("private, max-age=60", answer.header("cache-control"));
    app.clock.advance(Duration::from_secs(59));
    app.get(text(&links["url"])).send().await.expect(200);
    app.clock.advance(Duration::from_secs(1));
    app.get(text(&links["url"])).send().await.expect(404);
    app.finish().await;
}

#[tokio::test]
async fn the_life_of_a_token_has_a_default_and_a_cap() {
    let app = TestApp::start().await;
    let (ada, video) = playing(&app).await;
    let ends = async |body: Value| text(&mint(&app, &ada, &video, body).await["expires_at"]).to_owned();
    assert_eq!("2026-01-01T06:00:00.000Z", ends(json!({})).await);
    assert_eq!("2026-01-01T06:00:00.000Z", ends(json!({"ttl_s": null})).await);
    assert_eq!("2026-01-01T00:00:01.000Z", ends(json!({"ttl_s": 1})).await);
    assert_eq!("2026-01-08T00:00:00.000Z", ends(json!({"ttl_s": u64::MAX})).await);
    let path = format!("/api/v1/videos/{}/playback-tokens", text(&video["id"]));
    for bad in [json!({"ttl_s": 0}), json!({"ttl_s": -1}), json!({"ttl": 1}), json!(null), json!([])] {
        assert_eq!("invalid_body", app.post(&path).by(&ada).json(&bad).send().await.problem(422), "{bad}");
    }
    let draft = app.draft(&ada, "draft", "public").await;
    let path = format!("/api/v1/videos/{}/playback-tokens", text(&draft["id"]));
    assert_eq!("wrong_state", app.post(&path).by(&ada).json(&json!({})).send().await.problem(409));
    app.finish().await;
}

#[tokio::test]
async fn a_revocation_kills_every_link() {
    let app = TestApp::start().await;
    let (ada, video) = playing(&app).await;
    let token = mint(&app, &ada, &video, json!({})).await;
    let path = format!("/api/v1/videos/{}/playback-tokens", text(&video["id"]));
    app.delete(&path).by(&ada).key("r").send().await.expect(204);
    for dead in [public(&video), text(&token["url"])] {
        assert_eq!("not_found", app.get(dead).send().await.problem(404));
    }
    // A repetition is no second revocation.
    let fresh = app.get(&format!("/api/v1/videos/{}", text(&video["id"]))).send().await.expect(200).json();
    app.delete(&path).by(&ada).key("r").send().await.expect(204);
    app.get(public(&fresh)).send().await.expect(200);
    app.finish().await;
}

#[tokio::test]
async fn what_becomes_private_or_trashed_stops_playing() {
    let app = TestApp::start().await;
    let (ada, video) = playing(&app).await;
    let token = mint(&app, &ada, &video, json!({})).await;
    let path = format!("/api/v1/videos/{}", text(&video["id"]));
    let private = json!({"visibility": "private"});
    app.patch(&path).by(&ada).header("if-match", "*").json(&private).send().await.expect(200);
    app.get(public(&video)).send().await.expect(404);
    app.get(text(&token["url"])).send().await.expect(404);
    let token = mint(&app, &ada, &video, json!({})).await;
    app.get(text(&token["url"])).send().await.expect(200);
    app.delete(&path).by(&ada).send().await.expect(200);
    app.get(text(&token["url"])).send().await.expect(404);
    app.finish().await;
}

#[tokio::test]
async fn no_path_leads_to_anything_but_a_published_file() {
    let app = TestApp::start().await;
    let (ada, video) = playing(&app).await;
    let token = mint(&app, &ada, &video, json!({})).await;
    let absent = app.get(NOBODY).send().await.expect(404).redacted();
    let long = "a".repeat(20_000);
    for root in [public(&video), text(&token["url"])].map(|url| url.rsplit_once('/').expect("a file").0) {
        for file in [
            "master.m3u8",
            "poster.jpg",
            "storyboard/storyboard.vtt",
            "original/index.m3u8",
            "original/..%2f..%2fvidcore.db",
            "..%2f..%2fkeys/jwt",
            "%00/x",
            "%2e%2e/%2e%2e",
            "original/%00",
            "original/%ff",
            "original/",
            "file.mp4/",
            "file.mp4%00",
            &long,
            &format!("original/{long}"),
            "a/b/c/d/e",
        ] {
            let answer = app.get(&format!("{root}/{file}")).send().await.expect(404);
            assert_eq!(absent["code"], answer.json()["code"], "{file}");
        }
    }
    for grant in [
        "x",
        "%00",
        "..%2f",
        &long,
        "public",
        "public/x/0",
        &format!("public/{}/1", text(&video["id"])),
        &format!("public/{}/-1", text(&video["id"])),
        &format!("public/{}/4294967296", text(&video["id"])),
    ] {
        app.get(&format!("/api/v1/playback/{grant}/file.mp4")).send().await.expect(404);
    }
    app.finish().await;
}

#[tokio::test]
async fn a_storyboard_leads_to_the_sheets_its_cues_name() {
    let Some(media) = MediaHarness::ffmpeg().await else { return };
    let app = TestApp::builder().any_transcoder(media.transcoder).start().await;
    let (ada, video) = playing(&app).await;
    let path = format!("/api/v1/videos/{}", text(&video["id"]));
    let video = app.until(&ada, &path, |video| !video["playback"]["storyboard_url"].is_null()).await;
    let token = mint(&app, &ada, &video, json!({})).await;
    for (links, kept, kept_short) in [
        (&video["playback"], "public, max-age=31536000, immutable", "public, max-age=60"),
        (&token, "private, max-age=60", "private, max-age=60"),
    ] {
        let index = text(&links["storyboard_url"]);
        let answer = app.get(index).send().await.expect(200);
        assert_eq!(("text/vtt", kept_short), (answer.header("content-type"), answer.header("cache-control")));
        let cues = String::from_utf8(answer.body.to_vec()).expect("WebVTT is UTF-8");
        let first = cues.lines().find_map(|line| line.split_once("#xywh=")).expect("a cue names a part of a sheet").0;
        let (root, _) = index.rsplit_once('/').expect("a file");
        let sheet = app.get(&format!("{root}/{first}")).send().await.expect(200);
        assert_eq!(("image/jpeg", kept), (sheet.header("content-type"), sheet.header("cache-control")));
        assert!(sheet.body.starts_with(&[0xff, 0xd8]), "a sheet is a JPEG");
        app.get(&format!("{root}/{first}")).header("range", "bytes=0-1").send().await.expect(206);
        for other in ["poster.jpg", "sheet_002.jpg", "..%2fposter%2fposter.jpg", "%00", "tiles.txt"] {
            assert_eq!("not_found", app.get(&format!("{root}/{other}")).send().await.problem(404), "{other}");
        }
        assert_eq!("image/jpeg", app.get(text(&links["poster_url"])).send().await.expect(200).header("content-type"));
    }
    let private = json!({"visibility": "private"});
    app.patch(&path).by(&ada).header("if-match", "*").json(&private).send().await.expect(200);
    app.get(text(&video["playback"]["storyboard_url"])).send().await.expect(404);
    app.finish().await;
}

/// Whatever a row says of bytes that somebody uploaded, they are never a page of this origin.
#[tokio::test]
async fn what_is_not_in_the_table_of_media_types_is_a_file_to_save() {
    let app = TestApp::start().await;
    let db = rusqlite::Connection::open(app.folder.path().join("data/vidcore.db")).expect("the database");
    db.busy_timeout(Duration::from_secs(20)).expect("the timeout is set");
    let ada = app.user("ada").await;
    for said in ["text/html", "image/svg+xml", "application/xml", "text/html\r\nset-cookie: a=b"] {
        let video = app.ready(&ada, "A film", "public").await;
        db.execute("UPDATE objects SET content_type = ?1", [said]).expect("the row is valid");
        let answer = app.get(public(&video)).send().await.expect(200);
        let told = (answer.header("content-type"), answer.header("content-disposition"));
        assert_eq!(("application/octet-stream", "attachment"), told, "{said}");
        assert_eq!("nosniff", answer.header("x-content-type-options"));
        assert_eq!(CLIP, answer.body);
        let parts = app.get(public(&video)).header("range", "bytes=0-1,5-6").send().await.expect(206);
        let body = String::from_utf8_lossy(&parts.body);
        assert_eq!(2, body.matches("content-type: application/octet-stream\r\n").count(), "{body}");
        let links = mint(&app, &ada, &video, json!({"download": true})).await;
        let root = text(&links["url"]).rsplit_once('/').expect("a path").0;
        let answer = app.get(&format!("{root}/download")).send().await.expect(200);
        assert_eq!("application/octet-stream", answer.header("content-type"));
        assert!(answer.header("content-disposition").starts_with("attachment; filename=\"A film.bin\""));
    }
    app.finish().await;
}

/// A request from an address that the proxy in front tells.
pub(crate) async fn proxied() -> TestApp {
    let proxies = vec!["127.0.0.0/8".to_owned()];
    TestApp::builder().settings(|settings| settings.rate_limits.trusted_proxies = proxies).start().await
}

#[tokio::test]
async fn a_link_bound_to_a_network_works_there_alone() {
    let app = proxied().await;
    let ada = app.user("ada").await;
    let video = app.ready(&ada, "A film", "private").await;
    for (prefix, inside, outside) in
        [("203.0.113.0/24", "203.0.113.9", "203.0.114.9"), ("2001:db8::/32", "2001:db8::7", "2001:db9::7")]
    {
        let links = mint(&app, &ada, &video, json!({"address_prefix": prefix})).await;
        let from = |address| app.get(text(&links["url"])).header("x-forwarded-for", address);
        assert_eq!(CLIP, from(inside).send().await.expect(200).body);
        assert_eq!("not_found", from(outside).send().await.problem(404), "{prefix}");
        assert_eq!("not_found", app.get(text(&links["url"])).send().await.problem(404), "{prefix}");
    }
    let path = format!("/api/v1/videos/{}/playback-tokens", text(&video["id"]));
    for bad in ["203.0.113.0/33", "example.org", ""] {
        let refused = app.post(&path).by(&ada).json(&json!({"address_prefix": bad})).send().await;
        assert_eq!("/address_prefix", refused.json()["errors"][0]["pointer"], "{bad}");
        assert_eq!("invalid_body", refused.problem(422));
    }
    app.finish().await;
}

#[tokio::test]
async fn a_link_bound_to_an_origin_works_on_its_pages_alone() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    let video = app.ready(&ada, "A film", "private").await;
    let links = mint(&app, &ada, &video, json!({"origin": "https://example.org"})).await;
    let with = |name: &'static str, value: &'static str| app.get(text(&links["url"])).header(name, value);
    with("origin", "https://example.org").send().await.expect(200);
    with("referer", "https://example.org/page?x=1").send().await.expect(200);
    with("referer", "https://example.org:443/").send().await.expect(200);
    let links = mint(&app, &ada, &video, json!({"origin": "https://Example.org:443"})).await;
    app.get(text(&links["url"])).header("origin", "https://example.org").send().await.expect(200);
    for (name, value) in [
        ("origin", "https://example.com"),
        ("origin", "null"),
        ("referer", "https://example.org.evil.example/"),
        ("referer", "http://example.org/"),
        ("x-other", "https://example.org"),
    ] {
        assert_eq!("not_found", with(name, value).send().await.problem(404), "{name}: {value}");
    }
    let path = format!("/api/v1/videos/{}/playback-tokens", text(&video["id"]));
    let refused = app.post(&path).by(&ada).json(&json!({"origin": "example.org"})).send().await;
    assert_eq!("invalid_body", refused.problem(422));
    app.finish().await;
}

#[tokio::test]
async fn the_original_is_downloaded_with_the_right_to_and_not_without() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    let video = app.ready(&ada, "Élan \"; filename=x.exe", "public").await;
    let root = |links: &Value| text(&links["url"]).rsplit_once('/').expect("a path").0.to_owned();
    let may = root(&mint(&app, &ada, &video, json!({"download": true})).await);
    let answer = app.get(&format!("{may}/download")).send().await.expect(200);
    assert_eq!(CLIP, answer.body);
    let called = "attachment; filename=\"_lan filename_x.exe.mp4\"; filename*=UTF-8''%C3%89lan%20filename%3Dx.exe.mp4";
    assert_eq!(called, answer.header("content-disposition"));
    let part = app.get(&format!("{may}/download")).header("range", "bytes=-10").send().await.expect(206);
    assert_eq!(CLIP[CLIP.len() - 10..], part.body);
    let may_not = root(&mint(&app, &ada, &video, json!({})).await);
    assert_eq!("not_found", app.get(&format!("{may_not}/download")).send().await.problem(404));
    app.delete(&format!("/api/v1/videos/{}/playback-tokens", text(&video["id"]))).by(&ada).send().await.expect(204);
    assert_eq!("not_found", app.get(&format!("{may}/download")).send().await.problem(404));
    app.finish().await;
}
