//! Trouble behind the server, and garbage before it.

use std::time::{Duration, Instant};

use reqwest::Method;
use rusqlite::Connection;
use serde_json::{Value, json};
use vidcore::testkit::TestRedis;

use crate::app::{CLIP, Call, TestApp, text};
use crate::support::bounded;

/// Ids of nothing for the parameters of a path.
fn filled(template: &str) -> String {
    let ids = [
        ("/videos/{id}", "video"),
        ("/uploads/{id}", "upload"),
        ("/tus/{id}", "upload"),
        ("/jobs/{id}", "job"),
        ("/users/{id}", "user"),
    ];
    let mut path = template.to_owned();
    for (part, kind) in ids {
        path = path.replace(part, &part.replace("{id}", &format!("{kind}_00000000000000000000000000")));
    }
    path.replace("{video}", "video_00000000000000000000000000").replace("{epoch}", "0").replace(['{', '}'], "")
}

/// Every documented operation: its path, filled, its method and what the document says of it.
fn operations(app: &TestApp) -> Vec<(String, Method, Value)> {
    let paths = app.contract.paths().iter();
    paths
        .flat_map(|(template, operations)| {
            let operations = operations.as_object().expect("operations");
            operations.iter().map(move |(method, operation)| {
                let method = method.to_uppercase().parse().expect("a method");
                (filled(template), method, operation.clone())
            })
        })
        .collect()
}

/// A call with everything the document demands.
fn complete<'a>(app: &'a TestApp, path: &str, method: &Method, operation: &Value) -> Call<'a> {
    let query = if path.ends_with("/bytes") {
        "?expires=1&kid=a&signature=b"
    } else if path.ends_with("/search") {
        "?q=a"
    } else {
        ""
    };
    let call =
        app.call(method.clone(), &format!("{path}{query}")).header("if-match", "*").header("tus-resumable", "1.0.0");
    match operation["requestBody"]["content"].as_object().and_then(|content| content.keys().next()) {
        Some(content_type) => call.header("content-type", content_type).bytes("{}"),
        None => call,
    }
}

#[tokio::test]
async fn a_database_that_is_locked_is_503_at_once_and_recovers() {
    let app = TestApp::builder().settings(|settings| settings.sqlite.busy_timeout_ms = 50).start().await;
    let ada = app.user("ada").await;
    let video = app.ready(&ada, "A film", "public").await;
    let other = Connection::open(app.folder.path().join("data/vidcore.db")).expect("the database");
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock");

    let since = Instant::now();
    let create = || app.post("/api/v1/videos").by(&ada).key("k").json(&json!({"title": "B"}));
    let refused = create().send().await;
    insta::assert_json_snapshot!(refused.redacted());
    assert_eq!("unavailable", refused.clone().problem(503));
    assert_eq!("1", refused.header("retry-after"));
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    // Reading goes on.
    app.get(&format!("/api/v1/videos/{}", text(&video["id"]))).send().await.expect(200);
    app.get(text(&video["playback"]["url"])).send().await.expect(200);

    other.execute_batch("ROLLBACK").expect("the lock is given back");
    create().send().await.expect(201);
    app.finish().await;
}

#[tokio::test]
async fn bytes_that_cannot_be_recorded_may_be_sent_again() {
    let app = TestApp::builder().settings(|settings| settings.sqlite.busy_timeout_ms = 50).start().await;
    let ada = app.user("ada").await;
    let draft = app.draft(&ada, "A film", "private").await;
    let upload = app.upload(&ada, text(&draft["id"]), CLIP.len()).await;
    let other = Connection::open(app.folder.path().join("data/vidcore.db")).expect("the database");
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let put = || app.put(text(&upload["upload_url"])).bytes(CLIP);
    assert_eq!("unavailable", put().send().await.problem(503));
    other.execute_batch("ROLLBACK").expect("the lock is given back");
    put().send().await.expect(200);
    app.finish().await;
}

#[tokio::test]
async fn every_route_that_needs_a_token_is_401_without_one() {
    let app = TestApp::start().await;
    let mut needing = 0;
    for (path, method, operation) in operations(&app) {
        let answer = complete(&app, &path, &method, &operation).send().await;
        let demands = operation["security"] == json!([{"bearer": []}]);
        if method == Method::HEAD {
            // A problem without its body.
            assert_eq!((demands, demands), (answer.status == 401, answer.headers.contains_key("www-authenticate")));
            continue;
        }
        let refused = answer.status == 401 && answer.json()["code"] == "unauthenticated";
        assert_eq!(demands, refused, "{method} {path}: {}", answer.status);
        if demands {
            needing += 1;
            assert_eq!("Bearer", answer.header("www-authenticate"));
            assert_eq!("unauthenticated", answer.problem(401), "{method} {path}");
        }
        // A token that is not good is refused wherever one may be sent.
        if operation["security"].is_array() && !path.contains("/auth/login") {
            let bad = complete(&app, &path, &method, &operation).header("authorization", "Bearer x").send().await;
            assert_eq!("unauthenticated", bad.problem(401), "{method} {path}");
        }
    }
    assert!(needing > 15, "{needing}");
    app.finish().await;
}

