//! Bringing bytes: opened, sent, completed, verified; and everything that can go wrong on the way.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use vidcore::storage::objects::sha256;

use crate::app::{CLIP, TestApp, User, text};
use crate::support::{Raw, bounded};

const TEXT: &[u8] = include_bytes!("../../../fixtures/text.mp4");
const AUDIO: &[u8] = include_bytes!("../../../fixtures/audio-only.mp4");
const PLAYLIST: &[u8] = include_bytes!("../../../fixtures/playlist.mp4");

fn path(upload: &Value) -> String {
    format!("/api/v1/uploads/{}", text(&upload["id"]))
}

fn url(upload: &Value) -> &str {
    text(&upload["upload_url"])
}

/// A user with a draft and an open upload for the clip.
async fn opened(app: &TestApp) -> (User, Value, Value) {
    let ada = app.user("ada").await;
    let draft = app.draft(&ada, "A film", "private").await;
    let upload = app.upload(&ada, text(&draft["id"]), CLIP.len()).await;
    (ada, draft, upload)
}

#[tokio::test]
async fn a_file_becomes_the_source_of_its_video() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    let draft = app.draft(&ada, "A film", "private").await;
    let open = app.post(&format!("/api/v1/videos/{}/uploads", text(&draft["id"]))).by(&ada);
    let body = json!({"size_bytes": CLIP.len(), "sha256": hex::encode(sha256(CLIP))});
    let opened = open.json(&body).send().await.expect(201);
    insta::assert_json_snapshot!("opened", opened.redacted());
    let upload = opened.json();
    assert_eq!(path(&upload), opened.header("location"));

    let sent = app.put(url(&upload)).bytes(CLIP).send().await.expect(200);
    insta::assert_json_snapshot!("sent", sent.redacted());
    let completed = app.post(&format!("{}/complete", path(&upload))).by(&ada).send().await.expect(202);
    insta::assert_json_snapshot!("completed", completed.redacted());
    app.until(&ada, &path(&upload), |upload| upload["status"] == "complete").await;
    insta::assert_json_snapshot!("complete", app.get(&path(&upload)).by(&ada).send().await.redacted());
    app.until(&ada, &format!("/api/v1/videos/{}", text(&draft["id"])), |video| video["status"] == "ready").await;
    app.finish().await;
}

/// RFC 9110 §14.5
#[tokio::test]
async fn a_part_is_not_taken_for_the_whole() {
    let app = TestApp::start().await;
    let (_, _, upload) = opened(&app).await;
    let range = format!("bytes 0-{}/{}", CLIP.len() - 1, 2 * CLIP.len());
    let part = app.put(url(&upload)).header("content-range", &range).bytes(CLIP).send().await;
    assert_eq!("bad_request", part.problem(400));
    app.put(url(&upload)).bytes(CLIP).send().await.expect(200);
    app.finish().await;
}

#[tokio::test]
async fn the_announced_size_must_be_the_declared_one() {
    let app = TestApp::start().await;
    let (ada, _, upload) = opened(&app).await;
    for length in [0, CLIP.len() - 1, CLIP.len() + 1] {
        let body = [CLIP, b"x"].concat()[..length].to_vec();
        assert_eq!("size_mismatch", app.put(url(&upload)).bytes(body).send().await.problem(422), "{length}");
    }
    assert_eq!(json!(false), app.get(&path(&upload)).by(&ada).send().await.json()["received"]);
    app.put(url(&upload)).bytes(CLIP).send().await.expect(200);
    app.finish().await;
}

#[tokio::test]
async fn bytes_that_come_unannounced_are_counted() {
    let app = TestApp::start().await;
    let (_, _, upload) = opened(&app).await;
    let chunked = |bytes: &'static [u8]| {
        let chunks: Vec<_> =
            bytes.chunks(1000).map(|chunk| Ok::<_, std::io::Error>(Bytes::from_static(chunk))).collect();
        app.put(url(&upload)).bytes(reqwest::Body::wrap_stream(stream::iter(chunks)))
    };
    let long: &'static [u8] = Box::leak([CLIP, b"x"].concat().into_boxed_slice());
    insta::assert_json_snapshot!(chunked(&CLIP[1..]).send().await.expect(422).redacted());
    assert_eq!("size_mismatch", chunked(long).send().await.problem(422));
    chunked(CLIP).send().await.expect(200);
    app.finish().await;
}

