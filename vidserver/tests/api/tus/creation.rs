//! "Creation", "Creation With Upload" and the deferred length.

use reqwest::Method;

use super::{BYTES, CLIP, HALF, Site, TUS, base64};
use crate::app::{TestApp, text};

/// "The Server MUST acknowledge a successful upload creation with the 201 Created status. The Server MUST set the
/// Location header to the URL of the created resource."
#[tokio::test]
async fn an_upload_is_created_with_an_absolute_url() {
    let site = Site::start().await;
    let answer = site.post().header("upload-length", "100").send().await.expect(201);
    let url = answer.header("location").to_owned();
    assert!(url.starts_with(&format!("http://{}{TUS}/upload_", site.app.address)), "{url}");
    assert_eq!("0", answer.header("upload-offset"));
    assert_eq!("100", site.head(&url).await.expect(200).header("upload-length"));
    assert_eq!(100, site.usage().await["reserved_bytes"]);
    site.finish().await;
}

#[tokio::test]
async fn its_url_stands_under_the_public_url() {
    let public_url =
        |settings: &mut vidcore::platform::Settings| settings.public_url = "https://media.example.org/v".to_owned();
    let site = Site::of(TestApp::builder().settings(public_url).start().await).await;
    let answer = site.post().header("upload-length", "100").send().await.expect(201);
    let url = answer.header("location");
    assert!(url.starts_with(&format!("https://media.example.org/v{TUS}/upload_")), "{url}");
    site.finish().await;
}

/// "If the length of the upload exceeds the maximum, which MAY be specified using the Tus-Max-Size header, the Server
/// MUST respond with the 413 Request Entity Too Large status."
#[tokio::test]
async fn a_length_above_the_maximum_is_refused_and_the_maximum_is_not() {
    let app = TestApp::builder().settings(|settings| settings.uploads.max_size_bytes = 1000).start().await;
    let site = Site::of(app).await;
    assert_eq!("upload_too_large", site.post().header("upload-length", "1001").send().await.problem(413));
    site.create(1000).await;
    site.finish().await;
}

#[tokio::test]
async fn a_length_that_is_none_is_refused() {
    let site = Site::start().await;
    for length in ["-1", "0", "", "ten", "1.5", "18446744073709551616"] {
        let answer = site.post().header("upload-length", length).send().await;
        assert_eq!("bad_request", answer.problem(400), "{length}");
    }
    assert_eq!("bad_request", site.post().send().await.problem(400));
    assert_eq!(0, site.usage().await["reserved_bytes"]);
    site.finish().await;
}

#[tokio::test]
async fn a_length_beyond_the_quota_is_refused() {
    let app = TestApp::builder().settings(|settings| settings.uploads.quota_bytes = 1000).start().await;
    let site = Site::of(app).await;
    site.create(600).await;
    assert_eq!("quota_exceeded", site.post().header("upload-length", "401").send().await.problem(403));
    site.create(400).await;
    site.finish().await;
}

/// "The Upload-Metadata request and response header MUST consist of one or more comma-separated key-value pairs", and
/// HEAD gives it back "as specified by the Client during the creation".
#[tokio::test]
async fn metadata_is_given_back_word_for_word() {
    let site = Site::start().await;
    let metadata = format!("filename {},is_confidential", base64("world_domination_plan.mp4"));
    let answer =
        site.post().header("upload-length", "10").header("upload-metadata", &metadata).send().await.expect(201);
    assert_eq!(metadata, site.head(answer.header("location")).await.expect(200).header("upload-metadata"));
    for bad in ["filename !", "a YQ==,a YQ==", ",", " "] {
        let answer = site.post().header("upload-length", "10").header("upload-metadata", bad).send().await;
        assert!(answer.status == 400 || bad.trim().is_empty(), "{bad}: {}", answer.status);
    }
    site.finish().await;
}

#[tokio::test]
async fn metadata_names_the_video() {
    let site = Site::start().await;
    let draft = site.app.draft(&site.ada, "Mine", "private").await;
    let metadata = format!("video_id {}", base64(text(&draft["id"])));
    let answer =
        site.post().header("upload-length", "10").header("upload-metadata", &metadata).send().await.expect(201);
    assert_eq!(draft["id"], answer.json()["video_id"]);

    let bob = site.app.user("bob").await;
    let theirs = site.app.draft(&bob, "Theirs", "public").await;
    for foreign in [text(&theirs["id"]), "video_01h00000000000000000000000", "none", ""] {
        let metadata = format!("video_id {}", base64(foreign));
        let answer = site.post().header("upload-length", "10").header("upload-metadata", &metadata).send().await;
        assert_eq!("not_found", answer.problem(404), "{foreign}");
    }
    site.finish().await;
}

