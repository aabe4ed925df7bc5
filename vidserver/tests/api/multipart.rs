//! Files that clients put into the bucket themselves, in parts.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use vidcore::storage::objects::sha256;
use vidcore::testkit::TestS3;
use vidcore::testkit::s3::{Fault, Method};

use crate::app::{Answer, CLIP, PASSWORD, TestApp, TestAppBuilder, User, text};
use crate::storage::in_bucket;
use crate::support::bounded;

const PART: usize = 5 << 20;

/// The clip with a box after it that players skip: three parts, the last one short.
fn film() -> Vec<u8> {
    let free = 2 * PART + 1000 - CLIP.len();
    let length = u32::try_from(free).expect("small").to_be_bytes();
    [CLIP, &length, b"free", &vec![7; free - 8]].concat()
}

fn offered(server: &TestS3) -> TestAppBuilder {
    TestApp::builder().settings(in_bucket(server)).settings(|settings| {
        settings.uploads.direct = true;
        settings.uploads.part_size_bytes = PART as u64;
    })
}

/// What the tests share: a server, its bucket, somebody and an upload of hers.
struct Site {
    server: TestS3,
    app: TestApp,
    ada: User,
    video: Value,
    upload: Value,
}

impl Site {
    async fn start(input: Value) -> Self {
        let server = TestS3::start();
        let app = offered(&server).start().await;
        let ada = app.user("ada").await;
        let video = app.draft(&ada, "A film", "public").await;
        let path = format!("/api/v1/videos/{}/uploads", text(&video["id"]));
        let upload = app.post(&path).by(&ada).json(&input).send().await.expect(201).json();
        Self { server, app, ada, video, upload }
    }

    async fn of_film() -> Self {
        Self::start(json!({"size_bytes": film().len(), "kind": "multipart"})).await
    }

    fn path(&self, rest: &str) -> String {
        format!("/api/v1/uploads/{}{rest}", text(&self.upload["id"]))
    }

    async fn sign(&self, numbers: &[u32]) -> Vec<String> {
        let call = self.app.post(&self.path("/parts")).by(&self.ada).json(&json!({"numbers": numbers}));
        let signed = call.send().await.expect(200).json();
        let items = signed["items"].as_array().expect("a list");
        assert_eq!(
            numbers,
            &*items.iter().map(|it| it["number"].as_u64().expect("a number") as u32).collect::<Vec<_>>()
        );
        items.iter().map(|it| text(&it["url"]).to_owned()).collect()
    }

    async fn put_all(&self, film: &[u8]) {
        let numbers: Vec<u32> = (1..=film.chunks(PART).len() as u32).collect();
        for (url, part) in self.sign(&numbers).await.iter().zip(film.chunks(PART)) {
            assert_eq!(StatusCode::OK, put(url, part).await);
        }
    }

    async fn complete(&self) -> Answer {
        self.app.post(&self.path("/complete")).by(&self.ada).send().await
    }

    async fn stored(&self) -> Vec<u64> {
        let listed = self.app.get(&self.path("/parts")).by(&self.ada).send().await.expect(200).json();
        listed["items"].as_array().expect("a list").iter().map(|it| it["number"].as_u64().expect("a number")).collect()
    }

    async fn ends(&self, status: &str) -> Value {
        self.app.until(&self.ada, &self.path(""), |upload| upload["status"] == status).await
    }

    /// The upload's bytes are the source, and nothing else of them is left.
    async fn assert_arrived(&self, film: &[u8]) {
        let complete = self.ends("complete").await;
        assert_eq!(hex::encode(sha256(film)), complete["sha256"]);
        let key = format!("originals/{}/{}", text(&self.video["id"]), text(&self.upload["id"]));
        let measured = self.app.platform.objects().measure(&key).await.expect("it is there");
        assert_eq!((film.len() as u64, sha256(film)), (measured.size_bytes, measured.sha256));
        let path = format!("/api/v1/videos/{}", text(&self.video["id"]));
        self.app.until(&self.ada, &path, |video| video["status"] == "ready").await;
        self.assert_nothing_left().await;
    }

    async fn assert_nothing_left(&self) {
        assert!(self.app.platform.objects().keys_under("staging").await.expect("the bucket answers").is_empty());
        assert_eq!(0, self.server.parts_left());
    }

    async fn finish(self) {
        self.app.finish().await;
    }
}

