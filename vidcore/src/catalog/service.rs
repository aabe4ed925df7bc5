//! The catalog's decisions: who may do what, what is valid, what becomes stale.

use std::sync::Arc;

use crate::auth::Actor;
use crate::cache::{Cached, EVERY_KEY, ReadThrough};
use crate::catalog::popularity::buffer::ViewBuffer;
use crate::catalog::progress::progress;
use crate::catalog::view::{RenditionView, StatusView, VideoView};
use crate::catalog::{
    CatalogError, NewVideo, OwnerScope, POPULAR, PatchVideo, SEARCH, TrashVideo, VIDEO_PAGES, Video, VideoPatch,
    VideoStatus, Visibility, input, search::SearchTerms,
};
use crate::events::NewChange;
use crate::id::{UserId, VideoId};
use crate::idempotency::IdempotencyKey;
use crate::jobs::JobFilter;
use crate::media::jobs::process_job;
use crate::media::lifecycle::DropRendition;
use crate::media::{RenditionStatus, Transcoder as _};
use crate::page::{Page, PageLimit, Position};
use crate::platform::parts::Parts;
use crate::store::{Causes, Outcome};

/// How far relevance search may be paged: it is sorted by a score, so its pages are offsets.
pub const SEARCH_DEPTH: u32 = 1000;

/// How many of a video's latest jobs its progress is read from: more than one run has.
const JOBS_LOOKED_AT: u16 = 32;

/// How often a restore is begun anew when the video changes under it.
const RESTORE_TRIES: u32 = 3;

/// What a video is created from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateVideo {
    /// 1 to 120 characters, no control characters.
    pub title: String,
    /// At most 5,000 characters.
    pub description: String,
    /// At most 20, each 1 to 40 characters.
    pub tags: Vec<String>,
    /// Who may see it once it is playable.
    pub visibility: Visibility,
}

/// Videos: create, read, change, list and find them. Reached through `Platform::catalog`.
#[derive(Debug, Clone)]
pub struct Catalog {
    pub(super) parts: Arc<Parts>,
    pub(super) caches: CatalogCaches,
    pub(super) views: Arc<ViewBuffer>,
}

/// What the catalog caches, all of it for everybody.
#[derive(Debug, Clone)]
pub(crate) struct CatalogCaches {
    /// Open videos by id.
    pub(crate) pages: ReadThrough<VideoView, CatalogError>,
    /// Pages of rankings.
    pub(crate) popular: ReadThrough<Page<VideoView>, CatalogError>,
    /// First pages of searches, by words and length of the page.
    pub(crate) searches: ReadThrough<Page<VideoView>, CatalogError>,
}

/// The changes that a visible difference of a video makes.
pub(crate) fn stale(id: VideoId) -> [NewChange; 3] {
    let all = |topic| NewChange::new(topic, EVERY_KEY);
    [NewChange::new(VIDEO_PAGES, id.to_string()), all(POPULAR), all(SEARCH)]
}

impl Catalog {
    pub(crate) fn new(parts: Arc<Parts>, caches: CatalogCaches, views: Arc<ViewBuffer>) -> Self {
        Self { parts, caches, views }
    }

    /// Creates a draft of the actor's.
    ///
    /// # Errors
    /// [`CatalogError::Invalid`] with every problem of the input.
    pub async fn create(
        &self,
        actor: &Actor,
        input: CreateVideo,
        key: Option<IdempotencyKey>,
    ) -> Result<Outcome<VideoView>, CatalogError> {
        let input = input::check_new(input)?;
        let now = self.parts.now();
        let new = NewVideo {
            id: VideoId::new(now, &*self.parts.entropy),
            owner: actor.user,
            title: input.title,
            description: input.description,
            tags: input.tags,
            visibility: input.visibility,
            now,
        };
        let causes = Causes::none().idempotent(self.parts.remember(key));
        Ok(self.parts.store.create_video(new, causes).await?.map(|video| self.view(video)))
    }

