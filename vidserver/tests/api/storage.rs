//! Objects in a bucket: from the upload to the last byte that plays, what goes wrong on the way, and the doctor.

use serde_json::{Value, json};
use vidcore::doctor::{Check, Remedy};
use vidcore::platform::Settings;
use vidcore::platform::settings::{DeliveryChoice, StorageChoice};
use vidcore::testkit::TestS3;
use vidcore::testkit::media::MediaHarness;
use vidcore::testkit::s3::{Fault, Method};

use crate::app::{CLIP, TestApp, TestAppBuilder, text};

/// Settings that keep objects in the bucket.
pub(crate) fn in_bucket(server: &TestS3) -> impl FnOnce(&mut Settings) + use<> {
    let bucket = server.settings();
    move |settings| {
        settings.storage.back_end = StorageChoice::S3;
        settings.storage.s3 = bucket;
    }
}

fn app(server: &TestS3) -> TestAppBuilder {
    TestApp::builder().settings(in_bucket(server))
}

/// The public file of a video, whole and by ranges.
pub(crate) async fn plays(app: &TestApp, video: &Value) {
    let file = text(&video["playback"]["url"]);
    assert_eq!(CLIP, app.get(file).send().await.expect(200).body);
    let (last, middle) = (CLIP.len() - 1, CLIP.len() / 2);
    for (from, to) in [(0, 0), (10, 19), (middle, last), (last, last)] {
        let part = app.get(file).header("range", &format!("bytes={from}-{to}")).send().await.expect(206);
        assert_eq!(CLIP[from..=to], part.body, "{from}-{to}");
    }
}

/// The keys of all rows that begin so.
async fn recorded(app: &TestApp, prefix: &str) -> Vec<String> {
    let rows = app.platform.store().recorded_objects("", 500).await.expect("the database answers");
    rows.into_iter().map(|row| row.key).filter(|key| key.starts_with(prefix)).collect()
}

#[tokio::test]
async fn a_video_in_a_private_bucket_is_uploaded_processed_and_played_by_ranges() {
    let server = TestS3::start();
    let app = app(&server).start().await;
    let ada = app.user("ada").await;
    let video = app.ready(&ada, "A film", "public").await;
    plays(&app, &video).await;
    let keys = recorded(&app, "").await;
    assert!(keys.iter().any(|key| key.starts_with("originals/")), "{keys:?}");
    assert!(!app.folder.path().join("data/objects").exists());
    for key in &keys {
        assert!(server.file_of(key).exists(), "{key}");
        // Whoever knows or guesses a key is refused by the bucket itself.
        let anonymous = reqwest::get(server.url_of(key)).await.expect("the bucket answers");
        assert_eq!(403, anonymous.status(), "{key}");
    }
    let listing = reqwest::get(server.url_of("")).await.expect("the bucket answers");
    assert_eq!(403, listing.status());
    app.finish().await;
}

#[tokio::test]
async fn bytes_that_the_bucket_does_not_take_are_503_or_507_and_may_be_sent_again() {
    let server = TestS3::start();
    let app = app(&server).start().await;
    let ada = app.user("ada").await;
    let draft = app.draft(&ada, "A film", "public").await;
    let upload = app.upload(&ada, text(&draft["id"]), CLIP.len()).await;
    let put = || app.put(text(&upload["upload_url"])).bytes(CLIP);
    for (fault, status, code) in [
        (Fault::Refuse(503, "SlowDown"), 503, "unavailable"),
        (Fault::Refuse(500, "InternalError"), 503, "unavailable"),
        (Fault::Refuse(403, "ExpiredToken"), 503, "unavailable"),
        (Fault::Refuse(507, "XMinioStorageFull"), 507, "storage_full"),
    ] {
        server.always(Some(fault));
        assert_eq!(code, put().send().await.problem(status), "{fault:?}");
        server.always(None);
    }
    put().send().await.expect(200);
    let path = format!("/api/v1/uploads/{}/complete", text(&upload["id"]));
    app.post(&path).by(&ada).send().await.expect(202);
    let path = format!("/api/v1/videos/{}", text(&draft["id"]));
    let video = app.until(&ada, &path, |video| video["status"] == "ready").await;
    plays(&app, &video).await;
    app.finish().await;
}

#[tokio::test]
async fn a_viewer_gets_the_whole_or_an_error_while_the_bucket_is_in_trouble() {
    let server = TestS3::start();
    // Nothing is kept in memory, so that each viewer asks the bucket.
    let app = app(&server).settings(|settings| settings.playback.hot_bytes = 0).start().await;
    let ada = app.user("ada").await;
    let video = app.ready(&ada, "A film", "public").await;
    server.plan(Method::GET, "originals/", Fault::CutBody);
    plays(&app, &video).await;
    server.always(Some(Fault::Refuse(503, "SlowDown")));
    let file = text(&video["playback"]["url"]);
    assert_eq!("unavailable", app.get(file).send().await.problem(503));
    server.always(Some(Fault::CutBody));
    assert!(app.get(file).try_send().await.is_err(), "the answer breaks off");
    server.always(None);
    plays(&app, &video).await;
    app.finish().await;
}

