//! The fixtures are the files their list says they are.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};

/// The media folder as a whole stays small enough to clone without a thought.
const MAX_BYTES: u64 = 3 << 20;

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures"))
}

fn listed() -> Vec<(String, String)> {
    let list = fs::read_to_string(folder().join("SHA256SUMS")).expect("the list is there");
    let lines = list.lines().filter_map(|line| line.split_once("  "));
    lines.map(|(sum, name)| (name.to_owned(), sum.to_owned())).collect()
}

#[test]
fn every_fixture_has_the_listed_sum_and_stands_in_the_readme() {
    let readme = fs::read_to_string(folder().join("README.md")).expect("the readme is there");
    let listed = listed();
    assert!(listed.len() >= 11);
    for (name, sum) in listed {
        let bytes = fs::read(folder().join(&name)).expect("a listed file is there");
        assert_eq!(sum, hex::encode(digest(&SHA256, &bytes)), "{name}");
        assert!(readme.lines().any(|line| line.contains(&name) && line.contains(&sum)), "{name}");
    }
}

#[test]
fn every_media_file_is_listed_and_all_are_small() {
    let listed: BTreeSet<_> = listed().into_iter().map(|(name, _)| name).collect();
    let mut bytes = 0;
    for entry in fs::read_dir(folder()).expect("the folder is there") {
        let entry = entry.expect("the folder is readable");
        let name = entry.file_name().to_string_lossy().into_owned();
        bytes += entry.metadata().expect("the file is there").len();
        assert!(!name.ends_with(".mp4") && !name.ends_with(".webm") || listed.contains(&name), "{name} is not listed");
    }
    assert!(bytes < MAX_BYTES);
    assert!(fs::metadata(folder().join("demo.mp4")).expect("the clip is there").len() <= 300_000);
}
