//! What the catalog decides about views and rankings.

use std::sync::Arc;

use crate::cache::Cached;
use crate::catalog::popularity::buffer::Taken;
use crate::catalog::popularity::{NewView, RankingAt, RankingKind, Viewer, Window};
use crate::catalog::view::VideoView;
use crate::catalog::{Catalog, CatalogError};
use crate::id::{UserId, VideoId};
use crate::media::playback::Playable;
use crate::page::{Page, PageLimit, Rank};
use crate::platform::parts::Parts;

impl Catalog {
    /// The public videos watched most over a time, from the cache: at most [`RANKED`](super::RANKED) of them,
    /// page by page.
    ///
    /// All pages are of one order, that of the moment at which the first one was asked for or up to half a
    /// minute before: nothing is repeated or skipped. Videos hidden since are left out, so that a page may hold
    /// fewer than `limit`. The order is kept for ten minutes.
    ///
    /// # Errors
    /// [`CatalogError::BadCursor`], also when the order is kept no more; [`CatalogError::Store`] if there is no
    /// cached copy and the store does not answer.
    pub async fn popular(
        &self,
        window: Window,
        cursor: Option<&str>,
        limit: PageLimit,
    ) -> Result<Arc<Cached<Page<VideoView>>>, CatalogError> {
        self.ranking(RankingKind::Popular(window), cursor, limit).await
    }

    /// The public videos on the rise, like [`popular`](Self::popular): a view counts for some hours, and the
    /// more the younger its video.
    ///
    /// # Errors
    /// As for [`popular`](Self::popular).
    pub async fn trending(
        &self,
        cursor: Option<&str>,
        limit: PageLimit,
    ) -> Result<Arc<Cached<Page<VideoView>>>, CatalogError> {
        self.ranking(RankingKind::Trending, cursor, limit).await
    }

    /// Counts a view of an open video, once per viewer and half hour; that of its owner is taken and not counted.
    /// It is seen within a second or so, and on disk then: see `docs/popularity.md` for what a crash may take.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`]; [`CatalogError::Store`] while more views wait than may.
    pub async fn count_view(&self, id: VideoId, viewer: Viewer) -> Result<(), CatalogError> {
        let page = self.read(None, id).await?;
        let Some(view) = self.new_view(id, page.value.owner.id, viewer) else { return Ok(()) };
        match self.views.add(view) {
            Ok(Taken::ByCaller) => self.views.flush().await?,
            Ok(taken) => note(taken),
            Err(error) => {
                note_refusal();
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// The same of what is being played, by what is known of it already. Nobody who watches waits for it: it asks
    /// nothing, and where too many views wait, or the platform has stopped, the view is left out and
    /// `vid_views_total` says so.
    pub fn count_played(&self, playable: &Playable, asking: Option<Viewer>) {
        let video = playable.video();
        let Some(viewer) = playable.viewer(asking).filter(|_| video.is_open()) else { return };
        let Some(view) = self.new_view(video.id, video.owner, viewer) else { return };
        match self.views.offer(view) {
            Ok(taken) => note(taken),
            Err(_) => note_refusal(),
        }
    }

    /// `None` if it is the owner's own.
    fn new_view(&self, id: VideoId, owner: UserId, viewer: Viewer) -> Option<NewView> {
        if viewer == Viewer::User(owner) {
            metrics::counter!("vid_views_total", "outcome" => "own").increment(1);
            return None;
        }
        Some(NewView { video: id, viewer: viewer.key(&self.parts.keys), at: self.parts.now() })
    }

    /// Writes every view that this process has taken so far.
    ///
    /// # Errors
    /// [`CatalogError::Store`]; the views stay and are tried again.
    pub async fn flush_views(&self) -> Result<(), CatalogError> {
        Ok(self.views.flush().await?)
    }

    async fn ranking(
        &self,
        kind: RankingKind,
        cursor: Option<&str>,
        limit: PageLimit,
    ) -> Result<Arc<Cached<Page<VideoView>>>, CatalogError> {
        let from = cursor.map(|cursor| self.parts.cursors.open_rank(kind.as_str(), cursor)).transpose()?;
        let key = match from {
            None => format!("{}:first:{}", kind.as_str(), limit.get()),
            Some(Rank { snapshot, rank }) => format!("{}:{snapshot}:{rank}:{}", kind.as_str(), limit.get()),
        };
        let parts = Arc::clone(&self.parts);
        let load = async move { page(&parts, kind, from, limit).await };
        let cached = self.caches.popular.get_or_load(&key, load).await.map_err(CatalogError::from)?;
        cached.ok_or(CatalogError::BadCursor)
    }
}

fn note(taken: Taken) {
    if taken == Taken::Repeated {
        metrics::counter!("vid_views_total", "outcome" => "repeated").increment(1);
    }
}

fn note_refusal() {
    metrics::counter!("vid_views_total", "outcome" => "refused").increment(1);
}

/// A page of a ranking; `None` if the one it is to be of is kept no more.
async fn page(
    parts: &Parts,
    kind: RankingKind,
    from: Option<Rank>,
    limit: PageLimit,
) -> Result<Option<Page<VideoView>>, CatalogError> {
    let (now, limit) = (parts.now(), limit.get());
    let (at, rank) = match from {
        Some(Rank { snapshot, rank }) => (RankingAt::Snapshot(snapshot), rank),
        None => (RankingAt::Fresh, 0),
    };
    let mut ranked = parts.store.ranked_videos(kind, at, now, rank, limit).await?;
    if ranked.is_none() && from.is_none() {
        // The reader who finds none makes one; who comes at the same time gets the same.
        let Some(snapshot) = parts.store.build_ranking(kind, now).await? else {
            return Ok(Some(Page { items: Vec::new(), next_cursor: None }));
        };
        ranked = parts.store.ranked_videos(kind, RankingAt::Snapshot(snapshot), now, 0, limit).await?;
    }
    Ok(ranked.map(|ranked| {
        let next = rank + u32::from(limit);
        let next = (next < ranked.len).then_some(Rank { snapshot: ranked.snapshot, rank: next });
        Page {
            items: ranked.videos.into_iter().map(|video| VideoView::new(video, &parts.links)).collect(),
            next_cursor: next.map(|next| parts.cursors.seal_rank(kind.as_str(), &next)),
        }
    }))
}