/// So that a client which knows nothing but an endpoint and a token can bring a file.
#[tokio::test]
async fn without_a_video_a_private_draft_is_made_and_named_after_the_file() {
    let site = Site::start().await;
    let metadata = format!("filename {}", base64("Ünïcode\n\u{202e}.mp4"));
    let call = site.post().header("upload-length", "10").header("upload-metadata", &metadata);
    let upload = call.send().await.expect(201).json();
    let video =
        site.app.get(&format!("/api/v1/videos/{}", text(&upload["video_id"]))).by(&site.ada).send().await.json();
    assert_eq!(
        ("Ünïcode .mp4", "private", "draft"),
        (text(&video["title"]), text(&video["visibility"]), text(&video["status"]))
    );
    let unnamed = site.post().header("upload-length", "10").send().await.expect(201).json();
    let video =
        site.app.get(&format!("/api/v1/videos/{}", text(&unnamed["video_id"]))).by(&site.ada).send().await.json();
    assert_eq!("Untitled", text(&video["title"]));
    site.finish().await;
}

/// Whether nothing was opened: no upload counts, and no draft is there.
async fn assert_nothing_opened(site: &Site, why: &str) {
    assert_eq!(0, site.usage().await["reserved_bytes"], "{why}");
    let mine = site.app.get(&format!("/api/v1/users/{}/videos", site.ada.id)).by(&site.ada).send().await.json();
    assert_eq!(0, mine["items"].as_array().expect("items").len(), "{why}");
}

/// What can be known before the first byte is asked before anything is opened.
#[tokio::test]
async fn a_creation_that_cannot_succeed_opens_nothing() {
    let app = TestApp::builder().settings(|settings| settings.uploads.max_size_bytes = 20).start().await;
    let site = Site::of(app).await;
    let create = |bytes: &'static str| site.post().header("content-type", BYTES).bytes(bytes);
    for checksum in ["md5 YQ==", "sha1 YQ==", "sha256", "", "sha1 !!!"] {
        let call = create("01234").header("upload-length", "10").header("upload-checksum", checksum);
        assert_eq!("bad_request", call.send().await.problem(400), "{checksum}");
        let bare = site.post().header("upload-length", "10").header("upload-checksum", checksum);
        assert_eq!("bad_request", bare.send().await.problem(400), "{checksum}");
        assert_nothing_opened(&site, checksum).await;
    }
    for (name, said) in [("upload-concat", "partial"), ("upload-metadata", "is_confidential")] {
        let longer = create("01234567890").header("upload-length", "10").header(name, said);
        assert_eq!("upload_too_large", longer.send().await.problem(413), "{said}");
        let deferred = create("012345678901234567890").header("upload-defer-length", "1").header(name, said);
        assert_eq!("upload_too_large", deferred.send().await.problem(413), "{said}");
    }
    assert_nothing_opened(&site, "too long").await;
    site.finish().await;
}

/// What only the bytes themselves show leaves an upload that can be gone on with or given up, and says where it is.
#[tokio::test]
async fn a_creation_that_fails_later_tells_where_its_upload_is() {
    let site = Site::start().await;
    let chunks = ["01234", "567890"].map(|chunk| Ok::<_, std::io::Error>(bytes::Bytes::from_static(chunk.as_bytes())));
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
    let call = site.post().header("upload-length", "10").header("content-type", BYTES).bytes(body);
    let answer = call.send().await;
    let url = answer.header("location").to_owned();
    assert_eq!("upload_too_large", answer.problem(413));
    assert_eq!(0, site.offset(&url).await);
    site.call(Method::DELETE, &url).send().await.expect(204);
    assert_eq!(0, site.usage().await["reserved_bytes"]);
    site.finish().await;
}

/// A refused upload leaves no draft behind.
#[tokio::test]
async fn no_draft_is_made_for_an_upload_that_is_refused() {
    let app = TestApp::builder().settings(|settings| settings.uploads.quota_bytes = 10).start().await;
    let site = Site::of(app).await;
    assert_eq!("quota_exceeded", site.post().header("upload-length", "11").send().await.problem(403));
    let mine = site.app.get(&format!("/api/v1/users/{}/videos", site.ada.id)).by(&site.ada).send().await.json();
    assert_eq!(0, mine["items"].as_array().expect("items").len());
    site.finish().await;
}

/// "The Client MAY include parts of the upload in the initial Creation request" and "the Server MUST include the
/// Upload-Offset header in the response".
#[tokio::test]
async fn a_creation_may_bring_the_first_bytes_or_all() {
    let site = Site::start().await;
    for brought in [HALF, CLIP.len()] {
        let call = site.post().header("upload-length", &CLIP.len().to_string()).header("content-type", BYTES);
        let answer = call.bytes(&CLIP[..brought]).send().await.expect(201);
        assert_eq!(brought.to_string(), answer.header("upload-offset"));
        let url = answer.header("location").to_owned();
        if brought < CLIP.len() {
            site.patch(&url, brought, &CLIP[brought..]).send().await.expect(204);
        }
        site.assert_arrived(&url, CLIP).await;
    }
    let call = site.post().header("upload-length", "10").header("content-type", "text/plain").bytes("film");
    assert_eq!("unsupported_media_type", call.send().await.problem(415));
    site.finish().await;
}

