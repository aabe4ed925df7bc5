//! Limits as callers meet them: refused in time, told when to come back.

use std::time::Duration;

use serde_json::{Value, json};
use vidcore::platform::Settings;
use vidcore::platform::settings::{CostSettings, LimitSettings};
use vidcore::testkit::TestRedis;

use crate::app::{Answer, PASSWORD, TestApp, User, text};

/// The shipped limits.
fn shipped(settings: &mut Settings) {
    settings.rate_limits = Settings::default().rate_limits;
}

/// Refused for its body, which comes after the limit: the cheapest call that counts as a write.
async fn write(app: &TestApp, user: &User) -> Answer {
    app.post("/api/v1/videos").by(user).json(&json!({})).send().await
}

/// This policy alone, where every call costs 1; the others are written to be unlimited.
fn only(name: &'static str, burst: u32) -> impl FnOnce(&mut Settings) {
    move |settings| {
        let limit = LimitSettings { limit: burst + 1, window_s: 60, burst };
        settings.rate_limits.policies.insert(name.to_owned(), limit.into());
        settings.rate_limits.costs = CostSettings { process_video: 1, search_further: 1 };
    }
}

#[tokio::test]
async fn a_user_writes_20_times_and_then_once_in_45_seconds() {
    let app = TestApp::builder().settings(shipped).start().await;
    let (ada, eve) = (app.user("ada").await, app.user("eve").await);
    for left in (0..20).rev() {
        let answer = write(&app, &ada).await.expect(422);
        assert_eq!("\"write.user\";q=100;w=3600", answer.header("ratelimit-policy"));
        assert_eq!(format!("\"write.user\";r={left};t={}", (20 - left) * 45), answer.header("ratelimit"));
        let older =
            ["limit", "remaining", "reset"].map(|name| answer.header(&format!("x-ratelimit-{name}")).to_owned());
        assert_eq!(["100".to_owned(), left.to_string(), ((20 - left) * 45).to_string()], older);
    }
    let refused = write(&app, &ada).await;
    insta::assert_json_snapshot!(refused.redacted());
    assert_eq!("rate_limited", refused.clone().problem(429));
    assert_eq!("45", refused.header("retry-after"));
    assert_eq!("\"write.user\";r=0;t=900", refused.header("ratelimit"));
    assert_eq!("\"write.user\";q=100;w=3600", refused.header("ratelimit-policy"));
    // Other users and other classes have budgets of their own.
    write(&app, &eve).await.expect(422);
    app.get("/api/v1/users/me").by(&ada).send().await.expect(200);

    app.clock.advance(Duration::from_millis(44_999));
    assert_eq!("1", write(&app, &ada).await.header("retry-after"));
    app.clock.advance(Duration::from_millis(1));
    write(&app, &ada).await.expect(422);
    write(&app, &ada).await.expect(429);
    app.finish().await;
}

#[tokio::test]
async fn a_refused_call_has_no_effect() {
    let app = TestApp::builder().settings(only("write.user", 1)).start().await;
    let ada = app.user("ada").await;
    app.draft(&ada, "first", "private").await;
    let second = app.post("/api/v1/videos").by(&ada).key("k").json(&json!({"title": "second"}));
    second.send().await.expect(429);
    let list = app.get("/api/v1/users/me/videos").by(&ada).send().await.json();
    assert_eq!(1, list["items"].as_array().map_or(0, Vec::len));
    app.finish().await;
}

#[tokio::test]
async fn strangers_are_counted_by_their_address() {
    let app = TestApp::builder().settings(only("read.address", 2)).start().await;
    for path in ["/api/v1/videos", "/api/v1/videos/popular"] {
        app.get(path).send().await.expect(200);
    }
    let refused = app.get("/api/v1/videos").send().await;
    assert!(refused.header("ratelimit").starts_with("\"read.address\";r=0;"));
    assert_eq!("rate_limited", refused.problem(429));
    app.finish().await;
}

