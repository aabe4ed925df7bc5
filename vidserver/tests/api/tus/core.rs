//! "Core Protocol".

use bytes::Bytes;
use futures_util::stream;
use reqwest::Method;

use super::{BYTES, CLIP, HALF, Site, TUS, path_of};
use crate::app::TestApp;

/// "The Upload-Offset header's value MUST be equal to the current offset of the resource."
#[tokio::test]
async fn a_file_that_comes_in_pieces_becomes_the_source_of_its_video() {
    let site = Site::start().await;
    let url = site.create(CLIP.len()).await;
    let mut offset = 0;
    for piece in CLIP.chunks(50_001) {
        let answer = site.patch(&url, offset, piece).send().await.expect(204);
        offset += piece.len();
        assert_eq!(offset.to_string(), answer.header("upload-offset"));
        assert_eq!("1.0.0", answer.header("tus-resumable"));
        assert_eq!(offset, site.offset(&url).await);
    }
    site.assert_arrived(&url, CLIP).await;
    assert_eq!(CLIP.len(), site.offset(&url).await);
    site.finish().await;
}

/// "The Server MUST always include the Upload-Offset header in the response for a HEAD request" and "prevent the
/// client and/or proxies from caching the response by adding the Cache-Control: no-store header".
#[tokio::test]
async fn head_tells_offset_and_length_and_is_not_kept() {
    let site = Site::start().await;
    let url = site.create(CLIP.len()).await;
    site.patch(&url, 0, &CLIP[..HALF]).send().await.expect(204);
    let head = site.head(&url).await.expect(200);
    assert_eq!(HALF.to_string(), head.header("upload-offset"));
    assert_eq!(CLIP.len().to_string(), head.header("upload-length"));
    assert_eq!("no-store", head.header("cache-control"));
    assert_eq!("1.0.0", head.header("tus-resumable"));
    site.finish().await;
}

/// "If the resource is not found, the Server SHOULD return either the 404 Not Found, 410 Gone or 403 Forbidden status
/// without the Upload-Offset header."
#[tokio::test]
async fn what_is_not_there_has_no_offset() {
    let site = Site::start().await;
    let absent = format!("{TUS}/upload_01h00000000000000000000000");
    for url in [absent, format!("{TUS}/none"), format!("{TUS}/..%2f..%2fetc")] {
        let head = site.head(&url).await.expect(404);
        assert!(!head.headers.contains_key("upload-offset"), "{url}");
        assert_eq!("1.0.0", head.header("tus-resumable"));
        assert_eq!("not_found", site.patch(&url, 0, b"x").send().await.problem(404));
    }
    site.finish().await;
}

/// Nor does anybody else's, or one that is sent whole.
#[tokio::test]
async fn an_upload_of_somebody_else_is_not_there() {
    let site = Site::start().await;
    let url = site.create(10).await;
    let bob = site.app.user("bob").await;
    let as_bob = |method| site.app.call(method, path_of(&url)).by(&bob).header("tus-resumable", "1.0.0");
    as_bob(Method::HEAD).send().await.expect(404);
    let patch = as_bob(Method::PATCH).header("content-type", BYTES).header("upload-offset", "0").bytes("0123456789");
    assert_eq!("not_found", patch.send().await.problem(404));
    assert_eq!("not_found", as_bob(Method::DELETE).send().await.problem(404));
    // Without the query that permits it (see `permission`).
    let bare = format!("{TUS}/{}", super::id_of(&url));
    let anonymous = site.app.call(Method::HEAD, &bare).header("tus-resumable", "1.0.0").send().await.expect(401);
    assert_eq!("1.0.0", anonymous.header("tus-resumable"));
    assert_eq!(0, site.offset(&url).await);

    let draft = site.app.draft(&site.ada, "A film", "private").await;
    let whole = site.app.upload(&site.ada, draft["id"].as_str().expect("an id"), 10).await;
    site.head(&format!("{TUS}/{}", whole["id"].as_str().expect("an id"))).await.expect(404);
    site.finish().await;
}