/// "Upload-Defer-Length … MUST be 1 … Once it is known the Client MUST set the Upload-Length header in the next PATCH
/// request. Once set the length MUST NOT be changed. As long as the length of the upload is not known, the Server MUST
/// set Upload-Defer-Length: 1 in all responses to HEAD requests."
#[tokio::test]
async fn a_length_may_be_declared_later_and_once() {
    let site = Site::start().await;
    let url = site.post().header("upload-defer-length", "1").send().await.expect(201).header("location").to_owned();
    site.patch(&url, 0, &CLIP[..HALF]).send().await.expect(204);
    let head = site.head(&url).await.expect(200);
    assert_eq!(("1", HALF.to_string().as_str()), (head.header("upload-defer-length"), head.header("upload-offset")));
    assert!(!head.headers.contains_key("upload-length"));
    assert_eq!(HALF, site.usage().await["reserved_bytes"]);

    let too_short = site.patch(&url, HALF, b"").header("upload-length", &(HALF - 1).to_string());
    assert_eq!("bad_request", too_short.send().await.problem(400));
    let length = CLIP.len().to_string();
    site.patch(&url, HALF, &CLIP[HALF..HALF + 10]).header("upload-length", &length).send().await.expect(204);
    let head = site.head(&url).await.expect(200);
    assert_eq!(length, head.header("upload-length"));
    assert!(!head.headers.contains_key("upload-defer-length"));
    assert_eq!(CLIP.len(), site.usage().await["reserved_bytes"]);

    let other = site.patch(&url, HALF + 10, b"x").header("upload-length", &(CLIP.len() + 1).to_string());
    assert_eq!("length_declared", other.send().await.problem(409));
    let rest = site.patch(&url, HALF + 10, &CLIP[HALF + 10..]).header("upload-length", &length);
    rest.send().await.expect(204);
    site.assert_arrived(&url, CLIP).await;
    site.finish().await;
}

/// A stream whose end says how long it was.
#[tokio::test]
async fn a_length_may_be_declared_when_all_bytes_are_there() {
    let site = Site::start().await;
    let url = site.post().header("upload-defer-length", "1").send().await.expect(201).header("location").to_owned();
    site.patch(&url, 0, CLIP).send().await.expect(204);
    let last = site.patch(&url, CLIP.len(), b"").header("upload-length", &CLIP.len().to_string());
    last.send().await.expect(204);
    site.assert_arrived(&url, CLIP).await;
    site.finish().await;
}

/// "If the Upload-Defer-Length header contains any other value than 1 the server should return a 400 Bad Request
/// status."
#[tokio::test]
async fn a_length_is_deferred_by_1_alone_and_not_declared_besides() {
    let site = Site::start().await;
    for value in ["0", "2", "true", ""] {
        assert_eq!(
            "bad_request",
            site.post().header("upload-defer-length", value).send().await.problem(400),
            "{value}"
        );
    }
    let both = site.post().header("upload-defer-length", "1").header("upload-length", "10");
    assert_eq!("bad_request", both.send().await.problem(400));
    site.finish().await;
}

/// Bytes of an unknown length count as they come.
#[tokio::test]
async fn an_upload_of_unknown_length_cannot_pass_the_quota_or_the_maximum() {
    let limits = |settings: &mut vidcore::platform::Settings| {
        settings.uploads.quota_bytes = 1000;
        settings.uploads.max_size_bytes = 900;
    };
    let site = Site::of(TestApp::builder().settings(limits).start().await).await;
    let create = || site.post().header("upload-defer-length", "1");
    let url = create().send().await.expect(201).header("location").to_owned();
    site.patch(&url, 0, &[0; 600]).send().await.expect(204);
    assert_eq!("upload_too_large", site.patch(&url, 600, &[0; 301]).send().await.problem(413));
    let other = create().send().await.expect(201).header("location").to_owned();
    assert_eq!("quota_exceeded", site.patch(&other, 0, &[0; 401]).send().await.problem(403));
    assert_eq!(0, site.offset(&other).await);
    site.patch(&other, 0, &[0; 400]).send().await.expect(204);
    let length = site.patch(&url, 600, b"").header("upload-length", "700");
    assert_eq!("quota_exceeded", length.send().await.problem(403));
    assert_eq!("1", site.head(&url).await.expect(200).header("upload-defer-length"));
    assert_eq!(1000, site.usage().await["reserved_bytes"]);
    site.finish().await;
}

#[tokio::test]
async fn a_creation_without_a_token_is_refused() {
    let site = Site::start().await;
    let call = site.app.call(Method::POST, TUS).header("tus-resumable", "1.0.0").header("upload-length", "10");
    assert_eq!("unauthenticated", call.send().await.problem(401));
    site.finish().await;
}