#[tokio::test]
async fn nobody_hides_behind_a_header_that_no_proxy_wrote() {
    let app = TestApp::builder().settings(only("read.address", 2)).start().await;
    let from = |address: &str| app.get("/api/v1/videos").header("x-forwarded-for", address);
    from("192.0.2.1").send().await.expect(200);
    from("192.0.2.2").send().await.expect(200);
    from("192.0.2.3").send().await.expect(429);
    app.finish().await;
}

#[tokio::test]
async fn a_trusted_proxy_is_believed_from_the_right() {
    let proxies = vec!["127.0.0.0/8".to_owned()];
    let app = TestApp::builder()
        .settings(only("read.address", 2))
        .settings(|settings| settings.rate_limits.trusted_proxies = proxies)
        .start()
        .await;
    let from = |chain: &str| app.get("/api/v1/videos").header("x-forwarded-for", chain);
    from("192.0.2.1").send().await.expect(200);
    from("198.51.100.7, 192.0.2.1").send().await.expect(200);
    from("198.51.100.8, 192.0.2.1").send().await.expect(429);
    from("192.0.2.2").send().await.expect(200);
    app.finish().await;
}

#[tokio::test]
async fn a_login_is_limited_before_any_password_is_checked() {
    let app = TestApp::builder().settings(only("login.address", 1)).start().await;
    let body = json!({"email": "ada@example.org", "password": "wrong password"});
    let login = || app.post("/api/v1/auth/login").json(&body);
    login().send().await.expect(401);
    login().send().await.expect(429);
    app.clock.advance(Duration::from_secs(60));
    login().send().await.expect(401);
    app.finish().await;
}

async fn login(app: &TestApp, email: &str, password: &str, address: &str) -> Answer {
    let body = json!({"email": email, "password": password});
    app.post("/api/v1/auth/login").header("x-forwarded-for", address).json(&body).send().await
}

/// Callers choose their addresses, as behind a proxy that is trusted.
fn behind_a_proxy(settings: &mut Settings) {
    settings.rate_limits.trusted_proxies = vec!["127.0.0.0/8".to_owned()];
}

#[tokio::test]
async fn guesses_at_one_account_are_refused_before_any_password_is_checked() {
    let app = TestApp::builder().settings(only("login.account", 3)).settings(behind_a_proxy).start().await;
    for n in 0..3 {
        login(&app, "Ada@example.org ", "wrong password", &format!("192.0.2.{n}")).await.expect(401);
    }
    let checked = app.platform.auth().passwords().verifications();
    let refused = login(&app, "ada@example.org", "wrong password", "192.0.2.9").await;
    assert_eq!("60", refused.header("retry-after"));
    assert_eq!("\"login.account\";q=4;w=60", refused.header("ratelimit-policy"));
    assert_eq!("4", refused.header("x-ratelimit-limit"));
    assert_eq!("login.account", refused.json()["policy"]);
    assert_eq!("rate_limited", refused.problem(429));
    assert_eq!(checked, app.platform.auth().passwords().verifications());
    // Another account is not concerned, and this one opens again by itself.
    login(&app, "eve@example.org", "wrong password", "192.0.2.9").await.expect(401);
    app.clock.advance(Duration::from_secs(60));
    login(&app, "ada@example.org", "wrong password", "192.0.2.9").await.expect(401);
    app.finish().await;
}

#[tokio::test]
async fn an_owner_whose_account_is_under_attack_signs_in_from_where_it_did_before() {
    let builder = TestApp::builder().settings(only("login.account", 3)).settings(only("login.familiar", 3));
    let app = builder.settings(behind_a_proxy).start().await;
    let body = json!({"email": "ada@example.org", "handle": "ada", "password": PASSWORD});
    let sign_up = app.post("/api/v1/auth/register").header("x-forwarded-for", "192.0.2.1").json(&body);
    sign_up.send().await.expect(201);
    login(&app, "ada@example.org", PASSWORD, "192.0.2.2").await.expect(200);
    for n in 0..10 {
        login(&app, "ada@example.org", "a guess", &format!("198.51.100.{n}")).await;
    }
    login(&app, "ada@example.org", PASSWORD, "192.0.2.3").await.expect(429);
    for familiar in ["192.0.2.1", "192.0.2.2"] {
        login(&app, "ada@example.org", PASSWORD, familiar).await.expect(200);
    }
    app.finish().await;
}

