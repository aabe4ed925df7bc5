//! What an S3 service does wrong, and what becomes of it: repeated within a bound, then a clear error, and never a
//! half object.
#![cfg(feature = "s3")]

use std::error::Error;

use bytes::Bytes;
use futures_util::{TryStreamExt, stream};
use vidcore::platform::settings::{S3Settings, Secret, Settings, StorageChoice, StorageSettings};
use vidcore::platform::{OpenError, Platform};
use vidcore::storage::Objects;
use vidcore::storage::objects::{ObjectError, WriteError, Written};
use vidcore::store::BoxError;
use vidcore::testkit::TestS3;
use vidcore::testkit::s3::{Fault, Method};

const KEY: &str = "originals/video/upload";

/// Three parts.
const LARGE: usize = 11 << 20;

const INTERNAL: Fault = Fault::Refuse(500, "InternalError");
const SLOW_DOWN: Fault = Fault::Refuse(503, "SlowDown");

fn objects(settings: &S3Settings) -> Objects {
    Objects::s3(settings).expect("the settings are usable")
}

fn start() -> (TestS3, Objects) {
    let server = TestS3::start();
    let objects = objects(&server.settings());
    (server, objects)
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 31 + i / 251) as u8).collect()
}

async fn put(objects: &Objects, key: &str, bytes: &[u8]) -> Result<Written, WriteError> {
    let chunks: Vec<Result<_, BoxError>> =
        bytes.chunks(1 << 18).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    objects.write(key, stream::iter(chunks), u64::MAX).await
}

async fn get(objects: &Objects, key: &str) -> Result<Vec<u8>, ObjectError> {
    let chunks: Vec<Bytes> = objects.read(key, None).await?.try_collect().await?;
    Ok(chunks.concat())
}

