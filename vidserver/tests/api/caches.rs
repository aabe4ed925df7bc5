//! What is cached, as clients and administrators see it.

use serde_json::Value;
use vidcore::auth::Role;

use crate::app::{TestApp, text};

async fn figures(app: &TestApp, admin: &crate::app::User, cache: &str) -> Value {
    let answer = app.get("/api/v1/admin/cache").by(admin).send().await.expect(200).json();
    let items = answer["items"].as_array().expect("items").clone();
    items.into_iter().find(|item| item["name"] == cache).expect("the cache is there")["stats"].clone()
}

#[tokio::test]
async fn figures_of_caches_are_for_administrators() {
    let app = TestApp::start().await;
    let (ada, admin) = (app.user("ada").await, app.user_as("root", Role::Admin).await);
    assert_eq!("unauthenticated", app.get("/api/v1/admin/cache").send().await.problem(401));
    assert_eq!("forbidden", app.get("/api/v1/admin/cache").by(&ada).send().await.problem(403));
    let answer = app.get("/api/v1/admin/cache").by(&admin).send().await.expect(200).json();
    let names: Vec<_> = answer["items"].as_array().expect("items").iter().map(|item| text(&item["name"])).collect();
    assert_eq!(["playing", "popular", "profiles", "search", "tokens", "video_pages"], *names);
    app.finish().await;
}

#[tokio::test]
async fn a_search_comes_from_the_cache_and_a_change_shows_at_once() {
    let app = TestApp::start().await;
    let (ada, admin) = (app.user("ada").await, app.user_as("root", Role::Admin).await);
    let video = app.ready(&ada, "A film about otters", "public").await;
    let path = "/api/v1/search?q=otters";
    let first = app.get(path).send().await.expect(200).json();
    assert_eq!(1, first["items"].as_array().expect("items").len());
    assert_eq!(first, app.get(path).send().await.expect(200).json());
    assert_eq!(1, figures(&app, &admin, "search").await["hits"]);
    let video = format!("/api/v1/videos/{}", text(&video["id"]));
    app.delete(&video).by(&ada).send().await.expect(200);
    assert_eq!(serde_json::json!([]), app.get(path).send().await.expect(200).json()["items"]);
    app.finish().await;
}

#[tokio::test]
async fn what_plays_is_read_once_and_a_link_that_ends_is_dead_at_once() {
    let app = TestApp::start().await;
    let (ada, admin) = (app.user("ada").await, app.user_as("root", Role::Admin).await);
    let video = app.ready(&ada, "A film", "public").await;
    let file = text(&video["playback"]["url"]);
    let before = figures(&app, &admin, "playing").await;
    for _ in 0..5 {
        app.get(file).header("range", "bytes=0-9").send().await.expect(206);
    }
    let after = figures(&app, &admin, "playing").await;
    let grown = |name: &str| after[name].as_u64().expect("a number") - before[name].as_u64().expect("a number");
    assert_eq!((1, 4), (grown("loads"), grown("hits")));
    let tokens = format!("/api/v1/videos/{}/playback-tokens", text(&video["id"]));
    app.delete(&tokens).by(&ada).send().await.expect(204);
    app.get(file).header("range", "bytes=0-9").send().await.expect(404);
    app.finish().await;
}
