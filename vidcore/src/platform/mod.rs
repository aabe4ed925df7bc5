//! The platform: settings, the choice of back ends, and the services built over them.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let platform = vidcore::Platform::embedded(folder.path()).await?;
//! assert!(platform.catalog().public(None, Default::default()).await?.items.is_empty());
//! platform.shutdown().await;
//! # Ok(()) }
//! ```

#[cfg(feature = "sqlite")]
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::auth::{Actor, Auth, NotAdmin};
use crate::cache::CacheReport;
use crate::catalog::Catalog;
use crate::catalog::popularity::buffer::ViewBuffer;
use crate::clock::{Clock, Timestamp};
use crate::doctor::{ExamineError, RepairReport, Report};
use crate::housekeeping::{CollectError, Collected};
use crate::jobs::Jobs;
use crate::jobs::worker::Worker;
use crate::keys::KeyRing;
use crate::media::Playback;
use crate::rate_limit::Limiter;
use crate::storage::{Objects, Uploads};
use crate::store::Store;

mod builder;
pub(crate) mod caches;
mod figures;
mod housekeeping;
pub mod links;
#[cfg(feature = "sqlite")]
mod listener;
mod objects;
pub(crate) mod parts;
mod redis;
mod secret;
pub mod settings;

pub use builder::{OpenError, PlatformBuilder, make_data_folder};
pub use links::Links;
pub use settings::Settings;

use parts::Parts;
use redis::RedisParts;

/// Everything, opened: the services and, if enabled, a worker. Clones are cheap and share it.
#[derive(Debug, Clone)]
pub struct Platform {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    parts: Arc<Parts>,
    auth: Auth,
    catalog: Catalog,
    uploads: Uploads,
    playback: Playback,
    jobs: Jobs,
    limiter: Limiter,
    redis: Option<RedisParts>,
    /// Taken by the first shutdown.
    running: Mutex<Option<Running>>,
}

/// What runs beside the callers.
#[derive(Debug)]
struct Running {
    workers: Vec<Worker>,
    views: (Arc<ViewBuffer>, tokio::task::JoinHandle<()>),
    housekeeping: tokio::task::JoinHandle<()>,
    figures: tokio::task::JoinHandle<()>,
    shared_cache: tokio::task::JoinHandle<()>,
    #[cfg(feature = "sqlite")]
    changes: Option<Arc<crate::notify::SqliteNotify>>,
}

impl Platform {
    /// Opens a platform whose database, keys and objects live in the folder `data_dir`, with the
    /// default settings, a worker in this process and no service needed.
    ///
    /// # Errors
    /// [`OpenError`].
    #[cfg(feature = "sqlite")]
    pub async fn embedded(data_dir: impl AsRef<Path>) -> Result<Self, OpenError> {
        let settings = Settings { data_dir: data_dir.as_ref().to_owned(), ..Settings::default() };
        Self::open(settings).await
    }

    /// Opens a platform as the settings say.
    ///
    /// # Errors
    /// [`OpenError`].
    #[cfg(feature = "sqlite")]
    pub async fn open(settings: Settings) -> Result<Self, OpenError> {
        Self::builder(settings).open().await
    }

    /// Opens a platform with back ends of your own choice.
    pub fn builder(settings: Settings) -> PlatformBuilder {
        PlatformBuilder::new(settings)
    }

    /// Accounts, sign-in and tokens.
    pub fn auth(&self) -> &Auth {
        &self.inner.auth
    }

    /// Videos.
    pub fn catalog(&self) -> &Catalog {
        &self.inner.catalog
    }

    /// Uploads.
    pub fn uploads(&self) -> &Uploads {
        &self.inner.uploads
    }

    /// Playing videos.
    pub fn playback(&self) -> &Playback {
        &self.inner.playback
    }

    /// Background jobs.
    pub fn jobs(&self) -> &Jobs {
        &self.inner.jobs
    }

    /// Rate limits.
    pub fn limiter(&self) -> &Limiter {
        &self.inner.limiter
    }

    /// What each cache of this process holds and did, by name.
    ///
    /// # Errors
    /// [`NotAdmin`].
    pub async fn cache_report(&self, actor: &Actor) -> Result<Vec<CacheReport>, NotAdmin> {
        actor.must_administer()?;
        Ok(self.inner.parts.caches.report().await)
    }

    /// The settings it was opened with.
    pub fn settings(&self) -> &Settings {
        &self.inner.parts.settings
    }

