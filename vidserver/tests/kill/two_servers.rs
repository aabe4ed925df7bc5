//! Two servers on one folder, of which one holds a request that another one has gone on with: nothing that still comes
//! of it changes anything.

use crate::points::{folder, nothing_is_wrong_in};
use crate::process::Program;
use crate::resumable::account::Account;
use crate::resumable::file::{files_under, video};
use crate::resumable::tus::{Half, named};

const SIZE: usize = 3 << 20;

/// What the first server takes and acknowledges before the other goes on.
const FIRST: usize = 1 << 20;

/// Two servers, and an upload whose first bytes are on the first one, which waits for more.
struct Scene {
    folder: tempfile::TempDir,
    a: Program,
    b: Program,
    account: Account,
    upload: String,
    bytes: Vec<u8>,
    late: Half,
}

impl Scene {
    /// With a length that is declared now, or later.
    async fn set(length: Option<usize>) -> Self {
        let (folder, bytes) = (folder(), [video(FIRST, 5), video(SIZE - FIRST, 6)].concat());
        let a = Program::start_unlimited(folder.path(), None);
        let b = Program::start_unlimited(folder.path(), None);
        let account = Account::sign_up(a.address).await;
        let metadata = named(&account.draft(a.address).await);
        let length = length.map(|length| length.to_string());
        let size = length.as_deref().map_or(("upload-defer-length", "1"), |length| ("upload-length", length));
        let headers = [size, ("upload-metadata", &*metadata)];
        let upload = account.open(a.address, &headers).await.expect("the server answers");
        let mut late = account.begin_append(a.address, &upload, 0, SIZE).await;
        assert!(late.send(&bytes[..FIRST]).await);
        let scene = Self { folder, a, b, account, upload, bytes, late };
        // What came is acknowledged by itself, a while after it came.
        let begun = std::time::Instant::now();
        while scene.account.offset(scene.b.address, &scene.upload).await < FIRST as u64 {
            assert!(begun.elapsed().as_secs() < 60, "nothing is acknowledged");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        scene
    }

    /// Appends to the other server, which takes it.
    async fn append_to_b(&self, from: usize, to: usize, headers: &[(&str, &str)]) {
        let bytes = &self.bytes[from..to];
        let answer = self.account.append(self.b.address, &self.upload, from as u64, bytes, headers).await;
        let answer = answer.expect("the server answers");
        assert_eq!((204, Some(to as u64)), (answer.status, answer.offset));
    }

    /// The rest of the first request comes now, and is other bytes than it was to be. Of the upload, `whole` is what counts.
    async fn ends_well(mut self, whole: usize) {
        let (_, video) = self.account.until_ready(self.b.address, &self.upload).await;
        self.late.send(&vec![0xEE; SIZE - FIRST]).await;
        // Another one is at it, or it is over.
        assert!(matches!(self.late.status().await, Some(409 | 423)));
        assert!(self.bytes[..whole] == self.account.play(self.b.address, &video).await, "what is played is the file");
        self.a.stop();
        self.b.stop();
        nothing_is_wrong_in(self.folder.path().to_owned()).await;
        assert!(files_under(&self.folder.path().join("objects/staging")).is_empty());
    }
}

#[tokio::test]
async fn bytes_that_come_late_to_one_server_change_nothing_once_another_has_gone_on() {
    let scene = Scene::set(Some(SIZE)).await;
    scene.append_to_b(FIRST, SIZE, &[]).await;
    scene.ends_well(SIZE).await;
}

/// The request that took over added nothing: it is no reason to write where the first one may still write.
#[tokio::test]
async fn bytes_that_come_late_change_nothing_if_nothing_came_of_the_first_request_that_took_over() {
    let scene = Scene::set(Some(SIZE)).await;
    scene.append_to_b(FIRST, FIRST, &[]).await;
    scene.append_to_b(FIRST, SIZE, &[]).await;
    scene.ends_well(SIZE).await;
}

/// Nothing but the length was missing.
#[tokio::test]
async fn bytes_that_come_late_change_nothing_once_the_length_is_declared_to_be_what_was_there() {
    let scene = Scene::set(None).await;
    scene.append_to_b(FIRST, FIRST, &[("upload-length", &FIRST.to_string())]).await;
    scene.ends_well(FIRST).await;
}
