//! Every refusal is a problem with a stable code, and repeats nothing that was sent.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::TestServer;

/// Sends a body and gives back status, content type and the problem without its `request_id`.
async fn refusal(server: &TestServer, method: Method, path: &str, content_type: &str, body: &str) -> (u16, Value) {
    let request = server.client.request(method, server.url(path)).header("content-type", content_type);
    let response = request.body(body.to_owned()).send().await.expect("an answer");
    problem(response).await
}

async fn problem(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    assert_eq!("application/problem+json", response.headers()["content-type"]);
    assert_eq!("no-store", response.headers()["cache-control"]);
    let id = response.headers()["x-request-id"].to_str().expect("text").to_owned();
    let mut body: Value = response.json().await.expect("a problem is JSON");
    assert_eq!(Some(Value::from(id)), body.as_object_mut().and_then(|body| body.remove("request_id")));
    (status, body)
}

fn note_problem(status: u16, code: &str, title: &str, more: Value) -> (u16, Value) {
    let mut body = json!({
        "type": format!("/docs/problems/{code}"),
        "title": title,
        "status": status,
        "code": code,
        "instance": "/api/v1/notes",
    });
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    (status, body)
}

#[tokio::test]
async fn an_unknown_path_is_404_without_its_text() {
    let server = TestServer::start().await;
    let (status, body) = problem(server.get("/api/v1/playback/hunter2").await).await;
    assert_eq!(
        (
            404,
            json!({"type": "/docs/problems/not_found", "title": "Nothing was found here", "status": 404, "code": "not_found"})
        ),
        (status, body)
    );
}

#[tokio::test]
async fn text_that_is_no_id_looks_like_an_absent_one() {
    let server = TestServer::start().await;
    let (status, body) = problem(server.get("/api/v1/nested/hunter2").await).await;
    assert_eq!((404, "not_found"), (status, body["code"].as_str().expect("a code")));
    assert_eq!("/api/v1/nested/{id}", body["instance"]);
    assert_eq!(None, body.get("detail"));
}

#[tokio::test]
async fn an_unknown_method_is_405_and_names_the_known_ones() {
    let server = TestServer::start().await;
    for (path, allowed) in
        [("/api/v1/notes", "POST,GET,HEAD"), ("/api/v1/bytes", "PUT,GET,HEAD"), ("/healthz", "GET,HEAD")]
    {
        let response = server.client.delete(server.url(path)).send().await.expect("an answer");
        let mut allow: Vec<_> =
            response.headers()["allow"].to_str().expect("text").split(',').map(str::to_owned).collect();
        let mut allowed: Vec<_> = allowed.split(',').map(str::to_owned).collect();
        allow.sort();
        allowed.sort();
        assert_eq!(allowed, allow);
        let (status, body) = problem(response).await;
        assert_eq!((405, "method_not_allowed"), (status, body["code"].as_str().expect("a code")));
    }
}

#[tokio::test]
async fn a_body_of_another_type_is_415() {
    let server = TestServer::start().await;
    let expected = |detail: &str| {
        note_problem(415, "unsupported_media_type", "The content type is not supported", json!({ "detail": detail }))
    };
    let answer = refusal(&server, Method::POST, "/api/v1/notes", "text/plain", "{}").await;
    assert_eq!(expected("send application/json"), answer);
}

