//! Playing a video: who may, through which links, and what the links lead to.
//!
//! A grant stands in the path (`/playback/{token}/…`, `/playback/public/{video}/{epoch}/…`), so that
//! relative URIs of playlists inherit it on every player. Raising the video's epoch kills all grants.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::Actor;
use crate::catalog::service::stale;
use crate::catalog::view::PlaybackLinks;
use crate::catalog::{CatalogError, Video, Viewer};
use crate::clock::Timestamp;
use crate::id::{UserId, VideoId};
use crate::idempotency::IdempotencyKey;
use crate::media::hot::HotObjects;
use crate::media::served::media_type;
use crate::media::showing::{ShowingCache, Showings, Shown};
use crate::media::{NewObject, Rendition, RenditionKind};
use crate::platform::parts::Parts;
use crate::platform::settings::DeliveryChoice;
use crate::storage::objects::direct::Answering;
use crate::storage::objects::{ObjectBytes, ObjectError};
use crate::storage::playback_token::{PlaybackGrant, PlaybackTokens};
use crate::storage::{AddressPrefix, OriginRule, Visitor};
use crate::store::{Causes, Outcome, StoreError};

/// Why nothing is played.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlaybackError {
    /// No such video, object or grant; or the grant has ended.
    #[error("nothing to play")]
    NotFound,
    /// The object store did not answer.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<CatalogError> for PlaybackError {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Store(error) => Self::Store(error),
            _ => Self::NotFound,
        }
    }
}

/// What a playback path says about its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// A public or unlisted video at an epoch.
    Public {
        /// The video.
        video: VideoId,
        /// The epoch the link was made at.
        epoch: u32,
    },
    /// A signed token.
    Token(String),
}

/// What links are made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MintLinks {
    /// How long they work. Default and cap: the settings'.
    pub ttl: Option<Duration>,
    /// The network the viewer has to be in. Default: anywhere.
    pub address: Option<AddressPrefix>,
    /// The origin of the page the viewer has to be on. Default: any, or none.
    pub origin: Option<OriginRule>,
    /// Whether the original may be downloaded. Default: no.
    pub download: bool,
}

/// A video somebody may play now.
#[derive(Debug, Clone)]
pub struct Playable {
    shown: Shown,
    /// Whether the links are for everybody: they may be kept by shared caches.
    pub shared: bool,
    /// Whether the original may be downloaded.
    pub download: bool,
    minter: Option<UserId>,
}

impl Playable {
    /// Who watches, as views are counted: the account that asks, else the one that made the link, else the network
    /// that asks.
    pub fn viewer(&self, asking: Option<Viewer>) -> Option<Viewer> {
        match (asking, self.minter) {
            (Some(Viewer::User(_)), _) | (_, None) => asking,
            (_, Some(minter)) => Some(Viewer::User(minter)),
        }
    }

    /// The best ready rendition that is wanted.
    fn rendition(&self, wanted: impl Fn(&Rendition) -> bool) -> Result<&Rendition, PlaybackError> {
        self.shown.renditions.iter().find(|found| wanted(found)).ok_or(PlaybackError::NotFound)
    }

    pub(crate) fn video(&self) -> &Video {
        &self.shown.video
    }

    /// The video.
    pub fn id(&self) -> VideoId {
        self.shown.video.id
    }

    /// The video's title.
    pub fn title(&self) -> &str {
        &self.shown.video.title
    }
}

/// An object that may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlayableObject {
    /// Key, size, hash and content type.
    pub object: NewObject,
    /// Whether links to it may be kept by shared caches.
    pub shared: bool,
}

impl PlayableObject {
    /// What it is served as; `None` for what is only to be saved.
    pub fn media_type(&self) -> Option<&'static str> {
        media_type(&self.object)
    }
}

/// Playback. Reached through `Platform::playback`.
#[derive(Debug, Clone)]
pub struct Playback {
    parts: Arc<Parts>,
    tokens: PlaybackTokens,
    hot: HotObjects,
    showings: Showings,
}

impl Playback {
    pub(crate) fn new(parts: Arc<Parts>, cache: Option<ShowingCache>) -> Self {
        let tokens = PlaybackTokens::new(parts.keys.clone());
        let hot = HotObjects::new(parts.settings.playback.hot_bytes);
        let showings = Showings::new(Arc::clone(&parts.store), cache);
        Self { parts, tokens, hot, showings }
    }

