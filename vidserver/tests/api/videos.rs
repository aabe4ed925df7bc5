//! One video: made, read, changed, trashed, watched.

use std::time::Duration;

use serde_json::{Value, json};
use vidcore::auth::Role;

use crate::app::{Answer, CLIP, TestApp, User, text};

/// An id that nothing has.
const ABSENT: &str = "/api/v1/videos/video_00000000000000000000000000";

fn path(video: &Value) -> String {
    format!("/api/v1/videos/{}", text(&video["id"]))
}

#[tokio::test]
async fn a_draft_is_created_with_a_location_and_a_tag() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    let body =
        json!({"title": " A film ", "description": "Two\nlines", "tags": ["one", " two "], "visibility": "public"});
    let answer = app.post("/api/v1/videos").by(&ada).json(&body).send().await.expect(201);
    insta::assert_json_snapshot!(answer.redacted());
    let read = app.get(answer.header("location")).by(&ada).send().await.expect(200);
    assert_eq!((answer.header("etag"), &answer.body), (read.header("etag"), &read.body));
    assert_eq!(path(&answer.json()), answer.header("location"));
    app.finish().await;
}

#[tokio::test]
async fn every_broken_rule_of_a_draft_is_named() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    let create = |body: Value| app.post("/api/v1/videos").by(&ada).json(&body);
    let tags: Vec<_> = (0..21).map(|_| "x".repeat(41)).collect();
    let body = json!({"title": "x".repeat(121), "description": "x".repeat(5001), "tags": tags});
    insta::assert_json_snapshot!(create(body).send().await.expect(422).redacted());
    let most: Vec<_> = (0..20).map(|_| "x".repeat(40)).collect();
    let body = json!({"title": "ü".repeat(120), "description": "x".repeat(5000), "tags": most});
    create(body).send().await.expect(201);
    for body in [
        json!({}),
        json!({"title": null}),
        json!({"title": "a", "views": 9}),
        json!([]),
        json!({"title": "a", "visibility": "secret"}),
    ] {
        assert_eq!("invalid_body", create(body).send().await.problem(422));
    }
    app.finish().await;
}

#[tokio::test]
async fn a_repeated_creation_with_a_key_makes_one_video() {
    let app = TestApp::start().await;
    let (ada, eve) = (app.user("ada").await, app.user("eve").await);
    let create =
        |user: &User, title: &str| app.post("/api/v1/videos").by(user).key("k1").json(&json!({"title": title}));
    let first = create(&ada, "A film").send().await.expect(201);
    let again = create(&ada, "A film").send().await.expect(201);
    assert_eq!((first.header("location"), &first.body), (again.header("location"), &again.body));
    assert_eq!("idempotency_key_reused", create(&ada, "Another").send().await.problem(422));
    // Another caller's key is another key, and it is forgotten after a day.
    assert_ne!(first.body, create(&eve, "A film").send().await.expect(201).body);
    let list = app.get("/api/v1/users/me/videos").by(&ada).send().await.json();
    assert_eq!(1, list["items"].as_array().map_or(0, Vec::len));
    app.finish().await;
}

#[tokio::test]
async fn what_is_not_for_the_caller_looks_absent() {
    let app = TestApp::start().await;
    let (ada, eve) = (app.user("ada").await, app.user("eve").await);
    let draft = app.draft(&ada, "draft", "public").await;
    let private = app.ready(&ada, "private", "private").await;
    let trashed = app.ready(&ada, "trashed", "public").await;
    app.delete(&path(&trashed)).by(&ada).send().await.expect(200);
    for suffix in ["", "/status", "/renditions"] {
        let absent = app.get(&format!("{ABSENT}{suffix}")).send().await.expect(404).redacted();
        for video in [&draft, &private, &trashed] {
            let path = format!("{}{suffix}", path(video));
            assert_eq!(absent, app.get(&path).send().await.expect(404).redacted(), "{path}");
            assert_eq!(absent, app.get(&path).by(&eve).send().await.expect(404).redacted(), "{path}");
            app.get(&path).by(&ada).send().await.expect(200);
        }
    }
    let absent = app.get("/api/v1/videos/hunter2").send().await.expect(404).redacted();
    insta::assert_json_snapshot!(absent);
    app.finish().await;
}

