//! What the documents show is what there is.

use std::collections::BTreeSet;

const README: &str = include_str!("../../README.md");
const API: &str = include_str!("../../vidserver/API.md");
const EMBED: &str = include_str!("../src/bin/embed.rs");

/// The lines between two markers, without the indentation all of them share.
fn between(text: &str, begin: &str, end: &str) -> Vec<String> {
    let (_, after) = text.split_once(begin).expect("the beginning is marked");
    let (region, _) = after.split_once(end).expect("the end is marked");
    let lines: Vec<&str> = region.lines().skip(1).collect();
    let indent = |line: &&str| line.len() - line.trim_start().len();
    let shared = lines.iter().filter(|line| !line.trim().is_empty()).map(indent).min().unwrap_or(0);
    let mut lines: Vec<String> =
        lines.iter().map(|line| line.get(shared..).unwrap_or_default().trim_end().to_owned()).collect();
    lines.retain(|line| !line.is_empty());
    lines
}

#[test]
fn the_readme_shows_the_lines_of_the_example() {
    let shown = between(README, "<!-- examples/src/bin/embed.rs -->\n```rust", "```");
    let run = between(EMBED, "// README: begin", "// README: end");
    assert_eq!(run, shown);
    assert!(run.len() <= 10, "ten lines are promised");
}

/// `METHOD path` of every row of the tables whose first column is a method.
fn paths_of_the_page() -> BTreeSet<String> {
    let rows = API.lines().filter_map(|line| line.strip_prefix("| "));
    rows.filter_map(|row| {
        let (methods, rest) = row.split_once(" | `")?;
        let (path, _) = rest.split_once('`')?;
        Some((methods, path)).filter(|(_, path)| path.starts_with('/'))
    })
    .flat_map(|(methods, path)| methods.split(", ").map(move |method| format!("{method} {path}")))
    .collect()
}

/// The same of the OpenAPI document, whose paths are whole.
fn paths_of_the_document() -> BTreeSet<String> {
    let document = serde_json::to_value(vidserver::document()).expect("plain data");
    let paths = document["paths"].as_object().expect("paths").iter();
    let operations = paths.flat_map(|(path, item)| {
        let item = item.as_object().expect("a path item");
        // `HEAD` stands wherever `GET` does, whether or not the document names it.
        let methods = item.keys().filter(|method| *method != "head" || !item.contains_key("get"));
        methods.map(move |method| format!("{} {}", method.to_uppercase(), path.trim_start_matches("/api/v1")))
    });
    operations.collect()
}

#[test]
fn the_page_of_the_api_lists_every_route_and_no_other() {
    let mut listed = paths_of_the_page();
    // Pages are no API: the document leaves them out.
    assert!(listed.remove("GET /docs/"));
    assert_eq!(paths_of_the_document(), listed);
}