    /// Links that play a video of the actor's until they expire; anybody who has them and is within their bounds may
    /// play.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`]; [`CatalogError::WrongState`] while the video is not playable.
    pub async fn mint(&self, actor: &Actor, id: VideoId, input: MintLinks) -> Result<PlaybackLinks, CatalogError> {
        let settings = &self.parts.settings.playback;
        let ttl = input.ttl.unwrap_or(Duration::from_secs(settings.token_ttl_s));
        let ttl = ttl.min(Duration::from_secs(settings.max_token_ttl_s));
        let video = self.parts.store.video(id).await?;
        let video = video
            .filter(|video| (video.owner == actor.user || actor.moderates()) && video.deleted_at.is_none())
            .ok_or(CatalogError::NotFound)?;
        // Whole seconds: what the token can say is what the answer says.
        let expires_at = Timestamp::from_millis(self.parts.now().plus(ttl).as_secs() * 1000);
        let MintLinks { address, origin, download, .. } = input;
        let epoch = video.playback_epoch;
        let minter = Some(actor.user);
        let grant = PlaybackGrant { video: id, epoch, expires_at, address, origin, download, minter };
        let token = self.tokens.mint(&grant);
        self.parts
            .links
            .token_playback(&video, &token, expires_at)
            .ok_or(CatalogError::WrongState { status: video.status.as_str(), command: "be played" })
    }

    /// Kills every playback link given out so far, public ones included (those are made anew).
    ///
    /// # Errors
    /// [`CatalogError::NotFound`].
    pub async fn revoke(
        &self,
        actor: &Actor,
        id: VideoId,
        key: Option<IdempotencyKey>,
    ) -> Result<Outcome<()>, CatalogError> {
        let causes = Causes::none().idempotent(self.parts.remember(key));
        let causes = stale(id).into_iter().fold(causes, Causes::change);
        let outcome = self.parts.store.bump_playback_epoch(id, actor.owner_scope(), self.parts.now(), causes).await?;
        Ok(outcome.map(|_| ()))
    }

    /// The video a grant opens for this visitor. Of an open video this is judged by what is kept of it, which a change drops at once
    /// in the process that makes it, and in others within a second, two if they cannot hear of it; of any other by the
    /// database.
    ///
    /// # Errors
    /// [`PlaybackError::NotFound`] if the grant is wrong or has ended, or the visitor is outside its bounds.
    pub async fn open(&self, grant: &Grant, visitor: &Visitor) -> Result<Playable, PlaybackError> {
        let (id, epoch, shared, download, minter) = match grant {
            Grant::Public { video, epoch } => (*video, *epoch, true, false, None),
            Grant::Token(token) => {
                let granted = self.tokens.verify(token, self.parts.now()).map_err(|_| PlaybackError::NotFound)?;
                if !granted.admits(visitor) {
                    return Err(PlaybackError::NotFound);
                }
                (granted.video, granted.epoch, false, granted.download, granted.minter)
            }
        };
        let shown = if shared { self.showings.open(id).await? } else { self.showings.any(id).await? };
        let shown = shown.filter(|shown| {
            let video = &shown.video;
            video.is_playable() && video.deleted_at.is_none() && video.playback_epoch == epoch
        });
        Ok(Playable { shown: shown.ok_or(PlaybackError::NotFound)?, shared, download, minter })
    }

    /// The master playlist (RFC 8216 §4.3.4), made from the rows of the ready renditions.
    ///
    /// # Errors
    /// [`PlaybackError::NotFound`] if no HLS rendition is ready.
    pub async fn master_playlist(&self, playable: &Playable) -> Result<String, PlaybackError> {
        let hls: Vec<_> =
            playable.shown.renditions.iter().filter(|rendition| rendition.kind == RenditionKind::Hls).collect();
        if hls.is_empty() {
            return Err(PlaybackError::NotFound);
        }
        Ok(crate::media::master_playlist::master_playlist(&hls))
    }

