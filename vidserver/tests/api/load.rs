//! More than the server can carry: what comes above is turned away, and the rest goes on.

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::app::{Call, PASSWORD, TestApp};
use crate::support::{Raw, TestServer, bounded};

#[tokio::test]
async fn what_comes_above_the_bound_is_turned_away_and_health_answers() {
    let server = TestServer::with(|_, http| http.max_in_flight = 1).await;
    let waiting = tokio::spawn(server.client.get(server.url("/api/v1/gate")).send());
    server.someone_at_the_gate().await;
    let refused = server.get("/api/v1/notes").await;
    assert_eq!(503, refused.status().as_u16());
    assert_eq!("1", refused.headers()["retry-after"]);
    assert_eq!("overloaded", refused.json::<Value>().await.expect("a problem")["code"]);
    assert_eq!(200, server.get("/healthz").await.status().as_u16());

    server.shared.gate.add_permits(1);
    assert_eq!(200, bounded(waiting).await.expect("no panic").expect("an answer").status().as_u16());
    assert_eq!(200, server.get("/api/v1/notes").await.status().as_u16());
}

fn login(app: &TestApp) -> Call<'_> {
    app.post("/api/v1/auth/login").json(&json!({"email": "ada@example.org", "password": PASSWORD}))
}

#[tokio::test]
async fn a_sign_in_that_finds_no_place_is_turned_away_and_everything_else_goes_on() {
    let app = TestApp::builder()
        .settings(|settings| settings.sqlite.busy_timeout_ms = 20_000)
        .http(|http| {
            http.passwords_at_once = 1;
            http.waiting_per_place = 0;
        })
        .start()
        .await;
    let ada = app.user("ada").await;
    // The first one has checked its password and waits for the database, so it is at its place.
    let checked = app.platform.auth().passwords().verifications();
    let other = Connection::open(app.folder.path().join("data/vidcore.db")).expect("the database");
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let second = async {
        bounded(async {
            while app.platform.auth().passwords().verifications() == checked {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let refused = login(&app).send().await;
        assert_eq!("1", refused.header("retry-after"));
        assert_eq!("overloaded", refused.problem(503));
        for path in ["/healthz", "/readyz", "/api/v1/users/me", "/api/v1/search?q=a"] {
            app.get(path).by(&ada).send().await.expect(200);
        }
        other.execute_batch("ROLLBACK").expect("the lock is given back");
    };
    let (first, ()) = tokio::join!(login(&app).send(), second);
    first.expect(200);
    login(&app).send().await.expect(200);
    app.finish().await;
}

#[tokio::test]
async fn nobody_holds_a_place_by_sending_slowly() {
    let app = TestApp::builder()
        .http(|http| {
            http.passwords_at_once = 1;
            http.waiting_per_place = 0;
        })
        .start()
        .await;
    app.user("ada").await;
    let mut slow = Raw(tokio::net::TcpStream::connect(app.address).await.expect("it listens"));
    let head = "POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    slow.send(&format!("{head}Content-Length: 70\r\nExpect: 100-continue\r\n\r\n")).await;
    // Told to go on: its body is being waited for.
    assert!(slow.answer().await.0.starts_with("HTTP/1.1 100 "));
    slow.send("{").await;
    login(&app).send().await.expect(200);
    drop(slow);
    app.finish().await;
}
