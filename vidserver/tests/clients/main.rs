//! Clients of others, as they are: tus-js-client and tuspy upload to the real program, break off in the middle, and go on.
//!
//! What they are and need is pinned beside this file; `scripts/tus-clients` installs it.

#[path = "../kill/process.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod process;
#[path = "../resumable/mod.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod resumable;
mod run;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use resumable::cutting::{Allowance, Cutting, Then};
use run::{BreakOff, Client, Site};

/// Large enough that half of it is not sent at once.
const SIZE: usize = 24 << 20;

/// A piece of it.
const CHUNK: usize = 1 << 20;

/// The statuses of requests with this method.
fn statuses(told: &Value, method: &str) -> Vec<u64> {
    let requests = told["requests"].as_array().expect("requests").iter();
    let of_method = requests.filter(|request| request["method"] == method);
    of_method.map(|request| request["status"].as_u64().expect("a status")).collect()
}

/// A second run goes on where the first broke off: it opens nothing, and asks how far it is.
fn went_on(told: &Value) {
    assert!(statuses(told, "POST").is_empty(), "{told}");
    let head = &told["requests"][0];
    assert_eq!(("HEAD", 200), (head["method"].as_str().unwrap_or_default(), head["status"].as_u64().unwrap_or(0)));
    assert!(head["offset"].as_u64().is_some_and(|offset| offset > 0 && offset < SIZE as u64), "{told}");
}

/// A network that stalls in the middle while the client is to break off, and then does not.
async fn stalling(site: &Site, after: usize) -> (Cutting, Arc<AtomicBool>) {
    let is_bad = Arc::new(AtomicBool::new(true));
    let is_bad_now = Arc::clone(&is_bad);
    let allow = move || match is_bad_now.load(Ordering::Relaxed) {
        true => Allowance { sent: Some(after as u64), answered: None, then: Then::Stall },
        false => Allowance::default(),
    };
    (Cutting::start(site.server.address, allow).await, is_bad)
}

async fn breaks_off_and_goes_on(client: Client, settings: Value, how: BreakOff) {
    let Some(site) = Site::start(client, SIZE).await else { return };
    let (network, is_bad) = stalling(&site, SIZE / 3).await;
    site.break_off(&network, &settings, 1, how).await;
    is_bad.store(false, Ordering::Relaxed);
    let told = site.run(network.address, &settings).await;
    went_on(&told);
    site.is_whole(&told, "Holiday").await;
}

fn named(options: Value) -> Value {
    json!({"metadata": {"title": "Holiday", "filename": "a.mp4"}, "options": options})
}

#[tokio::test]
async fn tus_js_client_goes_on_after_an_abort() {
    breaks_off_and_goes_on(Client::Js, named(json!({})), BreakOff::Abort).await;
}

#[tokio::test]
async fn tus_js_client_goes_on_in_chunks_after_its_process_was_killed() {
    breaks_off_and_goes_on(Client::Js, named(json!({"chunkSize": CHUNK})), BreakOff::Kill).await;
}

#[tokio::test]
async fn tus_js_client_sends_the_first_bytes_along_with_the_creation_and_goes_on() {
    let settings = named(json!({"chunkSize": CHUNK, "uploadDataDuringCreation": true}));
    breaks_off_and_goes_on(Client::Js, settings, BreakOff::Abort).await;
}

#[tokio::test]
async fn tus_js_client_uploads_in_parallel_and_goes_on_with_the_parts() {
    let Some(site) = Site::start(Client::Js, SIZE).await else { return };
    let settings = named(json!({"parallelUploads": 4}));
    let (network, is_bad) = stalling(&site, SIZE / 8).await;
    site.break_off(&network, &settings, 4, BreakOff::Abort).await;
    is_bad.store(false, Ordering::Relaxed);
    let told = site.run(network.address, &settings).await;
    // Each part is asked for and gone on with; the only thing that is opened is what joins them.
    assert_eq!(vec![200; 4], statuses(&told, "HEAD"), "{told}");
    assert_eq!(vec![201], statuses(&told, "POST"), "{told}");
    let requests = told["requests"].as_array().expect("requests");
    assert!(requests.iter().any(|request| request["concat"] == "final"), "{told}");
    site.is_whole(&told, "Holiday").await;
}

async fn goes_on_by_itself(client: Client, settings: Value) {
    let Some(site) = Site::start(client, SIZE).await else { return };
    let network = cutting(&site, client == Client::Py).await;
    let told = site.run(network.address, &settings).await;
    assert!(statuses(&told, "HEAD").len() > 5, "{told}");
    assert_eq!(vec![201], statuses(&told, "POST"), "{told}");
    site.is_whole(&told, "Holiday").await;
}

#[tokio::test]
async fn tus_js_client_goes_on_by_itself_when_the_network_cuts() {
    goes_on_by_itself(Client::Js, named(json!({}))).await;
}

#[tokio::test]
async fn tus_js_client_goes_on_by_itself_with_a_stream_whose_length_it_says_at_the_end() {
    let mut settings = named(json!({"chunkSize": CHUNK, "uploadLengthDeferred": true}));
    settings["stream"] = json!(true);
    goes_on_by_itself(Client::Js, settings).await;
}

/// As an uploader of a web page is set up: an endpoint and who uploads, and no word about a video.
#[tokio::test]
async fn an_upload_that_names_no_video_becomes_a_private_draft_called_after_its_file() {
    let Some(site) = Site::start(Client::Js, 1 << 20).await else { return };
    let metadata = json!({"filename": "Holiday 2026.mp4", "filetype": "video/mp4", "name": "x", "type": "video/mp4"});
    let told = site.run(site.server.address, &json!({"metadata": metadata, "options": {}})).await;
    let video = site.is_whole(&told, "Holiday 2026.mp4").await;
    assert_eq!("private", video["visibility"]);
}

#[tokio::test]
async fn an_upload_that_names_a_video_becomes_its_source() {
    let Some(site) = Site::start(Client::Js, 1 << 20).await else { return };
    let draft = site.account.draft(site.server.address).await;
    let settings = json!({"metadata": {"video_id": draft, "filename": "a.mp4"}, "options": {}});
    let told = site.run(site.server.address, &settings).await;
    assert_eq!(draft, site.is_whole(&told, "A draft").await["id"].as_str().expect("an id"));
}

#[tokio::test]
async fn tuspy_goes_on_in_chunks_after_its_process_was_killed() {
    // Each of its requests has a connection of its own.
    breaks_off_and_goes_on(Client::Py, named(json!({"chunk_size": 16 * CHUNK})), BreakOff::Kill).await;
}

#[tokio::test]
async fn tuspy_goes_on_by_itself_with_checksums_when_the_network_cuts() {
    goes_on_by_itself(Client::Py, named(json!({"chunk_size": CHUNK, "upload_checksum": true}))).await;
}

/// A network that cuts twenty connections, or every other of them where a request only counts as a whole, and no more.
async fn cutting(site: &Site, is_whole_or_nothing: bool) -> Cutting {
    let mut connections = 0_u64;
    let allow = move || {
        connections += 1;
        let is_cut = connections <= 20 && (connections % 2 == 1 || !is_whole_or_nothing);
        Allowance { sent: is_cut.then_some(connections * 40_000), ..Allowance::default() }
    };
    Cutting::start(site.server.address, allow).await
}
