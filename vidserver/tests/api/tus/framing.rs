//! Headers that are given twice, and bodies that are not the plain bytes of a file.

use reqwest::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{BYTES, CLIP, Site, TUS, base64, path_of};
use crate::app::text;
use crate::support::bounded;

/// "The Tus-Resumable header MUST be included in every request": one version, not a choice.
#[tokio::test]
async fn a_version_that_is_given_twice_is_none() {
    let site = Site::start().await;
    let url = site.create(4).await;
    for other in ["0.2.2", "1.0.0"] {
        for call in [site.call(Method::DELETE, &url), site.post().header("upload-length", "10")] {
            let answer = call.header("tus-resumable", other).send().await;
            assert_eq!("1.0.0", answer.header("tus-version"));
            assert_eq!("tus_version_unsupported", answer.problem(412), "{other}");
        }
    }
    assert_eq!(4, site.usage().await["reserved_bytes"]);
    site.finish().await;
}

#[tokio::test]
async fn a_header_of_one_value_that_is_given_twice_is_refused() {
    let site = Site::start().await;
    let url = site.create(4).await;
    let crc = format!("crc32 {}", base64([0; 4]));
    let twice = [
        ("upload-offset", "1"),
        ("content-type", "text/plain"),
        ("content-type", "application/offset+octet-stream; a=b"),
    ];
    for (name, value) in twice {
        let answer = site.patch(&url, 0, b"film").header(name, value).send().await;
        assert_eq!("bad_request", answer.problem(400), "{name}");
    }
    let both = site.patch(&url, 0, b"film").header("upload-checksum", &crc).header("upload-checksum", "sha1 x");
    assert_eq!("bad_request", both.send().await.problem(400));
    for (name, one, other) in [
        ("upload-length", "4", "5"),
        ("upload-defer-length", "1", "0"),
        ("upload-concat", "partial", "final;/x"),
        ("content-type", BYTES, "text/plain"),
        ("upload-checksum", &crc, "sha1 x"),
    ] {
        let call = if name == "upload-defer-length" { site.post() } else { site.post().header("upload-length", "4") };
        let call = if name == "upload-length" { site.post() } else { call };
        let answer = call.header(name, one).header(name, other).send().await;
        assert_eq!("bad_request", answer.problem(400), "{name}");
    }
    assert_eq!(0, site.offset(&url).await);
    assert_eq!(4, site.usage().await["reserved_bytes"]);
    site.finish().await;
}

/// Types are compared without case, and may have parameters (RFC 9110 §8.3.1).
#[tokio::test]
async fn the_type_of_bytes_has_no_case_and_may_have_parameters() {
    let site = Site::start().await;
    let url = site.create(CLIP.len()).await;
    let kinds = [
        "Application/Offset+Octet-Stream",
        "application/offset+octet-stream;charset=binary",
        "APPLICATION/OFFSET+OCTET-STREAM ; a=b",
    ];
    for (offset, kind) in kinds.iter().enumerate() {
        let call = site.call(Method::PATCH, &url).header("content-type", kind);
        call.header("upload-offset", &offset.to_string()).bytes(&CLIP[offset..=offset]).send().await.expect(204);
        let created = site.post().header("upload-length", "10").header("content-type", kind).bytes("01234");
        assert_eq!("5", created.send().await.expect(201).header("upload-offset"), "{kind}");
    }
    for kind in ["application/offset+octet-streams", "application/offset", "; application/offset+octet-stream", ""] {
        let call = site.call(Method::PATCH, &url).header("content-type", kind).header("upload-offset", "3");
        assert_eq!("unsupported_media_type", call.bytes("film").send().await.problem(415), "{kind}");
    }
    site.finish().await;
}

