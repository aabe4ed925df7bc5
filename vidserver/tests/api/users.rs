//! Accounts and what is theirs, over HTTP.

use serde_json::{Value, json};
use vidcore::auth::Role;

use crate::app::{TestApp, text};

const ME: &str = "/api/v1/users/me";

fn titles(page: &Value) -> Vec<&str> {
    page["items"].as_array().expect("items").iter().map(|video| text(&video["title"])).collect()
}

#[tokio::test]
async fn the_caller_reads_its_own_account_with_a_tag() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    let answer = app.get(ME).by(&ada).send().await.expect(200);
    insta::assert_json_snapshot!(answer.redacted());
    assert_eq!("private, no-store", answer.header("cache-control"));
    let tag = answer.header("etag").to_owned();
    let same = app.get(ME).by(&ada).header("if-none-match", &tag).send().await.expect(304);
    assert_eq!((tag.as_str(), 0), (same.header("etag"), same.body.len()));
    let refused = app.get(ME).send().await;
    assert_eq!("Bearer", refused.header("www-authenticate"));
    insta::assert_json_snapshot!("without_a_token", refused.expect(401).redacted());
    app.finish().await;
}

#[tokio::test]
async fn a_name_changes_unless_the_account_has_changed_since() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    let old = app.get(ME).by(&ada).send().await.header("etag").to_owned();
    let rename = |name: &str| app.patch(ME).by(&ada).json(&json!({"display_name": name}));
    let answer = rename("Countess").header("if-match", &old).send().await.expect(200);
    insta::assert_json_snapshot!(answer.redacted());
    assert_ne!(old, answer.header("etag"));
    insta::assert_json_snapshot!("stale", rename("Eve").header("if-match", &old).send().await.expect(412).redacted());
    rename("Lady").header("if-match", "*").send().await.expect(200);
    rename("Ada").send().await.expect(200);
    for (bad, detail) in [("", "empty"), ("\u{7}", "control"), (&*"x".repeat(81), "too long")] {
        assert_eq!("invalid_body", rename(bad).send().await.problem(422), "{detail}");
    }
    assert_eq!("Ada", app.get(ME).by(&ada).send().await.json()["display_name"]);
    app.finish().await;
}

#[tokio::test]
async fn a_profile_shows_no_address() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    let path = format!("/api/v1/users/{}", ada.id);
    let answer = app.get(&path).send().await.expect(200);
    insta::assert_json_snapshot!(answer.redacted());
    let tag = answer.header("etag").to_owned();
    app.get(&path).header("if-none-match", &tag).send().await.expect(304);
    let absent = "/api/v1/users/user_00000000000000000000000000";
    let body = app.get(absent).send().await.expect(404).redacted();
    assert_eq!(body, app.get("/api/v1/users/hunter2").send().await.expect(404).redacted());
    app.finish().await;
}

#[tokio::test]
async fn usage_counts_what_is_reserved_and_what_is_stored() {
    let app = TestApp::builder().settings(|settings| settings.uploads.quota_bytes = 1_000_000).start().await;
    let ada = app.user("ada").await;
    let usage = async || app.get("/api/v1/users/me/usage").by(&ada).send().await.expect(200).json();
    assert_eq!(json!({"stored_bytes": 0, "reserved_bytes": 0, "quota_bytes": 1_000_000}), usage().await);
    let draft = app.draft(&ada, "A", "private").await;
    app.upload(&ada, text(&draft["id"]), 500).await;
    assert_eq!(json!({"stored_bytes": 0, "reserved_bytes": 500, "quota_bytes": 1_000_000}), usage().await);
    app.ready(&ada, "B", "private").await;
    let stored = crate::app::CLIP.len();
    assert_eq!(json!({"stored_bytes": stored, "reserved_bytes": 500, "quota_bytes": 1_000_000}), usage().await);
    app.finish().await;
}

#[tokio::test]
async fn the_owner_lists_everything_and_others_what_is_public() {
    let app = TestApp::start().await;
    let (ada, eve) = (app.user("ada").await, app.user("eve").await);
    let moderator = app.user_as("mod", Role::Moderator).await;
    app.ready(&ada, "public", "public").await;
    app.ready(&ada, "unlisted", "unlisted").await;
    app.ready(&ada, "private", "private").await;
    app.draft(&ada, "draft", "public").await;
    let path = format!("/api/v1/users/{}/videos", ada.id);
    let own = app.get("/api/v1/users/me/videos").by(&ada).send().await.expect(200);
    let mut all = titles(&own.json()).into_iter().map(str::to_owned).collect::<Vec<_>>();
    all.sort();
    assert_eq!(["draft", "private", "public", "unlisted"], *all);
    assert_eq!(own.body, app.get(&path).by(&ada).send().await.body);
    assert_eq!(own.body, app.get(&path).by(&moderator).send().await.body);
    for stranger in [app.get(&path).by(&eve).send().await, app.get(&path).send().await] {
        assert_eq!(["public"], *titles(&stranger.expect(200).json()));
    }
    assert_eq!("unauthenticated", app.get("/api/v1/users/me/videos").send().await.problem(401));
    app.finish().await;
}

#[tokio::test]
async fn the_trash_is_its_owners() {
    let app = TestApp::start().await;
    let (ada, eve) = (app.user("ada").await, app.user("eve").await);
    let video = app.ready(&ada, "gone", "public").await;
    app.delete(&format!("/api/v1/videos/{}", text(&video["id"]))).by(&ada).send().await.expect(200);
    let path = format!("/api/v1/users/{}/videos", ada.id);
    let list = async |query: &str, user| {
        let answer = app.get(&format!("{path}{query}")).by(user).send().await.expect(200);
        titles(&answer.json()).len()
    };
    assert_eq!((1, 0), (list("?trash=true", &ada).await, list("", &ada).await));
    assert_eq!((0, 0), (list("?trash=true", &eve).await, list("", &eve).await));
    app.finish().await;
}

#[tokio::test]
async fn a_cursor_of_ones_own_list_opens_no_public_one() {
    let app = TestApp::start().await;
    let (ada, eve) = (app.user("ada").await, app.user("eve").await);
    for title in ["a", "b", "c"] {
        app.ready(&ada, title, "public").await;
        app.clock.advance(std::time::Duration::from_millis(1));
    }
    let path = format!("/api/v1/users/{}/videos?limit=1", ada.id);
    let own = app.get(&path).by(&ada).send().await.json();
    let public = app.get(&path).send().await.json();
    let with = |page: &Value, path: &str| format!("{path}&cursor={}", text(&page["next_cursor"]));
    assert_eq!(["b"], *titles(&app.get(&with(&own, &path)).by(&ada).send().await.expect(200).json()));
    assert_eq!(["b"], *titles(&app.get(&with(&public, &path)).by(&eve).send().await.expect(200).json()));
    assert_eq!("bad_cursor", app.get(&with(&own, &path)).by(&eve).send().await.problem(400));
    assert_eq!("bad_cursor", app.get(&with(&own, &path)).send().await.problem(400));
    assert_eq!("bad_cursor", app.get(&with(&own, &format!("{path}&trash=true"))).by(&ada).send().await.problem(400));
    assert_eq!("bad_cursor", app.get(&with(&own, "/api/v1/videos?limit=1")).send().await.problem(400));
    app.finish().await;
}