#[tokio::test]
async fn every_json_route_refuses_garbage() {
    let app = TestApp::builder().http(|http| http.max_body_bytes = 4096).start().await;
    let ada = app.user("ada").await;
    let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    let huge = format!("{{\"x\":\"{}\"}}", "x".repeat(5000));
    let mut routes = 0;
    for (path, method, operation) in operations(&app) {
        let Some(content) = operation["requestBody"]["content"].as_object() else { continue };
        if content.keys().any(|name| !name.ends_with("json")) {
            continue;
        }
        routes += 1;
        for (content_type, body, status) in [
            ("text/plain", "{}", 415),
            ("application/json; charset=latin1", "{}", 415),
            ("application/json", "", 400),
            ("application/json", "{", 400),
            ("application/json", "\u{feff}{}", 400),
            ("application/json", "[]", 422),
            ("application/json", "null", 422),
            ("application/json", "\"x\"", 422),
            ("application/json", r#"{"__proto__":1}"#, 422),
            ("application/json", &huge, 413),
        ] {
            let call = app.call(method.clone(), &path).by(&ada).header("if-match", "*");
            let answer = call.header("content-type", content_type).bytes(body.to_owned()).send().await;
            assert_eq!(status, answer.status, "{method} {path} {content_type} {body:.20}");
        }
        let call = app.call(method.clone(), &path).by(&ada).header("if-match", "*");
        let answer = call.header("content-type", "application/json").bytes(deep.clone()).send().await;
        assert!(matches!(answer.status, 400 | 422), "{method} {path}: {}", answer.status);
        let call =
            app.call(method.clone(), &path).by(&ada).header("if-match", "*").header("content-type", "application/json");
        let answer = call.bytes(&b"{\"\xff\":1}"[..]).send().await;
        assert!(matches!(answer.status, 400 | 422), "{method} {path}: {}", answer.status);
        app.call(method.clone(), &path).by(&ada).header("if-match", "*").send().await.expect(415);
    }
    assert!(routes > 6, "{routes}");
    app.finish().await;
}

#[tokio::test]
async fn a_route_without_a_body_refuses_one() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    for (path, method, operation) in operations(&app) {
        if operation["requestBody"].is_object() || [Method::GET, Method::HEAD, Method::OPTIONS].contains(&method) {
            continue;
        }
        let call = app.call(method.clone(), &path).by(&ada).header("tus-resumable", "1.0.0");
        let answer = call.bytes("{}").send().await;
        assert_eq!("bad_request", answer.problem(400), "{method} {path}");
    }
    app.finish().await;
}

#[tokio::test]
async fn text_of_any_kind_in_a_path_is_404() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    for (path, method, operation) in operations(&app) {
        for kind in ["video", "upload", "job", "user"] {
            let id = format!("{kind}_00000000000000000000000000");
            // What is supported does not depend on the upload.
            if !path.contains(&id) || method == Method::OPTIONS {
                continue;
            }
            for text in ["x", "%00", "%ff", "..%2f", "%F0%9F%8E%AC", "video_", &"a".repeat(5000)] {
                let path = path.replace(&id, text);
                let answer = complete(&app, &path, &method, &operation).by(&ada).send().await;
                assert!(matches!(answer.status, 404 | 422), "{method} {path:.80}: {}", answer.status);
            }
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn a_redis_that_is_away_is_named_and_everything_goes_on() {
    let Some(mut redis) = TestRedis::start() else { return };
    let app = TestApp::builder().settings(|settings| settings.redis = redis.settings()).start().await;
    let until = async |expected: Value| {
        bounded(async {
            loop {
                let answer = app.get("/readyz").send().await.expect(200).json();
                if answer == expected {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    };
    until(json!({"status": "ready", "degraded": []})).await;
    redis.stop();
    until(json!({"status": "degraded", "degraded": ["redis"]})).await;
    let ada = app.user("ada").await;
    app.ready(&ada, "A clip", "public").await;
    redis.restart();
    until(json!({"status": "ready", "degraded": []})).await;
    app.finish().await;
}