/// "All PATCH requests MUST use Content-Type: application/offset+octet-stream, otherwise the server SHOULD return a 415".
#[tokio::test]
async fn bytes_of_another_type_are_refused() {
    let site = Site::start().await;
    let url = site.create(4).await;
    for kind in [None, Some("application/octet-stream"), Some("video/mp4")] {
        let call = site.call(Method::PATCH, &url).header("upload-offset", "0").bytes("film");
        let call = match kind {
            Some(kind) => call.header("content-type", kind),
            None => call,
        };
        assert_eq!("unsupported_media_type", call.send().await.problem(415), "{kind:?}");
    }
    assert_eq!(0, site.offset(&url).await);
    site.finish().await;
}

/// "If the offsets do not match, the Server MUST respond with the 409 Conflict status without modifying the upload
/// resource."
#[tokio::test]
async fn bytes_at_another_offset_are_refused() {
    let site = Site::start().await;
    let url = site.create(CLIP.len()).await;
    site.patch(&url, 0, &CLIP[..HALF]).send().await.expect(204);
    for offset in [0, HALF - 1, HALF + 1, CLIP.len()] {
        assert_eq!("offset_mismatch", site.patch(&url, offset, b"x").send().await.problem(409), "{offset}");
    }
    assert_eq!(HALF, site.offset(&url).await);
    site.patch(&url, HALF, &CLIP[HALF..]).send().await.expect(204);
    site.assert_arrived(&url, CLIP).await;
    site.finish().await;
}

/// "The value MUST be a non-negative integer."
#[tokio::test]
async fn an_offset_that_is_no_number_of_bytes_is_refused() {
    let site = Site::start().await;
    let url = site.create(4).await;
    for offset in ["", "-1", "+0", "0x0", "1e3", "zero", "18446744073709551616"] {
        let call = site.call(Method::PATCH, &url).header("content-type", BYTES).header("upload-offset", offset);
        assert_eq!("bad_request", call.bytes("film").send().await.problem(400), "{offset}");
    }
    let call = site.call(Method::PATCH, &url).header("content-type", BYTES).bytes("film");
    assert_eq!("bad_request", call.send().await.problem(400));
    assert_eq!(0, site.offset(&url).await);
    site.finish().await;
}

/// "If the version specified by the Client is not supported by the Server, it MUST respond with the 412 Precondition
/// Failed status and MUST include the Tus-Version header into the response. In addition, the Server MUST NOT process
/// the request."
#[tokio::test]
async fn another_version_is_refused_and_nothing_is_done() {
    let site = Site::start().await;
    let url = site.create(4).await;
    for (method, path) in [(Method::POST, TUS), (Method::PATCH, path_of(&url)), (Method::DELETE, path_of(&url))] {
        for version in [None, Some("0.2.2"), Some("1.0"), Some("1.0.0, 1.0.0")] {
            let call = site.app.call(method.clone(), path).by(&site.ada).header("upload-length", "4");
            let call = version.into_iter().fold(call, |call, version| call.header("tus-resumable", version));
            let call = call.header("content-type", BYTES).header("upload-offset", "0").bytes("film");
            let answer = call.send().await;
            assert_eq!("1.0.0", answer.header("tus-version"), "{method} {version:?}");
            assert_eq!("tus_version_unsupported", answer.problem(412), "{method} {version:?}");
        }
    }
    assert_eq!(0, site.offset(&url).await);
    assert_eq!(4, site.usage().await["reserved_bytes"]);
    site.finish().await;
}

/// "An OPTIONS request MAY be used to gather information about the Server's current configuration. A successful
/// response indicated by the 204 No Content or 200 OK status MUST contain the Tus-Version header. It MAY include the
/// Tus-Extension and Tus-Max-Size headers. The Client SHOULD NOT include the Tus-Resumable header in the request."
#[tokio::test]
async fn options_describes_the_server_to_anybody() {
    let app = TestApp::builder().settings(|settings| settings.uploads.max_size_bytes = 12_345).start().await;
    for path in [TUS.to_owned(), format!("{TUS}/upload_01h00000000000000000000000")] {
        let answer = app.call(Method::OPTIONS, &path).send().await.expect(200);
        assert_eq!("1.0.0", answer.header("tus-version"));
        assert_eq!("12345", answer.header("tus-max-size"));
        assert_eq!("sha256,sha1,crc32", answer.header("tus-checksum-algorithm"));
        let extensions =
            "creation,creation-with-upload,creation-defer-length,expiration,checksum,termination,concatenation";
        assert_eq!(extensions, answer.header("tus-extension"));
    }
    app.finish().await;
}

