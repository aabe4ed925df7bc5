//! The document against the running server, route by route.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{TestApp, text};

const METHODS: [&str; 5] = ["GET", "PUT", "POST", "PATCH", "DELETE"];

/// A path that its template matches; what stands in it is nobody's.
fn probe(template: &str) -> String {
    template.replace("{epoch}", "0").replace(['{', '}'], "")
}

#[tokio::test]
async fn every_documented_operation_is_served_and_no_other() {
    let app = TestApp::start().await;
    for (template, operations) in app.contract.paths() {
        let documented: BTreeSet<String> =
            operations.as_object().expect("operations").keys().map(|method| method.to_uppercase()).collect();
        for method in METHODS {
            let call = app.call(method.parse().expect("a method"), &probe(template)).header("tus-resumable", "1.0.0");
            let answer = call.send().await;
            if documented.contains(method) {
                assert_ne!(405, answer.status, "{method} {template}");
                // A problem names the route it comes from; a path without a route has none.
                let route = (answer.status >= 400 && template != "/readyz").then(|| answer.json()["instance"].clone());
                assert!(route.is_none_or(|route| route == **template), "{method} {template}");
            } else {
                let mut allowed: BTreeSet<_> = answer.header("allow").split(',').map(str::to_owned).collect();
                if documented.contains("GET") {
                    allowed.remove("HEAD");
                }
                assert_eq!(documented, allowed, "{template}");
                assert_eq!("method_not_allowed", answer.problem(405));
            }
        }
        let head = app.head(&probe(template)).header("tus-resumable", "1.0.0").send().await;
        assert_eq!(documented.contains("GET") || documented.contains("HEAD"), head.status != 405, "HEAD {template}");
    }
    app.finish().await;
}

#[tokio::test]
async fn routes_of_later_versions_are_absent() {
    let app = TestApp::start().await;
    for (method, path) in [
        (Method::GET, "/api/v1/auth/sessions"),
        (Method::POST, "/api/v1/videos/batch-get"),
        (Method::GET, "/api/v1/admin/cache"),
        (Method::GET, "/embed/video_00000000000000000000000000"),
        (Method::GET, "/metrics"),
        (Method::GET, "/api/v1/"),
        (Method::GET, "/api/v1"),
        (Method::GET, "/"),
        (Method::GET, "//api/v1/videos"),
        (Method::GET, "/api/v1/videos/"),
    ] {
        let answer = app.call(method, path).send().await;
        assert!(matches!(answer.status, 401 | 404 | 405), "{path}: {}", answer.status);
    }
    app.finish().await;
}

#[tokio::test]
async fn operations_have_names_of_their_own_and_say_who_may() {
    let app = TestApp::start().await;
    let mut names = BTreeSet::new();
    for (template, operations) in app.contract.paths() {
        for (method, operation) in operations.as_object().expect("operations") {
            let name = text(&operation["operationId"]);
            assert!(names.insert(name.to_owned()), "{name} is used twice");
            assert!(operation["summary"].is_string() && operation["tags"][0].is_string(), "{name}");
            let parameters: Vec<&Value> = operation["parameters"].as_array().into_iter().flatten().collect();
            let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path").count();
            assert_eq!(template.matches('{').count(), in_path, "{name}");
            let needs_token = operation["security"] == json!([{"bearer": []}]);
            let refuses = operation["responses"]["401"].is_object();
            assert!(!needs_token || refuses, "{name}");
            if !["get", "head", "options"].contains(&method.as_str()) && template.starts_with("/api/v1/") {
                for status in ["400", "429", "500", "503", "507"] {
                    assert!(operation["responses"][status].is_object(), "{name} {status}");
                }
            }
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn every_reference_leads_somewhere_and_bodies_that_are_read_name_all_their_members() {
    let app = TestApp::start().await;
    let document = app.get("/api/v1/openapi.json").send().await.json();
    let mut references = BTreeSet::new();
    collect(&document, &mut references);
    for reference in references {
        let pointer = reference.strip_prefix('#').expect("within the document");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    for (name, schema) in document["components"]["schemas"].as_object().expect("schemas") {
        let read = ["New", "Login", "Refresh"].iter().any(|start| name.starts_with(start))
            || ["Input", "Patch"].iter().any(|end| name.ends_with(end));
        assert_eq!(read, schema["additionalProperties"] == json!(false), "{name}");
    }
    app.finish().await;
}

fn collect(value: &Value, references: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get("$ref") {
                references.insert(reference.clone());
            }
            members.values().for_each(|value| collect(value, references));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, references)),
        _ => {}
    }
}
