//! Uploads of several requests: what a kill costs is at most what was not acknowledged, and the client goes on.

use serde_json::json;

use crate::points::{folder, nothing_is_wrong_in};
use crate::process::Program;
use crate::resumable::account::Account;
use crate::resumable::file::{files_under, video};
use crate::resumable::tus::named;

/// Bytes of a request.
const PIECE: usize = 1 << 20;

/// More than is put aside before a first commit by size.
const LARGE: usize = 70 << 20;

/// A client in the middle of an upload, across the lives of a server.
struct Going {
    account: Account,
    video: String,
    upload: String,
    bytes: Vec<u8>,
    /// The highest offset it was told.
    acknowledged: u64,
    /// What it has sent, whether or not that arrived.
    sent: u64,
}

impl Going {
    async fn begin(server: &Program, bytes: Vec<u8>) -> Self {
        let account = Account::sign_up(server.address).await;
        let video = account.draft(server.address).await;
        let (length, metadata) = (bytes.len().to_string(), named(&video));
        let headers = [("upload-length", &*length), ("upload-metadata", &*metadata)];
        let upload = account.open(server.address, &headers).await.expect("the server answers");
        Self { account, video, upload, bytes, acknowledged: 0, sent: 0 }
    }

    /// Sends the rest in pieces of `piece` bytes; `false` if the server died on the way.
    async fn send_rest(&mut self, server: &Program, piece: usize) -> bool {
        while self.acknowledged < self.bytes.len() as u64 {
            let from = self.acknowledged as usize;
            let to = self.bytes.len().min(from + piece);
            self.sent = self.sent.max(to as u64);
            let answer =
                self.account.append(server.address, &self.upload, from as u64, &self.bytes[from..to], &[]).await;
            let Some(answer) = answer else { return false };
            assert_eq!((204, Some(to as u64)), (answer.status, answer.offset));
            self.acknowledged = to as u64;
        }
        true
    }

    /// Asks how far it is, after the server died: nothing that was acknowledged is lost, and nothing is made up.
    async fn ask(&mut self, server: &Program) -> u64 {
        let offset = self.account.offset(server.address, &self.upload).await;
        assert!((self.acknowledged..=self.sent).contains(&offset), "{} {offset} {}", self.acknowledged, self.sent);
        self.acknowledged = offset;
        offset
    }

    /// The upload is checked, its video is played byte for byte, nothing else is stored, and nothing is wrong.
    async fn ends_well(self, server: Program, data_dir: &std::path::Path) {
        let address = server.address;
        self.account.until(address, &format!("/videos/{}", self.video), |video| video["status"] == "ready").await;
        let video = self.account.get(address, &format!("/videos/{}", self.video)).await;
        assert!(self.bytes == self.account.play(address, &video).await, "what is played is the file");
        let usage = self.account.get(address, "/users/me/usage").await;
        assert_eq!(json!(self.bytes.len()), usage["stored_bytes"], "{usage}");
        assert_eq!(json!(0), usage["reserved_bytes"], "{usage}");
        server.stop();
        nothing_is_wrong_in(data_dir.to_owned()).await;
        assert_eq!(Vec::<std::path::PathBuf>::new(), files_under(&data_dir.join("objects/staging")));
    }
}

/// Uploads in pieces until the armed program dies; after a new start goes on to the end. What was acknowledged then.
async fn survives(points: &str, size: usize, piece: usize) -> u64 {
    let folder = folder();
    let mut armed = Program::start_unlimited(folder.path(), Some(points));
    let mut client = Going::begin(&armed, video(size, 1)).await;
    client.send_rest(&armed, piece).await;
    armed.wait_for_death();
    let server = Program::start_unlimited(folder.path(), None);
    let offset = client.ask(&server).await;
    assert!(client.send_rest(&server, piece).await);
    client.ends_well(server, folder.path()).await;
    offset
}

#[tokio::test]
async fn a_kill_before_the_first_appended_bytes_are_acknowledged_costs_only_these() {
    assert_eq!(0, survives("appended-before-commit=return", 3 * PIECE, PIECE).await);
}

#[tokio::test]
async fn a_kill_before_later_bytes_are_acknowledged_costs_only_these() {
    assert_eq!(2 * PIECE as u64, survives("appended-before-commit=2*off->return", 3 * PIECE + 9, PIECE).await);
}

#[tokio::test]
async fn a_kill_in_a_large_request_costs_only_what_came_since_its_last_commit() {
    let offset = survives("appended-before-commit=1*off->return", LARGE, LARGE).await;
    assert!(offset > 0 && offset < LARGE as u64, "{offset}");
}