/// The whole story, as a log tells it.
fn story(error: &(dyn Error + 'static)) -> String {
    let (mut story, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        story = format!("{story}: {error}");
        cause = error.source();
    }
    story
}

/// One request more than it is repeated.
fn plan_all(server: &TestS3, method: &Method, part: &str, fault: Fault) {
    for _ in 0..=server.settings().retries {
        server.plan(method.clone(), part, fault);
    }
}

#[tokio::test]
async fn errors_of_the_service_are_waited_out() {
    let (server, objects) = start();
    for fault in [INTERNAL, SLOW_DOWN, Fault::LoseAnswer] {
        let before = server.requests(&Method::GET, KEY);
        for method in [Method::PUT, Method::GET, Method::HEAD, Method::DELETE] {
            server.plan(method.clone(), KEY, fault);
            server.plan(method, KEY, fault);
        }
        let written = put(&objects, KEY, b"bytes").await.expect("the third try is let through");
        assert_eq!(b"bytes", &*get(&objects, KEY).await.expect("the third try is let through"));
        assert_eq!(Some(written.size_bytes), objects.size(KEY).await.expect("the third try is let through"));
        objects.delete(KEY).await.expect("the third try is let through");
        assert_eq!(None, objects.size(KEY).await.expect("nothing is wrong any more"));
        assert_eq!(3, server.requests(&Method::GET, KEY) - before, "{fault:?}");
    }
}

#[tokio::test]
async fn a_service_that_stays_broken_is_asked_a_bounded_number_of_times() {
    let (server, objects) = start();
    put(&objects, KEY, b"bytes").await.expect("nothing is wrong yet");
    for fault in [INTERNAL, SLOW_DOWN] {
        let before = server.requests(&Method::GET, KEY);
        server.always(Some(fault));
        let error = get(&objects, KEY).await.expect_err("nothing is let through");
        assert!(matches!(error, ObjectError::Unavailable { .. }), "{error:?}");
        assert_eq!(server.settings().retries as usize + 1, server.requests(&Method::GET, KEY) - before);
        let Fault::Refuse(_, code) = fault else { unreachable!("both are refusals") };
        assert!(story(&error).contains(code), "{}", story(&error));
        assert!(matches!(objects.size(KEY).await, Err(ObjectError::Unavailable { .. })));
        assert!(matches!(objects.delete(KEY).await, Err(ObjectError::Unavailable { .. })));
        assert!(matches!(objects.keys_under("").await, Err(ObjectError::Unavailable { .. })));
        assert!(put(&objects, "originals/other", b"x").await.is_err());
        server.always(None);
        assert_eq!([KEY], *objects.keys_under("").await.expect("nothing is wrong any more"));
        assert_eq!(b"bytes", &*get(&objects, KEY).await.expect("nothing is wrong any more"));
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_read_on_from_there() {
    let (server, objects) = start();
    let bytes = pattern(LARGE);
    let written = put(&objects, KEY, &bytes).await.expect("nothing is wrong yet");
    server.plan(Method::GET, KEY, Fault::CutBody);
    server.plan(Method::GET, KEY, Fault::CutBody);
    assert!(bytes == get(&objects, KEY).await.expect("the rest is asked for"));
    assert_eq!(3, server.requests(&Method::GET, KEY));
    server.plan(Method::GET, KEY, Fault::CutBody);
    assert_eq!(written, objects.measure(KEY).await.expect("the rest is asked for"));
}

#[tokio::test]
async fn a_body_that_always_breaks_off_never_passes_for_the_whole() {
    let (server, objects) = start();
    put(&objects, KEY, &pattern(LARGE)).await.expect("nothing is wrong yet");
    server.always(Some(Fault::CutBody));
    assert!(matches!(get(&objects, KEY).await, Err(ObjectError::Unavailable { .. })));
    assert!(matches!(objects.measure(KEY).await, Err(ObjectError::Unavailable { .. })));
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let fetched = objects.materialize(KEY, &folder.path().join("source")).await;
    assert!(matches!(fetched, Err(ObjectError::Unavailable { .. })), "{fetched:?}");
}

#[tokio::test]
async fn a_service_that_never_answers_is_given_up() {
    let server = TestS3::start();
    let objects = objects(&S3Settings { request_timeout_ms: 50, retries: 1, ..server.settings() });
    server.always(Some(Fault::Hang));
    let error = get(&objects, KEY).await.expect_err("no answer comes");
    assert!(matches!(error, ObjectError::Unavailable { .. }), "{error:?}");
    assert_eq!(2, server.requests(&Method::GET, KEY));
    assert!(put(&objects, KEY, b"bytes").await.is_err());
    server.always(None);
    assert!(objects.keys_under("").await.expect("it answers again").is_empty());
}

#[tokio::test]
async fn a_service_that_is_not_there_is_unavailable() {
    let server = TestS3::start();
    let objects = objects(&server.settings());
    drop(server);
    assert!(matches!(get(&objects, KEY).await, Err(ObjectError::Unavailable { .. })));
    assert!(put(&objects, KEY, b"bytes").await.is_err());
}

#[tokio::test]
async fn expired_credentials_are_a_clear_error_and_not_tried_again() {
    let (server, objects) = start();
    put(&objects, KEY, b"bytes").await.expect("nothing is wrong yet");
    for (status, code) in [(400, "ExpiredToken"), (403, "ExpiredToken"), (403, "RequestTimeTooSkewed")] {
        let before = server.requests(&Method::GET, KEY);
        server.always(Some(Fault::Refuse(status, code)));
        let error = get(&objects, KEY).await.expect_err("nothing is let through");
        let story = story(&error);
        assert!(story.contains("the object store refuses these credentials") && story.contains(code), "{story}");
        assert_eq!(1, server.requests(&Method::GET, KEY) - before, "{code}");
        server.always(None);
    }
}

#[tokio::test]
async fn a_wrong_secret_is_refused_by_its_signature() {
    let server = TestS3::start();
    let wrong = S3Settings { secret_access_key: Secret::new("a guess"), ..server.settings() };
    let error = put(&objects(&wrong), KEY, b"bytes").await.expect_err("the signature is checked");
    assert!(story(&error).contains("SignatureDoesNotMatch"), "{}", story(&error));
    assert!(!format!("{error:?} {wrong:?}").contains("a guess"));
    assert!(!server.file_of(KEY).exists());
    assert!(Objects::check_s3(&wrong).await.is_err());
    Objects::check_s3(&server.settings()).await.expect("these are the right ones");
}

#[tokio::test]
async fn without_the_bucket_nothing_is_said_to_be_missing() {
    let server = TestS3::start();
    let elsewhere = S3Settings { bucket: "mistyped".into(), ..server.settings() };
    let error = Objects::check_s3(&elsewhere).await.expect_err("there is no such bucket");
    assert!(story(&error).contains("there is no such bucket"), "{}", story(&error));
    server.plan(Method::GET, KEY, Fault::Refuse(404, "NoSuchBucket"));
    let lost = get(&objects(&server.settings()), KEY).await;
    assert!(matches!(lost, Err(ObjectError::Unavailable { .. })), "{lost:?}");
}

#[tokio::test]
async fn a_full_disk_behind_the_service_is_a_full_disk() {
    let (server, objects) = start();
    plan_all(&server, &Method::PUT, KEY, Fault::Refuse(507, "XMinioStorageFull"));
    let outcome = put(&objects, KEY, b"bytes").await;
    assert!(matches!(outcome, Err(WriteError::Object(ObjectError::Full(_)))), "{outcome:?}");
}

#[tokio::test]
async fn a_part_that_is_refused_for_good_leaves_no_parts() {
    let (server, objects) = start();
    plan_all(&server, &Method::PUT, "partNumber=2", SLOW_DOWN);
    let outcome = put(&objects, KEY, &pattern(LARGE)).await;
    assert!(matches!(outcome, Err(WriteError::Object(ObjectError::Unavailable { .. }))), "{outcome:?}");
    assert_eq!(0, server.parts_left());
    assert_eq!(None, objects.size(KEY).await.expect("nothing is wrong any more"));
}

#[tokio::test]
async fn a_completion_that_is_refused_for_good_leaves_no_parts_and_what_was_there() {
    let (server, objects) = start();
    put(&objects, KEY, b"from before").await.expect("nothing is wrong yet");
    plan_all(&server, &Method::POST, "uploadId=", INTERNAL);
    assert!(put(&objects, KEY, &pattern(LARGE)).await.is_err());
    assert_eq!(0, server.parts_left());
    assert_eq!(b"from before", &*get(&objects, KEY).await.expect("nothing is wrong any more"));
}

#[tokio::test]
async fn a_small_object_is_one_request_and_a_large_one_is_in_parts() {
    let (server, objects) = start();
    put(&objects, "originals/small", &pattern(5 << 20)).await.expect("it fits one part");
    assert_eq!((1, 0), (server.requests(&Method::PUT, "small"), server.requests(&Method::POST, "small")));
    put(&objects, "originals/large", &pattern((5 << 20) + 1)).await.expect("it takes two");
    assert_eq!((2, 2), (server.requests(&Method::PUT, "large"), server.requests(&Method::POST, "large")));
}

#[tokio::test]
async fn a_rename_that_fails_keeps_its_source() {
    let (server, objects) = start();
    let (from, bytes) = ("staging/upload/1", pattern(LARGE));
    let written = put(&objects, from, &bytes).await.expect("nothing is wrong yet");
    let in_parts = objects.clone().with_copy_limit(1 << 20);
    for (renaming, part) in [(&objects, KEY), (&in_parts, "partNumber=1&")] {
        plan_all(&server, &Method::PUT, part, INTERNAL);
        assert!(renaming.rename(from, KEY).await.is_err());
        assert_eq!(None, objects.size(KEY).await.expect("nothing is wrong any more"));
        assert_eq!(written, objects.measure(from).await.expect("it is still there"));
        assert_eq!(0, server.parts_left());
    }
    // What broke off while it was read must not be taken for all of it.
    server.plan(Method::GET, from, Fault::CutBody);
    plan_all(&server, &Method::GET, from, INTERNAL);
    assert!(in_parts.rename(from, KEY).await.is_err());
    assert_eq!(None, objects.size(KEY).await.expect("nothing is wrong any more"));
    for renaming in [&objects, &in_parts] {
        plan_all(&server, &Method::DELETE, from, INTERNAL);
        assert!(renaming.rename(from, KEY).await.is_err());
        assert_eq!(written, objects.measure(from).await.expect("it is still there"));
        // The next attempt finds both, and ends what the first began.
        renaming.rename(from, KEY).await.expect("nothing is wrong any more");
        assert_eq!(written, objects.measure(KEY).await.expect("it was renamed"));
        assert_eq!(None, objects.size(from).await.expect("nothing is wrong any more"));
        objects.rename(KEY, from).await.expect("nothing is wrong any more");
    }
}

#[tokio::test]
async fn a_platform_opens_with_a_bucket_only_if_it_takes_its_keys() {
    let server = TestS3::start();
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let with = |s3: S3Settings| Settings {
        data_dir: folder.path().to_owned(),
        storage: StorageSettings { back_end: StorageChoice::S3, s3, ..StorageSettings::default() },
        ..Settings::default()
    };
    let unnamed = Platform::open(with(S3Settings { bucket: String::new(), ..server.settings() })).await;
    assert!(matches!(unnamed, Err(OpenError::Setting { setting: "storage.s3.bucket", .. })));
    let guessed = S3Settings { secret_access_key: Secret::new("a guess"), ..server.settings() };
    let refused = Platform::open(with(guessed)).await;
    assert!(matches!(refused, Err(OpenError::Objects(ObjectError::Unavailable { .. }))));
    server.always(Some(SLOW_DOWN));
    let platform = Platform::open(with(server.settings())).await.expect("it may be back in a moment");
    platform.shutdown().await;
    server.always(None);
    let platform = Platform::open(with(server.settings())).await.expect("the bucket is there");
    assert!(platform.examine(true).await.expect("the bucket answers").is_sound());
    platform.shutdown().await;
}