    /// The paths of its resources.
    pub fn links(&self) -> &Links {
        &self.inner.parts.links
    }

    /// The key ring, for layers that sign or fingerprint on the platform's behalf.
    pub fn keys(&self) -> &KeyRing {
        &self.inner.parts.keys
    }

    /// The clock everything goes by.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.parts.clock
    }

    /// Now, by that clock.
    pub fn now(&self) -> Timestamp {
        self.inner.parts.now()
    }

    /// The store, for programs that need more than the services offer.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.parts.store
    }

    /// The objects.
    pub fn objects(&self) -> &Objects {
        &self.inner.parts.objects
    }

    /// Which transcoder processes videos, `ffmpeg` or `simulated`, and why: ffmpeg's version, or what
    /// keeps it from being used. Waits for the search that began when the platform was opened.
    pub async fn transcoder(&self) -> (&'static str, String) {
        let chosen = self.inner.parts.transcoder.known().await;
        (chosen.transcoder.name(), chosen.reason)
    }

    /// Whether the database answers and this process hears of changes.
    ///
    /// # Errors
    /// The names of the parts that do not work, with the reason for the log.
    pub async fn check_ready(&self) -> Result<(), Vec<(&'static str, String)>> {
        let mut troubles = Vec::new();
        if let Err(error) = self.inner.parts.store.changes_after(i64::MAX, 1).await {
            troubles.push(("database", error.to_string()));
        }
        let silence = self.inner.parts.notify.silence();
        if silence > crate::cache::MAX_SILENCE {
            troubles.push(("notify", format!("no change check for {} ms", silence.as_millis())));
        }
        if troubles.is_empty() { Ok(()) } else { Err(troubles) }
    }

    /// The parts that are away and that the platform goes on without: promises are kept by the database, only
    /// later. Each with the reason for the log.
    pub fn degraded(&self) -> Vec<(&'static str, String)> {
        let redis = self.inner.redis.as_ref().and_then(RedisParts::trouble);
        redis.into_iter().map(|reason| ("redis", reason)).collect()
    }

    /// Checks everything that must always be true of rows and objects; a `deep` examination also hashes
    /// every object. Reads only, and may run beside everything else.
    ///
    /// # Errors
    /// [`ExamineError`] if the store or the object store does not answer.
    pub async fn examine(&self, deep: bool) -> Result<Report, ExamineError> {
        crate::doctor::examine(&*self.inner.parts.store, &self.inner.parts.objects, deep).await
    }

    /// Examines, and repairs what can be repaired; what has to be made again is made by jobs, written here and
    /// run by whichever worker there is. It may run beside everything else.
    ///
    /// # Errors
    /// [`ExamineError`] if the store or the object store does not answer; what was repaired until then is.
    pub async fn repair(&self, deep: bool) -> Result<RepairReport, ExamineError> {
        crate::doctor::repair::repair(&self.inner.parts, deep).await
    }

    /// Deletes every object that belongs to nobody, as the job `collect_objects` does from time to time. It may
    /// run beside everything else. When all is quiet, one collection leaves nothing that
    /// [`examine`](Self::examine) calls an orphan, but for keys that are not this program's.
    ///
    /// # Errors
    /// [`CollectError`] if the store or the object store does not answer.
    pub async fn collect_objects(&self) -> Result<Collected, CollectError> {
        crate::housekeeping::collect(&*self.inner.parts.store, &self.inner.parts.objects).await
    }

    /// Keeps what uploads under way have brought, claims no more jobs, lets running ones finish for the grace time,
    /// gives the rest back, writes the views
    /// that wait, and ends the background tasks. Services of other clones still answer afterwards.
    pub async fn shutdown(&self) {
        let running = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(running) = running else { return };
        self.inner.uploads.writers.settle_all().await;
        futures_util::future::join_all(running.workers.into_iter().map(Worker::stop)).await;
        let (views, flushing) = running.views;
        views.close().await;
        flushing.abort();
        running.housekeeping.abort();
        running.figures.abort();
        running.shared_cache.abort();
        if let Some(redis) = &self.inner.redis {
            redis.stop().await;
        }
        #[cfg(feature = "sqlite")]
        if let Some(changes) = running.changes {
            // Joins a thread that looks up every few milliseconds.
            let _ = tokio::task::spawn_blocking(move || changes.stop()).await;
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let running = self.running.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(running) = running {
            running.views.1.abort();
            running.housekeeping.abort();
            running.figures.abort();
            running.shared_cache.abort();
        }
    }
}