    /// An object of an HLS rendition: its playlist, its init segment, a segment.
    ///
    /// # Errors
    /// [`PlaybackError::NotFound`].
    pub async fn rendition_object(
        &self,
        playable: &Playable,
        rendition: &str,
        file: &str,
    ) -> Result<PlayableObject, PlaybackError> {
        let found = playable.rendition(|found| found.kind == RenditionKind::Hls && found.name == rendition)?;
        let prefix = found.prefix.as_deref().ok_or(PlaybackError::NotFound)?;
        // Looked up among the rows of published objects, so that a name with dots or slashes finds nothing.
        self.object(playable, &format!("{prefix}/{file}")).await
    }

    /// The original, where it is published as it is.
    ///
    /// # Errors
    /// [`PlaybackError::NotFound`].
    pub async fn file(&self, playable: &Playable) -> Result<PlayableObject, PlaybackError> {
        let found = playable.rendition(|found| found.kind == RenditionKind::File)?;
        self.object(playable, found.prefix.as_deref().ok_or(PlaybackError::NotFound)?).await
    }

    /// The original as it was uploaded last, where the grant allows downloading it.
    ///
    /// # Errors
    /// [`PlaybackError::NotFound`].
    pub async fn original(&self, playable: &Playable) -> Result<PlayableObject, PlaybackError> {
        if !playable.download {
            return Err(PlaybackError::NotFound);
        }
        let source = self.parts.store.current_source(playable.shown.video.id).await?.ok_or(PlaybackError::NotFound)?;
        self.object(playable, &source.object_key).await
    }

    /// The poster.
    ///
    /// # Errors
    /// [`PlaybackError::NotFound`].
    pub async fn poster(&self, playable: &Playable) -> Result<PlayableObject, PlaybackError> {
        self.object(playable, playable.shown.video.poster_key.as_deref().ok_or(PlaybackError::NotFound)?).await
    }

    /// A file of the storyboard: its WebVTT file, or a sheet that stands in it.
    ///
    /// # Errors
    /// [`PlaybackError::NotFound`].
    pub async fn storyboard(&self, playable: &Playable, file: &str) -> Result<PlayableObject, PlaybackError> {
        let index = playable.shown.video.storyboard_key.as_deref().ok_or(PlaybackError::NotFound)?;
        let (prefix, _) = index.rsplit_once('/').ok_or(PlaybackError::NotFound)?;
        self.object(playable, &format!("{prefix}/{file}")).await
    }

    /// Where in the bucket a viewer gets the bytes of a video's file or segment with `GET`, where the platform sends
    /// viewers there (`playback.delivery`), under this `Content-Disposition`. Never while objects move: they may be in
    /// the other place.
    ///
    /// # Errors
    /// [`PlaybackError::Object`].
    pub async fn elsewhere(&self, object: &PlayableObject, disposition: &str) -> Result<Option<String>, PlaybackError> {
        let (settings, objects) = (&self.parts.settings.playback, &self.parts.objects);
        let is_sent = settings.delivery == DeliveryChoice::Redirect && objects.fallback().is_none();
        let content_type = object.media_type().filter(|kind| is_sent && kind.starts_with("video/"));
        let (Some(content_type), Some(direct)) = (content_type, objects.direct()) else { return Ok(None) };
        let cache_control = format!("private, max-age={}", settings.redirect_ttl_s);
        let answering = Answering { content_type, disposition, cache_control: &cache_control };
        Ok(Some(direct.object_url(&object.object.key, answering, Duration::from_secs(settings.redirect_ttl_s)).await?))
    }

    /// Streams an object, or a part of it (byte offsets, end exclusive).
    ///
    /// # Errors
    /// [`PlaybackError::Object`]; an error after the first byte comes through the stream.
    pub async fn bytes(
        &self,
        object: &PlayableObject,
        range: Option<Range<u64>>,
    ) -> Result<ObjectBytes, PlaybackError> {
        Ok(self.hot.read(&self.parts.objects, &object.object, range).await?)
    }

    async fn object(&self, playable: &Playable, key: &str) -> Result<PlayableObject, PlaybackError> {
        let object = self.hot.row(&*self.parts.store, key).await?.ok_or(PlaybackError::NotFound)?;
        Ok(PlayableObject { object, shared: playable.shared })
    }
}