/// Whoever has the URL: no account, no key.
async fn put(url: &str, bytes: &[u8]) -> StatusCode {
    let sent = reqwest::Client::new().put(url).body(bytes.to_vec()).send().await;
    sent.expect("the bucket answers").status()
}

/// The bucket may say no before it has read all, and close the line upon whoever still sends.
async fn assert_refused(url: &str, bytes: &[u8], status: StatusCode) {
    match reqwest::Client::new().put(url).body(bytes.to_vec()).send().await {
        Ok(answer) => assert_eq!(status, answer.status(), "{url}"),
        Err(error) => assert!(error.is_request(), "{error:?}"),
    }
}

#[tokio::test]
async fn a_film_in_parts_that_come_in_any_order_and_again_becomes_a_source() {
    let (film, site) = (film(), Site::of_film().await);
    assert_eq!(("multipart", 3, false), shown(&site.upload));
    assert!(site.upload["upload_url"].is_null());
    let urls = site.sign(&[1, 2, 3]).await;
    let parts: Vec<&[u8]> = film.chunks(PART).collect();
    assert_eq!(StatusCode::OK, put(&urls[2], parts[2]).await);
    assert_eq!([3], *site.stored().await);
    let early = site.complete().await.expect(409).json();
    assert_eq!("parts_missing", early["code"]);
    assert_eq!("2 parts are missing, the first of them is number 1", early["detail"]);
    // Another part's bytes first, then its own; the URL is good for both.
    assert_eq!(StatusCode::OK, put(&urls[0], parts[1]).await);
    assert_eq!(StatusCode::OK, put(&urls[0], parts[0]).await);
    assert_eq!(StatusCode::OK, put(&site.sign(&[2]).await[0], parts[1]).await);
    assert_eq!([1, 2, 3], *site.stored().await);
    assert_eq!(("multipart", 3, true), shown(&site.complete().await.expect(202).json()));
    site.assert_arrived(&film).await;
    // A kept URL changes nothing of what was verified.
    assert_refused(&urls[0], parts[1], StatusCode::NOT_FOUND).await;
    site.complete().await.expect(202);
    assert_eq!("wrong_state", site.app.get(&site.path("/parts")).by(&site.ada).send().await.expect(409).json()["code"]);
    site.finish().await;
}

fn shown(upload: &Value) -> (&str, u64, bool) {
    let count = upload["part_count"].as_u64().expect("a number");
    (text(&upload["kind"]), count, upload["received"].as_bool().expect("a flag"))
}

#[tokio::test]
async fn a_url_takes_the_bytes_it_was_signed_for_and_no_others() {
    let (film, site) = (film(), Site::of_film().await);
    let url = &site.sign(&[1]).await[0];
    for length in [PART - 1, PART + 1, 0] {
        assert_refused(url, &vec![7; length], StatusCode::FORBIDDEN).await;
    }
    for (from, to) in [("partNumber=1", "partNumber=2"), ("uploadId=", "uploadId=x"), ("/staging/", "/originals/")] {
        assert!(url.contains(from), "{url}");
        assert_refused(&url.replace(from, to), &film[..PART], StatusCode::FORBIDDEN).await;
    }
    let read = reqwest::get(url).await.expect("the bucket answers");
    assert_eq!(StatusCode::FORBIDDEN, read.status());
    assert!(site.stored().await.is_empty());
    site.finish().await;
}

#[tokio::test]
async fn numbers_that_are_no_parts_are_refused_and_strangers_see_nothing() {
    let site = Site::of_film().await;
    let eve = site.app.user("eve").await;
    for numbers in [json!([]), json!([0]), json!([4]), json!([1, 5]), json!([-1]), json!(vec![1; 101]), json!(["1"])] {
        let call = site.app.post(&site.path("/parts")).by(&site.ada).json(&json!({"numbers": numbers}));
        assert_eq!("invalid_body", call.send().await.expect(422).json()["code"], "{numbers}");
    }
    site.app.post(&site.path("/parts")).by(&eve).json(&json!({"numbers": [1]})).send().await.expect(404);
    site.app.get(&site.path("/parts")).by(&eve).send().await.expect(404);
    site.app.get(&site.path("/parts?after=10001")).by(&site.ada).send().await.expect(400);
    // It is none of the uploads that are appended to.
    let tus = format!("/api/v1/uploads/tus/{}", text(&site.upload["id"]));
    site.app.call(Method::HEAD, &tus).by(&site.ada).header("tus-resumable", "1.0.0").send().await.expect(404);
    site.app.call(Method::DELETE, &tus).by(&site.ada).header("tus-resumable", "1.0.0").send().await.expect(404);
    // Nothing was begun for that in the bucket.
    assert_eq!(0, site.server.requests(&Method::POST, "uploads"));
    let whole = site.app.upload(&site.ada, text(&site.video["id"]), 5).await;
    let path = format!("/api/v1/uploads/{}/parts", text(&whole["id"]));
    let answer = site.app.post(&path).by(&site.ada).json(&json!({"numbers": [1]})).send().await.expect(409);
    assert_eq!("wrong_state", answer.json()["code"]);
    site.finish().await;
}

