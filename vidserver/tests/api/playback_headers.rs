//! What players and caches read off the headers: other origins, HEAD, and what may be kept.

use http::Method;

use crate::app::TestApp;
use crate::playback::{playing, public};

const PAGE: &str = "https://player.example";

/// What a player sends without asking first is in the Fetch standard (CORS-safelisted); everything else is asked for.
#[tokio::test]
async fn a_player_on_another_origin_may_send_conditions_and_read_what_came() {
    let app = TestApp::builder().http(|http| http.cors_origins = vec![PAGE.to_owned()]).start().await;
    let (_, video) = playing(&app).await;
    let asked = ["range", "if-range", "if-match", "if-none-match", "authorization"];
    let preflight = app
        .call(Method::OPTIONS, public(&video))
        .header("origin", PAGE)
        .header("access-control-request-method", "GET")
        .header("access-control-request-headers", &asked.join(","));
    let answer = preflight.send().await.expect(200);
    assert_eq!(PAGE, answer.header("access-control-allow-origin"));
    let list = |text: &str| text.to_lowercase().split(',').map(|name| name.trim().to_owned()).collect::<Vec<_>>();
    let allowed = list(answer.header("access-control-allow-headers"));
    for name in asked {
        assert!(allowed.contains(&name.to_owned()), "{name} is not in {allowed:?}");
    }
    let part = app.get(public(&video)).header("origin", PAGE).header("range", "bytes=0-1").send().await.expect(206);
    assert_eq!(PAGE, part.header("access-control-allow-origin"));
    let exposed = list(part.header("access-control-expose-headers"));
    for name in ["content-range", "content-length", "etag", "accept-ranges", "content-disposition", "retry-after"] {
        assert!(exposed.contains(&name.to_owned()), "{name} is not in {exposed:?}");
    }
    assert!(
        list(part.header("vary")).contains(&"origin".to_owned()),
        "an answer for one origin is not kept for another"
    );
    app.finish().await;
}