#[tokio::test]
async fn a_rendition_is_deleted_by_its_owner_unless_it_is_the_last() {
    let app = TestApp::start().await;
    let (ada, bob) = (app.user("ada").await, app.user("bob").await);
    let video = app.ready(&ada, "A film", "public").await;
    let id = text(&video["id"]);
    // What another transcoder made; that its files are missing is nothing to whoever deletes it.
    let db = rusqlite::Connection::open(app.folder.path().join("data/vidcore.db")).expect("the database");
    db.busy_timeout(std::time::Duration::from_secs(20)).expect("the timeout is set");
    db.execute_batch(&format!(
        "INSERT INTO renditions (id, source_pk, name, kind, status, token, prefix, width, height, created_at_ms, ready_at_ms)
         SELECT randomblob(16), source_pk, '360p', 'hls', 'ready', token, 'renditions/{id}/9/360p', 640, 360, 0, 0
         FROM renditions;
         INSERT INTO objects (key, video_pk, size_bytes, sha256, content_type, created_at_ms)
         SELECT 'renditions/{id}/9/360p/index.m3u8', pk, 1, zeroblob(32), 'x', 0 FROM videos;"
    ))
    .expect("the rows are valid");
    let renditions = format!("/api/v1/videos/{id}/renditions");
    let delete = |name: &str| app.delete(&format!("{renditions}/{name}"));
    assert_eq!("not_found", delete("360p").by(&bob).send().await.problem(404));
    assert_eq!("not_found", delete("480p").by(&ada).send().await.problem(404));
    for _ in 0..2 {
        delete("360p").by(&ada).key("once").send().await.expect(204);
    }
    assert_eq!("not_found", delete("360p").by(&ada).send().await.problem(404));
    let left = app.get(&renditions).send().await.expect(200).json();
    assert_eq!(1, left["items"].as_array().expect("items").len());
    assert_eq!("last_rendition", delete(text(&left["items"][0]["name"])).by(&ada).send().await.problem(409));
    let path = format!("/api/v1/videos/{id}");
    plays(&app, &app.get(&path).send().await.expect(200).json()).await;
    app.finish().await;
}

#[tokio::test]
async fn the_doctor_finds_and_repairs_in_a_bucket_what_it_does_in_a_folder() {
    let Some(media) = MediaHarness::ffmpeg().await else { return };
    let server = TestS3::start();
    let app = app(&server).any_transcoder(media.transcoder).start().await;
    let ada = app.user("ada").await;
    let video = app.ready(&ada, "A film", "public").await;
    let keys = recorded(&app, "renditions/").await;
    let named = |end: &str| keys.iter().find(|key| key.ends_with(end)).unwrap_or_else(|| panic!("{end}: {keys:?}"));
    let (changed, lost) = (named("index.m3u8"), named(".jpg"));
    let mut bytes = std::fs::read(server.file_of(changed)).expect("it is there");
    bytes[0] ^= 1;
    std::fs::write(server.file_of(changed), bytes).expect("there is room");
    assert!(app.platform.examine(false).await.expect("all answers").is_sound(), "its length is right");
    std::fs::remove_file(server.file_of(lost)).expect("it is there");
    let nobodys = format!("renditions/{}/9/left.m4s", text(&video["id"]));
    std::fs::create_dir_all(server.file_of(&nobodys).parent().expect("a key has a folder")).expect("there is room");
    std::fs::write(server.file_of(&nobodys), b"nobody's").expect("there is room");

    let report = app.platform.repair(true).await.expect("all answers");
    let found =
        |check, key: &str| report.treated.iter().any(|it| it.finding.check == check && it.finding.subject == key);
    assert!(found(Check::ObjectDiffers, changed), "{report:#?}");
    assert!(found(Check::ObjectMissing, lost), "{report:#?}");
    assert!(found(Check::Orphan, &nobodys), "{report:#?}");
    assert!(report.treated.iter().all(|it| it.remedy == Remedy::Repaired), "{report:#?}");
    assert!(!server.file_of(&nobodys).exists());
    let ended = |job: &Value| matches!(text(&job["state"]), "done" | "dead" | "cancelled");
    app.until(&ada, "/api/v1/jobs", |page| page["items"].as_array().expect("items").iter().all(ended)).await;
    let path = format!("/api/v1/videos/{}", text(&video["id"]));
    let again = app.get(&path).by(&ada).send().await.expect(200).json();
    for link in ["url", "poster_url"] {
        app.get(text(&again["playback"][link])).send().await.expect(200);
    }
    // What was made again is whole, and the old attempts' leftovers are collected.
    app.platform.collect_objects().await.expect("all answers");
    app.finish().await;
}

