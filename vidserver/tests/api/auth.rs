//! Signing up, in and out, over HTTP.

use std::time::Duration;

use serde_json::{Value, json};

use crate::app::{PASSWORD, TestApp, User, text};

const REGISTER: &str = "/api/v1/auth/register";
const LOGIN: &str = "/api/v1/auth/login";
const REFRESH: &str = "/api/v1/auth/refresh";

fn ada() -> Value {
    json!({"email": "Ada@Example.org", "handle": "ada", "display_name": "Ada L.", "password": PASSWORD})
}

#[tokio::test]
async fn whoever_registers_is_signed_in() {
    let app = TestApp::start().await;
    let answer = app.post(REGISTER).json(&ada()).send().await.expect(201);
    assert_eq!("no-store", answer.header("cache-control"));
    insta::assert_json_snapshot!(answer.redacted());
    let user = User::of(&answer.json());
    app.get("/api/v1/users/me").by(&user).send().await.expect(200);
    app.finish().await;
}

#[tokio::test]
async fn every_broken_rule_of_a_registration_is_named() {
    let app = TestApp::start().await;
    let body = json!({"email": "nowhere", "handle": "a!", "display_name": " ", "password": "short"});
    insta::assert_json_snapshot!(app.post(REGISTER).json(&body).send().await.expect(422).redacted());
    app.finish().await;
}

#[tokio::test]
async fn an_address_is_taken_in_every_spelling_and_so_is_a_handle() {
    let app = TestApp::start().await;
    app.post(REGISTER).json(&ada()).send().await.expect(201);
    let taken = json!({"email": "aDA@example.ORG", "handle": "ada2", "password": PASSWORD});
    assert_eq!("email_taken", app.post(REGISTER).json(&taken).send().await.problem(409));
    let taken = json!({"email": "eve@example.org", "handle": "ADA", "password": PASSWORD});
    assert_eq!("handle_taken", app.post(REGISTER).json(&taken).send().await.problem(409));
    app.finish().await;
}

