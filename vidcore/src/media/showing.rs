//! What every request for a segment asks of the database, kept for open videos: the row that decides whether and by which
//! links a video plays, and its ready renditions.
//!
//! Kept under the video's id and dropped with the same changes as its page: whatever moves a video's epoch, visibility or
//! renditions, or trashes or deletes it, writes such a change. So a link that has ended is dead at the next request in the
//! process that ended it, and in the others as soon as they hear of it; one that does not hear keeps nothing. A video that
//! is not open is read anew each time.

use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cache::{Cached, LoadError, ReadThrough};
use crate::catalog::{CatalogError, Video};
use crate::id::VideoId;
use crate::media::Rendition;
use crate::store::{Store, StoreError};

/// The cache of [`Showing`]s.
pub(crate) type ShowingCache = ReadThrough<Showing, StoreError>;

/// A video with what plays of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Showing {
    pub(crate) video: Video,
    /// Those that are ready, best first.
    pub(crate) renditions: Vec<Rendition>,
}

/// One of them, shared where it is kept.
#[derive(Debug, Clone)]
pub(crate) enum Shown {
    Kept(Arc<Cached<Showing>>),
    Read(Arc<Showing>),
}

impl Deref for Shown {
    type Target = Showing;

    fn deref(&self) -> &Showing {
        match self {
            Self::Kept(kept) => &kept.value,
            Self::Read(read) => read,
        }
    }
}

/// Reads them.
#[derive(Debug, Clone)]
pub(crate) struct Showings {
    store: Arc<dyn Store>,
    /// None where nobody tells what the store commits.
    cache: Option<ShowingCache>,
}

impl Showings {
    pub(crate) fn new(store: Arc<dyn Store>, cache: Option<ShowingCache>) -> Self {
        Self { store, cache }
    }

    /// An open video.
    pub(crate) async fn open(&self, id: VideoId) -> Result<Option<Shown>, StoreError> {
        let Some(cache) = &self.cache else {
            return Ok(self.read(id).await?.filter(|shown| shown.video.is_open()));
        };
        let store = Arc::clone(&self.store);
        let load = async move { Ok(read(&*store, id).await?.filter(|showing| showing.video.is_open())) };
        let kept = cache.get_or_load(&id.to_string(), load).await.map_err(into_store)?;
        Ok(kept.map(Shown::Kept))
    }

    /// A video that may be private or unpublished; one that is open may come from the cache.
    pub(crate) async fn any(&self, id: VideoId) -> Result<Option<Shown>, StoreError> {
        if self.cache.is_some()
            && let Some(open) = self.open(id).await?
        {
            return Ok(Some(open));
        }
        self.read(id).await
    }

    async fn read(&self, id: VideoId) -> Result<Option<Shown>, StoreError> {
        Ok(read(&*self.store, id).await?.map(|showing| Shown::Read(Arc::new(showing))))
    }
}

async fn read(store: &dyn Store, id: VideoId) -> Result<Option<Showing>, StoreError> {
    let video = match store.video(id).await {
        Ok(video) => video,
        Err(CatalogError::Store(error)) => return Err(error),
        Err(_) => None,
    };
    let Some(video) = video else { return Ok(None) };
    Ok(Some(Showing { renditions: store.playable_renditions(id).await?, video }))
}

/// A load's error is shared by all who waited; each gets its own.
fn into_store(error: LoadError<StoreError>) -> StoreError {
    match error {
        LoadError::Failed(error) => error.again(),
        LoadError::CutOff => {
            StoreError::Unavailable { operation: "load what plays", source: "the load was cut off".into() }
        }
    }
}

#[cfg(all(test, feature = "testkit", feature = "sqlite"))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cache::{CacheOptions, CacheParts};
    use crate::catalog::Visibility;
    use crate::entropy::SeededEntropy;
    use crate::store::Causes;
    use crate::testkit::cache::Hearing;
    use crate::testkit::videos::VideoHarness;

    const FOR_EVER: Duration = Duration::from_secs(3600);

    /// Over a store whose commits nobody tells of: what another process does while this one does not hear.
    struct Site {
        h: VideoHarness,
        hearing: Arc<Hearing>,
        cache: ShowingCache,
    }

    impl Site {
        async fn open() -> Self {
            let h = VideoHarness::sqlite().await.expect("SQLite is always there");
            let hearing = Arc::new(Hearing::default());
            let options = CacheOptions {
                name: "playing",
                max_bytes: 1 << 20,
                ttl: FOR_EVER,
                stale: Duration::ZERO,
                negative_ttl: FOR_EVER,
            };
            let parts = CacheParts {
                clock: Arc::new(h.clock.clone()),
                entropy: Arc::new(SeededEntropy::new(1)),
                notify: Arc::clone(&hearing) as _,
                shared: None,
            };
            Self { h, hearing, cache: ShowingCache::new(options, parts) }
        }

        async fn revoke(&self, video: &Video) {
            let bumped = self.h.store.bump_playback_epoch(video.id, None, self.h.now(), Causes::none()).await;
            bumped.expect("the video is there");
        }
    }

    async fn epoch(showings: &Showings, video: &Video) -> u32 {
        showings.open(video.id).await.expect("the store answers").expect("it is open").video.playback_epoch
    }

    #[tokio::test]
    async fn who_hears_of_no_change_asks_the_database_each_time() {
        let site = Site::open().await;
        let video = site.h.listed(site.h.user().await, "Played").await;
        let showings = Showings::new(Arc::clone(&site.h.store), Some(site.cache.clone()));
        assert_eq!(0, epoch(&showings, &video).await);
        site.revoke(&video).await;
        assert_eq!(0, epoch(&showings, &video).await, "while it hears, what is kept is believed");
        site.hearing.set_silence(Duration::from_millis(1001));
        assert_eq!(1, epoch(&showings, &video).await);
        site.revoke(&video).await;
        assert_eq!(2, epoch(&showings, &video).await);
        site.hearing.set_silence(Duration::ZERO);
        site.cache.invalidate(&video.id.to_string());
        assert_eq!(2, epoch(&showings, &video).await);
    }

    #[tokio::test]
    async fn without_a_cache_and_of_what_is_not_open_the_database_decides() {
        let site = Site::open().await;
        let owner = site.h.user().await;
        let open = site.h.listed(owner, "Open").await;
        let mut private = site.h.new_video(owner, "Private");
        private.visibility = Visibility::Private;
        let private = site.h.playable(private).await;
        let uncached = Showings::new(Arc::clone(&site.h.store), None);
        let cached = Showings::new(Arc::clone(&site.h.store), Some(site.cache.clone()));
        assert_eq!(0, epoch(&uncached, &open).await);
        site.revoke(&open).await;
        assert_eq!(1, epoch(&uncached, &open).await);
        for showings in [&uncached, &cached] {
            assert!(showings.open(private.id).await.expect("the store answers").is_none());
            let before = showings.any(private.id).await.expect("the store answers").expect("it is there");
            site.revoke(&private).await;
            let after = showings.any(private.id).await.expect("the store answers").expect("it is there");
            assert_eq!(before.video.playback_epoch + 1, after.video.playback_epoch);
            assert!(!after.renditions.is_empty());
        }
    }
}
