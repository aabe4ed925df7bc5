//! "Checksum".

use vidcore::storage::objects::sha256;

use super::{BYTES, CLIP, HALF, Site, base64};

/// "If the checksums match, the Server MUST …": all three algorithms.
#[tokio::test]
async fn bytes_count_under_a_checksum_that_matches() {
    let site = Site::start().await;
    // As sha1sum and the check value of CRC-32 have it, for "123456789".
    let sha1 = hex::decode("f7c3bc1d808e04732adf679965ccc34ca7ae3441").expect("hex");
    let crc32 = hex::decode("cbf43926").expect("hex");
    for checksum in [
        format!("sha1 {}", base64(sha1)),
        format!("crc32 {}", base64(crc32)),
        format!("sha256 {}", base64(sha256(b"123456789"))),
    ] {
        let url = site.create(100).await;
        let answer = site.patch(&url, 0, b"123456789").header("upload-checksum", &checksum).send().await.expect(204);
        assert_eq!("9", answer.header("upload-offset"), "{checksum}");
    }
    site.finish().await;
}

/// "460 Checksum Mismatch … the Server MUST discard the uploaded chunk": nothing of it counts, and what came before does.
#[tokio::test]
async fn bytes_with_another_checksum_do_not_count() {
    let site = Site::start().await;
    let url = site.create(CLIP.len()).await;
    site.patch(&url, 0, &CLIP[..HALF]).send().await.expect(204);
    let checksum = format!("sha256 {}", base64(sha256(&CLIP[HALF..])));
    let mut damaged = CLIP[HALF..].to_vec();
    damaged[7] ^= 1;
    let answer = site.patch(&url, HALF, &damaged).header("upload-checksum", &checksum).send().await;
    assert_eq!("upload_checksum_mismatch", answer.problem(460));
    assert_eq!(HALF, site.offset(&url).await);
    assert_eq!("open", site.upload(&url).await["status"]);
    site.patch(&url, HALF, &CLIP[HALF..]).header("upload-checksum", &checksum).send().await.expect(204);
    site.assert_arrived(&url, CLIP).await;
    site.finish().await;
}

/// "400 Bad Request if the checksum algorithm is not supported by the server".
#[tokio::test]
async fn a_checksum_that_cannot_be_computed_is_refused() {
    let site = Site::start().await;
    let url = site.create(9).await;
    for checksum in ["md5 hC4KwTHHP0hNZTcZFZ5nDA==", "sha1", "sha1 ", "sha1 !!!", "sha1 YQ==", "SHA1 9", ""] {
        let answer = site.patch(&url, 0, b"123456789").header("upload-checksum", checksum).send().await;
        assert_eq!("bad_request", answer.problem(400), "{checksum}");
    }
    assert_eq!(0, site.offset(&url).await);
    site.finish().await;
}

/// The upload is there, without a byte, and can be gone on with.
#[tokio::test]
async fn a_creation_whose_bytes_have_another_checksum_tells_where_to_go_on() {
    let site = Site::start().await;
    let call = site.post().header("upload-length", "9").header("content-type", BYTES).bytes("123456780");
    let answer = call.header("upload-checksum", &format!("sha256 {}", base64(sha256(b"123456789")))).send().await;
    let url = answer.header("location").to_owned();
    assert_eq!("upload_checksum_mismatch", answer.problem(460));
    assert_eq!(0, site.offset(&url).await);
    site.finish().await;
}
