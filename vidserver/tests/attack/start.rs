//! Starts that must fail, and say why.

use std::path::Path;
use std::process::{Command, Output};

fn vidserver(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vidserver"))
        .arg("--data-dir")
        .arg(folder)
        .args(["--log-level", "error"])
        .args(arguments)
        .env_clear()
        .output()
        .expect("the program runs")
}

fn complaint(output: &Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_database_of_a_newer_program_is_refused_by_its_version() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(vidserver(folder.path(), &["migrate"]).status.success());
    let database = rusqlite::Connection::open(folder.path().join("vidcore.db")).expect("the database opens");
    database
        .execute("INSERT INTO refinery_schema_history VALUES (99, 'future', '2030-01-01T00:00:00Z', '1')", [])
        .expect("the history takes a row");
    let said = complaint(&vidserver(folder.path(), &["serve", "--listen", "127.0.0.1:0"]));
    assert!(said.contains("version 99"), "{said}");
}

#[test]
fn a_data_folder_that_is_a_file_is_called_that() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("data");
    std::fs::write(&file, "not a folder").expect("the folder is writable");
    let said = complaint(&vidserver(&file, &["serve", "--listen", "127.0.0.1:0"]));
    assert!(said.contains("data folder cannot be used: "), "{said}");
}
