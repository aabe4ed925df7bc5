//! What the services are made of: one value, shared.

use std::sync::Arc;

use crate::cache::Caches;
use crate::clock::{Clock, Timestamp};
use crate::entropy::Entropy;
use crate::idempotency::{IdempotencyKey, IdempotencyRecord};
use crate::keys::KeyRing;
use crate::media::Choice;
use crate::notify::Notify;
use crate::page::CursorCodec;
use crate::platform::{Links, Settings};
use crate::storage::Objects;
use crate::store::Store;

/// Ports and settings, as chosen when the platform was opened.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) settings: Settings,
    pub(crate) links: Links,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) keys: KeyRing,
    pub(crate) cursors: CursorCodec,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) objects: Objects,
    pub(crate) notify: Arc<dyn Notify>,
    pub(crate) caches: Arc<Caches>,
    pub(crate) transcoder: Choice,
}

impl Parts {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The record for a caller's key: kept as long as the settings say.
    pub(crate) fn remember(&self, key: Option<IdempotencyKey>) -> Option<IdempotencyRecord> {
        let keep = std::time::Duration::from_secs(self.settings.catalog.idempotency_keep_s);
        key.map(|key| IdempotencyRecord { key, expires_at: self.now().plus(keep), sealed: None })
    }
}