/// Offsets and lengths count the file's bytes: they would be others once a coding is undone (RFC 9110 §15.5.16).
#[tokio::test]
async fn coded_bytes_are_refused_and_identity_is_no_coding() {
    let site = Site::start().await;
    let url = site.create(CLIP.len()).await;
    for coding in ["gzip", "br", "identity, gzip", "GZIP", "aes128gcm", "what"] {
        let answer = site.patch(&url, 0, b"film").header("content-encoding", coding).send().await;
        assert!(answer.header("accept-encoding").eq_ignore_ascii_case("identity"), "{coding}");
        assert_eq!("unsupported_media_type", answer.problem(415), "{coding}");
        let created = site.post().header("upload-length", "10").header("content-type", BYTES).bytes("01234");
        assert_eq!("unsupported_media_type", created.header("content-encoding", coding).send().await.problem(415));
    }
    let twice = site.patch(&url, 0, b"film").header("content-encoding", "identity").header("content-encoding", "gzip");
    assert_eq!("unsupported_media_type", twice.send().await.problem(415));
    assert_eq!(0, site.offset(&url).await);
    assert_eq!(CLIP.len(), site.usage().await["reserved_bytes"]);
    site.patch(&url, 0, CLIP).header("content-encoding", "Identity").send().await.expect(204);
    site.assert_arrived(&url, CLIP).await;
    site.finish().await;
}

#[tokio::test]
async fn bytes_that_are_sent_whole_are_refused_when_coded() {
    let site = Site::start().await;
    let draft = site.app.draft(&site.ada, "A film", "private").await;
    let upload = site.app.upload(&site.ada, text(&draft["id"]), 4).await;
    let put = || site.app.put(text(&upload["upload_url"])).bytes("film");
    assert_eq!("unsupported_media_type", put().header("content-encoding", "gzip").send().await.problem(415));
    let head = format!("PUT {} HTTP/1.1\r\nhost: x\r\n", path_of(text(&upload["upload_url"])));
    assert_eq!("501", chunked(&site, &head, "gzip, chunked").await);
    put().header("content-encoding", "identity").send().await.expect(200);
    site.finish().await;
}

/// "A server that receives a request message with a transfer coding it does not understand SHOULD respond with 501"
/// (RFC 9112 §6.1).
#[tokio::test]
async fn bytes_in_another_transfer_coding_are_refused() {
    let site = Site::start().await;
    let url = site.create(4).await;
    let patch = format!(
        "PATCH {} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ntus-resumable: 1.0.0\r\n\
         content-type: {BYTES}\r\nupload-offset: 0\r\n",
        path_of(&url),
        site.ada.access
    );
    let post = format!(
        "POST {TUS} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ntus-resumable: 1.0.0\r\n\
         content-type: {BYTES}\r\nupload-length: 4\r\n",
        site.ada.access
    );
    for head in [&patch, &post] {
        for coding in ["gzip, chunked", "identity, chunked", "chunked, chunked", "gzip\r\ntransfer-encoding: chunked"] {
            assert_eq!("501", chunked(&site, head, coding).await, "{coding}");
        }
        // Where the body ends is not certain then, and hyper itself says so.
        assert_eq!("400", chunked(&site, head, "gzip").await);
    }
    assert_eq!(0, site.offset(&url).await);
    assert_eq!(4, site.usage().await["reserved_bytes"]);
    assert_eq!("204", chunked(&site, &patch, "Chunked").await);
    assert_eq!(4, site.upload(&url).await["offset_bytes"]);
    site.finish().await;
}

/// The status of the answer to `head` with the four bytes `film` in one chunk.
async fn chunked(site: &Site, head: &str, coding: &str) -> String {
    let mut socket = TcpStream::connect(site.app.address).await.expect("the server listens");
    let request = format!("{head}transfer-encoding: {coding}\r\n\r\n4\r\nfilm\r\n0\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("the server reads");
    let mut answer = [0; 12];
    bounded(socket.read_exact(&mut answer)).await.expect("an answer");
    String::from_utf8_lossy(&answer[9..]).into_owned()
}
