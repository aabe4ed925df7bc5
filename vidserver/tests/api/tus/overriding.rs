//! `X-HTTP-Method-Override`: "MUST be a string which MUST be interpreted as the request's method by the Server, if the
//! header is presented. The actual method of the request MUST be ignored."

use reqwest::Method;

use super::{BYTES, CLIP, HALF, Site, TUS, path_of};
use crate::app::{Call, TestApp};

const OVERRIDE: &str = "x-http-method-override";

impl Site {
    /// A request that says one method and means another.
    fn over(&self, said: Method, meant: &str, url: &str) -> Call<'_> {
        self.call(said, url).header(OVERRIDE, meant)
    }
}

#[tokio::test]
async fn the_method_that_is_named_counts_whatever_the_request_line_says() {
    let site = Site::start().await;
    let url = site.create(CLIP.len()).await;
    for said in [Method::DELETE, Method::PATCH, Method::POST, Method::PUT, Method::GET, Method::OPTIONS] {
        let patch = site.over(said.clone(), "HEAD", &url).header("content-type", BYTES).header("upload-offset", "0");
        let head = patch.bytes("film").send().await.expect(200);
        assert_eq!("0", head.header("upload-offset"), "{said}");
        assert_eq!(CLIP.len().to_string(), head.header("upload-length"), "{said}");
    }
    assert_eq!("open", site.upload(&url).await["status"]);
    let append = |said, offset: usize, bytes: &'static [u8]| {
        let call = site.over(said, "PATCH", &url).header("content-type", BYTES);
        call.header("upload-offset", &offset.to_string()).bytes(bytes)
    };
    assert_eq!("10", append(Method::DELETE, 0, &CLIP[..10]).send().await.expect(204).header("upload-offset"));
    let by_head = append(Method::HEAD, 10, &CLIP[10..HALF]).send().await.expect(204);
    assert_eq!(HALF.to_string(), by_head.header("upload-offset"));
    append(Method::GET, HALF, &CLIP[HALF..]).send().await.expect(204);
    site.assert_arrived(&url, CLIP).await;

    let other = site.create(10).await;
    site.over(Method::HEAD, "DELETE", &other).send().await.expect(204);
    site.head(&other).await.expect(410);
    site.finish().await;
}

#[tokio::test]
async fn an_upload_is_opened_by_any_request_that_names_post() {
    let site = Site::start().await;
    for said in [Method::PUT, Method::GET, Method::OPTIONS, Method::PATCH] {
        let call = site.over(said.clone(), "POST", TUS).header("upload-length", "10");
        let url = call.send().await.expect(201).header("location").to_owned();
        assert_eq!(0, site.offset(&url).await, "{said}");
        site.call(Method::DELETE, &url).send().await.expect(204);
    }
    site.finish().await;
}

/// Nothing is opened, and no version is asked for: "The Client SHOULD NOT include the Tus-Resumable header".
#[tokio::test]
async fn options_may_be_named_by_anybody_on_both_paths() {
    let app = TestApp::start().await;
    let absent = format!("{TUS}/upload_01h00000000000000000000000");
    for path in [TUS, &absent] {
        for said in [Method::POST, Method::DELETE, Method::GET] {
            let call = app.call(said, path).header(OVERRIDE, "OPTIONS").header("upload-length", "10");
            let answer = call.send().await.expect(200);
            assert_eq!("1.0.0", answer.header("tus-version"));
            assert!(!answer.header("tus-max-size").is_empty());
            assert!(!answer.headers.contains_key("location"));
        }
    }
    app.finish().await;
}

/// And the version is asked of what is meant, not of what is said.
#[tokio::test]
async fn a_version_is_needed_for_what_is_meant() {
    let site = Site::start().await;
    let url = site.create(4).await;
    let call = site.app.call(Method::OPTIONS, path_of(&url)).by(&site.ada).header(OVERRIDE, "DELETE");
    assert_eq!("tus_version_unsupported", call.send().await.problem(412));
    assert_eq!(0, site.offset(&url).await);
    site.finish().await;
}

#[tokio::test]
async fn methods_that_are_not_there_are_told_those_that_are() {
    let site = Site::start().await;
    let url = site.create(CLIP.len()).await;
    for (path, named) in [(TUS, ["GET", "PATCH", "BREW"]), (path_of(&url), ["GET", "patch", "TRACE"])] {
        for meant in named {
            let answer = site.over(Method::POST, meant, path).send().await;
            let allowed: Vec<String> = answer.header("allow").split(',').map(|name| name.trim().to_owned()).collect();
            assert_eq!("method_not_allowed", answer.problem(405), "{meant} {path}");
            assert!(allowed.contains(&"OPTIONS".to_owned()), "{allowed:?}");
            for allowed in allowed.iter().filter(|allowed| *allowed != "DELETE" && *allowed != "POST") {
                assert_ne!(405, site.over(Method::POST, allowed, path).send().await.status, "{allowed} {path}");
            }
        }
    }
    // Naming no other method is as good as a request that names none: there is nothing to post to an upload.
    assert_eq!("method_not_allowed", site.over(Method::PATCH, "POST", &url).send().await.problem(405));
    assert_eq!("method_not_allowed", site.call(Method::POST, &url).send().await.problem(405));
    site.finish().await;
}

#[tokio::test]
async fn what_is_no_method_or_more_than_one_is_refused() {
    let site = Site::start().await;
    let url = site.create(4).await;
    for path in [TUS, path_of(&url)] {
        for meant in ["", "DE LETE", "DELETE, HEAD", "\"HEAD\"", "H\u{e9}AD"] {
            let answer = site.over(Method::DELETE, meant, path).send().await;
            assert_eq!("1.0.0", answer.header("tus-resumable"), "{meant}");
            assert_eq!("bad_request", answer.problem(400), "{meant}");
        }
        let twice = site.over(Method::POST, "HEAD", path).header(OVERRIDE, "DELETE");
        assert_eq!("bad_request", twice.send().await.problem(400));
    }
    assert_eq!(0, site.offset(&url).await);
    site.finish().await;
}

/// The connection goes on: the answer is as long as it says.
#[tokio::test]
async fn a_refusal_to_a_named_head_is_whole() {
    let site = Site::start().await;
    let absent = format!("{TUS}/upload_01h00000000000000000000000");
    for _ in 0..2 {
        assert_eq!("not_found", site.over(Method::POST, "HEAD", &absent).send().await.problem(404));
    }
    site.finish().await;
}

#[tokio::test]
async fn a_page_of_another_origin_may_read_what_it_named_options_for() {
    let page = "https://page.example";
    let app = TestApp::builder().http(|http| http.cors_origins = vec![page.to_owned()]).start().await;
    let answer = app.post(TUS).header("origin", page).header(OVERRIDE, "OPTIONS").send().await.expect(200);
    assert_eq!(page, answer.header("access-control-allow-origin"));
    assert_eq!("1.0.0", answer.header("tus-version"));
    app.finish().await;
}
