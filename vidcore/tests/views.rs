//! Views from the caller to the row, and rankings as the catalog shows them.

use std::sync::Arc;
use std::time::Duration;

use vidcore::Platform;
use vidcore::catalog::popularity::{RANKING_KEPT, VIEW_WINDOW};
use vidcore::catalog::view::VideoView;
use vidcore::catalog::{CatalogError, Video, Viewer, Visibility, Window};
use vidcore::media::playback::{Grant, Playable};
use vidcore::page::{Page, PageLimit};
use vidcore::platform::Settings;
use vidcore::storage::Visitor;
use vidcore::store::StoreError;
use vidcore::store::sqlite::SqliteStore;
use vidcore::testkit::store::PATIENCE;
use vidcore::testkit::videos::VideoHarness;

/// How long a view may wait for others.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// A platform without a worker over the store of a harness.
struct Site {
    h: VideoHarness,
    platform: Platform,
    _folder: tempfile::TempDir,
}

impl Site {
    async fn open() -> Self {
        let h = VideoHarness::sqlite().await.expect("SQLite is always there");
        let folder = tempfile::tempdir().expect("there is a temporary folder");
        let mut settings = Settings { data_dir: folder.path().to_owned(), ..Settings::default() };
        settings.worker.enabled = false;
        // Soon told that another process writes.
        let mut options = h.base().options().clone();
        options.busy_timeout = Duration::from_millis(20);
        let store = SqliteStore::open(&options, Arc::new(h.clock.clone()), Vec::new()).expect("the file opens");
        let platform = Platform::builder(settings).store(Arc::new(store)).clock(Arc::new(h.clock.clone()));
        Self { platform: platform.open().await.expect("the folder can be used"), h, _folder: folder }
    }

    async fn listed(&self) -> Video {
        self.h.listed(self.h.user().await, "Watched").await
    }

    async fn view(&self, video: &Video, viewer: Viewer) -> Result<(), CatalogError> {
        self.platform.catalog().count_view(video.id, viewer).await
    }

    async fn opened(&self, video: &Video) -> Playable {
        let grant = Grant::Public { video: video.id, epoch: video.playback_epoch };
        self.platform.playback().open(&grant, &Visitor::default()).await.expect("it plays")
    }

    /// Views by so many networks that were not seen before.
    async fn view_by_many(&self, video: &Video, count: u32) {
        for _ in 0..count {
            let number = u32::try_from(self.h.number()).expect("few");
            self.view(video, network(number)).await.expect("it is open");
        }
    }

    async fn flush(&self) {
        self.platform.catalog().flush_views().await.expect("the store answers");
    }

    async fn views(&self, video: &Video) -> u64 {
        self.h.video(video.id).await.views
    }

    /// Waits until the row says so: the flush is another task's.
    async fn eventually(&self, video: &Video, views: u64) {
        let waited = tokio::time::timeout(PATIENCE, async {
            while self.views(video).await != views {
                tokio::task::yield_now().await;
            }
        });
        waited.await.expect("the views are written");
    }

    async fn popular(&self, cursor: Option<&str>, limit: u16) -> Result<Page<VideoView>, CatalogError> {
        let limit = PageLimit::new(limit).expect("a limit");
        let page = self.platform.catalog().popular(Window::All, cursor, limit).await?;
        Ok(page.value.clone())
    }
}

fn network(number: u32) -> Viewer {
    Viewer::Network(std::net::IpAddr::from(number.to_be_bytes()).into())
}

#[tokio::test]
async fn a_view_is_written_within_a_second() {
    let site = Site::open().await;
    let video = site.listed().await;
    site.view(&video, network(1)).await.expect("it is open");
    assert_eq!(0, site.views(&video).await);
    // The flusher goes to sleep once it has heard of the view; until then no time must pass.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    site.h.clock.advance(FLUSH_EVERY);
    site.eventually(&video, 1).await;
    site.platform.shutdown().await;
}

#[tokio::test]
async fn a_batch_does_not_wait() {
    let site = Site::open().await;
    let video = site.listed().await;
    site.view_by_many(&video, 512).await;
    site.eventually(&video, 512).await;
    site.platform.shutdown().await;
}

#[tokio::test]
async fn an_orderly_stop_loses_no_view_and_what_comes_after_it_is_written_at_once() {
    let site = Site::open().await;
    let video = site.listed().await;
    site.view_by_many(&video, 1000).await;
    site.platform.shutdown().await;
    assert_eq!(1000, site.views(&video).await);
    site.view_by_many(&video, 1).await;
    assert_eq!(1001, site.views(&video).await);
}