#[tokio::test]
async fn viewers_are_sent_to_the_bucket_where_the_operator_wants_that() {
    let server = TestS3::start();
    let redirect = |settings: &mut Settings| settings.playback.delivery = DeliveryChoice::Redirect;
    let app = app(&server).settings(redirect).start().await;
    let ada = app.user("ada").await;
    let video = app.ready(&ada, "A film", "public").await;
    let file = text(&video["playback"]["url"]);
    let answer = app.get(file).send().await.expect(302);
    assert_eq!("private, no-store", answer.header("cache-control"));
    let url = answer.header("location").to_owned();
    let http = reqwest::Client::new();
    let whole = http.get(&url).send().await.expect("the bucket answers");
    assert_eq!(
        ("video/mp4", "private, max-age=600"),
        (header(&whole, "content-type"), header(&whole, "cache-control"))
    );
    assert_eq!("inline", header(&whole, "content-disposition"));
    assert_eq!(CLIP, whole.bytes().await.expect("they come"));
    let part = http.get(&url).header("range", "bytes=10-19").send().await.expect("the bucket answers");
    assert_eq!(206, part.status());
    assert_eq!(CLIP[10..20], part.bytes().await.expect("they come"));
    // The URL is good for this object and for reading it, and nothing else.
    let put = http.put(&url).body("x").send().await.expect("the bucket answers");
    assert_eq!(403, put.status());
    let other = http.get(url.replace("/originals/", "/renditions/")).send().await.expect("the bucket answers");
    assert_eq!(403, other.status());
    // What the server knows by itself it says by itself.
    let head = app.call(reqwest::Method::HEAD, file).send().await.expect(200);
    assert_eq!(CLIP.len().to_string(), head.header("content-length"));
    let tag = head.header("etag").to_owned();
    app.get(file).header("if-none-match", &tag).send().await.expect(304);
    // The bucket does not know the server's tags: conditions on them are judged where they were given.
    app.get(file).header("if-match", &tag).send().await.expect(200);
    let part = app.get(file).header("if-range", &tag).header("range", "bytes=10-19").send().await.expect(206);
    assert_eq!(CLIP[10..20], part.body);
    // A download is called like the video there too.
    let path = format!("/api/v1/videos/{}/playback-tokens", text(&video["id"]));
    let minted = app.post(&path).by(&ada).json(&json!({"download": true})).send().await.expect(201).json();
    let (root, _) = text(&minted["url"]).rsplit_once('/').expect("a path");
    let answer = app.get(&format!("{root}/download")).send().await.expect(302);
    let original = http.get(answer.header("location")).send().await.expect("the bucket answers");
    assert!(header(&original, "content-disposition").starts_with("attachment; filename=\"A film.mp4\""));
    // No grant, no URL.
    app.delete(&path).by(&ada).send().await.expect(204);
    app.get(file).send().await.expect(404);
    app.finish().await;
}

fn header<'a>(answer: &'a reqwest::Response, name: &str) -> &'a str {
    answer.headers()[name].to_str().expect("it is text")
}

#[tokio::test]
async fn segments_come_from_the_bucket_and_playlists_and_pictures_from_here() {
    let Some(media) = MediaHarness::ffmpeg().await else { return };
    let server = TestS3::start();
    let redirect = |settings: &mut Settings| settings.playback.delivery = DeliveryChoice::Redirect;
    let app = app(&server).settings(redirect).any_transcoder(media.transcoder).start().await;
    let ada = app.user("ada").await;
    let video = app.ready(&ada, "A film", "public").await;
    let first = |text: &[u8]| {
        let text = String::from_utf8(text.to_vec()).expect("text");
        text.lines().find(|line| !line.starts_with('#')).expect("a line").to_owned()
    };
    let (root, _) = text(&video["playback"]["url"]).rsplit_once('/').expect("a path");
    let master = app.get(text(&video["playback"]["url"])).send().await.expect(200);
    let index = format!("{root}/{}", first(&master.body));
    let (rendition, _) = index.rsplit_once('/').expect("a path");
    let segment = format!("{rendition}/{}", first(&app.get(&index).send().await.expect(200).body));
    app.get(&format!("{root}/poster.jpg")).send().await.expect(200);
    for (path, kind) in [(segment, "video/iso.segment"), (format!("{rendition}/init.mp4"), "video/mp4")] {
        let head = app.call(reqwest::Method::HEAD, &path).send().await.expect(200);
        let answer = app.get(&path).send().await.expect(302);
        let sent = reqwest::get(answer.header("location")).await.expect("the bucket answers");
        assert_eq!(kind, header(&sent, "content-type"));
        assert_eq!(head.header("content-length"), sent.bytes().await.expect("they come").len().to_string());
    }
    app.platform.catalog().flush_views().await.expect("the database answers");
    let id = text(&video["id"]).parse().expect("an id");
    let page = app.platform.store().video(id).await.expect("the database answers").expect("it is there");
    assert_eq!(1, page.views, "being sent to a segment is watching it");
    app.finish().await;
}
