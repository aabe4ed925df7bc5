//! Connections that break, hang, and meet each other.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{BYTES, CLIP, HALF, Site, TUS, path_of};
use crate::support::bounded;

/// Sends the head of a `PATCH` for all that is left, and `bytes` of it; then the connection stands still.
async fn begin(site: &Site, url: &str, offset: usize, bytes: &[u8]) -> TcpStream {
    let mut socket = TcpStream::connect(site.app.address).await.expect("the server listens");
    let head = format!(
        "PATCH {} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ntus-resumable: 1.0.0\r\ncontent-type: {BYTES}\r\n\
         upload-offset: {offset}\r\ncontent-length: {}\r\n\r\n",
        path_of(url),
        site.ada.access,
        CLIP.len() - offset
    );
    socket.write_all(head.as_bytes()).await.expect("the server reads");
    socket.write_all(bytes).await.expect("the server reads");
    socket
}

/// The offset, once it is `wanted`: what arrived is read by a task of the server's own.
async fn until_offset(site: &Site, url: &str, wanted: usize) {
    bounded(async {
        while site.upload(url).await["offset_bytes"] != wanted {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn bytes_that_came_before_the_connection_broke_are_kept() {
    let site = Site::start().await;
    let url = site.create(CLIP.len()).await;
    let socket = begin(&site, &url, 0, &CLIP[..HALF]).await;
    drop(socket);
    until_offset(&site, &url, HALF).await;
    assert_eq!(HALF, site.offset(&url).await);
    site.patch(&url, HALF, &CLIP[HALF..]).send().await.expect(204);
    site.assert_arrived(&url, CLIP).await;
    site.finish().await;
}

/// The creation is answered, if the client still listens, and its upload goes on where the connection broke.
#[tokio::test]
async fn a_creation_whose_bytes_break_off_leaves_an_upload_that_goes_on() {
    let site = Site::start().await;
    let mut socket = TcpStream::connect(site.app.address).await.expect("the server listens");
    let head = format!(
        "POST {TUS} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ntus-resumable: 1.0.0\r\n\
         content-type: {BYTES}\r\nupload-length: {length}\r\ncontent-length: {length}\r\n\r\n",
        site.app.address,
        site.ada.access,
        length = CLIP.len()
    );
    socket.write_all(head.as_bytes()).await.expect("the server reads");
    socket.write_all(&CLIP[..HALF]).await.expect("the server reads");
    socket.shutdown().await.expect("no more comes");
    let mut answer = String::new();
    bounded(socket.read_to_string(&mut answer)).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("body_incomplete"), "{answer}");
    let url = answer.lines().find_map(|line| line.strip_prefix("location: ")).expect("where it goes on");
    assert_eq!(HALF, site.offset(url).await);
    site.patch(url, HALF, &CLIP[HALF..]).send().await.expect(204);
    site.assert_arrived(url, CLIP).await;
    site.finish().await;
}

/// Slow senders lose little when the process dies: what has come is acknowledged within a second or so.
#[tokio::test]
async fn bytes_of_a_connection_that_stands_still_are_acknowledged() {
    let site = Site::start().await;
    let url = site.create(CLIP.len()).await;
    let socket = begin(&site, &url, 0, &CLIP[..HALF]).await;
    until_offset(&site, &url, HALF).await;
    drop(socket);
    site.finish().await;
}

/// The client has lost its connection and the server does not know yet.
#[tokio::test]
async fn asking_for_the_offset_ends_the_request_that_hangs_and_counts_what_it_brought() {
    let site = Site::start().await;
    let url = site.create(CLIP.len()).await;
    let mut socket = begin(&site, &url, 0, &CLIP[..HALF]).await;
    until_offset(&site, &url, HALF).await;
    assert_eq!(HALF, site.offset(&url).await);
    let mut answer = vec![0; 12];
    bounded(socket.read_exact(&mut answer)).await.expect("an answer");
    assert_eq!(b"HTTP/1.1 423", answer.as_slice());
    site.patch(&url, HALF, &CLIP[HALF..]).send().await.expect(204);
    site.assert_arrived(&url, CLIP).await;
    site.finish().await;
}

#[tokio::test]
async fn a_later_request_takes_over_at_the_offset_of_the_one_before() {
    let site = Site::start().await;
    let url = site.create(CLIP.len()).await;
    let _hanging = begin(&site, &url, 0, &CLIP[..HALF]).await;
    until_offset(&site, &url, HALF).await;
    site.patch(&url, HALF, &CLIP[HALF..]).send().await.expect(204);
    site.assert_arrived(&url, CLIP).await;
    site.finish().await;
}

/// Whoever wins, the file is one of those that were sent, whole; here they differ in a byte that no video needs.
#[tokio::test]
async fn writers_that_race_for_one_offset_never_mix_their_bytes() {
    let site = Site::start().await;
    let [one, two] = [b"1", b"2"].map(|mark| CLIP.iter().copied().chain(mark.repeat(100_000)).collect::<Vec<u8>>());
    let url = site.create(one.len()).await;
    let (first, second) = tokio::join!(site.patch(&url, 0, &one).try_send(), site.patch(&url, 0, &two).try_send());
    let won = |answer: &reqwest::Result<crate::app::Answer>| answer.as_ref().is_ok_and(|answer| answer.status == 204);
    let winner = match (won(&first), won(&second)) {
        (true, false) => &one,
        (false, true) => &two,
        _ => panic!("one of them: {first:?} {second:?}"),
    };
    site.assert_arrived(&url, winner).await;
    site.finish().await;
}

/// The token that opened it may be another by then.
#[tokio::test]
async fn an_upload_goes_on_with_a_new_token() {
    let site = Site::start().await;
    let url = site.create(CLIP.len()).await;
    site.patch(&url, 0, &CLIP[..HALF]).send().await.expect(204);
    site.app.clock.advance(Duration::from_secs(3600));
    let (bare, _) = url.split_once('?').expect("a query");
    assert_eq!("unauthenticated", site.patch(bare, HALF, &CLIP[HALF..]).send().await.problem(401));
    let site = site.signed_in_again().await;
    site.patch(bare, HALF, &CLIP[HALF..]).send().await.expect(204);
    site.assert_arrived(&url, CLIP).await;
    site.finish().await;
}