/// "The X-HTTP-Method-Override request header MUST be a string which MUST be interpreted as the request's method by
/// the Server, if the header is presented."
#[tokio::test]
async fn a_post_may_stand_for_another_method() {
    let site = Site::start().await;
    let url = site.create(CLIP.len()).await;
    let over = |method| site.call(Method::POST, &url).header("x-http-method-override", method);
    let patch = over("PATCH").header("content-type", BYTES).header("upload-offset", "0").bytes(&CLIP[..HALF]);
    assert_eq!(HALF.to_string(), patch.send().await.expect(204).header("upload-offset"));
    assert_eq!(HALF.to_string(), over("HEAD").send().await.expect(200).header("upload-offset"));
    for method in ["GET", "patch"] {
        assert_eq!("method_not_allowed", over(method).send().await.problem(405), "{method}");
    }
    over("DELETE").send().await.expect(204);
    site.head(&url).await.expect(410);
    site.finish().await;
}

/// More than was declared is refused, announced or not; what was acknowledged before stands.
#[tokio::test]
async fn bytes_beyond_the_length_are_refused() {
    let site = Site::start().await;
    let url = site.create(10).await;
    site.patch(&url, 0, b"01234").send().await.expect(204);
    assert_eq!("upload_too_large", site.patch(&url, 5, b"567890").send().await.problem(413));
    let chunks = ["567", "890"].map(|chunk| Ok::<_, std::io::Error>(Bytes::from_static(chunk.as_bytes())));
    let chunked = site.call(Method::PATCH, &url).header("content-type", BYTES).header("upload-offset", "5");
    let chunked = chunked.bytes(reqwest::Body::wrap_stream(stream::iter(chunks)));
    assert_eq!("upload_too_large", chunked.send().await.problem(413));
    assert_eq!(5, site.offset(&url).await);
    assert_eq!("open", site.upload(&url).await["status"]);
    site.finish().await;
}

/// Nothing is added and nothing refused.
#[tokio::test]
async fn an_empty_piece_changes_nothing() {
    let site = Site::start().await;
    let url = site.create(10).await;
    for _ in 0..2 {
        assert_eq!("0", site.patch(&url, 0, b"").send().await.expect(204).header("upload-offset"));
    }
    site.patch(&url, 0, b"0123").send().await.expect(204);
    assert_eq!("4", site.patch(&url, 4, b"").send().await.expect(204).header("upload-offset"));
    site.finish().await;
}

/// A file that is no video ends as one that was sent whole does.
#[tokio::test]
async fn bytes_that_are_no_video_are_rejected_with_a_reason() {
    let site = Site::start().await;
    let url = site.create(9).await;
    site.patch(&url, 0, b"some text").send().await.expect(204);
    let path = format!("/api/v1/uploads/{}", super::id_of(&url));
    let upload = site.app.until(&site.ada, &path, |upload| upload["status"] == "rejected").await;
    assert!(upload["reason"].is_string());
    assert_eq!(0, site.usage().await["reserved_bytes"]);
    assert_eq!(9, site.offset(&url).await);
    site.finish().await;
}

/// An upload that is complete takes no more, and a repeated last piece is told so.
#[tokio::test]
async fn a_complete_upload_takes_no_more() {
    let site = Site::start().await;
    let url = site.create(CLIP.len()).await;
    site.patch(&url, 0, CLIP).send().await.expect(204);
    let again = site.patch(&url, 0, CLIP).send().await;
    assert!(matches!(again.problem(409).as_str(), "wrong_state" | "offset_mismatch"));
    site.assert_arrived(&url, CLIP).await;
    assert_eq!("wrong_state", site.patch(&url, CLIP.len(), b"").send().await.problem(409));
    site.finish().await;
}
