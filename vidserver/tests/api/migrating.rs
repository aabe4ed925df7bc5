//! Objects move to another place while the server works: `vidserver storage migrate`, broken off and called again.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use vidcore::platform::settings::{FallbackChoice, S3Settings, StorageChoice};
use vidcore::storage::Objects;
use vidcore::testkit::TestS3;
use vidcore::testkit::s3::{Fault, Method};

use crate::app::{TestApp, TestAppBuilder, User, text};
use crate::cli::{Killed, vidserver};
use crate::storage::{in_bucket, plays};
use crate::support::bounded;

/// A file whose `[storage]` is the bucket.
pub(crate) fn bucket_file(s3: &S3Settings) -> tempfile::NamedTempFile {
    config_file(&format!(
        "[storage]\nback_end = 's3'\n[storage.s3]\nbucket = '{}'\nendpoint = '{}'\naccess_key_id = '{}'\n\
         secret_access_key = '{}'\n",
        s3.bucket,
        s3.endpoint,
        s3.access_key_id,
        s3.secret_access_key.expose(),
    ))
}

pub(crate) fn config_file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("there is room");
    file
}

/// The same file with where objects come from.
pub(crate) fn finish_file(file: &tempfile::NamedTempFile, fallback: &str) -> tempfile::NamedTempFile {
    let text = std::fs::read_to_string(file.path()).expect("text");
    config_file(&format!("{text}{fallback}"))
}