#[tokio::test]
async fn where_it_is_not_offered_no_upload_in_parts_is_opened() {
    let server = TestS3::start();
    for app in [TestApp::start().await, TestApp::builder().settings(in_bucket(&server)).start().await] {
        let ada = app.user("ada").await;
        let video = app.draft(&ada, "A film", "public").await;
        let path = format!("/api/v1/videos/{}/uploads", text(&video["id"]));
        let call = app.post(&path).by(&ada).json(&json!({"size_bytes": 5, "kind": "multipart"}));
        assert_eq!("/kind", call.send().await.expect(422).json()["errors"][0]["pointer"]);
        app.finish().await;
    }
}

#[tokio::test]
async fn an_upload_that_is_given_up_takes_its_parts_along() {
    let (film, site) = (film(), Site::of_film().await);
    site.put_all(&film).await;
    let url = site.sign(&[1]).await.remove(0);
    site.app.delete(&site.path("")).by(&site.ada).send().await.expect(200);
    site.assert_nothing_left().await;
    assert_refused(&url, &film[..PART], StatusCode::NOT_FOUND).await;
    let usage = site.app.get("/api/v1/users/me/usage").by(&site.ada).send().await.expect(200).json();
    assert_eq!(0, usage["reserved_bytes"]);
    site.finish().await;
}

