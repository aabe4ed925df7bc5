//! The objects' claims over every back end.

use vidcore::testkit::objects::ObjectHarness;

vidcore::objects_contract!(local, super::ObjectHarness::local());
vidcore::objects_contract!(memory, super::ObjectHarness::memory());
vidcore::objects_contract!(moving, super::ObjectHarness::moving());
#[cfg(feature = "s3")]
vidcore::objects_contract!(s3, super::ObjectHarness::s3());

#[tokio::test]
async fn a_file_whose_name_can_be_no_key_hides_no_other() {
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let objects = vidcore::storage::Objects::local(folder.path()).expect("the folder is there");
    let room = folder.path().join("renditions");
    std::fs::create_dir(&room).expect("the folder is writable");
    for name in ["kept", "a\nb"] {
        std::fs::write(room.join(name), "bytes").expect("the folder is writable");
    }
    assert_eq!(["renditions/kept"], *objects.keys_under("").await.expect("the disk answers"));
    assert_eq!(None, objects.size("../outside").await.expect("the disk answers"));
}