#[tokio::test]
async fn broken_json_is_400_and_wrong_json_is_422() {
    let server = TestServer::start().await;
    let post = |body: &'static str| refusal(&server, Method::POST, "/api/v1/notes", "application/json", body);
    let malformed =
        |detail| note_problem(400, "malformed_json", "The body is not well-formed JSON", json!({ "detail": detail }));
    let invalid = |pointer, detail| {
        let errors = json!({"errors": [{"pointer": pointer, "detail": detail}]});
        note_problem(422, "invalid_body", "The body does not have the right shape or values", errors)
    };
    assert_eq!(malformed("line 1, column 10"), post("{\"title\":hunter2}").await);
    assert_eq!(malformed("the body ends before the JSON value does"), post("{\"title\"").await);
    assert_eq!(invalid("/title", "missing field"), post("{}").await);
    assert_eq!(invalid("/colour", "unknown field"), post(r#"{"title":"a","colour":"hunter2"}"#).await);
    assert_eq!(invalid("/tags/1", "expected a string"), post(r#"{"title":"a","tags":["b",7]}"#).await);
    assert_eq!(invalid("/title", "length is lower than 1"), post(r#"{"title":""}"#).await);
    assert_eq!(invalid("/title", "duplicate field"), post(r#"{"title":"a","title":"b"}"#).await);
}

#[tokio::test]
async fn deep_nesting_is_400() {
    let server = TestServer::start().await;
    let body = format!("{{\"title\":\"a\",\"tags\":{}", "[".repeat(100_000));
    let (status, body) = refusal(&server, Method::POST, "/api/v1/notes", "application/json", &body).await;
    // The type of `tags` is met before its depth: either way nothing is built.
    assert!(matches!(status, 400 | 422), "{status} {body}");
}

#[tokio::test]
async fn a_body_of_the_limit_passes_and_one_byte_more_is_413() {
    let server = TestServer::with(|_, http| http.max_body_bytes = 64).await;
    let body = |length: usize| {
        let start = r#"{"title":"a"}"#;
        format!("{start}{}", " ".repeat(length - start.len()))
    };
    let exact =
        server.client.post(server.url("/api/v1/notes")).header("content-type", "application/json").body(body(64));
    assert_eq!(StatusCode::CREATED, exact.send().await.expect("an answer").status());
    let expected =
        note_problem(413, "body_too_large", "The body is too large", json!({"detail": "at most 64 bytes are taken"}));
    assert_eq!(expected, refusal(&server, Method::POST, "/api/v1/notes", "application/json", &body(65)).await);
}

#[tokio::test]
async fn a_body_without_a_declared_length_meets_the_same_limit() {
    let server = TestServer::with(|_, http| http.max_body_bytes = 64).await;
    let mut raw = server.connect().await;
    let chunk = format!("41\r\n{}\r\n0\r\n\r\n", " ".repeat(0x41));
    raw.send(&format!(
        "POST /api/v1/notes HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"
    ))
    .await;
    assert!(raw.rest().await.starts_with("HTTP/1.1 413 "));
}

#[tokio::test]
async fn a_bad_query_names_the_parameter() {
    let server = TestServer::start().await;
    let expected = note_problem(
        400,
        "invalid_query",
        "The query string is not acceptable",
        json!({"errors": [{"pointer": "?limit", "detail": "greater than 100"}]}),
    );
    assert_eq!(expected, problem(server.get("/api/v1/notes?limit=101").await).await);
}

#[tokio::test]
async fn a_panic_is_500_and_the_connection_lives_on() {
    let server = TestServer::start().await;
    let mut raw = server.connect().await;
    for _ in 0..2 {
        raw.send("GET /api/v1/panic HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let (head, body) = raw.answer().await;
        assert!(head.starts_with("HTTP/1.1 500 "), "{head}");
        assert!(body.contains("\"code\":\"internal\"") && !body.contains("hunter2"), "{body}");
    }
}

#[tokio::test]
async fn a_failure_keeps_its_cause_to_itself() {
    let server = TestServer::start().await;
    let (status, body) = problem(server.get("/api/v1/failure").await).await;
    assert_eq!(500, status);
    assert!(!body.to_string().contains("hunter2"));
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_503_with_retry_after() {
    let server = TestServer::with(|_, http| http.request_timeout_ms = 50).await;
    let response = server.get("/api/v1/gate").await;
    assert_eq!("5", response.headers()["retry-after"]);
    let (status, body) = problem(response).await;
    assert_eq!((503, "timeout"), (status, body["code"].as_str().expect("a code")));
}

#[tokio::test]
async fn if_match_is_demanded_and_compared_by_version() {
    let server = TestServer::start().await;
    let patch = |tag: Option<&'static str>| {
        let request =
            server.client.patch(server.url("/api/v1/notes/1")).header("content-type", "application/merge-patch+json");
        let request = tag.into_iter().fold(request, |request, tag| request.header("if-match", tag));
        let request = request.body(r#"{"subtitle":null}"#);
        async move { request.send().await.expect("an answer") }
    };
    assert_eq!("precondition_required", problem(patch(None).await).await.1["code"]);
    let (status, body) = problem(patch(Some("\"2-aa\"")).await).await;
    assert_eq!((412, "the current version is 3"), (status, body["detail"].as_str().expect("a detail")));
    assert_eq!(400, problem(patch(Some("3")).await).await.0);
    assert_eq!("Some(None)", patch(Some("\"3-other\"")).await.text().await.expect("text"));
}

#[tokio::test]
async fn under_a_path_of_its_own_the_type_says_so() {
    let server = TestServer::at("https://example.org/video", |_, _| {}).await;
    let (_, body) = problem(server.get("/nowhere").await).await;
    assert_eq!("/video/docs/problems/not_found", body["type"]);
}
