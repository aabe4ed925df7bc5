//! A full disk in the middle of an upload of several requests: 507, what was acknowledged stays, and the client goes on
//! once there is room.

use crate::disk::Disk;
use crate::full_disk::{LARGER, TWO, can_mount};
use crate::points::{folder, nothing_is_wrong_in};
use crate::process::Program;
use crate::resumable::account::Account;
use crate::resumable::file::{files_under, video};
use crate::resumable::tus::named;

const SIZE: usize = 3 << 20;

/// What is acknowledged before the disk is full.
const FIRST: usize = 1 << 20;

/// Fills a disk while a request waits for more of its body, and goes on once there is room. `objects` is where that disk
/// is in the folder, if it is another than the database's.
async fn goes_on_after(mounts: &str, objects: Option<&str>) {
    if !can_mount() {
        return;
    }
    let folder = folder();
    let server = Program::start_on_disks(mounts, folder.path(), "simulated", None);
    let mut disks = vec![(Disk::of(&server, folder.path()), "")];
    disks.extend(objects.map(|path| (Disk::of(&server, &folder.path().join(path)), path)));
    let full = &disks.last().expect("there is one").0;
    let (account, bytes) = (Account::sign_up(server.address).await, video(SIZE, 8));
    let metadata = named(&account.draft(server.address).await);
    let headers = [("upload-length", &*SIZE.to_string()), ("upload-metadata", &*metadata)];
    let upload = account.open(server.address, &headers).await.expect("the server answers");

    let mut half = account.begin_append(server.address, &upload, 0, SIZE).await;
    assert!(half.send(&bytes[..FIRST]).await);
    // To ask by the protocol would end the request.
    let path = format!("/uploads/{upload}");
    account.until(server.address, &path, |upload| upload["offset_bytes"] == FIRST).await;
    full.fill();
    half.send(&bytes[FIRST..]).await;
    assert_eq!(Some(507), half.status().await);
    assert_eq!(FIRST as u64, account.offset(server.address, &upload).await);
    let again = account.append(server.address, &upload, FIRST as u64, &bytes[FIRST..], &[]).await;
    assert_eq!(507, again.expect("the server answers").status);
    assert_eq!(FIRST as u64, account.offset(server.address, &upload).await);

    full.make_room();
    let rest = account.append(server.address, &upload, FIRST as u64, &bytes[FIRST..], &[]).await;
    assert_eq!(204, rest.expect("the server answers").status);
    let (_, ready) = account.until_ready(server.address, &upload).await;
    assert!(bytes == account.play(server.address, &ready).await, "what is played is the file");
    server.stop();
    let copy = crate::points::folder();
    for (disk, place) in &disks {
        disk.copy_to(&copy.path().join(place));
    }
    nothing_is_wrong_in(copy.path().to_owned()).await;
    assert!(files_under(&copy.path().join("objects/staging")).is_empty());
}

#[tokio::test]
async fn an_upload_goes_on_after_its_only_disk_was_full() {
    goes_on_after(LARGER, None).await;
}

#[tokio::test]
async fn an_upload_goes_on_after_the_disk_of_the_objects_was_full() {
    goes_on_after(TWO, Some("objects")).await;
}