#[tokio::test]
async fn nobody_changes_the_video_of_another() {
    let app = TestApp::start().await;
    let (ada, eve) = (app.user("ada").await, app.user("eve").await);
    let video = path(&app.ready(&ada, "hers", "public").await);
    let tries = async |video: &str| -> Vec<Answer> {
        vec![
            app.patch(video).by(&eve).header("if-match", "*").json(&json!({"title": "mine"})).send().await,
            app.delete(video).by(&eve).send().await,
            app.post(&format!("{video}/restore")).by(&eve).send().await,
            app.post(&format!("{video}/process")).by(&eve).send().await,
            app.post(&format!("{video}/uploads")).by(&eve).json(&json!({"size_bytes": 1})).send().await,
            app.post(&format!("{video}/playback-tokens")).by(&eve).json(&json!({})).send().await,
            app.delete(&format!("{video}/playback-tokens")).by(&eve).send().await,
        ]
    };
    let (absent, hers) = (tries(ABSENT).await, tries(&video).await);
    for (absent, hers) in absent.into_iter().zip(hers) {
        assert_eq!(absent.expect(404).redacted(), hers.expect(404).redacted());
    }
    assert_eq!("hers", app.get(&video).send().await.json()["title"]);
    app.finish().await;
}

#[tokio::test]
async fn a_moderator_may_hide_what_is_not_his() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    let moderator = app.user_as("mod", Role::Moderator).await;
    let video = path(&app.ready(&ada, "bad", "public").await);
    app.delete(&video).by(&moderator).send().await.expect(200);
    app.get(&video).send().await.expect(404);
    app.post(&format!("{video}/restore")).by(&moderator).send().await.expect(200);
    app.get(&video).send().await.expect(200);
    app.finish().await;
}

#[tokio::test]
async fn a_patch_needs_the_version_it_changes() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    let draft = app.draft(&ada, "old", "private").await;
    let patch = || app.patch(&path(&draft)).by(&ada).json(&json!({"title": "new"}));
    insta::assert_json_snapshot!("without_if_match", patch().send().await.expect(428).redacted());
    let tag = app.get(&path(&draft)).by(&ada).send().await.header("etag").to_owned();
    for bad in ["1", "\"1-a\" \"2-b\"", "", "*, \"1-a\""] {
        assert_eq!("bad_request", patch().header("if-match", bad).send().await.problem(400), "{bad}");
    }
    for stale in ["\"0-a\"", "\"x\"", "\"99999999999999999999-a\"", &*format!("W/{tag}"), "\"-9223372036854775808-a\""]
    {
        assert_eq!("version_mismatch", patch().header("if-match", stale).send().await.problem(412), "{stale}");
    }
    let changed = patch().header("if-match", &tag).send().await.expect(200);
    insta::assert_json_snapshot!("patched", changed.redacted());
    assert_eq!("version_mismatch", patch().header("if-match", &tag).send().await.problem(412));
    patch().header("if-match", "*").send().await.expect(200);
    app.finish().await;
}

#[tokio::test]
async fn absent_members_stay_and_null_takes_away() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    let body = json!({"title": "A", "description": "B", "tags": ["c"]});
    let video = app.post("/api/v1/videos").by(&ada).json(&body).send().await.expect(201).json();
    let patch = |body: Value| app.patch(&path(&video)).by(&ada).header("if-match", "*").json(&body);
    let members = |answer: Answer| {
        let video = answer.expect(200).json();
        json!([video["title"], video["description"], video["tags"], video["visibility"]])
    };
    assert_eq!(json!(["A", "B", ["c"], "private"]), members(patch(json!({})).send().await));
    assert_eq!(json!(["A", "", ["c"], "private"]), members(patch(json!({"description": null})).send().await));
    assert_eq!(
        json!(["A", "", [], "unlisted"]),
        members(patch(json!({"tags": null, "visibility": "unlisted"})).send().await)
    );
    for body in
        [json!({"title": null}), json!({"visibility": null}), json!({"tags": [null]}), json!({"id": "x"}), json!(null)]
    {
        assert_eq!("invalid_body", patch(body).send().await.problem(422));
    }
    let typed = |content_type: &str| {
        app.patch(&path(&video)).by(&ada).header("if-match", "*").header("content-type", content_type).bytes("{}")
    };
    typed("application/merge-patch+json").send().await.expect(200);
    insta::assert_json_snapshot!(typed("application/json-patch+json").send().await.expect(415).redacted());
    app.finish().await;
}

