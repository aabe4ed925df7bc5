//! Uploads that are open while objects move to another place.

use vidcore::platform::Settings;
use vidcore::platform::settings::FallbackChoice;
use vidcore::testkit::TestS3;

use super::{CLIP, Site};
use crate::app::TestApp;
use crate::migrating::{bucket_file, config_file, finish_file, migrate, moving_to, run};
use crate::storage::in_bucket;

const PIECE: usize = CLIP.len() / 5;

impl Site {
    async fn piece(&self, url: &str, index: usize) {
        let end = if index == 4 { CLIP.len() } else { (index + 1) * PIECE };
        self.patch(url, index * PIECE, &CLIP[index * PIECE..end]).send().await.expect(204);
    }

    /// The same people after a restart with other settings.
    async fn restart(self, with: impl FnOnce(tempfile::TempDir) -> crate::app::TestAppBuilder) -> Self {
        let Self { app, ada } = self;
        let app = with(app.end().await).start().await;
        Self { app, ada }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_goes_on_while_objects_move_into_a_bucket() {
    let server = TestS3::start();
    let file = bucket_file(&server.settings());
    let to = ["--to", file.path().to_str().expect("a path is text")];
    let site = Site::start().await;
    let (url, sooner) = (site.create(CLIP.len()).await, site.create(CLIP.len()).await);
    for index in [0, 1] {
        site.piece(&url, index).await;
        site.piece(&sooner, index).await;
        run(migrate(site.app.folder.path(), &to, None)).await;
    }
    site.piece(&url, 2).await;
    site.piece(&sooner, 2).await;
    let site = site.restart(|folder| moving_to(&server).folder(folder)).await;
    for index in [3, 4] {
        site.piece(&sooner, index).await;
    }
    site.assert_arrived(&sooner, CLIP).await;
    site.piece(&url, 3).await;
    let moving = finish_file(&file, "[storage.fallback]\nback_end = 'local'\n");
    run(migrate(site.app.folder.path(), &["--finish"], Some(moving.path()))).await;
    let site = site.restart(|folder| {
        std::fs::remove_dir_all(folder.path().join("data/objects")).expect("the old place is not used any more");
        TestApp::builder().settings(in_bucket(&server)).folder(folder)
    });
    let site = site.await;
    site.piece(&url, 4).await;
    site.assert_arrived(&url, CLIP).await;
    site.finish().await;
}

/// The settings after the switch from a bucket to a folder.
fn out_of(server: &TestS3) -> impl FnOnce(&mut Settings) + use<> {
    let bucket = server.settings();
    move |settings| {
        settings.storage.fallback.back_end = FallbackChoice::S3;
        settings.storage.fallback.s3 = bucket;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_goes_on_while_objects_move_out_of_a_bucket() {
    let server = TestS3::start();
    let (in_use, local) = (bucket_file(&server.settings()), config_file("[storage]\nback_end = 'local'\n"));
    let to = ["--to", local.path().to_str().expect("a path is text")];
    let site = Site::of(TestApp::builder().settings(in_bucket(&server)).start().await).await;
    let (first, second) = (site.create(CLIP.len()).await, site.create(CLIP.len()).await);
    site.piece(&first, 0).await;
    site.piece(&second, 0).await;
    run(migrate(site.app.folder.path(), &to, Some(in_use.path()))).await;

    let site = site.restart(|folder| TestApp::builder().settings(out_of(&server)).folder(folder)).await;
    // Its last segment is in the bucket alone, where nobody goes on with it.
    site.piece(&first, 1).await;
    let text = std::fs::read_to_string(in_use.path()).expect("text");
    let text = text.replace("'s3'", "'local'\n[storage.fallback]\nback_end = 's3'");
    let moving = config_file(&text.replace("[storage.s3]", "[storage.fallback.s3]"));
    // Between two passes, a segment that the first one brought grows.
    for index in [1, 2] {
        run(migrate(site.app.folder.path(), &["--finish"], Some(moving.path()))).await;
        site.piece(&second, index).await;
        site.piece(&first, index + 1).await;
    }
    run(migrate(site.app.folder.path(), &["--finish"], Some(moving.path()))).await;
    let site = site.restart(|folder| TestApp::builder().folder(folder)).await;
    drop(server);
    site.piece(&first, 4).await;
    site.piece(&second, 3).await;
    site.piece(&second, 4).await;
    site.assert_arrived(&first, CLIP).await;
    site.assert_arrived(&second, CLIP).await;
    site.finish().await;
}
