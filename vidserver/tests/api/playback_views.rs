//! Views that are counted from what is played: what is one, and whose.

use std::time::Duration;

use serde_json::{Value, json};
use vidcore::auth::Role;

use crate::app::{TestApp, text};
use crate::playback::{mint, playing, proxied, public};

/// The views that are written.
async fn views(app: &TestApp, video: &Value) -> u64 {
    app.platform.catalog().flush_views().await.expect("the database answers");
    let id = text(&video["id"]).parse().expect("an id");
    app.platform.store().video(id).await.expect("the database answers").expect("it is there").views
}

/// Once per viewer and half hour, whether it is played here or reported.
#[tokio::test]
async fn a_view_is_counted_from_what_is_played_and_once_with_what_is_reported() {
    let app = proxied().await;
    let (ada, video) = playing(&app).await;
    let url = public(&video);
    let play = |address: &'static str| app.get(url).header("x-forwarded-for", address);
    app.head(url).header("x-forwarded-for", "192.0.2.1").send().await.expect(200);
    app.get(url).by(&ada).send().await.expect(200);
    assert_eq!(0, views(&app, &video).await, "a HEAD and the owner do not count");
    for range in ["bytes=0-99", "bytes=100-199", "bytes=0-"] {
        play("192.0.2.1").header("range", range).send().await.expect(206);
    }
    let report = format!("/api/v1/videos/{}/views", text(&video["id"]));
    app.post(&report).header("x-forwarded-for", "192.0.2.1").send().await.expect(204);
    assert_eq!(1, views(&app, &video).await);
    play("192.0.2.2").send().await.expect(200);
    app.post(&report).header("x-forwarded-for", "192.0.2.3").send().await.expect(204);
    play("192.0.2.3").send().await.expect(200);
    assert_eq!(3, views(&app, &video).await);
    app.clock.advance(Duration::from_secs(1800));
    play("192.0.2.1").send().await.expect(200);
    assert_eq!(4, views(&app, &video).await);
    app.finish().await;
}

#[tokio::test]
async fn an_answer_without_bytes_of_the_video_is_no_view() {
    let app = proxied().await;
    let (_, video) = playing(&app).await;
    let url = public(&video);
    let tag = app.head(url).header("x-forwarded-for", "192.0.2.1").send().await.expect(200).header("etag").to_owned();
    let play = |address: &'static str| app.get(url).header("x-forwarded-for", address);
    play("192.0.2.2").header("if-none-match", &tag).send().await.expect(304);
    assert_eq!("version_mismatch", play("192.0.2.3").header("if-match", "\"x\"").send().await.problem(412));
    assert_eq!("range_not_satisfiable", play("192.0.2.4").header("range", "bytes=-0").send().await.problem(416));
    assert_eq!(0, views(&app, &video).await);
    play("192.0.2.2").header("range", "bytes=0-1").send().await.expect(206);
    play("192.0.2.3").header("range", "bytes=0-1,5-6").send().await.expect(206);
    play("192.0.2.4").header("if-match", &tag).send().await.expect(200);
    assert_eq!(3, views(&app, &video).await);
    app.finish().await;
}

/// Players send no `Authorization`: the link itself says whose it is.
#[tokio::test]
async fn a_link_counts_for_the_account_that_made_it_unless_another_asks() {
    let app = proxied().await;
    let (ada, video) = playing(&app).await;
    let (bob, moderator) = (app.user("bob").await, app.user_as("mod", Role::Moderator).await);
    let own = mint(&app, &ada, &video, json!({})).await;
    let play = |links: &Value, address: &'static str| app.get(text(&links["url"])).header("x-forwarded-for", address);
    play(&own, "192.0.2.1").send().await.expect(200);
    play(&own, "192.0.2.1").by(&ada).send().await.expect(200);
    assert_eq!(0, views(&app, &video).await, "its owner watched");
    play(&own, "192.0.2.1").by(&bob).send().await.expect(200);
    assert_eq!(1, views(&app, &video).await, "somebody else watched by the owner's link");
    let others = mint(&app, &moderator, &video, json!({})).await;
    for address in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
        play(&others, address).send().await.expect(200);
    }
    app.get(public(&video)).by(&moderator).send().await.expect(200);
    assert_eq!(2, views(&app, &video).await, "an account counts once, by its link or by its token");
    app.finish().await;
}