#[tokio::test]
async fn a_request_that_breaks_off_half_way_may_be_repeated() {
    let app = TestApp::start().await;
    let (ada, _, upload) = opened(&app).await;
    let mut socket = Raw(TcpStream::connect(app.address).await.expect("the server listens"));
    let head = format!("PUT {} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", url(&upload), CLIP.len());
    socket.send(&head).await;
    socket.0.write_all(&CLIP[..CLIP.len() / 2]).await.expect("the server takes it");
    drop(socket);
    assert_eq!(json!(false), app.get(&path(&upload)).by(&ada).send().await.json()["received"]);
    app.put(url(&upload)).bytes(CLIP).send().await.expect(200);
    let staged = app.folder.path().join("data/objects/staging").join(text(&upload["id"]));
    bounded(async {
        while std::fs::read_dir(&staged).map_or(0, Iterator::count) != 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    app.finish().await;
}

#[tokio::test]
async fn the_second_of_two_whole_deliveries_is_refused() {
    let app = TestApp::start().await;
    let (_, _, upload) = opened(&app).await;
    let answers = tokio::join!(app.put(url(&upload)).bytes(CLIP).send(), app.put(url(&upload)).bytes(CLIP).send());
    let mut statuses = [answers.0.status, answers.1.status];
    statuses.sort_unstable();
    assert_eq!([200, 409], statuses);
    insta::assert_json_snapshot!(app.put(url(&upload)).bytes(CLIP).send().await.expect(409).redacted());
    app.finish().await;
}

#[tokio::test]
async fn a_tampered_url_is_refused() {
    let app = TestApp::start().await;
    let (ada, draft, upload) = opened(&app).await;
    let other = app.upload(&ada, text(&draft["id"]), CLIP.len()).await;
    let (target, query) = url(&upload).split_once('?').expect("a query");
    let swapped = format!("{}/bytes?{query}", path(&other));
    let later = url(&upload).replace("expires=", "expires=1");
    let bad_key = url(&upload).replace("kid=", "kid=x");
    let shortened = url(&upload)[..url(&upload).len() - 1].to_owned();
    for tampered in [swapped, later, bad_key, shortened] {
        assert_eq!("invalid_signature", app.put(&tampered).bytes(CLIP).send().await.problem(403), "{tampered}");
    }
    for malformed in
        [target.to_owned(), format!("{target}?{query}&x=1"), format!("{target}?expires=x&kid=a&signature=b")]
    {
        assert_eq!("invalid_query", app.put(&malformed).bytes(CLIP).send().await.problem(400), "{malformed}");
    }
    insta::assert_json_snapshot!(
        app.put(&format!("{target}?expires=1&kid=a&signature=b")).bytes(CLIP).send().await.expect(403).redacted()
    );
    app.finish().await;
}

#[tokio::test]
async fn other_bytes_than_declared_are_refused_and_may_be_sent_again() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    let draft = app.draft(&ada, "A film", "private").await;
    let open = app.post(&format!("/api/v1/videos/{}/uploads", text(&draft["id"]))).by(&ada);
    let body = json!({"size_bytes": CLIP.len(), "sha256": hex::encode(sha256(CLIP)).to_uppercase()});
    let upload = open.json(&body).send().await.expect(201).json();
    let mut other = CLIP.to_vec();
    other[100] ^= 1;
    assert_eq!("checksum_mismatch", app.put(url(&upload)).bytes(other).send().await.problem(422));
    app.put(url(&upload)).bytes(CLIP).send().await.expect(200);
    app.finish().await;
}

#[tokio::test]
async fn an_upload_ends_with_its_time() {
    let app = TestApp::start().await;
    let (ada, draft, upload) = opened(&app).await;
    app.clock.advance(Duration::from_secs(86_400));
    assert_eq!("upload_expired", app.put(url(&upload)).bytes(CLIP).send().await.problem(410));
    let body = json!({"email": "ada@example.org", "password": crate::app::PASSWORD});
    let ada = User { access: User::of(&app.post("/api/v1/auth/login").json(&body).send().await.json()).access, ..ada };
    let complete = app.post(&format!("{}/complete", path(&upload))).by(&ada).send().await;
    assert!(matches!(complete.status, 409 | 410), "{}", complete.status);
    app.upload(&ada, text(&draft["id"]), CLIP.len()).await;
    app.finish().await;
}

#[tokio::test]
async fn nothing_is_completed_before_its_bytes_and_nothing_twice() {
    let app = TestApp::start().await;
    let (ada, _, upload) = opened(&app).await;
    let complete = || app.post(&format!("{}/complete", path(&upload))).by(&ada);
    insta::assert_json_snapshot!(complete().send().await.expect(409).redacted());
    app.put(url(&upload)).bytes(CLIP).send().await.expect(200);
    let twins = tokio::join!(complete().send(), complete().send());
    assert_eq!([202, 202], [twins.0.status, twins.1.status]);
    app.until(&ada, &path(&upload), |upload| upload["status"] == "complete").await;
    complete().send().await.expect(202);
    let jobs = app.get("/api/v1/jobs").by(&ada).send().await.json();
    let verify = jobs["items"].as_array().expect("items").iter().filter(|job| job["kind"] == "verify_upload").count();
    assert_eq!(1, verify);
    app.finish().await;
}

#[tokio::test]
async fn the_upload_of_another_looks_absent() {
    let app = TestApp::start().await;
    let (_, _, upload) = opened(&app).await;
    let eve = app.user("eve").await;
    let absent = "/api/v1/uploads/upload_00000000000000000000000000";
    for (hers, absent) in [
        (app.get(&path(&upload)).by(&eve), app.get(absent).by(&eve)),
        (app.delete(&path(&upload)).by(&eve), app.delete(absent).by(&eve)),
        (app.post(&format!("{}/complete", path(&upload))).by(&eve), app.post(&format!("{absent}/complete")).by(&eve)),
    ] {
        assert_eq!(absent.send().await.expect(404).redacted(), hers.send().await.expect(404).redacted());
    }
    app.finish().await;
}

#[tokio::test]
async fn a_size_is_at_least_1_and_at_most_the_limit() {
    let app = TestApp::builder().settings(|settings| settings.uploads.max_size_bytes = 1000).start().await;
    let ada = app.user("ada").await;
    let draft = app.draft(&ada, "A film", "private").await;
    let open = |body: Value| app.post(&format!("/api/v1/videos/{}/uploads", text(&draft["id"]))).by(&ada).json(&body);
    open(json!({"size_bytes": 1})).send().await.expect(201);
    open(json!({"size_bytes": 1000})).send().await.expect(201);
    for bad in [json!(0), json!(1001), json!(u64::MAX), json!(-1), json!(1.5), json!("1"), json!(1e30), json!(null)] {
        assert_eq!("invalid_body", open(json!({"size_bytes": bad})).send().await.problem(422), "{bad}");
    }
    for bad in ["", "x", &"g".repeat(64), &"a".repeat(63)] {
        assert_eq!("invalid_body", open(json!({"size_bytes": 1, "sha256": bad})).send().await.problem(422), "{bad}");
    }
    insta::assert_json_snapshot!(open(json!({"size_bytes": 1001})).send().await.expect(422).redacted());
    app.finish().await;
}

#[tokio::test]
async fn the_quota_is_reserved_at_the_start_and_freed_by_an_abort() {
    let app = TestApp::builder().settings(|settings| settings.uploads.quota_bytes = 1000).start().await;
    let ada = app.user("ada").await;
    let draft = app.draft(&ada, "A film", "private").await;
    let open = |size: u64| {
        app.post(&format!("/api/v1/videos/{}/uploads", text(&draft["id"]))).by(&ada).json(&json!({"size_bytes": size}))
    };
    let upload = open(600).send().await.expect(201).json();
    insta::assert_json_snapshot!("quota", open(401).send().await.expect(403).redacted());
    open(400).send().await.expect(201);
    let abort = || app.delete(&path(&upload)).by(&ada);
    insta::assert_json_snapshot!("aborted", abort().key("a").send().await.expect(200).redacted());
    abort().key("a").send().await.expect(200);
    insta::assert_json_snapshot!("aborted_twice", abort().send().await.expect(409).redacted());
    assert_eq!("wrong_state", app.put(url(&upload)).bytes(vec![0; 600]).send().await.problem(409));
    open(600).send().await.expect(201);
    app.finish().await;
}

#[tokio::test]
async fn a_video_has_a_bounded_number_of_open_uploads() {
    let app = TestApp::builder().settings(|settings| settings.uploads.max_open_per_video = 2).start().await;
    let (ada, draft, _) = opened(&app).await;
    app.upload(&ada, text(&draft["id"]), 1).await;
    let open = app.post(&format!("/api/v1/videos/{}/uploads", text(&draft["id"]))).by(&ada);
    assert_eq!("too_many_open_uploads", open.json(&json!({"size_bytes": 1})).send().await.problem(409));
    app.finish().await;
}

#[tokio::test]
async fn a_repeated_opening_with_a_key_reserves_once() {
    let app = TestApp::start().await;
    let (ada, draft, _) = opened(&app).await;
    let open = || {
        app.post(&format!("/api/v1/videos/{}/uploads", text(&draft["id"])))
            .by(&ada)
            .key("k")
            .json(&json!({"size_bytes": 7}))
    };
    let first = open().send().await.expect(201).json();
    assert_eq!(first, open().send().await.expect(201).json());
    let usage = app.get("/api/v1/users/me/usage").by(&ada).send().await.json();
    assert_eq!(json!(CLIP.len() + 7), usage["reserved_bytes"]);
    app.finish().await;
}

#[tokio::test]
async fn what_is_no_video_is_rejected_with_a_reason() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    for bytes in [TEXT, AUDIO, PLAYLIST] {
        let draft = app.draft(&ada, "A film", "public").await;
        let upload = app.bring(&ada, text(&draft["id"]), bytes).await;
        let rejected = app.until(&ada, &path(&upload), |upload| upload["status"] == "rejected").await;
        assert!(rejected["reason"].is_string(), "{rejected}");
        let video = app.get(&format!("/api/v1/videos/{}", text(&draft["id"]))).by(&ada).send().await.json();
        assert_eq!(("draft", &Value::Null), (text(&video["status"]), &video["playback"]));
        let complete = app.post(&format!("{}/complete", path(&upload))).by(&ada).send().await;
        assert_eq!("wrong_state", complete.problem(409));
    }
    let usage = app.get("/api/v1/users/me/usage").by(&ada).send().await.json();
    assert_eq!((json!(0), json!(0)), (usage["stored_bytes"].clone(), usage["reserved_bytes"].clone()));
    app.finish().await;
}