#[tokio::test]
async fn a_repeated_patch_with_a_key_changes_once() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    let draft = app.draft(&ada, "old", "private").await;
    let tag = app.get(&path(&draft)).by(&ada).send().await.header("etag").to_owned();
    for condition in [tag.as_str(), "*"] {
        let patch = |title: &str| {
            app.patch(&path(&draft))
                .by(&ada)
                .key(condition.trim_matches('"'))
                .header("if-match", condition)
                .json(&json!({"title": title}))
        };
        let first = patch("new").send().await.expect(200);
        let again = patch("new").send().await.expect(200);
        assert_eq!((first.header("etag"), &first.body), (again.header("etag"), &again.body));
        assert_eq!("idempotency_key_reused", patch("other").send().await.problem(422));
    }
    app.finish().await;
}

#[tokio::test]
async fn the_trash_hides_a_video_until_it_is_restored() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    let video = app.ready(&ada, "A film", "public").await;
    let tag = app.get(&path(&video)).by(&ada).send().await.header("etag").to_owned();
    let trash = || app.delete(&path(&video)).by(&ada);
    assert_eq!("version_mismatch", trash().header("if-match", "\"1-a\"").send().await.problem(412));
    let trashed = trash().header("if-match", &tag).key("t").send().await.expect(200);
    insta::assert_json_snapshot!("trashed", trashed.redacted());
    assert_eq!(trashed.body, trash().header("if-match", &tag).key("t").send().await.expect(200).body);
    assert_eq!("not_found", trash().send().await.problem(404));
    app.get(&path(&video)).send().await.expect(404);
    assert_eq!(trashed.body, app.get(&path(&video)).by(&ada).send().await.expect(200).body);
    let patch = app.patch(&path(&video)).by(&ada).header("if-match", "*").json(&json!({"title": "x"}));
    assert_eq!("not_found", patch.send().await.problem(404));

    let restore = || app.post(&format!("{}/restore", path(&video))).by(&ada);
    let restored = restore().header("if-match", trashed.header("etag")).send().await.expect(200);
    insta::assert_json_snapshot!("restored", restored.redacted());
    assert_eq!("not_found", restore().send().await.problem(404));
    app.get(&path(&video)).send().await.expect(200);
    app.finish().await;
}

#[tokio::test]
async fn a_tag_saves_the_body_until_the_video_changes() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    let video = app.ready(&ada, "A film", "public").await;
    for (suffix, anybody) in [("", true), ("", false), ("/status", true), ("/renditions", true)] {
        let read = || {
            let call = app.get(&format!("{}{suffix}", path(&video)));
            if anybody { call } else { call.by(&ada) }
        };
        let first = read().send().await.expect(200);
        let kept = if anybody { "public, max-age=0, must-revalidate" } else { "private, no-store" };
        assert_eq!(kept, first.header("cache-control"));
        let same = read().header("if-none-match", first.header("etag")).send().await.expect(304);
        assert_eq!((first.header("etag"), 0), (same.header("etag"), same.body.len()));
        read().header("if-none-match", "\"other\"").send().await.expect(200);
        assert_eq!("bad_request", read().header("if-none-match", "other").send().await.problem(400));
        let head = app.head(&format!("{}{suffix}", path(&video))).send().await.expect(200);
        assert_eq!(0, head.body.len());
        if anybody {
            assert_eq!(first.body.len().to_string(), head.header("content-length"));
        }
    }
    let tag = app.get(&path(&video)).send().await.header("etag").to_owned();
    app.patch(&path(&video)).by(&ada).header("if-match", &tag).json(&json!({"title": "B"})).send().await.expect(200);
    let fresh = app.get(&path(&video)).header("if-none-match", &tag).send().await.expect(200);
    assert_eq!("B", fresh.json()["title"]);
    app.finish().await;
}

