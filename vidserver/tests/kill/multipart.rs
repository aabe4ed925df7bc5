//! Parts in a bucket: whatever a kill interrupts is done again, and nothing is left.

use serde_json::json;
use vidcore::Platform;
use vidcore::platform::Settings;
use vidcore::platform::settings::StorageChoice;
use vidcore::testkit::TestS3;

use crate::points::folder;
use crate::process::Program;
use crate::resumable::account::Account;
use crate::resumable::file::video;

const PART: usize = 5 << 20;

/// The part of a program's configuration that names the bucket.
fn config(bucket: &TestS3) -> String {
    let s3 = bucket.settings();
    format!(
        "[uploads]\ndirect = true\npart_size_bytes = {PART}\n[storage]\nback_end = 's3'\n[storage.s3]\nbucket = '{}'\n\
         endpoint = '{}'\naccess_key_id = '{}'\nsecret_access_key = '{}'\n",
        s3.bucket,
        s3.endpoint,
        s3.access_key_id,
        s3.secret_access_key.expose(),
    )
}

/// The bucket is as the rows say, and nothing is under way in it but what was begun for nobody.
async fn nothing_is_wrong(folder: &tempfile::TempDir, bucket: &TestS3, orphans: usize) {
    let mut settings = Settings { data_dir: folder.path().to_owned(), ..Settings::default() };
    settings.worker.enabled = false;
    settings.storage.back_end = StorageChoice::S3;
    settings.storage.s3 = bucket.settings();
    let platform = Platform::open(settings).await.expect("the folder opens");
    let report = platform.examine(true).await.expect("it can be examined");
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    assert!(platform.objects().keys_under("staging").await.expect("the bucket answers").is_empty());
    let direct = platform.objects().direct().expect("it is a bucket");
    assert_eq!(orphans, direct.unfinished(None).await.expect("the bucket answers").len());
    platform.shutdown().await;
}

/// Uploads in parts until the armed program dies, asks again after a new start, and goes on to the end.
async fn survives(point: &str, orphans: usize) {
    let (bucket, folder, bytes) = (TestS3::start(), folder(), video(PART + 77, 3));
    let config = config(&bucket);
    let mut armed = Program::start_with(folder.path(), &config, Some(&format!("{point}=return")));
    let account = Account::sign_up(armed.address).await;
    let draft = account.draft(armed.address).await;
    let new = json!({"size_bytes": bytes.len(), "kind": "multipart"});
    let opened =
        account.try_post(armed.address, &format!("/videos/{draft}/uploads"), Some(new)).await.expect("it is there");
    let upload = format!("/uploads/{}", opened["id"].as_str().expect("an id"));
    let send = async |server: &Program| {
        let signed =
            account.try_post(server.address, &format!("{upload}/parts"), Some(json!({"numbers": [1, 2]}))).await?;
        for (item, part) in signed["items"].as_array().expect("a list").iter().zip(bytes.chunks(PART)) {
            let url = item["url"].as_str().expect("a URL");
            let put = reqwest::Client::new().put(url).body(part.to_vec()).send().await.expect("the bucket answers");
            assert_eq!(200, put.status());
        }
        account.try_post(server.address, &format!("{upload}/complete"), None).await
    };
    send(&armed).await;
    armed.wait_for_death();

    let server = Program::start_with(folder.path(), &config, None);
    if account.get(server.address, &upload).await["status"] == "open" {
        send(&server).await.expect("nobody dies any more");
    }
    let id = opened["id"].as_str().expect("an id");
    let (_, ready) = account.until_ready(server.address, id).await;
    assert!(bytes == account.play(server.address, &ready).await, "what is played is the file");
    server.stop();
    nothing_is_wrong(&folder, &bucket, orphans).await;
}

/// What was begun in the bucket is named by no row: it is collected once it is old.
#[tokio::test]
async fn a_kill_before_the_row_knows_of_the_parts_costs_nothing_but_these() {
    survives("parts-begun", 1).await;
}

#[tokio::test]
async fn a_kill_before_the_parts_are_joined_finishes_by_itself() {
    survives("before-pin", 0).await;
}

#[tokio::test]
async fn a_kill_after_the_parts_were_joined_finishes_by_itself() {
    survives("parts-joined", 0).await;
}

#[tokio::test]
async fn a_kill_before_the_source_is_committed_finishes_by_itself() {
    survives("verified-before-commit", 0).await;
}