/// The command over the app's folder; `config` is the place in use, where it is no folder.
pub(crate) fn migrate(folder: &Path, flags: &[&str], config: Option<&Path>) -> Command {
    let mut command = vidserver(&["storage", "migrate"]);
    command.args(flags).arg("--data-dir").arg(folder.join("data"));
    if let Some(config) = config {
        command.arg("--config").arg(config);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn ends(child: Child) -> Output {
    let waited = tokio::task::spawn_blocking(move || child.wait_with_output());
    bounded(waited).await.expect("waiting does not panic").expect("the program ends")
}

pub(crate) async fn run(mut command: Command) -> String {
    let output = ends(command.spawn().expect("the program starts")).await;
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Waits until the bucket has seen so many writes that begin so.
async fn written(server: &TestS3, prefix: &str, times: usize) {
    bounded(async {
        while server.requests(&Method::PUT, prefix) < times {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
}

async fn keys(objects: &Objects) -> Vec<String> {
    let mut keys = objects.keys_under("").await.expect("the place answers");
    keys.sort();
    keys
}

async fn again(app: &TestApp, user: &User, video: &Value) -> Value {
    app.get(&format!("/api/v1/videos/{}", text(&video["id"]))).by(user).send().await.expect(200).json()
}

pub(crate) fn moving_to(server: &TestS3) -> TestAppBuilder {
    TestApp::builder()
        .settings(in_bucket(server))
        .settings(|settings| settings.storage.fallback.back_end = FallbackChoice::Local)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_move_into_a_bucket_beside_uploads_and_a_kill_and_everything_plays() {
    let server = TestS3::start();
    let (bucket, file) = (server.settings(), bucket_file(&server.settings()));
    let to = ["--to", file.path().to_str().expect("a path is text")];
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    let mut videos = vec![app.ready(&ada, "One", "public").await, app.ready(&ada, "Two", "public").await];

    // Killed while one object is on its way.
    server.plan(Method::PUT, "originals/", Fault::Hang);
    let child = Killed(migrate(app.folder.path(), &to, None).spawn().expect("the program starts"));
    written(&server, "originals/", 1).await;
    drop(child);
    server.release();

    // Called again; while an object is on its way, another video is uploaded.
    server.plan(Method::PUT, "originals/", Fault::Hang);
    let before = server.requests(&Method::PUT, "originals/");
    let child = migrate(app.folder.path(), &to, None).spawn().expect("the program starts");
    written(&server, "originals/", before + 1).await;
    videos.push(app.ready(&ada, "Three", "public").await);
    server.release();
    let output = ends(child).await;
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("storage migrate --finish"), "{output:?}");
    let in_new = Objects::s3(&bucket).expect("the settings are usable");
    assert_eq!(keys(app.platform.objects()).await, keys(&in_new).await);
    // All is there: nothing is sent again.
    let sent = server.requests(&Method::PUT, "");
    let told = run(migrate(app.folder.path(), &[&to[..], &["--verify"]].concat(), None)).await;
    assert!(told.starts_with("copied 0 objects of 0 bytes; 3 were there; 0 left out\n"), "{told}");
    assert_eq!(sent, server.requests(&Method::PUT, ""));

    // The last that the old place alone has.
    videos.push(app.ready(&ada, "Four", "public").await);
    let draft = app.draft(&ada, "Five", "public").await;
    let upload = app.upload(&ada, text(&draft["id"]), crate::app::CLIP.len()).await;
    app.put(text(&upload["upload_url"])).bytes(crate::app::CLIP).send().await.expect(200);
    let folder = app.end().await;

    let app = moving_to(&server).folder(folder).start().await;
    let before = keys(&in_new).await.len();
    for video in &videos {
        plays(&app, &again(&app, &ada, video).await).await;
    }
    assert_eq!(before, keys(&in_new).await.len(), "reading moves nothing");
    // What was staged in the old place is pinned in the new one.
    let path = format!("/api/v1/uploads/{}/complete", text(&upload["id"]));
    app.post(&path).by(&ada).send().await.expect(202);
    let path = format!("/api/v1/videos/{}", text(&draft["id"]));
    videos.push(app.until(&ada, &path, |video| video["status"] == "ready").await);
    let pinned = format!("originals/{}/{}", text(&draft["id"]), text(&upload["id"]));
    assert_eq!(Some(crate::app::CLIP.len() as u64), in_new.size(&pinned).await.expect("the bucket answers"));
    // Beside the server, what only the old place has is brought over; then nothing needs it.
    let moving = finish_file(&file, "[storage.fallback]\nback_end = 'local'\n");
    let told = run(migrate(app.folder.path(), &["--finish"], Some(moving.path()))).await;
    assert!(told.starts_with("copied 1 objects of "), "{told}");
    let folder = app.end().await;
    std::fs::remove_dir_all(folder.path().join("data/objects")).expect("the old place is not used any more");

    let app = TestApp::builder().settings(in_bucket(&server)).folder(folder).start().await;
    for video in &videos {
        plays(&app, &again(&app, &ada, video).await).await;
    }
    app.finish().await;
}

async fn original_of(app: &TestApp, video: &Value) -> String {
    let prefix = format!("originals/{}", text(&video["id"]));
    app.platform.objects().keys_under(&prefix).await.expect("the place answers").remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_move_out_of_a_bucket_and_the_move_is_finished() {
    let server = TestS3::start();
    let app = TestApp::builder().settings(in_bucket(&server)).start().await;
    let ada = app.user("ada").await;
    let mut videos = vec![app.ready(&ada, "One", "public").await];
    let (in_use, local) = (bucket_file(&server.settings()), config_file("[storage]\nback_end = 'local'\n"));
    let to = ["--to", local.path().to_str().expect("a path is text")];
    run(migrate(app.folder.path(), &to, Some(in_use.path()))).await;
    videos.push(app.ready(&ada, "Two", "public").await);
    let folder = app.end().await;

    let bucket = server.settings();
    let back = move |settings: &mut vidcore::platform::Settings| {
        settings.storage.fallback.back_end = FallbackChoice::S3;
        settings.storage.fallback.s3 = bucket;
    };
    let app = TestApp::builder().settings(back).folder(folder).start().await;
    for video in &videos {
        plays(&app, &again(&app, &ada, video).await).await;
    }
    videos.push(app.ready(&ada, "Three", "public").await);
    let moving = std::fs::read_to_string(in_use.path()).expect("text");
    let moving = moving.replace("'s3'", "'local'\n[storage.fallback]\nback_end = 's3'");
    let moving = config_file(&moving.replace("[storage.s3]", "[storage.fallback.s3]"));
    let told = run(migrate(app.folder.path(), &["--finish"], Some(moving.path()))).await;
    assert!(told.starts_with("copied 1 objects of "), "{told}");
    let folder = app.end().await;
    drop(server);

    let app = TestApp::builder().folder(folder).start().await;
    assert_eq!(StorageChoice::Local, app.platform.settings().storage.back_end);
    for video in &videos {
        plays(&app, &again(&app, &ada, video).await).await;
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_object_is_told_and_not_taken_for_moved() {
    let server = TestS3::start();
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    let video = app.ready(&ada, "One", "public").await;
    let key = original_of(&app, &video).await;
    let original = app.folder.path().join("data/objects").join(&key);
    let bytes = std::fs::read(&original).expect("it is there");
    std::fs::write(&original, [&bytes[1..], b"x"].concat()).expect("there is room");
    let file = bucket_file(&server.settings());
    let to = ["--to", file.path().to_str().expect("a path is text")];
    let told = ends(migrate(app.folder.path(), &to, None).spawn().expect("the program starts")).await;
    let words = String::from_utf8_lossy(&told.stderr);
    assert!(!told.status.success() && words.contains("differ from their rows") && words.contains(&key), "{told:?}");
    assert!(!server.file_of(&key).exists());
    std::fs::write(&original, bytes).expect("there is room");
    run(migrate(app.folder.path(), &to, None)).await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_to_where_objects_are_or_from_nowhere_is_refused() {
    let app = TestApp::start().await;
    let here = config_file("[storage]\nback_end = 'local'\n");
    let to = ["--to", here.path().to_str().expect("a path is text")];
    for (flags, word) in [(&to[..], "in use"), (&["--finish"][..], "names no place"), (&[][..], "--to")] {
        let told = ends(migrate(app.folder.path(), flags, None).spawn().expect("the program starts")).await;
        assert!(!told.status.success() && String::from_utf8_lossy(&told.stderr).contains(word), "{told:?}");
    }
    app.finish().await;
}
