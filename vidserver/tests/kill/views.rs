//! Views are acknowledged before they are on disk: what a kill may take of them, and what it may not.

use std::time::Duration;

use crate::points::{clip, folder, nothing_is_wrong_in};
use crate::process::{Client, Program};

/// How long an acknowledged view may be lost, with what a busy machine needs besides.
const BOUND: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_kill_takes_no_view_that_was_acknowledged_a_flush_before() {
    const WRITTEN: u64 = 40;
    const LATE: u64 = 5;
    let folder = folder();
    let mut server = Program::start(folder.path(), "simulated", None);
    let client = Client::begin(&server, clip()).await;
    assert!(client.put(&server).await && client.complete(&server).await);
    client.wait_until_ready(&server).await;

    for viewer in 0..WRITTEN {
        client.view(&server, viewer).await;
    }
    client.wait_for_views(&server, WRITTEN, BOUND).await;
    // These may still be in memory, and may not.
    for viewer in WRITTEN..WRITTEN + LATE {
        client.view(&server, viewer).await;
    }
    server.kill();

    let server = Program::start(folder.path(), "simulated", None);
    let kept = client.views(&server).await;
    assert!((WRITTEN..=WRITTEN + LATE).contains(&kept), "{kept} views are left");
    // Who comes again is known, but for those whose view was lost.
    for viewer in 0..WRITTEN + LATE {
        client.view(&server, viewer).await;
    }
    server.stop();
    let server = Program::start(folder.path(), "simulated", None);
    assert_eq!(WRITTEN + LATE, client.views(&server).await, "an orderly stop writes every view, and none twice");
    server.stop();
    nothing_is_wrong_in(folder.path().to_owned()).await;
}
