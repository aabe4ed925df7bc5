//! Many resumable uploads at once over a network that cuts connections anywhere: clients that race for one upload, give
//! up in the middle, and send wrong checksums. What is complete at the end is the file, and nothing else is left.
//!
//! `VID_UPLOAD_CAMPAIGN=1000` makes so many uploads of 64 KiB to 64 MiB, by default 60 of up to 4 MiB;
//! `VID_UPLOAD_SEED` draws others.

mod client;
#[path = "../kill/process.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod process;
#[path = "../resumable/mod.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod resumable;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fastrand::Rng;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use vidcore::Platform;
use vidcore::platform::Settings;

use client::{End, Uploading};
use process::Program;
use resumable::account::Account;
use resumable::cutting::{Allowance, Cutting};
use resumable::tus::named;

/// Uploads under way at once.
const AT_ONCE: usize = 8;

/// How many uploads there are, and the most bytes of each.
fn scale() -> (u64, u32) {
    match number("VID_UPLOAD_CAMPAIGN") {
        Some(uploads) => (uploads, 26),
        None => (60, 22),
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Between `2^low` and `2^high`, small ones as often as large ones.
fn log_uniform(rng: &mut Rng, low: f64, high: f64) -> u64 {
    (low + (high - low) * rng.f64()).exp2() as u64
}

/// Half of the connections are cut, mostly on the way to the server.
fn allowance(rng: &mut Rng) -> Allowance {
    match rng.u8(..20) {
        0..7 => Allowance { sent: Some(log_uniform(rng, 4.0, 21.0)), ..Allowance::default() },
        7..10 => Allowance { answered: Some(rng.u64(..800)), ..Allowance::default() },
        _ => Allowance::default(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_network_cuts_completed_uploads_are_their_files_and_nothing_else_is_left() {
    let (uploads, high) = scale();
    let seed = number("VID_UPLOAD_SEED").unwrap_or(11);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Program::start_unlimited(folder.path(), None);
    let account = Account::sign_up(server.address).await;
    let mut cuts = Rng::with_seed(seed);
    let network = Cutting::start(server.address, move || allowance(&mut cuts)).await;
    let (turns, mut running) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
    for nr in 0..uploads {
        let turn = Arc::clone(&turns).acquire_owned().await.expect("it is never closed");
        let mut rng = Rng::with_seed(seed.wrapping_mul(1_000_003) + nr);
        let size = log_uniform(&mut rng, 16.0, f64::from(high)) as usize;
        let video = account.draft(server.address).await;
        // The opening comes through: nobody could find an upload again whose URL was lost.
        let headers = [("upload-length", &*size.to_string()), ("upload-metadata", &*named(&video))];
        let upload = account.open(server.address, &headers).await.expect("the server answers");
        let uploading = Uploading::new(account.clone(), network.address, upload, size, rng);
        running.spawn(async move {
            let _turn = turn;
            (video, uploading.run().await)
        });
    }
    let mut ended = Vec::new();
    while let Some(one) = running.join_next().await {
        ended.push(one.expect("no client fails"));
    }
    drop(network);
    all_is_well(&server, &account, folder.path(), &ended).await;
    server.stop();
    nothing_is_left_over(folder.path()).await;
}

async fn all_is_well(server: &Program, account: &Account, data_dir: &Path, ended: &[(String, End)]) {
    let (mut stored, mut given_up) = (0, 0);
    for (video, end) in ended {
        let upload = account.get(server.address, &format!("/uploads/{}", end.upload)).await;
        if end.was_given_up && upload["status"] == "aborted" {
            let video = account.get(server.address, &format!("/videos/{video}")).await;
            assert_eq!(("draft", true), (video["status"].as_str().unwrap_or_default(), video["playback"].is_null()));
            given_up += 1;
            continue;
        }
        let (upload, _) = account.until_ready(server.address, &end.upload).await;
        assert_eq!(hex::encode(end.sha256), upload["sha256"], "{upload}");
        let original = data_dir.join("objects/originals").join(video).join(&end.upload);
        let original = std::fs::read(original).expect("the original is there");
        assert!(end.sha256 == vidcore::storage::objects::sha256(&original), "the original is another: {upload}");
        stored += original.len();
    }
    let usage = account.get(server.address, "/users/me/usage").await;
    assert_eq!((json!(stored), json!(0)), (usage["stored_bytes"].clone(), usage["reserved_bytes"].clone()));
    let sum = |of: fn(&End) -> u32| ended.iter().map(|(_, end)| of(end)).sum::<u32>();
    let (cut, refused, raced) = (sum(|end| end.cut), sum(|end| end.refused), sum(|end| end.raced));
    println!(
        "{} uploads, {stored} bytes; {given_up} given up, {cut} cut, {refused} refused, {raced} raced",
        ended.len()
    );
    // A campaign in which nothing happened proves nothing.
    assert!(given_up > 0 && cut > 0 && refused > 0 && raced > 0);
}

async fn nothing_is_left_over(data_dir: &Path) {
    let mut settings = Settings { data_dir: data_dir.to_owned(), ..Settings::default() };
    settings.worker.enabled = false;
    let platform = Platform::open(settings).await.expect("the folder opens");
    platform.collect_objects().await.expect("it can be collected");
    let report = platform.examine(true).await.expect("it can be examined");
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    platform.shutdown().await;
    assert_eq!(Vec::<PathBuf>::new(), resumable::file::files_under(&data_dir.join("objects/staging")));
}