#[tokio::test]
async fn a_viewer_counts_once_per_half_hour_whoever_else_writes() {
    let site = Site::open().await;
    let user = Viewer::User(site.h.user().await);
    let video = site.listed().await;
    for viewer in [network(1), network(1), user, user, network(2)] {
        site.view(&video, viewer).await.expect("it is open");
    }
    site.flush().await;
    assert_eq!(3, site.views(&video).await);
    site.h.clock.advance(VIEW_WINDOW - Duration::from_millis(1));
    site.view(&video, network(1)).await.expect("it is open");
    site.flush().await;
    assert_eq!(3, site.views(&video).await);
    site.h.clock.advance(Duration::from_millis(1));
    site.view(&video, network(1)).await.expect("it is open");
    site.flush().await;
    assert_eq!(4, site.views(&video).await);
    site.platform.shutdown().await;
}

#[tokio::test]
async fn the_addresses_of_a_network_are_one_viewer() {
    let site = Site::open().await;
    let video = site.listed().await;
    for address in ["2001:db8::1", "2001:db8::2", "192.0.2.1", "::ffff:192.0.2.1", "2001:db8:0:1::1"] {
        let address: std::net::IpAddr = address.parse().expect("an address");
        site.view(&video, Viewer::Network(address.into())).await.expect("it is open");
    }
    site.flush().await;
    assert_eq!(3, site.views(&video).await);
    site.platform.shutdown().await;
}

#[tokio::test]
async fn no_table_holds_who_watched() {
    let site = Site::open().await;
    let video = site.listed().await;
    let (address, user) = ([192, 0, 2, 1], site.h.user().await);
    site.view(&video, Viewer::Network(std::net::IpAddr::from(address).into())).await.expect("it is open");
    site.view(&video, Viewer::User(user)).await.expect("it is open");
    site.flush().await;
    let connection = site.h.base().connection();
    let mut statement = connection.prepare("SELECT viewer FROM video_viewers").expect("the table is there");
    let rows = statement.query_map([], |row| row.get::<_, Vec<u8>>(0)).expect("it can be read");
    let viewers: Vec<_> = rows.map(|row| row.expect("a row")).collect();
    assert_eq!(2, viewers.len());
    assert!(viewers.iter().all(|viewer| viewer != user.as_bytes() && viewer.windows(4).all(|four| four != address)));
    site.platform.shutdown().await;
}

#[tokio::test]
async fn an_owners_own_view_is_taken_and_not_counted() {
    let site = Site::open().await;
    let video = site.listed().await;
    site.view(&video, Viewer::User(video.owner)).await.expect("it is open");
    site.flush().await;
    assert_eq!(0, site.views(&video).await);
    site.platform.shutdown().await;
}

#[tokio::test]
async fn what_is_not_open_has_no_views() {
    let site = Site::open().await;
    let owner = site.h.user().await;
    let mut private = site.h.new_video(owner, "Private");
    private.visibility = Visibility::Private;
    for video in [site.h.playable(private).await, site.h.draft(owner, "Draft").await] {
        for viewer in [network(1), Viewer::User(owner)] {
            assert!(matches!(site.view(&video, viewer).await, Err(CatalogError::NotFound)));
        }
    }
    site.platform.shutdown().await;
}

#[tokio::test]
async fn a_database_that_is_away_costs_no_view_that_was_taken() {
    let site = Site::open().await;
    let video = site.listed().await;
    site.view_by_many(&video, 3).await;
    let writing = site.h.base().connection();
    writing.execute_batch("BEGIN IMMEDIATE").expect("nobody else writes");
    let flushed = site.platform.catalog().flush_views().await;
    assert!(matches!(flushed, Err(CatalogError::Store(StoreError::Unavailable { .. }))), "{flushed:?}");
    // Whoever is waiting already is not taken twice.
    site.view_by_many(&video, 2).await;
    writing.execute_batch("ROLLBACK").expect("it is open");
    site.flush().await;
    assert_eq!(5, site.views(&video).await);
    site.flush().await;
    assert_eq!(5, site.views(&video).await);
    site.platform.shutdown().await;
}

#[tokio::test]
async fn more_views_than_may_wait_are_refused_and_not_acknowledged() {
    const CAPACITY: u64 = 8192;
    let site = Site::open().await;
    let video = site.listed().await;
    // It is known before the database goes away.
    site.platform.catalog().read(None, video.id).await.expect("it is open");
    let writing = site.h.base().connection();
    writing.execute_batch("BEGIN IMMEDIATE").expect("nobody else writes");
    let mut taken = 0;
    let refused = loop {
        let number = u32::try_from(site.h.number()).expect("few");
        match site.view(&video, network(number)).await {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, CatalogError::Store(StoreError::Unavailable { .. })), "{refused:?}");
    assert_eq!(CAPACITY, taken);
    writing.execute_batch("ROLLBACK").expect("it is open");
    site.flush().await;
    assert_eq!(CAPACITY, site.views(&video).await);
    site.view_by_many(&video, 1).await;
    site.platform.shutdown().await;
    assert_eq!(CAPACITY + 1, site.views(&video).await);
}

