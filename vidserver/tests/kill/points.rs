//! One test for each point, in the order in which a video passes them.

use std::path::{Path, PathBuf};

use vidcore::Platform;
use vidcore::platform::Settings;
use vidcore::testkit::require;

use crate::process::{Client, Program};

/// A clip of which ffmpeg makes one rendition.
pub(crate) fn clip() -> Vec<u8> {
    fixture("landscape.mp4")
}

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name);
    std::fs::read(path).expect("the fixture is there")
}

pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

async fn survives(point: &str, transcoder: &str) {
    assert_eq!(1, survives_with(clip(), point, transcoder).await);
}

/// Walks until the armed program dies, starts it again, goes on to playback, and examines the rest. Returns
/// how many renditions there are then, all of them ready.
async fn survives_with(bytes: Vec<u8>, point: &str, transcoder: &str) -> usize {
    let folder = folder();
    let mut armed = Program::start(folder.path(), transcoder, Some(point));
    let client = Client::begin(&armed, bytes.clone()).await;
    let received = client.put(&armed).await;
    let completed = received && client.complete(&armed).await;
    armed.wait_for_death();

    let server = Program::start(folder.path(), transcoder, None);
    if !received {
        assert!(client.put(&server).await, "the same URL takes the file again");
    }
    if !completed {
        assert!(client.complete(&server).await);
    }
    let renditions = client.wait_until_ready(&server).await;
    let played = client.play(&server).await;
    match transcoder {
        "simulated" => assert_eq!(bytes, played),
        _ => assert!(played.starts_with(b"#EXTM3U")),
    }
    server.stop();
    nothing_is_wrong_in(folder.path().to_owned()).await;
    renditions
}

/// The invariants, over database and objects, hashes included, once what killed attempts put is collected.
pub(crate) async fn nothing_is_wrong_in(data_dir: PathBuf) {
    let mut settings = Settings { data_dir, ..Settings::default() };
    settings.worker.enabled = false;
    let platform = Platform::open(settings).await.expect("the folder opens");
    platform.collect_objects().await.expect("it can be collected");
    let report = platform.examine(true).await.expect("it can be examined");
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    platform.shutdown().await;
}

#[tokio::test]
async fn a_kill_half_way_through_an_upload_costs_only_the_bytes_sent() {
    survives("upload-half-way", "simulated").await;
}

#[tokio::test]
async fn a_kill_before_received_bytes_are_recorded_costs_only_the_bytes_sent() {
    survives("received-before-commit", "simulated").await;
}

#[tokio::test]
async fn a_kill_right_after_a_claim_gives_the_job_to_the_next_worker() {
    survives("after-claim", "simulated").await;
}

#[tokio::test]
async fn a_kill_between_verifying_and_committing_finishes_by_itself() {
    survives("verified-before-commit", "simulated").await;
}

#[tokio::test]
async fn a_kill_in_the_middle_of_an_encoding_finishes_by_itself() {
    survives("mid-encode", "simulated").await;
}

#[tokio::test]
async fn a_kill_before_publishing_finishes_by_itself() {
    survives("before-publish", "simulated").await;
}

#[tokio::test]
async fn a_kill_between_publishing_and_settling_publishes_once() {
    survives("published-before-done", "simulated").await;
}

#[tokio::test]
async fn a_kill_in_the_middle_of_an_ffmpeg_encoding_finishes_by_itself() {
    if require("ffmpeg", on_path("ffmpeg")) {
        survives("mid-encode", "ffmpeg").await;
    }
}

#[tokio::test]
async fn a_kill_between_publishing_ffmpegs_first_rendition_and_the_second_makes_both() {
    if require("ffmpeg", on_path("ffmpeg")) {
        let renditions = survives_with(fixture("demo.mp4"), "published-before-done", "ffmpeg").await;
        assert_eq!(2, renditions);
    }
}

pub(crate) fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
