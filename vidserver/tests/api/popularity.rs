//! Views, popular and trending.

use std::time::Duration;

use serde_json::Value;

use crate::app::{Answer, TestApp, User, text};
use crate::lists::{publish, titles, walk};

/// A server that believes the proxy in front of it: who calls is in a header.
async fn start() -> TestApp {
    let proxies = vec!["127.0.0.0/8".to_owned()];
    TestApp::builder().settings(|settings| settings.rate_limits.trusted_proxies = proxies).start().await
}

/// The ids of public videos by their titles.
async fn id(app: &TestApp, title: &str) -> String {
    let page = app.get("/api/v1/videos?limit=100").send().await.json();
    let items = page["items"].as_array().expect("items");
    let video = items.iter().find(|video| video["title"] == title).expect("listed");
    text(&video["id"]).to_owned()
}

async fn view_from(app: &TestApp, video: &str, address: &str) -> Answer {
    app.post(&format!("/api/v1/videos/{video}/views")).header("x-forwarded-for", address).send().await
}

/// Views by networks that were not seen before, written.
async fn watch(app: &TestApp, title: &str, views: std::ops::Range<u8>) {
    let video = id(app, title).await;
    for number in views {
        view_from(app, &video, &format!("192.0.2.{number}")).await.expect(204);
    }
    flush(app).await;
}

async fn flush(app: &TestApp) {
    app.platform.catalog().flush_views().await.expect("the database answers");
}

/// The views that the database knows of.
async fn written(app: &TestApp, video: &str) -> u64 {
    let video = app.platform.store().video(video.parse().expect("an id")).await.expect("the database answers");
    video.expect("it is there").views
}

async fn hide(app: &TestApp, owner: &User, video: &str) {
    let private = serde_json::json!({"visibility": "private"});
    let path = format!("/api/v1/videos/{video}");
    app.patch(&path).by(owner).header("if-match", "*").json(&private).send().await.expect(200);
}

/// Lets the ranking, and what is cached of it, become too old.
fn wait(app: &TestApp) {
    app.clock.advance(Duration::from_secs(36));
}

#[tokio::test]
async fn the_most_viewed_come_first() {
    let app = start().await;
    let ada = app.user("ada").await;
    publish(&app, &ada, &["once", "twice", "never"]).await;
    watch(&app, "twice", 0..2).await;
    watch(&app, "once", 0..1).await;
    for path in ["popular?window=day", "popular?window=week", "popular?window=all", "popular", "trending"] {
        let page = app.get(&format!("/api/v1/videos/{path}")).send().await.expect(200);
        assert_eq!(["twice", "once", "never"], *titles(&page.json()), "{path}");
        assert!(page.header("etag").starts_with("W/\""));
        assert_eq!("public, max-age=0, must-revalidate", page.header("cache-control"));
    }
    let first = app.get("/api/v1/videos/popular?limit=1").send().await.expect(200);
    insta::assert_json_snapshot!(first.redacted());
    let tag = first.header("etag");
    let same = app.get("/api/v1/videos/popular?limit=1").header("if-none-match", tag).send().await.expect(304);
    assert_eq!((0, first.header("link")), (same.body.len(), same.header("link")));
    app.finish().await;
}

#[tokio::test]
async fn old_views_fade_over_the_window_that_is_asked_for() {
    let app = start().await;
    let ada = app.user("ada").await;
    publish(&app, &ada, &["long ago", "just now"]).await;
    watch(&app, "long ago", 0..3).await;
    app.clock.advance(Duration::from_secs(86_400));
    watch(&app, "just now", 0..1).await;
    let order = async |path: &str| titles(&app.get(&format!("/api/v1/videos/{path}")).send().await.expect(200).json());
    assert_eq!(["just now", "long ago"], *order("popular?window=day").await);
    assert_eq!(["just now", "long ago"], *order("trending").await);
    assert_eq!(["long ago", "just now"], *order("popular?window=week").await);
    assert_eq!(["long ago", "just now"], *order("popular?window=all").await);
    app.finish().await;
}

