//! `vidserver doctor`, beside a platform that works on the same folder.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use vidcore::Platform;
use vidcore::auth::RegisterInput;
use vidcore::catalog::{CreateVideo, Visibility};
use vidcore::id::VideoId;
use vidcore::platform::Settings;
use vidcore::platform::settings::TranscoderChoice;

fn doctor(folder: &Path, flags: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vidserver"));
    // Nothing of the machine's own environment may change what is tested.
    command.arg("doctor").args(flags).arg("--data-dir").arg(folder).env_clear();
    command.output().expect("the program starts")
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{output:?}"))
}

fn printed(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// A platform at work, with one video.
async fn at_work(folder: &Path) -> (Platform, VideoId) {
    let mut settings = Settings { data_dir: folder.to_owned(), ..Settings::default() };
    settings.media.transcoder = TranscoderChoice::Simulated;
    let platform = Platform::open(settings).await.expect("the folder can be used");
    let input = RegisterInput {
        email: "ada@example.org".to_owned(),
        handle: "ada".to_owned(),
        display_name: None,
        password: "correct horse battery".into(),
    };
    let signed_in = platform.auth().register(input, None).await.expect("the account is new").into_inner();
    let actor = platform.auth().authenticate(signed_in.access_token.expose()).await.expect("the token is fresh");
    let (title, visibility) = ("A film".to_owned(), Visibility::Public);
    let input = CreateVideo { title, description: String::new(), tags: Vec::new(), visibility };
    let video = platform.catalog().create(&actor, input, None).await.expect("the input is valid").into_inner();
    (platform, video.id)
}

/// Leaves an object there.
fn plant(folder: &Path, key: &str) {
    let file = folder.join("objects").join(key);
    std::fs::create_dir_all(file.parent().expect("a key has a folder")).expect("there is room");
    std::fs::write(file, b"nobody's").expect("there is room");
}

#[test]
fn a_folder_without_a_database_cannot_be_examined_and_stays_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = doctor(folder.path(), &[]);
    assert_eq!(2, code(&output));
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no database"), "{output:?}");
    assert_eq!(0, std::fs::read_dir(folder.path()).expect("it is there").count());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_found_is_told_repaired_and_found_no_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let (platform, video) = at_work(folder.path()).await;
    let sound = doctor(folder.path(), &["--deep"]);
    assert_eq!((0, true), (code(&sound), printed(&sound).starts_with("sound: looked at 1 videos")), "{sound:?}");

    let key = format!("renditions/{video}/9/360p/left.m4s");
    plant(folder.path(), &key);
    let found = doctor(folder.path(), &[]);
    assert_eq!(1, code(&found));
    let line = format!("[orphan] {key}: It belongs to no row, no running attempt and no live upload.\n1 finding: ");
    assert!(printed(&found).starts_with(&line), "{found:?}");
    let report: Value = serde_json::from_slice(&doctor(folder.path(), &["--json"]).stdout).expect("JSON");
    assert_eq!(
        ("orphan", &*key),
        (
            report["findings"][0]["check"].as_str().expect("a name"),
            report["findings"][0]["subject"].as_str().expect("a key"),
        )
    );

    let fixed = doctor(folder.path(), &["--fix"]);
    assert_eq!(0, code(&fixed), "{fixed:?}");
    assert!(printed(&fixed).contains("\n    repaired: It was deleted"), "{fixed:?}");
    assert_eq!(0, code(&doctor(folder.path(), &[])));
    platform.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_repaired_is_left_with_a_word_and_the_code_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let (platform, _) = at_work(folder.path()).await;
    plant(folder.path(), "backup/theirs.tar");
    let left = doctor(folder.path(), &["--fix"]);
    assert_eq!(1, code(&left));
    assert!(printed(&left).contains("\n    left: It is not one of this program's keys"), "{left:?}");
    let report: Value = serde_json::from_slice(&doctor(folder.path(), &["--fix", "--json"]).stdout).expect("JSON");
    assert_eq!("left", report["treated"][0]["remedy"]);
    assert_eq!(1, report["after"]["findings"].as_array().expect("a list").len());
    assert!(folder.path().join("objects/backup/theirs.tar").exists());
    platform.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_of_another_version_cannot_be_examined() {
    let folder = tempfile::tempdir().expect("a folder");
    let (platform, _) = at_work(folder.path()).await;
    platform.shutdown().await;
    drop(platform);
    let file = folder.path().join(vidcore::store::sqlite::FILE_NAME);
    let db = rusqlite::Connection::open(file).expect("the file opens");
    db.execute("DELETE FROM refinery_schema_history WHERE version > 1", []).expect("it is a table");
    drop(db);
    assert_eq!(2, code(&doctor(folder.path(), &["--fix"])));
}