#[tokio::test]
async fn a_login_takes_the_address_in_every_spelling() {
    let app = TestApp::start().await;
    app.post(REGISTER).json(&ada()).send().await.expect(201);
    let body = json!({"email": " ADA@example.org", "password": PASSWORD});
    let answer = app.post(LOGIN).json(&body).send().await.expect(200);
    assert_eq!("no-store", answer.header("cache-control"));
    insta::assert_json_snapshot!(answer.redacted());
    app.finish().await;
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_address_look_the_same() {
    let app = TestApp::start().await;
    app.user("ada").await;
    let refusal = async |email: &str, password: &str| {
        let body = json!({"email": email, "password": password});
        app.post(LOGIN).json(&body).send().await.expect(401).redacted()
    };
    let wrong = refusal("ada@example.org", "wrong password").await;
    assert_eq!("invalid_credentials", wrong["code"]);
    assert_eq!(wrong, refusal("eve@example.org", "wrong password").await);
    assert_eq!(wrong, refusal("no address", "").await);
    assert_eq!(wrong, refusal("ada@example.org", &"x".repeat(10_000)).await);
    app.finish().await;
}

#[tokio::test]
async fn a_refresh_token_is_good_for_one_use() {
    let app = TestApp::start().await;
    let user = app.user("ada").await;
    let refresh = async |token: &str| app.post(REFRESH).json(&json!({"refresh_token": token})).send().await;
    let next = refresh(&user.refresh).await.expect(200);
    insta::assert_json_snapshot!(next.redacted());
    let next = User::of(&next.json());
    app.get("/api/v1/users/me").by(&next).send().await.expect(200);

    // A twin within the grace time gets the same successor, a thief after it ends the session.
    assert_eq!(next.refresh, User::of(&refresh(&user.refresh).await.expect(200).json()).refresh);
    app.clock.advance(Duration::from_secs(11));
    assert_eq!("invalid_refresh_token", refresh(&user.refresh).await.problem(401));
    assert_eq!("invalid_refresh_token", refresh(&next.refresh).await.problem(401));
    assert_eq!("unauthenticated", app.get("/api/v1/users/me").by(&next).send().await.problem(401));
    app.finish().await;
}

#[tokio::test]
async fn what_is_no_refresh_token_is_refused() {
    let app = TestApp::start().await;
    for bad in ["", "x", "ü", &"a".repeat(10_000)] {
        let answer = app.post(REFRESH).json(&json!({"refresh_token": bad})).send().await;
        assert_eq!("invalid_refresh_token", answer.problem(401), "{bad}");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_logout_ends_one_session_or_all() {
    let app = TestApp::start().await;
    let phone = app.user("ada").await;
    let sign_in = async || {
        let body = json!({"email": "ada@example.org", "password": PASSWORD});
        User::of(&app.post(LOGIN).json(&body).send().await.expect(200).json())
    };
    let (laptop, tablet) = (sign_in().await, sign_in().await);
    let alive = async |user: &User| app.get("/api/v1/users/me").by(user).send().await.status == 200;

    app.post("/api/v1/auth/logout").by(&laptop).send().await.expect(204);
    assert_eq!([true, false, true], [alive(&phone).await, alive(&laptop).await, alive(&tablet).await]);
    let refused = app.post(REFRESH).json(&json!({"refresh_token": laptop.refresh})).send().await;
    assert_eq!("invalid_refresh_token", refused.problem(401));

    app.post("/api/v1/auth/logout?everywhere=true").by(&phone).send().await.expect(204);
    assert_eq!([false, false], [alive(&phone).await, alive(&tablet).await]);
    assert!(alive(&sign_in().await).await);
    app.finish().await;
}

#[tokio::test]
async fn an_access_token_ends_with_its_time() {
    let app = TestApp::start().await;
    let user = app.user("ada").await;
    app.clock.advance(Duration::from_secs(604));
    app.get("/api/v1/users/me").by(&user).send().await.expect(200);
    // 5 seconds of leeway for clocks that differ.
    app.clock.advance(Duration::from_secs(1));
    let refused = app.get("/api/v1/users/me").by(&user).send().await;
    assert_eq!("Bearer error=\"invalid_token\"", refused.header("www-authenticate"));
    assert_eq!("unauthenticated", refused.problem(401));
    app.finish().await;
}

#[tokio::test]
async fn what_is_no_access_token_is_refused_also_where_none_is_needed() {
    let app = TestApp::start().await;
    let user = app.user("ada").await;
    let video = app.ready(&user, "A film", "public").await;
    let path = format!("/api/v1/videos/{}", text(&video["id"]));
    app.get(&path).send().await.expect(200);
    let tampered = format!("Bearer {}x", user.access);
    for bad in ["Bearer", "Bearer x", "Basic YTpi", "x", tampered.as_str()] {
        assert_eq!("unauthenticated", app.get(&path).header("authorization", bad).send().await.problem(401), "{bad}");
    }
    let twice = app.get(&path).by(&user).by(&user).send().await;
    assert_eq!("unauthenticated", twice.problem(401));
    app.finish().await;
}

#[tokio::test]
async fn access_tokens_verify_against_the_published_keys() {
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
    let app = TestApp::start().await;
    let user = app.user("ada").await;
    let answer = app.get("/.well-known/jwks.json").send().await.expect(200);
    assert_eq!("public, max-age=300", answer.header("cache-control"));
    insta::assert_json_snapshot!(answer.redacted());
    let keys = answer.json();

    let header = decode_header(&user.access).expect("a JWT");
    assert_eq!(Some("at+jwt"), header.typ.as_deref());
    let key = keys["keys"].as_array().expect("keys").iter().find(|key| key["kid"].as_str() == header.kid.as_deref());
    let key = DecodingKey::from_ed_components(text(&key.expect("the key is published")["x"])).expect("a key");
    let mut rules = Validation::new(Algorithm::EdDSA);
    rules.set_audience(&["vidcore"]);
    rules.set_issuer(&["vidcore"]);
    // The platform's clock stands still, that of the crate does not.
    rules.validate_exp = false;
    let claims: Value = decode(&user.access, &key, &rules).expect("a signature of that key").claims;
    assert_eq!(
        (user.id.as_str(), 600),
        (text(&claims["sub"]), claims["exp"].as_i64().unwrap_or(0) - claims["iat"].as_i64().unwrap_or(0))
    );
    app.finish().await;
}

#[tokio::test]
async fn a_repeated_registration_with_a_key_gets_the_same_secrets() {
    let app = TestApp::start().await;
    let first = app.post(REGISTER).key("k1").json(&ada()).send().await.expect(201);
    let again = app.post(REGISTER).key("k1").json(&ada()).send().await.expect(201);
    assert_eq!(first.json(), again.json());
    assert_eq!("email_taken", app.post(REGISTER).key("k2").json(&ada()).send().await.problem(409));
    assert_eq!("email_taken", app.post(REGISTER).json(&ada()).send().await.problem(409));

    let mut other = ada();
    other["display_name"] = "Eve".into();
    assert_eq!("idempotency_key_reused", app.post(REGISTER).key("k1").json(&other).send().await.problem(422));
    app.finish().await;
}

#[tokio::test]
async fn a_repeated_login_or_refresh_with_a_key_gets_the_same_secrets() {
    let app = TestApp::start().await;
    let user = app.user("ada").await;
    for (path, body) in [
        (LOGIN, json!({"email": "ada@example.org", "password": PASSWORD})),
        (REFRESH, json!({"refresh_token": user.refresh})),
    ] {
        let first = app.post(path).key("k1").json(&body).send().await.expect(200).json();
        assert_eq!(first, app.post(path).key("k1").json(&body).send().await.expect(200).json(), "{path}");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_refused_command_stores_nothing_under_its_key() {
    let app = TestApp::start().await;
    let login = json!({"email": "ada@example.org", "password": PASSWORD});
    assert_eq!("invalid_credentials", app.post(LOGIN).key("k1").json(&login).send().await.problem(401));
    app.user("ada").await;
    app.post(LOGIN).key("k1").json(&login).send().await.expect(200);
    app.finish().await;
}

#[tokio::test]
async fn concurrent_twins_have_one_effect() {
    let app = TestApp::start().await;
    let twins = (0..4).map(|_| app.post(REGISTER).key("k1").json(&ada()).send());
    let answers = futures_util::future::join_all(twins).await;
    let created: Vec<_> = answers.iter().filter(|answer| answer.status == 201).map(|answer| answer.json()).collect();
    assert!(!created.is_empty() && created.iter().all(|body| *body == created[0]), "{created:?}");
    for refused in answers.into_iter().filter(|answer| answer.status != 201) {
        assert_eq!("request_in_progress", refused.problem(409));
    }
    app.finish().await;
}

#[tokio::test]
async fn a_key_is_one_value_of_1_to_255_visible_characters() {
    let app = TestApp::start().await;
    app.post(REGISTER).key(&"k".repeat(255)).json(&ada()).send().await.expect(201);
    for bad in ["", "a b", &"k".repeat(256)] {
        assert_eq!("bad_request", app.post(REGISTER).key(bad).json(&ada()).send().await.problem(400));
    }
    app.finish().await;
}