#[tokio::test]
async fn a_kill_before_the_only_segment_is_pinned_finishes_by_itself() {
    assert_eq!(3 * PIECE as u64, survives("before-pin=return", 3 * PIECE, PIECE).await);
}

#[tokio::test]
async fn a_kill_after_the_only_segment_is_pinned_finishes_by_itself() {
    survives("after-pin=return", 3 * PIECE, PIECE).await;
}

/// Two segments: the second begins because the first one's writer was killed.
async fn survives_in_two_segments(point: &str) {
    let folder = folder();
    let points = "appended-before-commit=1*off->return";
    let mut armed = Program::start_unlimited(folder.path(), Some(points));
    let mut client = Going::begin(&armed, video(3 * PIECE, 2)).await;
    assert!(!client.send_rest(&armed, PIECE).await);
    armed.wait_for_death();
    let mut armed = Program::start_unlimited(folder.path(), Some(&format!("{point}=return")));
    assert_eq!(PIECE as u64, client.ask(&armed).await);
    client.send_rest(&armed, PIECE).await;
    armed.wait_for_death();
    let server = Program::start_unlimited(folder.path(), None);
    client.ends_well(server, folder.path()).await;
}

#[tokio::test]
async fn a_kill_before_segments_are_joined_finishes_by_itself() {
    survives_in_two_segments("before-pin").await;
}

#[tokio::test]
async fn a_kill_while_segments_are_joined_finishes_by_itself() {
    survives_in_two_segments("mid-join").await;
}

#[tokio::test]
async fn a_kill_between_joining_and_verifying_finishes_by_itself() {
    survives_in_two_segments("after-pin").await;
}

#[tokio::test]
async fn a_kill_between_verifying_joined_segments_and_committing_finishes_by_itself() {
    survives_in_two_segments("verified-before-commit").await;
}

/// Parts that were joined into one upload, of which each has a folder of its own.
async fn survives_in_parts(point: &str) {
    let folder = folder();
    let mut armed = Program::start_unlimited(folder.path(), Some(&format!("{point}=return")));
    let (bytes, account) = (video(3 * PIECE, 3), Account::sign_up(armed.address).await);
    let (video, mut parts) = (account.draft(armed.address).await, Vec::new());
    for part in bytes.chunks(PIECE) {
        let headers = [("upload-length", &*part.len().to_string()), ("upload-concat", "partial")];
        let id = account.open(armed.address, &headers).await.expect("the server answers");
        let answer = account.append(armed.address, &id, 0, part, &[]).await.expect("the server answers");
        assert_eq!(204, answer.status);
        parts.push(format!("/api/v1/uploads/tus/{id}"));
    }
    let (concat, metadata) = (format!("final;{}", parts.join(" ")), named(&video));
    // It may die before it answers.
    let headers = [("upload-concat", &*concat), ("upload-metadata", &*metadata)];
    let upload = account.open(armed.address, &headers).await.unwrap_or_default();
    armed.wait_for_death();
    let server = Program::start_unlimited(folder.path(), None);
    let client = Going { account, video, upload, bytes, acknowledged: 0, sent: 0 };
    client.ends_well(server, folder.path()).await;
}

#[tokio::test]
async fn a_kill_before_parts_are_joined_finishes_by_itself() {
    survives_in_parts("before-pin").await;
}

#[tokio::test]
async fn a_kill_while_parts_are_joined_finishes_by_itself() {
    survives_in_parts("mid-join").await;
}

#[tokio::test]
async fn a_kill_between_joining_parts_and_committing_finishes_by_itself() {
    survives_in_parts("verified-before-commit").await;
}

#[tokio::test]
async fn an_upload_that_is_killed_again_and_again_goes_on_each_time() {
    let folder = folder();
    let mut server = Program::start_unlimited(folder.path(), None);
    let mut client = Going::begin(&server, video(6 * PIECE, 4)).await;
    let mut rng = fastrand::Rng::with_seed(4);
    for _ in 0..5 {
        let from = client.ask(&server).await as usize;
        let rest = client.bytes.len() - from;
        let mut half = client.account.begin_append(server.address, &client.upload, from as u64, rest).await;
        let sent = rng.usize(..=rest / 2);
        assert!(half.send(&client.bytes[from..from + sent]).await);
        client.sent = (from + sent) as u64;
        server.kill();
        server = Program::start_unlimited(folder.path(), None);
    }
    client.ask(&server).await;
    assert!(client.send_rest(&server, PIECE).await);
    client.ends_well(server, folder.path()).await;
}
