//! Queues as administrators see and steer them.

use std::time::Duration;

use serde_json::{Value, json};
use vidcore::auth::Role;

use crate::app::{CLIP, Call, TestApp, User, text};

fn set<'a>(app: &'a TestApp, caller: &User, queue: &str, paused: bool) -> Call<'a> {
    app.put(&format!("/api/v1/queues/{queue}/paused")).by(caller).json(&json!({"paused": paused}))
}

async fn queues(app: &TestApp, admin: &User) -> Vec<Value> {
    let answer = app.get("/api/v1/queues").by(admin).send().await.expect(200).json();
    answer["items"].as_array().expect("items").clone()
}

#[tokio::test]
async fn nothing_of_a_paused_queue_is_claimed_until_it_goes_on() {
    // Its time stands still, so that no sweep ever comes.
    let app = TestApp::start().await;
    let (ada, admin) = (app.user("ada").await, app.user_as("root", Role::Admin).await);
    let paused = set(&app, &admin, "uploads", true).send().await.expect(200).json();
    insta::assert_json_snapshot!(paused);
    let draft = app.draft(&ada, "A film", "private").await;
    app.bring(&ada, text(&draft["id"]), CLIP).await;
    let waiting =
        queues(&app, &admin).await.into_iter().find(|queue| queue["queue"] == "uploads").expect("it has a job");
    assert_eq!((json!(1), json!(0)), (waiting["ready"].clone(), waiting["running"].clone()));
    assert_eq!(paused["paused_since"], waiting["paused_since"]);

    app.clock.advance(Duration::from_millis(1));
    let resumed = set(&app, &admin, "uploads", false).send().await.expect(200).json();
    assert_eq!(Value::Null, resumed["paused_since"]);
    let done = |page: &Value| page["items"].as_array().expect("items").iter().any(|job| job["state"] == "done");
    let page = app.until(&ada, "/api/v1/jobs?kind=verify_upload", done).await;
    let path = format!("/api/v1/jobs/{}", text(&page["items"][0]["id"]));
    let history = app.get(&path).by(&ada).send().await.expect(200).json()["history"].clone();
    assert_eq!("2026-01-01T00:00:00.001Z", history[0]["started_at"], "it was claimed after the queue went on");
    let video = format!("/api/v1/videos/{}", text(&draft["id"]));
    app.until(&ada, &video, |video| video["status"] == "ready").await;
    app.finish().await;
}

#[tokio::test]
async fn queues_are_forbidden_to_all_but_administrators_whatever_their_name() {
    let app = TestApp::start().await;
    let (ada, moderator) = (app.user("ada").await, app.user_as("mod", Role::Moderator).await);
    for caller in [&ada, &moderator] {
        assert_eq!("forbidden", app.get("/api/v1/queues").by(caller).send().await.problem(403));
        for name in ["media", "nowhere", "No"] {
            assert_eq!("forbidden", set(&app, caller, name, true).send().await.problem(403), "{name}");
        }
    }
    assert_eq!("unauthenticated", app.get("/api/v1/queues").send().await.problem(401));
    let anonymous = app.put("/api/v1/queues/media/paused").json(&json!({"paused": true}));
    assert_eq!("unauthenticated", anonymous.send().await.problem(401));
    let admin = app.user_as("root", Role::Admin).await;
    assert!(queues(&app, &admin).await.iter().all(|queue| queue["paused_since"].is_null()));
    app.finish().await;
}

#[tokio::test]
async fn a_queue_has_a_name_of_1_to_64_characters_and_a_body_that_says_which() {
    let app = TestApp::start().await;
    let admin = app.user_as("root", Role::Admin).await;
    let longest = "q".repeat(64);
    set(&app, &admin, &longest, true).send().await.expect(200);
    for bad in [format!("{longest}q"), "Media".to_owned(), "a%20b".to_owned()] {
        assert_eq!("not_found", set(&app, &admin, &bad, true).send().await.problem(404), "{bad}");
    }
    let path = "/api/v1/queues/media/paused";
    for (body, pointer) in
        [(json!({}), "/paused"), (json!({"paused": "yes"}), "/paused"), (json!({"paused": true, "why": "x"}), "/why")]
    {
        let refused = app.put(path).by(&admin).json(&body).send().await.expect(422).json();
        assert_eq!(pointer, refused["errors"][0]["pointer"], "{body}");
    }
    let large = format!("{{\"paused\": true{}}}", " ".repeat(300 * 1024));
    let call = app.put(path).by(&admin).header("content-type", "application/json").bytes(large);
    assert_eq!("body_too_large", call.send().await.problem(413));
    let names: Vec<_> = queues(&app, &admin).await.iter().map(|queue| text(&queue["queue"]).to_owned()).collect();
    assert_eq!([longest], *names);
    app.finish().await;
}

#[tokio::test]
async fn pausing_twice_is_pausing_and_a_repeated_request_does_not_pause_again() {
    let app = TestApp::start().await;
    let admin = app.user_as("root", Role::Admin).await;
    let first = set(&app, &admin, "media", true).key("p").send().await.expect(200).json();
    app.clock.advance(Duration::from_secs(1));
    assert_eq!(first, set(&app, &admin, "media", true).send().await.expect(200).json());
    set(&app, &admin, "media", false).send().await.expect(200);
    // The first request once more, come late: it has had its effect.
    let late = set(&app, &admin, "media", true).key("p").send().await.expect(200).json();
    assert_eq!(Value::Null, late["paused_since"]);
    assert_eq!("idempotency_key_reused", set(&app, &admin, "media", false).key("p").send().await.problem(422));
    assert!(queues(&app, &admin).await.is_empty());
    let answer = app.get("/api/v1/queues").by(&admin).send().await;
    app.get("/api/v1/queues").by(&admin).header("if-none-match", answer.header("etag")).send().await.expect(304);
    app.finish().await;
}