    /// One video. Its owner and moderators see it always and uncached; everybody else sees an open
    /// video through the cache.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`], also for a video the caller may not know of.
    pub async fn read(&self, actor: Option<&Actor>, id: VideoId) -> Result<Arc<Cached<VideoView>>, CatalogError> {
        if let Some(actor) = actor {
            let video = self.visible(Some(actor), id).await?;
            return Ok(Arc::new(Cached::new(self.view(video))));
        }
        let (store, links) = (Arc::clone(&self.parts.store), self.parts.links.clone());
        let load = async move {
            let video = store.video(id).await?.filter(Video::is_open);
            Ok::<_, CatalogError>(video.map(|video| VideoView::new(video, &links)))
        };
        self.caches
            .pages
            .get_or_load(&id.to_string(), load)
            .await
            .map_err(CatalogError::from)?
            .ok_or(CatalogError::NotFound)
    }

    /// Changes the actor's video, or anybody's for a moderator.
    ///
    /// # Errors
    /// [`CatalogError::Invalid`], [`CatalogError::NotFound`], [`CatalogError::VersionMismatch`].
    pub async fn patch(
        &self,
        actor: &Actor,
        id: VideoId,
        expected: i64,
        patch: VideoPatch,
        key: Option<IdempotencyKey>,
    ) -> Result<Outcome<VideoView>, CatalogError> {
        let patch = input::check_patch(patch)?;
        let command = PatchVideo { id, owner: actor.owner_scope(), expected, patch, now: self.parts.now() };
        let outcome = self.parts.store.patch_video(command, self.causes(id, key)).await?;
        Ok(outcome.map(|video| self.view(video)))
    }

    /// Moves a video to the trash: it disappears at once, its playback links die, its jobs stop.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`], [`CatalogError::VersionMismatch`].
    pub async fn trash(
        &self,
        actor: &Actor,
        id: VideoId,
        expected: Option<i64>,
        key: Option<IdempotencyKey>,
    ) -> Result<Outcome<VideoView>, CatalogError> {
        let outcome =
            self.parts.store.trash_video(self.trash_command(actor, id, expected), self.causes(id, key)).await?;
        Ok(outcome.map(|video| self.view(video)))
    }

    /// Takes a video out of the trash and plans again what the trashing stopped.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`], [`CatalogError::VersionMismatch`].
    pub async fn restore(
        &self,
        actor: &Actor,
        id: VideoId,
        expected: Option<i64>,
        key: Option<IdempotencyKey>,
    ) -> Result<Outcome<VideoView>, CatalogError> {
        let mut tries = 0;
        loop {
            // The version is read before the source and demanded by the command: a source committed in
            // between raises it, so that no job is planned for a source that is no longer current.
            let seen = self.parts.store.video(id).await?.ok_or(CatalogError::NotFound)?;
            let mut causes = self.causes(id, key.clone());
            if let Some(source) = self.parts.store.current_source(id).await? {
                // The store leaves it out unless something of the source is still to be made.
                causes = causes.job(process_job(&self.parts, &source, seen.owner));
            }
            let command = self.trash_command(actor, id, expected.or(Some(seen.version)));
            match self.parts.store.restore_video(command, causes).await {
                Err(CatalogError::VersionMismatch { .. }) if expected.is_none() && tries < RESTORE_TRIES => tries += 1,
                outcome => return Ok(outcome?.map(|video| self.view(video))),
            }
        }
    }

    /// Public videos, newest first.
    ///
    /// # Errors
    /// [`CatalogError::BadCursor`].
    pub async fn public(&self, cursor: Option<&str>, limit: PageLimit) -> Result<Page<VideoView>, CatalogError> {
        const BINDING: &str = "videos:public";
        let after = self.open(BINDING, cursor)?;
        let videos = self.parts.store.public_videos(after, limit.get() + 1).await?;
        Ok(self.page(BINDING, videos, limit, |video| video.published_at.unwrap_or_default().as_millis()))
    }

    /// One owner's videos, newest first: all of them for the owner and for moderators, the public
    /// ones for everybody else. `OwnerScope::Trash` is empty for everybody else.
    ///
    /// # Errors
    /// [`CatalogError::BadCursor`].
    pub async fn of_owner(
        &self,
        actor: Option<&Actor>,
        owner: UserId,
        trash: bool,
        cursor: Option<&str>,
        limit: PageLimit,
    ) -> Result<Page<VideoView>, CatalogError> {
        let insider = actor.is_some_and(|actor| actor.user == owner || actor.moderates());
        let (scope, name) = match (insider, trash) {
            (true, false) => (OwnerScope::Own, "own"),
            (true, true) => (OwnerScope::Trash, "trash"),
            (false, false) => (OwnerScope::Public, "public"),
            (false, true) => return Ok(Page { items: Vec::new(), next_cursor: None }),
        };
        let binding = format!("videos:{owner}:{name}");
        let after = self.open(&binding, cursor)?;
        let videos = self.parts.store.videos_of(owner, scope, after, limit.get() + 1).await?;
        Ok(self.page(&binding, videos, limit, |video| match scope {
            OwnerScope::Public => video.published_at.unwrap_or_default().as_millis(),
            OwnerScope::Own | OwnerScope::Trash => video.created_at.as_millis(),
        }))
    }

