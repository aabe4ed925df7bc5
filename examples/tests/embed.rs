//! The example `embed`, run as the process a reader would start.

use std::path::Path;
use std::process::{Command, Output};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures");

/// Runs it where no ffmpeg can be found, so that the original is what plays.
fn embed_without_ffmpeg(file: &str, folder: &Path) -> Output {
    let nothing = tempfile::tempdir().expect("a folder");
    Command::new(env!("CARGO_BIN_EXE_embed"))
        .env("PATH", nothing.path())
        .arg(format!("{FIXTURES}/{file}"))
        .arg(folder)
        .output()
        .expect("the example starts")
}

#[test]
fn a_file_comes_out_of_the_embedded_platform_as_it_went_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = embed_without_ffmpeg("demo.mp4", folder.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("plays by file at /api/v1/playback/public/video_"), "{said}");
    let sent = std::fs::read(format!("{FIXTURES}/demo.mp4")).expect("the fixture");
    let played = std::fs::read(folder.path().join("file.mp4")).expect("what plays");
    assert_eq!(sent, played);
}

#[test]
fn a_file_that_is_no_video_ends_the_program_with_the_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = embed_without_ffmpeg("text.mp4", folder.path());
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("video"), "a reason for a person");
    assert_eq!(0, std::fs::read_dir(folder.path()).expect("readable").count(), "nothing plays");
}
