//! A full disk: 507, and a service that goes on.

use vidcore::testkit::require;

use crate::points::{clip, folder};
use crate::process::{Client, Program, in_own_mounts};

/// More than the disk holds.
const TOO_LARGE: usize = 8 << 20;

fn can_mount() -> bool {
    in_own_mounts("mount -t tmpfs tmpfs /mnt").output().is_ok_and(|output| output.status.success())
}

#[tokio::test]
async fn a_full_disk_is_507_and_what_fits_is_still_taken() {
    if !require("a private mount (unshare, mount)", can_mount()) {
        return;
    }
    let folder = folder();
    let server = Program::start_on_a_small_disk(folder.path());
    let client = Client::begin(&server, clip()).await;
    let (status, problem) = client.put_another(&server, TOO_LARGE).await;
    assert_eq!((507, "storage_full"), (status, problem["code"].as_str().unwrap_or_default()), "{problem}");
    // What did not fit has given its room back.
    assert!(client.put(&server).await);
    assert!(client.complete(&server).await);
    client.wait_until_ready(&server).await;
    assert_eq!(clip(), client.play(&server).await);
    server.stop();
}