    /// Public videos that hold every word of `text`, best match first; the last word may be a
    /// beginning. At most [`SEARCH_DEPTH`] are reachable: pages of a relevance list are offsets, and
    /// may repeat or skip when the catalog changes between them. First pages come from the cache.
    ///
    /// # Errors
    /// [`CatalogError::Invalid`] if `text` holds no word; [`CatalogError::BadCursor`].
    pub async fn search(
        &self,
        text: &str,
        cursor: Option<&str>,
        limit: PageLimit,
    ) -> Result<Arc<Cached<Page<VideoView>>>, CatalogError> {
        let terms = input::check_search(text)?;
        let binding = format!("search:{}", terms.words().join(" "));
        if let Some(cursor) = cursor {
            let offset = self.parts.cursors.open_offset(&binding, cursor)?;
            let page = find(&self.parts, &terms, &binding, offset, limit).await?;
            return Ok(Arc::new(Cached::new(page)));
        }
        // Words hold no space, so that a length cannot be taken for one of them.
        let key = format!("{}  {}", terms.words().join(" "), limit.get());
        let parts = Arc::clone(&self.parts);
        let load = async move { find(&parts, &terms, &binding, 0, limit).await.map(Some) };
        let cached = self.caches.searches.get_or_load(&key, load).await.map_err(CatalogError::from)?;
        cached.ok_or(CatalogError::NotFound)
    }

    /// How far a video is on its way.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`].
    pub async fn status(&self, actor: Option<&Actor>, id: VideoId) -> Result<StatusView, CatalogError> {
        let video = self.visible(actor, id).await?;
        let renditions = self.parts.store.renditions(id).await?;
        // A finished video is what is asked about most; its jobs need not be looked at.
        let is_whole = renditions.iter().all(|row| row.status == RenditionStatus::Ready);
        let jobs = match video.status {
            VideoStatus::Ready if is_whole => Vec::new(),
            _ => {
                let filter = JobFilter { video: Some(id), ..JobFilter::default() };
                self.parts.store.jobs(&filter, None, JOBS_LOOKED_AT).await.map_err(into_catalog)?
            }
        };
        Ok(StatusView {
            id,
            status: video.status,
            playable: video.is_playable(),
            progress: progress(video.status, &renditions, &jobs),
            transcoder: self.parts.transcoder.name().to_owned(),
            failure: video.failure,
            renditions: renditions.into_iter().map(RenditionView::from).collect(),
        })
    }

    /// Every rendition of the current source, best first.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`].
    pub async fn renditions(&self, actor: Option<&Actor>, id: VideoId) -> Result<Vec<RenditionView>, CatalogError> {
        self.visible(actor, id).await?;
        Ok(self.parts.store.renditions(id).await?.into_iter().map(RenditionView::from).collect())
    }

    /// Processes the current source again: what is missing is made (renditions that failed or never were,
    /// poster, storyboard), what is ready stays, and so does the status of a video that is `ready` with it.
    /// Whatever a live job makes already is not made by a second one.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`]; [`CatalogError::WrongState`] for a draft.
    pub async fn process(
        &self,
        actor: &Actor,
        id: VideoId,
        key: Option<IdempotencyKey>,
    ) -> Result<Outcome<VideoView>, CatalogError> {
        let video = self.owned(actor, id).await?;
        let Some(source) = self.parts.store.current_source(id).await? else {
            return Err(CatalogError::WrongState { status: video.status.as_str(), command: "be processed" });
        };
        if self.parts.store.source_facts(source.id).await?.is_some_and(|facts| facts.is_dropped) {
            return Err(CatalogError::OriginalDropped);
        }
        let job = process_job(&self.parts, &source, video.owner);
        let causes = Causes::none().idempotent(self.parts.remember(key));
        let outcome = self.parts.store.enqueue(job, causes).await.map_err(into_catalog)?;
        let video = self.owned(actor, id).await?;
        Ok(outcome.map(|_| self.view(video)))
    }