#[tokio::test]
async fn an_upload_whose_time_is_over_takes_its_parts_along() {
    let (film, site) = (film(), Site::of_film().await);
    site.put_all(&film).await;
    let day = Duration::from_secs(86_400);
    site.app.clock.advance(day);
    let body = json!({"email": site.ada.email, "password": PASSWORD});
    let ada = User::of(&site.app.post("/api/v1/auth/login").json(&body).send().await.expect(200).json());
    let call = site.app.post(&site.path("/parts")).by(&ada).json(&json!({"numbers": [1]}));
    assert_eq!("upload_expired", call.send().await.expect(410).json()["code"]);
    let path = site.path("/complete");
    assert_eq!("upload_expired", site.app.post(&path).by(&ada).send().await.expect(410).json()["code"]);
    // Time goes on until a worker has come by.
    let gone = async {
        while site.server.parts_left() > 0 {
            site.app.clock.advance(Duration::from_secs(600));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    bounded(gone).await;
    site.finish().await;
}

#[tokio::test]
async fn bytes_that_are_not_the_declared_ones_are_rejected() {
    let film = film();
    let declared = hex::encode(sha256(&film[1..]));
    let site = Site::start(json!({"size_bytes": film.len(), "kind": "multipart", "sha256": declared})).await;
    site.put_all(&film).await;
    site.complete().await.expect(202);
    let rejected = site.ends("rejected").await;
    assert!(text(&rejected["reason"]).contains("SHA-256"), "{rejected}");
    site.assert_nothing_left().await;
    site.finish().await;
}

#[tokio::test]
async fn trouble_of_the_bucket_is_said_and_got_over() {
    let (film, site) = (film(), Site::of_film().await);
    // As often as it is tried.
    for _ in 0..4 {
        site.server.plan(Method::POST, "uploads", Fault::Refuse(503, "SlowDown"));
    }
    let call = || site.app.post(&site.path("/parts")).by(&site.ada).json(&json!({"numbers": [1]}));
    assert_eq!("unavailable", call().send().await.expect(503).json()["code"]);
    site.put_all(&film).await;
    // Lists are asked for again, and so is what joins, whose answer may be lost.
    for fault in [Fault::Refuse(500, "InternalError"), Fault::CutBody, Fault::LoseAnswer] {
        site.server.plan(Method::GET, "uploadId=", fault);
    }
    assert_eq!([1, 2, 3], *site.stored().await);
    site.server.plan(Method::POST, "uploadId=", Fault::LoseAnswer);
    site.complete().await.expect(202);
    site.assert_arrived(&film).await;
    site.finish().await;
}

#[tokio::test]
async fn parts_that_belong_to_no_upload_are_collected_once_they_are_old() {
    let (film, site) = (film(), Site::of_film().await);
    let objects = site.app.platform.objects().clone();
    let direct = objects.direct().expect("it is a bucket");
    site.put_all(&film).await;
    // What a process that was killed at the worst moment has begun, and what others keep in the same bucket.
    direct.begin("staging/0192f0c0-0000-7000-8000-000000000000/whole").await.expect("the bucket answers");
    direct.begin("renditions/x/y/z").await.expect("the bucket answers");
    direct.begin("backups/of-somebody-else").await.expect("the bucket answers");
    let store = &**site.app.platform.store();
    let collect = async |age: Duration| {
        let now = vidcore::clock::Clock::now(&vidcore::clock::SystemClock::new());
        let never = tokio_util::sync::CancellationToken::new();
        vidcore::housekeeping::collect_unfinished(store, &objects, now.minus(age), &never).await.expect("both answer")
    };
    assert_eq!(0, collect(Duration::from_secs(3600)).await, "they are young");
    let later = Duration::ZERO;
    assert_eq!(2, collect(later).await);
    let left = direct.unfinished(None).await.expect("the bucket answers");
    assert_eq!(2, left.len(), "{left:?}");
    site.complete().await.expect(202);
    site.ends("complete").await;
    site.finish().await;
}

#[tokio::test]
async fn parts_that_could_not_be_given_up_are_collected_at_the_next_turn() {
    let (film, site) = (film(), Site::of_film().await);
    site.put_all(&film).await;
    for _ in 0..4 {
        site.server.plan(Method::DELETE, "uploadId=", Fault::Refuse(503, "SlowDown"));
    }
    site.app.delete(&site.path("")).by(&site.ada).send().await.expect(200);
    assert!(site.server.parts_left() > 0);
    let (store, never) = (&**site.app.platform.store(), tokio_util::sync::CancellationToken::new());
    let long_ago = vidcore::clock::Timestamp::from_millis(0);
    let objects = site.app.platform.objects();
    let collected = vidcore::housekeeping::collect_unfinished(store, objects, long_ago, &never).await;
    assert_eq!(1, collected.expect("both answer"), "however young they are: their row says that it is over");
    site.assert_nothing_left().await;
    site.finish().await;
}

#[tokio::test]
async fn an_open_upload_whose_parts_the_bucket_does_not_know_any_more_is_over() {
    let site = Site::of_film().await;
    let url = site.sign(&[1]).await.remove(0);
    put(&url, &film()[..PART]).await;
    let direct = site.app.platform.objects().direct().expect("it is a bucket");
    for unfinished in direct.unfinished(None).await.expect("the bucket answers") {
        direct.abort(&unfinished.parts).await.expect("the bucket answers");
    }
    let listed = site.app.get(&site.path("/parts")).by(&site.ada).send().await.expect(410);
    assert_eq!("upload_expired", listed.json()["code"]);
    assert_eq!("upload_expired", site.complete().await.expect(410).json()["code"]);
    site.finish().await;
}

/// Its parts were begun in the bucket of before, and stay there until they are joined.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_complete_upload_is_verified_though_objects_have_begun_to_move() {
    let (film, old) = (film(), TestS3::start());
    let app = offered(&old).settings(|settings| settings.worker.enabled = false).start().await;
    let ada = app.user("ada").await;
    let video = app.draft(&ada, "A film", "public").await;
    let path = format!("/api/v1/videos/{}/uploads", text(&video["id"]));
    let input = json!({"size_bytes": film.len(), "kind": "multipart"});
    let upload = app.post(&path).by(&ada).json(&input).send().await.expect(201).json();
    let site = Site { server: TestS3::start(), app, ada, video, upload };
    site.put_all(&film).await;
    site.complete().await.expect(202);

    let Site { server, app, ada, video, upload } = site;
    let bucket = old.settings();
    let moving = move |settings: &mut vidcore::platform::Settings| {
        settings.storage.fallback.back_end = vidcore::platform::settings::FallbackChoice::S3;
        settings.storage.fallback.s3 = bucket;
    };
    let app = offered(&server).settings(moving).folder(app.end().await).start().await;
    let site = Site { server, app, ada, video, upload };
    site.assert_arrived(&film).await;
    assert_eq!(0, old.parts_left());
    site.finish().await;
}
