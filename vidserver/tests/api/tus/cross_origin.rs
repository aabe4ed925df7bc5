//! Pages of other origins that upload.

use reqwest::Method;

use super::{Site, TUS};
use crate::app::TestApp;

const PAGE: &str = "https://page.example";

#[tokio::test]
async fn a_preflight_is_answered_with_what_the_protocol_needs() {
    let app = TestApp::builder().http(|http| http.cors_origins = vec![PAGE.to_owned()]).start().await;
    let preflight = app
        .call(Method::OPTIONS, TUS)
        .header("origin", PAGE)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,tus-resumable,upload-length,upload-metadata");
    let answer = preflight.send().await.expect(200);
    assert_eq!(PAGE, answer.header("access-control-allow-origin"));
    assert!(answer.header("access-control-allow-methods").contains("PATCH"));
    assert!(answer.header("access-control-allow-headers").contains("upload-metadata"));
    assert_eq!("1.0.0", answer.header("tus-version"));

    let site = Site::of(app).await;
    let answer = site.post().header("origin", PAGE).header("upload-length", "10").send().await.expect(201);
    let exposed = answer.header("access-control-expose-headers").to_lowercase();
    for name in ["location", "upload-offset", "upload-expires", "tus-resumable"] {
        assert!(exposed.contains(name), "{name} in {exposed}");
    }
    site.finish().await;
}
