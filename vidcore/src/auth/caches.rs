//! What the service caches of accounts and tokens.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};

use crate::auth::token::Checked;
use crate::auth::{AccountError, BadToken, PROFILES, ProfileView};
use crate::cache::{CacheOptions, CacheParts, ReadThrough};
use crate::clock::Clock;
use crate::entropy::Entropy;
use crate::notify::LocalNotify;

/// Caches of a service without a platform: they forget by time alone, so that this is short.
const TTL: Duration = Duration::from_secs(1);
const MAX_BYTES: u64 = 4 << 20;

/// Profiles by account, and checked signatures by [`key_of`] the token.
#[derive(Debug, Clone)]
pub(crate) struct AuthCaches {
    pub(crate) profiles: ReadThrough<ProfileView, AccountError>,
    pub(crate) tokens: ReadThrough<Checked, BadToken>,
}

impl AuthCaches {
    /// Caches that nobody tells of changes.
    pub(crate) fn alone(clock: &Arc<dyn Clock>, entropy: &Arc<dyn Entropy>) -> Self {
        let parts = CacheParts {
            clock: Arc::clone(clock),
            entropy: Arc::clone(entropy),
            notify: Arc::new(LocalNotify::new()),
            shared: None,
        };
        let options =
            |name| CacheOptions { name, max_bytes: MAX_BYTES, ttl: TTL, stale: Duration::ZERO, negative_ttl: TTL };
        Self {
            // Its own renames would be seen late by those who asked before.
            profiles: ReadThrough::new(CacheOptions { ttl: Duration::ZERO, ..options(PROFILES) }, parts.clone()),
            tokens: ReadThrough::new(options(crate::platform::caches::TOKENS), parts),
        }
    }
}

/// What a checked token is found by. A token opens doors, so it is in no table by itself.
pub(crate) fn key_of(token: &str) -> String {
    hex::encode(digest(&SHA256, token.as_bytes()))
}