    /// Deletes a rendition that plays, and what it is made of. The others play on.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`], [`CatalogError::WrongState`], [`CatalogError::LastRendition`].
    pub async fn drop_rendition(
        &self,
        actor: &Actor,
        id: VideoId,
        name: String,
        key: Option<IdempotencyKey>,
    ) -> Result<(), CatalogError> {
        let command = DropRendition { video: id, owner: actor.owner_scope(), name, now: self.parts.now() };
        let prefix = self.parts.store.drop_rendition(command, self.causes(id, key)).await?;
        // They belong to nobody from here on: should they stay, the collection takes them.
        if let Some(prefix) = prefix
            && let Err(error) = self.parts.objects.delete_under(&prefix).await
        {
            tracing::warn!(%error, video.id = %id, "a rendition's objects could not be deleted yet");
        }
        Ok(())
    }

    /// The video, if the actor may see it; everything else is "not found".
    pub(crate) async fn visible(&self, actor: Option<&Actor>, id: VideoId) -> Result<Video, CatalogError> {
        let insider = |video: &Video| actor.is_some_and(|actor| actor.user == video.owner || actor.moderates());
        self.parts
            .store
            .video(id)
            .await?
            .filter(|video| video.is_open() || insider(video))
            .ok_or(CatalogError::NotFound)
    }

    async fn owned(&self, actor: &Actor, id: VideoId) -> Result<Video, CatalogError> {
        self.parts
            .store
            .video(id)
            .await?
            .filter(|video| (actor.user == video.owner || actor.moderates()) && video.deleted_at.is_none())
            .ok_or(CatalogError::NotFound)
    }

    fn trash_command(&self, actor: &Actor, id: VideoId, expected: Option<i64>) -> TrashVideo {
        let now = self.parts.now();
        let keep = std::time::Duration::from_secs(self.parts.settings.catalog.trash_keep_s);
        TrashVideo { id, owner: actor.owner_scope(), expected, now, purge_at: now.plus(keep) }
    }

    fn causes(&self, id: VideoId, key: Option<IdempotencyKey>) -> Causes {
        stale(id).into_iter().fold(Causes::none().idempotent(self.parts.remember(key)), Causes::change)
    }

    fn view(&self, video: Video) -> VideoView {
        VideoView::new(video, &self.parts.links)
    }

    fn open(&self, binding: &str, cursor: Option<&str>) -> Result<Option<Position>, CatalogError> {
        cursor.map(|cursor| self.parts.cursors.open(binding, cursor)).transpose().map_err(CatalogError::from)
    }

    /// A page of the first `limit` videos; one more was read to learn whether there is a next page.
    fn page(
        &self,
        binding: &str,
        mut videos: Vec<Video>,
        limit: PageLimit,
        sort: impl Fn(&Video) -> i64,
    ) -> Page<VideoView> {
        let more = videos.len() > usize::from(limit.get());
        videos.truncate(limit.get().into());
        let last = videos.last().filter(|_| more);
        let next_cursor = last.map(|video| {
            let position = Position { sort: sort(video), id: *video.id.as_bytes() };
            self.parts.cursors.seal(binding, &position)
        });
        Page { items: videos.into_iter().map(|video| self.view(video)).collect(), next_cursor }
    }
}

/// One page of what a search finds.
async fn find(
    parts: &Parts,
    terms: &SearchTerms,
    binding: &str,
    offset: u32,
    limit: PageLimit,
) -> Result<Page<VideoView>, CatalogError> {
    let take = u32::from(limit.get()).min(SEARCH_DEPTH.saturating_sub(offset));
    let wanted = u16::try_from(take + 1).unwrap_or(u16::MAX);
    let mut videos = parts.store.search_videos(terms, offset, wanted).await?;
    let more = videos.len() as u32 > take && offset + take < SEARCH_DEPTH;
    videos.truncate(take as usize);
    let next_cursor = more.then(|| parts.cursors.seal_offset(binding, offset + take));
    let items = videos.into_iter().map(|video| VideoView::new(video, &parts.links)).collect();
    Ok(Page { items, next_cursor })
}

fn into_catalog(error: crate::jobs::JobError) -> CatalogError {
    match error {
        crate::jobs::JobError::Store(error) => CatalogError::Store(error),
        _ => CatalogError::NotFound,
    }
}
