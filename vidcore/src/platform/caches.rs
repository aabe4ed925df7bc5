//! The caches of a platform: which there are, what each may take, and which tiers it has.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::auth::{AuthCaches, PROFILES};
use crate::cache::{CacheOptions, CacheParts, Caches, ReadThrough, SharedTier};
use crate::catalog::{CatalogCaches, POPULAR, SEARCH, VIDEO_PAGES};
use crate::clock::Clock;
use crate::entropy::Entropy;
use crate::media::showing::ShowingCache;
use crate::notify::Notify;
use crate::platform::settings::CacheSettings;

/// Checked signatures of access tokens. Nothing invalidates them; what they say is judged at each use.
pub(crate) const TOKENS: &str = "tokens";

/// What plays of open videos. The changes of their pages concern it.
const PLAYING: &str = "playing";

/// Whether reads of one row go through the shared tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PointReads {
    /// The store is in this process: asking it is cheaper than asking a server.
    Direct,
    /// The store is a server too.
    Shared,
}

/// Makes caches, each with its share of the bytes.
pub(super) struct CacheMaker<'a> {
    pub(super) settings: &'a CacheSettings,
    pub(super) point_reads: PointReads,
    pub(super) caches: &'a Caches,
    pub(super) clock: &'a Arc<dyn Clock>,
    pub(super) entropy: &'a Arc<dyn Entropy>,
    pub(super) notify: &'a Arc<dyn Notify>,
}

impl CacheMaker<'_> {
    /// The caches of the catalog.
    pub(super) fn catalog(&self) -> CatalogCaches {
        let CacheSettings { video_ttl_ms, popular_ttl_ms, search_ttl_ms, .. } = *self.settings;
        CatalogCaches {
            pages: self.make(VIDEO_PAGES, 30, video_ttl_ms, self.point_tier()),
            popular: self.make(POPULAR, 15, popular_ttl_ms, self.caches.shared()),
            searches: self.make(SEARCH, 25, search_ttl_ms, self.caches.shared()),
        }
    }

    /// The caches of accounts.
    pub(super) fn auth(&self) -> AuthCaches {
        let CacheSettings { profile_ttl_ms, token_ttl_ms, .. } = *self.settings;
        AuthCaches {
            profiles: self.make(PROFILES, 10, profile_ttl_ms, self.point_tier()),
            // What a token says is nobody else's business.
            tokens: self.make(TOKENS, 10, token_ttl_ms, None),
        }
    }

    /// What plays of open videos; none where the store is the program's own: nobody tells what it commits, and a link
    /// that has ended must not work for a moment longer.
    pub(super) fn playing(&self) -> Option<ShowingCache> {
        // Who may play is decided by each process for itself.
        let make = || self.make_about(VIDEO_PAGES, PLAYING, 10, self.settings.video_ttl_ms, None);
        (self.point_reads == PointReads::Direct).then(make)
    }

    fn point_tier(&self) -> Option<&SharedTier> {
        self.caches.shared().filter(|_| self.point_reads == PointReads::Shared)
    }

    fn make<T, E>(
        &self,
        name: &'static str,
        percent: u64,
        ttl_ms: u64,
        shared: Option<&SharedTier>,
    ) -> ReadThrough<T, E>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        self.make_about(name, name, percent, ttl_ms, shared)
    }

    /// A cache that the changes of `topic` concern.
    fn make_about<T, E>(
        &self,
        topic: &str,
        name: &'static str,
        percent: u64,
        ttl_ms: u64,
        shared: Option<&SharedTier>,
    ) -> ReadThrough<T, E>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        let ttl = Duration::from_millis(ttl_ms);
        let options = CacheOptions {
            name,
            max_bytes: self.settings.max_bytes / 100 * percent,
            ttl,
            stale: Duration::from_millis(self.settings.stale_ms),
            negative_ttl: ttl / 5,
        };
        let parts = CacheParts {
            clock: Arc::clone(self.clock),
            entropy: Arc::clone(self.entropy),
            notify: Arc::clone(self.notify),
            shared: shared.cloned(),
        };
        let cache = ReadThrough::new(options, parts);
        self.caches.register(topic, &cache);
        cache
    }
}
