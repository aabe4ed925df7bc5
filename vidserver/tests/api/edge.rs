//! What every answer carries, whatever the route.

use reqwest::StatusCode;

use crate::support::TestServer;

#[tokio::test]
async fn answers_carry_an_id_and_security_headers() {
    let server = TestServer::start().await;
    for path in ["/healthz", "/nowhere", "/api/v1/notes"] {
        let response = server.get(path).await;
        let header = |name: &str| response.headers()[name].to_str().expect("text").to_owned();
        assert_eq!(32, header("x-request-id").len());
        assert_eq!("nosniff", header("x-content-type-options"));
        assert_eq!("default-src 'none'; frame-ancestors 'none'", header("content-security-policy"));
        assert_eq!("no-referrer", header("referrer-policy"));
        assert!(!response.headers().contains_key("strict-transport-security"));
    }
}

#[tokio::test]
async fn a_sane_request_id_comes_back() {
    let server = TestServer::start().await;
    let response = server.client.get(server.url("/healthz")).header("x-request-id", "proxy-7").send().await;
    assert_eq!("proxy-7", response.expect("an answer").headers()["x-request-id"]);
}

#[tokio::test]
async fn strict_transport_is_promised_where_clients_come_over_tls() {
    let server = TestServer::at("https://example.org", |_, _| {}).await;
    assert!(server.get("/healthz").await.headers().contains_key("strict-transport-security"));
}

#[tokio::test]
async fn other_origins_are_let_in_by_name_only() {
    let server = TestServer::with(|_, http| http.cors_origins = vec!["https://app.example".to_owned()]).await;
    let preflight = |origin: &'static str| {
        let request = server.client.request(reqwest::Method::OPTIONS, server.url("/api/v1/notes"));
        let request = request.header("origin", origin).header("access-control-request-method", "POST");
        async move { request.send().await.expect("an answer") }
    };
    let known = preflight("https://app.example").await;
    assert_eq!("https://app.example", known.headers()["access-control-allow-origin"]);
    assert!(!known.headers().contains_key("access-control-allow-credentials"));
    for stranger in ["https://app.example.evil", "http://app.example", "null"] {
        assert!(!preflight(stranger).await.headers().contains_key("access-control-allow-origin"), "{stranger}");
    }
}

#[tokio::test]
async fn without_listed_origins_options_is_405() {
    let server = TestServer::start().await;
    let request = server.client.request(reqwest::Method::OPTIONS, server.url("/api/v1/notes"));
    assert_eq!(StatusCode::METHOD_NOT_ALLOWED, request.send().await.expect("an answer").status());
}

#[tokio::test]
async fn a_problem_reaches_pages_of_listed_origins() {
    let server = TestServer::with(|_, http| http.cors_origins = vec!["https://app.example".to_owned()]).await;
    let request = server.client.get(server.url("/api/v1/panic")).header("origin", "https://app.example");
    let response = request.send().await.expect("an answer");
    assert_eq!(StatusCode::INTERNAL_SERVER_ERROR, response.status());
    assert_eq!("https://app.example", response.headers()["access-control-allow-origin"]);
}

#[tokio::test]
async fn large_lists_are_compressed_and_single_resources_keep_their_bytes() {
    let server = TestServer::start().await;
    let encoding = |path: &'static str| {
        let request = server.client.get(server.url(path)).header("accept-encoding", "gzip");
        async move {
            let response = request.send().await.expect("an answer");
            response.headers().get("content-encoding").map(|value| value.to_str().expect("text").to_owned())
        }
    };
    assert_eq!(Some("gzip".to_owned()), encoding("/api/v1/notes").await);
    assert_eq!(None, encoding("/api/v1/notes?limit=1").await);
    // It has a strong ETag.
    assert_eq!(None, encoding("/api/v1/notes/1").await);
    assert_eq!(None, encoding("/api/v1/bytes").await);
}

#[tokio::test]
async fn a_list_the_caller_holds_is_304() {
    let server = TestServer::start().await;
    let tag = server.get("/api/v1/notes").await.headers()["etag"].clone();
    let request = server.client.get(server.url("/api/v1/notes")).header("if-none-match", tag.clone());
    let response = request.send().await.expect("an answer");
    assert_eq!(StatusCode::NOT_MODIFIED, response.status());
    assert_eq!(tag, response.headers()["etag"]);
}

#[tokio::test]
async fn the_idempotency_key_is_bound_to_route_and_body() {
    let server = TestServer::start().await;
    let print = |body: &'static str| {
        let request = server.client.post(server.url("/api/v1/notes")).header("idempotency-key", "k1");
        let request = request.header("content-type", "application/json").body(body);
        async move { request.send().await.expect("an answer").headers()["x-key"].to_str().expect("text").to_owned() }
    };
    let first = print(r#"{"title":"a"}"#).await;
    assert!(first.starts_with("user_x POST /api/v1/notes "), "{first}");
    assert_eq!(first, print(r#"{"title":"a"}"#).await);
    assert_ne!(first, print(r#"{"title":"b"}"#).await);
}

#[tokio::test]
async fn a_bad_idempotency_key_is_400() {
    let server = TestServer::start().await;
    let request = server.client.post(server.url("/api/v1/notes")).header("idempotency-key", "a b");
    let request = request.header("content-type", "application/json").body(r#"{"title":"a"}"#);
    assert_eq!(StatusCode::BAD_REQUEST, request.send().await.expect("an answer").status());
}

#[tokio::test]
async fn figures_name_routes_and_never_paths() {
    let recorder = vidserver::metrics::install().expect("no other recorder");
    let server = TestServer::start().await;
    server.get("/api/v1/nested/hunter2").await;
    server.get("/hunter2").await;
    let text = vidserver::metrics::render(&recorder);
    let line = "vid_http_requests_total{method=\"GET\",route=\"/api/v1/nested/{id}\",status=\"404\"}";
    assert!(text.contains(line), "{text}");
    assert!(text.contains("route=\"none\"") && text.contains("vid_http_request_duration_seconds_bucket"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}
