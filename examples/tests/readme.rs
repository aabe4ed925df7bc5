//! What the README shows is what the tests run.

const README: &str = include_str!("../../README.md");
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