#[tokio::test]
async fn pages_neither_repeat_nor_skip_while_views_pour_in_and_videos_are_hidden() {
    let app = start().await;
    let ada = app.user("ada").await;
    publish(&app, &ada, &["1", "2", "3", "4", "5", "6"]).await;
    for (number, title) in (1..).zip(["6", "5", "4", "3", "2", "1"]) {
        watch(&app, title, 0..number).await;
    }
    for list in ["popular?window=all", "trending?x"] {
        let list = list.trim_end_matches("?x");
        wait(&app);
        let and = if list.contains('?') { '&' } else { '?' };
        let first = app.get(&format!("/api/v1/videos/{list}{and}limit=2")).send().await.expect(200).json();
        assert_eq!(2, titles(&first).len());
        let mut walked = titles(&first);
        let mut next = first["next_cursor"].clone();
        watch(&app, "6", 10..30).await;
        let hidden = id(&app, if list == "trending" { "5" } else { "4" }).await;
        hide(&app, &ada, &hidden).await;
        wait(&app);
        while let Value::String(cursor) = &next {
            let page = app.get(&format!("/api/v1/videos/{list}{and}limit=2&cursor={cursor}")).send().await.expect(200);
            walked.extend(titles(&page.json()));
            next = page.json()["next_cursor"].clone();
        }
        match list {
            "trending" => assert_eq!(["6", "1", "2", "3"], *walked),
            _ => assert_eq!(["1", "2", "3", "5", "6"], *walked),
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn links_lead_through_the_whole_list() {
    let app = start().await;
    let ada = app.user("ada").await;
    publish(&app, &ada, &["1", "2", "3", "4", "5"]).await;
    for path in ["/api/v1/videos/popular?window=day&limit=2", "/api/v1/videos/trending?limit=2"] {
        let pages = walk(&app, path).await;
        assert_eq!([2, 2, 1], *pages.iter().map(Vec::len).collect::<Vec<_>>(), "{path}");
        let mut all = pages.concat();
        all.sort();
        assert_eq!(["1", "2", "3", "4", "5"], *all, "{path}");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_cursor_is_good_for_its_list_and_ten_minutes() {
    let app = start().await;
    let ada = app.user("ada").await;
    publish(&app, &ada, &["1", "2"]).await;
    let first = app.get("/api/v1/videos/popular?window=day&limit=1").send().await.expect(200).json();
    let newest = app.get("/api/v1/videos?limit=1").send().await.expect(200).json();
    let (cursor, foreign) = (text(&first["next_cursor"]), text(&newest["next_cursor"]));
    for path in [
        format!("videos/popular?cursor={cursor}"),
        format!("videos/popular?window=all&cursor={cursor}"),
        format!("videos/trending?cursor={cursor}"),
        format!("videos?cursor={cursor}"),
        format!("search?q=1&cursor={cursor}"),
        format!("videos/popular?window=day&cursor={foreign}"),
        format!("videos/popular?window=day&cursor={cursor}x"),
        "videos/trending?cursor=".to_owned(),
    ] {
        assert_eq!("bad_cursor", app.get(&format!("/api/v1/{path}")).send().await.problem(400), "{path}");
    }
    let next = format!("/api/v1/videos/popular?window=day&limit=1&cursor={cursor}");
    app.clock.advance(Duration::from_secs(599));
    app.get(&next).send().await.expect(200);
    // What is cached may be served a little longer: for its time to live, and while it cannot be refreshed.
    app.clock.advance(Duration::from_secs(40));
    assert_eq!("bad_cursor", app.get(&next).send().await.problem(400));
    app.finish().await;
}

#[tokio::test]
async fn a_window_is_one_of_three() {
    let app = start().await;
    for query in ["window=month", "window=", "window=Day", "window=day&window=day", "window=day&x=1"] {
        let answer = app.get(&format!("/api/v1/videos/popular?{query}")).send().await;
        assert_eq!("invalid_query", answer.problem(400), "{query}");
    }
    assert_eq!("invalid_query", app.get("/api/v1/videos/trending?window=day").send().await.problem(400));
    let empty = app.get("/api/v1/videos/trending").send().await.expect(200).json();
    assert_eq!(serde_json::json!({"items": [], "next_cursor": null}), empty);
    app.finish().await;
}

#[tokio::test]
async fn a_viewer_counts_once_in_half_an_hour() {
    let app = start().await;
    let (ada, eve) = (app.user("ada").await, app.user("eve").await);
    let video = text(&app.ready(&ada, "A film", "public").await["id"]).to_owned();
    let views = async || {
        flush(&app).await;
        written(&app, &video).await
    };
    // One subscriber's network; the same with other bits; another one.
    for address in ["2001:db8::1", "2001:db8::2", "2001:db8::1", "2001:db8:0:1::1"] {
        view_from(&app, &video, address).await.expect(204);
    }
    assert_eq!(2, views().await);
    // Who is signed in is one viewer wherever she is; the owner is none.
    for (user, address) in [(&eve, "192.0.2.1"), (&eve, "192.0.2.2"), (&ada, "192.0.2.3")] {
        let call = app.post(&format!("/api/v1/videos/{video}/views")).by(user).header("x-forwarded-for", address);
        call.send().await.expect(204);
    }
    assert_eq!(3, views().await);
    app.clock.advance(Duration::from_secs(30 * 60) - Duration::from_millis(1));
    view_from(&app, &video, "2001:db8::1").await.expect(204);
    assert_eq!(3, views().await);
    app.clock.advance(Duration::from_millis(1));
    view_from(&app, &video, "2001:db8::1").await.expect(204);
    assert_eq!(4, views().await);
    let forged = app.post(&format!("/api/v1/videos/{video}/views")).header("authorization", "Bearer x").send().await;
    assert_eq!("unauthenticated", forged.problem(401));
    app.finish().await;
}

#[tokio::test]
async fn a_stopped_server_has_written_every_view_it_took() {
    let app = start().await;
    let ada = app.user("ada").await;
    publish(&app, &ada, &["A film"]).await;
    let video = id(&app, "A film").await;
    for number in 0..5 {
        view_from(&app, &video, &format!("192.0.2.{number}")).await.expect(204);
    }
    let platform = app.platform.clone();
    app.finish().await;
    let video = platform.store().video(video.parse().expect("an id")).await.expect("the database answers");
    assert_eq!(5, video.expect("it is there").views);
}
