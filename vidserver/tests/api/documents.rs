//! Documents that must say what the code does.

use serde_json::Value;
use vidserver::config::Config;
use vidserver::problem::code;

use crate::app::TestApp;
use crate::support::TestServer;

const CONFIG: &str = include_str!("../../../docs/config.md");
const API: &str = include_str!("../../API.md");

/// Every key with its default; entries of tables whose names the caller chooses count as one.
fn settings(key: &str, tree: &Value, into: &mut Vec<(String, Value)>) {
    match tree {
        Value::Object(table) if !key.starts_with("rate_limits.policies.") => {
            for (name, value) in table {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                settings(&key, value, into);
            }
        }
        value => into.push((key.to_owned(), value.clone())),
    }
}

#[test]
fn the_reference_lists_every_setting_with_its_default() {
    let mut all = Vec::new();
    settings("", &Config::defaults(), &mut all);
    assert!(all.len() > 50, "the walk finds the settings");
    let rows: Vec<&str> = CONFIG.lines().filter(|line| line.starts_with("| `")).collect();
    for (key, default) in &all {
        let start = format!("| `{key}` | ");
        let row = rows.iter().find(|row| row.starts_with(&start)).unwrap_or_else(|| panic!("{key} is not listed"));
        let plain = default.as_str().map(str::to_owned).unwrap_or_else(|| default.to_string());
        let cell = row[start.len()..].split(" | ").next().unwrap_or_default();
        assert_eq!(format!("`{plain}`"), cell, "{key}");
    }
    let listed = |row: &&str| row.split('`').nth(1).map(str::to_owned).unwrap_or_default();
    for key in rows.iter().map(listed) {
        assert!(all.iter().any(|(known, _)| *known == key), "{key} is listed and does not exist");
    }
}

#[test]
fn the_api_document_names_every_code_with_its_status() {
    for code in code::ALL {
        let start = format!("| `{}` | {} |", code.name, code.status);
        assert!(API.lines().any(|line| line.starts_with(&start)), "{start}");
    }
}

#[tokio::test]
async fn the_openapi_document_is_served_as_it_is_printed() {
    let app = TestApp::start().await;
    let answer = app.get("/api/v1/openapi.json").send().await.expect(200);
    let served = answer.json();
    assert_eq!("3.1.0", served["openapi"]);
    assert_eq!(serde_json::to_value(vidserver::document()).expect("JSON"), served);
    app.get("/api/v1/openapi.json").header("if-none-match", answer.header("etag")).send().await.expect(304);
    app.finish().await;
}

#[tokio::test]
async fn the_docs_page_loads_only_from_the_server() {
    let server = TestServer::start().await;
    let response = server.get("/docs").await;
    assert_eq!("/docs/", response.url().path());
    let policy = response.headers()["content-security-policy"].to_str().expect("text").to_owned();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
    let page = response.text().await.expect("text");
    assert!(!page.contains("<script>") && !page.contains("http://") && !page.contains("https://"), "{page}");
    for file in ["swagger-ui.css", "swagger-ui-bundle.js", "swagger-initializer.js"] {
        assert!(page.contains(file), "{file}");
        assert_eq!(200, server.get(&format!("/docs/{file}")).await.status().as_u16());
    }
    let script = server.get("/docs/swagger-initializer.js").await.text().await.expect("text");
    assert!(script.contains("../api/v1/openapi.json"), "{script}");
    assert_eq!(404, server.get("/docs/hunter2").await.status().as_u16());
}

#[tokio::test]
async fn the_type_of_a_problem_leads_to_its_description() {
    let server = TestServer::start().await;
    let problem: Value = server.get("/nowhere").await.json().await.expect("JSON");
    let page = server.get(problem["type"].as_str().expect("a type")).await;
    assert_eq!(200, page.status().as_u16());
    assert!(page.text().await.expect("text").contains("Nothing was found here"));
    assert_eq!(404, server.get("/docs/problems/hunter2").await.status().as_u16());
}