#[tokio::test]
async fn views_are_counted_outside_the_version() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    let video = app.ready(&ada, "A film", "unlisted").await;
    let eve = app.user("eve").await;
    app.post(&format!("{}/views", path(&video))).send().await.expect(204);
    app.post(&format!("{}/views", path(&video))).by(&eve).send().await.expect(204);
    app.platform.catalog().flush_views().await.expect("the database answers");
    let read = app.get(&path(&video)).by(&ada).send().await.json();
    assert_eq!((json!(2), &video["version"]), (read["views"].clone(), &read["version"]));
    let private = app.ready(&ada, "private", "private").await;
    assert_eq!("not_found", app.post(&format!("{}/views", path(&private))).send().await.problem(404));
    assert_eq!("not_found", app.post(&format!("{ABSENT}/views")).send().await.problem(404));
    let spoken = app.post(&format!("{}/views", path(&video))).bytes("{}").send().await;
    assert_eq!("bad_request", spoken.problem(400));
    app.finish().await;
}

#[tokio::test]
async fn status_and_renditions_tell_how_far_a_video_is() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    let draft = app.draft(&ada, "A film", "private").await;
    let status = async || app.get(&format!("{}/status", path(&draft))).by(&ada).send().await.expect(200).redacted();
    insta::assert_json_snapshot!("status_of_a_draft", status().await);
    app.bring(&ada, text(&draft["id"]), CLIP).await;
    app.until(&ada, &format!("{}/status", path(&draft)), |status| status["status"] == "ready").await;
    insta::assert_json_snapshot!("status_of_a_ready_video", status().await);
    let renditions = app.get(&format!("{}/renditions", path(&draft))).by(&ada).send().await.expect(200);
    insta::assert_json_snapshot!("renditions", renditions.redacted());
    insta::assert_json_snapshot!("ready_video", app.get(&path(&draft)).by(&ada).send().await.redacted());
    app.finish().await;
}

#[tokio::test]
async fn only_what_has_a_source_is_processed_again() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    let draft = app.draft(&ada, "A film", "private").await;
    let process = |video: &Value| app.post(&format!("{}/process", path(video))).by(&ada);
    insta::assert_json_snapshot!(process(&draft).send().await.expect(409).redacted());
    let ready = app.ready(&ada, "A film", "private").await;
    process(&ready).key("p").send().await.expect(202);
    process(&ready).key("p").send().await.expect(202);
    app.until(&ada, &path(&ready), |video| video["status"] == "ready").await;
    app.finish().await;
}

#[tokio::test]
async fn a_failed_video_says_why_and_can_be_tried_again() {
    let app = TestApp::builder()
        .settings(|settings| settings.worker.max_attempts = 1)
        .transcoder(|clock| {
            vidcore::media::simulated::SimulatedTranscoder::builder(clock)
                .encode_time(Duration::ZERO)
                .fail_first(1)
                .build()
        })
        .start()
        .await;
    let ada = app.user("ada").await;
    let draft = app.draft(&ada, "A film", "public").await;
    app.bring(&ada, text(&draft["id"]), CLIP).await;
    let failed = app.until(&ada, &path(&draft), |video| video["status"] == "failed").await;
    assert!(failed["failure"].is_string(), "{failed}");
    app.post(&format!("{}/process", path(&draft))).by(&ada).send().await.expect(202);
    let ready = app.until(&ada, &path(&draft), |video| video["status"] == "ready").await;
    assert_eq!(Value::Null, ready["failure"]);
    app.finish().await;
}