#[tokio::test]
async fn attempts_to_register_one_address_are_counted_together() {
    let app = TestApp::builder().settings(only("register.account", 2)).start().await;
    let register = |handle: &str, email: &str| {
        let body = json!({"email": email, "handle": handle, "password": PASSWORD});
        app.post("/api/v1/auth/register").json(&body)
    };
    register("ada", "ada@example.org").send().await.expect(201);
    register("adb", "ada@example.org").send().await.expect(409);
    let refused = register("adc", " ADA@example.org").send().await;
    assert_eq!("register.account", refused.json()["policy"]);
    assert_eq!("rate_limited", refused.problem(429));
    register("eve", "eve@example.org").send().await.expect(201);
    app.finish().await;
}

#[tokio::test]
async fn costly_calls_take_more_than_one() {
    let app = TestApp::builder().settings(shipped).start().await;
    let ada = app.user("ada").await;
    let draft = app.draft(&ada, "first", "private").await;
    let process = app.post(&format!("/api/v1/videos/{}/process", text(&draft["id"]))).by(&ada).send().await;
    assert_eq!("\"write.user\";r=14;t=270", process.expect(409).header("ratelimit"));
    let first = app.get("/api/v1/search?q=first").by(&ada).send().await.expect(200);
    assert!(first.header("ratelimit").starts_with("\"search.user\";r=29;"));
    let later = app.get("/api/v1/search?q=first&cursor=x").by(&ada).send().await.expect(400);
    assert!(later.header("ratelimit").starts_with("\"search.user\";r=27;"));
    app.finish().await;
}

#[tokio::test]
async fn the_limits_are_shown_and_looking_takes_nothing_from_the_others() {
    let app = TestApp::builder().settings(shipped).start().await;
    let ada = app.user("ada").await;
    write(&app, &ada).await.expect(422);
    let limits = async || app.get("/api/v1/limits").by(&ada).send().await.expect(200);
    insta::assert_json_snapshot!(limits().await.redacted());
    let others = |answer: Answer| {
        let mut items = answer.json()["items"].as_array().expect("items").clone();
        // The call itself is a read.
        items.retain(|limit| !limit["policy"].as_str().is_some_and(|name| name.starts_with("read.")));
        items
    };
    let first: Vec<Value> = others(limits().await);
    assert_eq!(first, others(limits().await));
    app.get("/api/v1/limits").send().await.expect(200);
    app.finish().await;
}

#[tokio::test]
async fn health_and_documents_are_never_refused() {
    let app = TestApp::builder().settings(only("read.address", 1)).start().await;
    app.get("/api/v1/videos").send().await.expect(200);
    app.get("/api/v1/videos").send().await.expect(429);
    for path in ["/healthz", "/readyz", "/api/v1/openapi.json", "/docs/problems/rate_limited", "/docs/"] {
        app.get(path).send().await.expect(200);
    }
    app.finish().await;
}

#[tokio::test]
async fn while_redis_is_away_limits_are_shown_and_calls_are_admitted_for_a_share() {
    let Some(mut redis) = TestRedis::start() else { return };
    let shared = redis.settings();
    let app = TestApp::builder().settings(shipped).settings(|settings| settings.redis = shared).start().await;
    let ada = app.user("ada").await;
    assert_eq!("19", write(&app, &ada).await.expect(422).header("x-ratelimit-remaining"));
    redis.stop();
    for left in (0..5).rev() {
        let answer = write(&app, &ada).await.expect(422);
        assert_eq!("\"write.user\";q=25;w=3600", answer.header("ratelimit-policy"));
        assert_eq!(left.to_string(), answer.header("x-ratelimit-remaining"));
    }
    assert_eq!("rate_limited", write(&app, &ada).await.problem(429));
    let limits = app.get("/api/v1/limits").by(&ada).send().await.expect(200).json();
    let items = limits["items"].as_array().expect("items");
    let own = items.iter().find(|limit| limit["policy"] == "write.user").expect("it is shown");
    assert_eq!((&json!(25), &json!(0)), (&own["limit"], &own["remaining"]));
    app.finish().await;
}