/// Playing asks the database for nothing once it is known what plays, so that it never waits for it.
#[tokio::test]
async fn what_is_played_is_counted_without_waiting_and_left_out_where_too_much_waits() {
    const CAPACITY: u64 = 8192;
    let site = Site::open().await;
    let video = site.listed().await;
    let playable = site.opened(&video).await;
    let writing = site.h.base().connection();
    writing.execute_batch("BEGIN IMMEDIATE").expect("nobody else writes");
    for number in 0..CAPACITY + 10 {
        site.platform.catalog().count_played(&playable, Some(network(u32::try_from(number).expect("few"))));
    }
    site.platform.catalog().count_played(&playable, Some(Viewer::User(video.owner)));
    site.platform.catalog().count_played(&playable, None);
    writing.execute_batch("ROLLBACK").expect("it is open");
    site.flush().await;
    assert_eq!(CAPACITY, site.views(&video).await);
    site.platform.shutdown().await;
}

#[tokio::test]
async fn a_stop_writes_what_was_played_and_takes_nothing_after_it() {
    let site = Site::open().await;
    let video = site.listed().await;
    let playable = site.opened(&video).await;
    for number in 0..1000 {
        site.platform.catalog().count_played(&playable, Some(network(number)));
    }
    site.platform.shutdown().await;
    assert_eq!(1000, site.views(&video).await);
    site.platform.catalog().count_played(&playable, Some(network(1000)));
    site.flush().await;
    assert_eq!(1000, site.views(&video).await);
}

#[tokio::test]
async fn pages_of_a_ranking_go_on_where_the_last_one_ended() {
    let site = Site::open().await;
    let mut best_first = Vec::new();
    for views in 1..=5 {
        let video = site.listed().await;
        site.view_by_many(&video, views).await;
        best_first.insert(0, video);
    }
    site.flush().await;
    let (mut walked, mut cursor) = (Vec::new(), None);
    loop {
        let page = site.popular(cursor.as_deref(), 2).await.expect("the cursor is of this list");
        walked.extend(page.items.iter().map(|video| video.id));
        // The last overtakes all others, and time goes on.
        site.view_by_many(&best_first[4], 20).await;
        site.flush().await;
        site.h.clock.advance(Duration::from_secs(60));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(best_first.iter().map(|video| video.id).collect::<Vec<_>>(), walked);
    assert_eq!(best_first[4].id, site.popular(None, 2).await.expect("the store answers").items[0].id);
    site.platform.shutdown().await;
}

#[tokio::test]
async fn a_cursor_ends_with_its_ranking_and_opens_no_other() {
    let site = Site::open().await;
    site.listed().await;
    site.listed().await;
    let cursor = site.popular(None, 1).await.expect("the store answers").next_cursor.expect("there is more");
    let (catalog, limit) = (site.platform.catalog(), PageLimit::default());
    for window in [Window::Day, Window::Week] {
        let page = catalog.popular(window, Some(&cursor), limit).await;
        assert!(matches!(page, Err(CatalogError::BadCursor)), "{window:?}");
    }
    assert!(matches!(catalog.trending(Some(&cursor), limit).await, Err(CatalogError::BadCursor)));
    assert!(matches!(catalog.public(Some(&cursor), limit).await, Err(CatalogError::BadCursor)));
    site.h.clock.advance(RANKING_KEPT - Duration::from_millis(1));
    assert_eq!(1, site.popular(Some(&cursor), 10).await.expect("it is kept").items.len());
    // Another limit is another page: the cached one of before may be served a little longer.
    site.h.clock.advance(Duration::from_millis(1));
    assert!(matches!(site.popular(Some(&cursor), 11).await, Err(CatalogError::BadCursor)));
    site.platform.shutdown().await;
}

#[tokio::test]
async fn rankings_are_read_off_an_index_in_its_order() {
    const LISTED: &str = "v.visibility = 'public' AND v.published_at_ms IS NOT NULL AND v.deleted_at_ms IS NULL";
    let h = VideoHarness::sqlite().await.expect("SQLite is always there");
    let connection = h.base().connection();
    for (score, index) in [
        ("score_day", "videos_public_day"),
        ("score_week", "videos_public_week"),
        ("score_trending", "videos_public_trending"),
        ("views", "videos_public_popular"),
    ] {
        let sql = format!(
            "EXPLAIN QUERY PLAN SELECT v.id FROM videos v WHERE {LISTED} ORDER BY v.{score} DESC, v.id DESC LIMIT 1000"
        );
        let plan: String = connection.query_row(&sql, [], |row| row.get("detail")).expect("a plan");
        assert_eq!(format!("SCAN v USING INDEX {index}"), plan);
    }
}
