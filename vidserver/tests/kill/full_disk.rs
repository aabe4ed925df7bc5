//! A full disk: 507, nothing that was acknowledged is lost, and a service that goes on by itself once there is room.

use std::path::Path;

use vidcore::Platform;
use vidcore::jobs::JobState;
use vidcore::platform::Settings;
use vidcore::testkit::require;

use crate::disk::Disk;
use crate::points::{clip, folder, nothing_is_wrong_in, on_path};
use crate::process::{Client, Program, in_own_mounts};

/// One disk for everything.
const SMALL: &str = r#"mount -t tmpfs -o size=6m tmpfs "$0""#;

/// Room for a few videos and what is made of them.
pub(crate) const LARGER: &str = r#"mount -t tmpfs -o size=32m tmpfs "$0""#;

/// One disk for the objects and another for the rest.
pub(crate) const TWO: &str = r#"mount -t tmpfs -o size=32m tmpfs "$0" && mkdir "$0/objects" &&
    mount -t tmpfs -o size=16m tmpfs "$0/objects""#;

/// More than the small disk holds.
const TOO_LARGE: usize = 8 << 20;

/// More attempts than a job has.
const MANY_ATTEMPTS: usize = 8;

pub(crate) fn can_mount() -> bool {
    let can = in_own_mounts("mount -t tmpfs tmpfs /mnt").output().is_ok_and(|output| output.status.success());
    require("a private mount (unshare, mount)", can)
}

#[tokio::test]
async fn a_full_disk_is_507_and_what_fits_is_still_taken() {
    if !can_mount() {
        return;
    }
    let folder = folder();
    let server = Program::start_on_disks(SMALL, folder.path(), "simulated", None);
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

/// Writes are told why, reads and the process go on.
async fn only_writes_are_refused(server: &Program, client: &Client) {
    assert_eq!((507, "storage_full".to_owned(), [200; 3]), client.try_everything(server).await);
}

/// Of those acknowledged, none is missing and nothing is wrong, once the program has ended.
async fn all_end_ready(server: Program, disks: &[(&Disk, &str)], clients: &[Client]) {
    for client in clients {
        client.wait_until_ready(&server).await;
    }
    server.stop();
    let copy = folder();
    for (disk, place) in disks {
        disk.copy_to(&copy.path().join(place));
    }
    nothing_is_wrong_in(copy.path().to_owned()).await;
}

/// How many jobs are queued in the database at `data_dir`.
async fn queued(data_dir: &Path) -> u64 {
    let mut settings = Settings { data_dir: data_dir.to_owned(), ..Settings::default() };
    settings.worker.enabled = false;
    let platform = Platform::open(settings).await.expect("the folder opens");
    let counts = platform.store().job_counts().await.expect("the store answers");
    platform.shutdown().await;
    counts.into_iter().filter(|(_, state, _)| *state == JobState::Queued).map(|(.., jobs)| jobs).sum()
}

#[tokio::test]
async fn jobs_that_cannot_be_claimed_on_a_full_disk_wait_and_run_once_there_is_room() {
    if !can_mount() {
        return;
    }
    let folder = folder();
    let server = Program::start_on_disks(LARGER, folder.path(), "simulated", None);
    let disk = Disk::of(&server, folder.path());
    let mut clients = vec![Client::begin(&server, clip()).await];
    while clients.len() < 6 {
        clients.push(clients[0].begin_another(&server).await);
    }
    for client in &clients {
        assert!(client.put(&server).await);
    }
    for client in &clients {
        assert!(client.complete(&server).await);
    }
    // One encoding of several: the others wait.
    disk.fill();
    server.wait_for_log("claiming jobs failed", 2);
    only_writes_are_refused(&server, &clients[0]).await;
    let copy = tempfile::tempdir().expect("a temporary folder");
    disk.copy_to(copy.path());
    assert!(queued(copy.path()).await > 0, "there was nothing to claim");
    disk.make_room();
    all_end_ready(server, &[(&disk, "")], &clients).await;
}

/// Fills the disk while an attempt stands at `point`, and sees it fail, which the log tells by `failure`.
async fn is_survived_at(point: &str, transcoder: &str, failure: &str) {
    if !can_mount() {
        return;
    }
    let folder = folder();
    let points = format!("{point}=1*return(stop)");
    let server = Program::start_on_disks(LARGER, folder.path(), transcoder, Some(&points));
    let disk = Disk::of(&server, folder.path());
    let client = Client::begin(&server, clip()).await;
    assert!(client.put(&server).await && client.complete(&server).await);
    server.wait_until_frozen();
    disk.fill();
    server.resume();
    server.wait_for_log(failure, 1);
    disk.fill();
    only_writes_are_refused(&server, &client).await;
    disk.make_room();
    all_end_ready(server, &[(&disk, "")], &[client]).await;
}

#[tokio::test]
async fn a_disk_that_is_full_before_publishing_delays_it() {
    is_survived_at("before-publish", "simulated", "settling").await;
}

#[tokio::test]
async fn a_disk_that_is_full_between_publishing_and_settling_delays_the_end_of_the_job() {
    is_survived_at("published-before-done", "simulated", "settling").await;
}

#[tokio::test]
async fn a_disk_that_is_full_in_the_middle_of_an_encoding_delays_it() {
    is_survived_at("mid-encode", "simulated", "settling").await;
}

#[tokio::test]
async fn a_disk_that_is_full_before_an_object_is_put_delays_the_rendition() {
    if require("ffmpeg", on_path("ffmpeg")) {
        // What the attempt gives back of its own is room for saying that it failed.
        is_survived_at("before-put", "ffmpeg", "an attempt on").await;
    }
}

/// Attempts are claimed, fail and are recorded as before: only objects find no room.
#[tokio::test]
async fn a_video_does_not_fail_however_often_its_objects_found_no_room() {
    if !can_mount() || !require("ffmpeg", on_path("ffmpeg")) {
        return;
    }
    let folder = folder();
    let server = Program::start_on_disks(TWO, folder.path(), "ffmpeg", None);
    let objects = Disk::of(&server, &folder.path().join("objects"));
    let disk = Disk::of(&server, folder.path());
    let client = Client::begin(&server, clip()).await;
    assert!(client.put(&server).await);
    objects.fill();
    assert!(client.complete(&server).await, "the database has room");
    server.wait_for_log("an attempt on", MANY_ATTEMPTS);
    assert_eq!([200; 3], client.try_everything(&server).await.2);
    objects.make_room();
    all_end_ready(server, &[(&disk, ""), (&objects, "objects")], &[client]).await;
}
