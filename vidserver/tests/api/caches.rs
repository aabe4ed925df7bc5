//! What is cached, as clients and administrators see it.

use rustix::process::Signal;
use serde_json::{Value, json};
use vidcore::auth::Role;

use crate::app::{TestApp, text};
use crate::cli::{Served, output, vidserver};
use crate::support::bounded;

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

#[tokio::test]
async fn the_program_shows_the_caches_of_another_that_runs() {
    let (served, api, metrics) = Served::start_in(tempfile::tempdir().expect("a folder"), &[]);
    let search = format!("http://{api}/api/v1/search?q=nothing");
    for _ in 0..3 {
        assert_eq!(200, reqwest::get(&search).await.expect("it answers").status());
    }
    let stats = async |flags: &[&str]| {
        let mut command = vidserver(&["cache", "stats", "--metrics", &metrics]);
        command.args(flags);
        let output = tokio::task::spawn_blocking(move || output(&mut command)).await.expect("no panic");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    // The process writes its figures now and then.
    let row = bounded(async {
        loop {
            let lines = stats(&["--json"]).await;
            let mut rows = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
            if let Some(row) = rows.find(|row| row["loads"] == 1 && row["hits"] == 2) {
                break row;
            }
        }
    });
    let row = row.await;
    assert_eq!((&json!("search"), &json!(1)), (&row["cache"], &row["misses"]), "{row}");
    let table = stats(&[]).await;
    assert!(table.lines().any(|line| line.starts_with("search\t1\t") && line.contains("\t66.7\t")), "{table}");
    served.signal(Signal::TERM);
    assert!(served.end().await.success());

    let nobody = output(&mut vidserver(&["cache", "stats", "--metrics", &metrics]));
    let words = String::from_utf8_lossy(&nobody.stderr);
    assert!(!nobody.status.success() && words.contains("server.metrics_listen"), "{nobody:?}");
}
