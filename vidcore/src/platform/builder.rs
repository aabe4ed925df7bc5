//! Opening a platform: the one place where back ends are chosen.

mod checks;
mod choosing;

use std::path::Path;
use std::sync::{Arc, Mutex};
#[cfg(feature = "sqlite")]
use std::time::Duration;

use crate::auth::Auth;
use crate::cache::{CacheTier, Caches};
use crate::catalog::Catalog;
use crate::catalog::popularity::buffer::ViewBuffer;
use crate::clock::{Clock, SystemClock};
use crate::entropy::{Entropy, SystemEntropy};
use crate::housekeeping::HOUSEKEEPING_QUEUE;
use crate::jobs::Jobs;
use crate::jobs::cron::CronEntry;
use crate::jobs::dispatcher::{Dispatcher, LocalDispatcher};
use crate::jobs::worker::{AnnounceJobs, Handlers, JobHandler, Worker, WorkerOptions, WorkerParts};
use crate::jobs::{MEDIA_QUEUE, QueueName, UPLOADS_QUEUE, VIDEO_QUEUE};
use crate::keys::{KeyError, KeyRing};
use crate::media::jobs::{FAIL_VIDEO, MAKE_POSTER, MAKE_RENDITION, MAKE_STORYBOARD, PROCESS_VIDEO, SETTLE_VIDEO};
use crate::media::make_pictures::{MakePicture, Picture};
use crate::media::make_rendition::MakeRendition;
use crate::media::process_video::ProcessVideo;
use crate::media::settle_video::{FailVideo, Settle};
use crate::media::{Choice, MediaError, Playback, Transcoder};
use crate::notify::{LocalNotify, Notify};
use crate::page::CursorCodec;
use crate::platform::caches::{CacheMaker, PointReads};
use crate::platform::parts::Parts;
use crate::platform::redis::RedisParts;
use crate::platform::{Inner, Links, Platform, Running, Settings};
use crate::rate_limit::{LimitConfigError, Limiter, RateLimit};
use crate::storage::objects::ObjectError;
use crate::storage::verify::{GIVE_UP_UPLOAD, GiveUpUpload, VERIFY_UPLOAD, VerifyUpload};
use crate::storage::{Objects, Uploads};
use crate::store::{BoxError, CommitObservers, Store, StoreError};

/// Why a platform did not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The data folder cannot be made or used.
    #[error("data folder cannot be used")]
    Folder(#[source] std::io::Error),
    /// A setting is not valid.
    #[error("setting `{setting}`: {message}")]
    Setting {
        /// Its name, such as `worker.heartbeat_ms`.
        setting: &'static str,
        /// What it should be.
        message: String,
    },
    /// A handler was given for a queue of the platform's own.
    #[error("jobs of queue `{queue}` are the platform's own")]
    OwnQueue {
        /// Which.
        queue: QueueName,
    },
    /// No store was given and none is built in.
    #[error("no store: enable the feature `sqlite` or give the builder one")]
    NoStore,
    /// The database does not open.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys cannot be read or made.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The object store does not open.
    #[error(transparent)]
    Objects(#[from] ObjectError),
    /// The transcoder that was asked for does not work.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// A rate limit is not valid.
    #[error(transparent)]
    Limits(#[from] LimitConfigError),
    /// A connection to Redis cannot be prepared; that nobody answers is no reason.
    #[error("connections to Redis cannot be prepared")]
    Redis(#[source] BoxError),
    /// A background thread cannot be started.
    #[error("background thread cannot be started")]
    Thread(#[source] std::io::Error),
}

/// Chooses back ends; what is not chosen is what the settings say.
#[derive(Debug)]
pub struct PlatformBuilder {
    settings: Settings,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    store: Option<Arc<dyn Store>>,
    observers: CommitObservers,
    objects: Option<Objects>,
    keys: Option<KeyRing>,
    dispatcher: Arc<dyn Dispatcher>,
    own_dispatcher: Option<Arc<dyn Dispatcher>>,
    redis: Option<RedisParts>,
    notify: Option<Arc<dyn Notify>>,
    transcoder: Option<Arc<dyn Transcoder>>,
    rate_limit: Option<Arc<dyn RateLimit>>,
    cache_tier: Option<Arc<dyn CacheTier>>,
    handlers: Handlers,
    #[cfg(feature = "sqlite")]
    migrations: crate::store::sqlite::Migrations,
}

impl PlatformBuilder {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            clock: Arc::new(SystemClock::new()),
            entropy: Arc::new(SystemEntropy),
            store: None,
            observers: Vec::new(),
            objects: None,
            keys: None,
            dispatcher: Arc::new(LocalDispatcher::new()),
            own_dispatcher: None,
            redis: None,
            notify: None,
            transcoder: None,
            rate_limit: None,
            cache_tier: None,
            handlers: Handlers::new(),
            #[cfg(feature = "sqlite")]
            migrations: crate::store::sqlite::Migrations::Apply,
        }
    }

    /// The clock everything goes by. Default: the machine's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Where random bytes come from. Default: the operating system.
    #[must_use]
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// A store of your own. The platform's observers do not hear its commits: cached copies go stale by
    /// their time to live alone, and jobs are found by the sweep. Default: SQLite in the data folder.
    #[must_use]
    pub fn store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = Some(store);
        self
    }

    /// Where objects are kept. Default: as the settings say.
    #[must_use]
    pub fn objects(mut self, objects: Objects) -> Self {
        self.objects = Some(objects);
        self
    }

    /// The keys. Default: `keys` in the data folder, made if missing.
    #[must_use]
    pub fn keys(mut self, keys: KeyRing) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Where workers hear of jobs. Default: as the settings say, beside the change check.
    #[must_use]
    pub fn dispatcher(mut self, dispatcher: Arc<dyn Dispatcher>) -> Self {
        self.own_dispatcher = Some(dispatcher);
        self
    }

    /// How a store of your own lets this process hear of the others' commits: while it is silent for
    /// more than a second, nothing is served from the cache. SQLite brings its own, a change check.
    /// Where the settings name a Redis, it is used besides. Default: Redis, or within this process.
    #[must_use]
    pub fn notify(mut self, notify: Arc<dyn Notify>) -> Self {
        self.notify = Some(notify);
        self
    }

    /// What processes videos. Default: as the settings say.
    #[must_use]
    pub fn transcoder(mut self, transcoder: Arc<dyn Transcoder>) -> Self {
        self.transcoder = Some(transcoder);
        self
    }

    /// What counts calls. Default: as the settings say.
    #[must_use]
    pub fn rate_limit(mut self, rate_limit: Arc<dyn RateLimit>) -> Self {
        self.rate_limit = Some(rate_limit);
        self
    }

    /// Where processes share what they have cached. Default: as the settings say.
    #[must_use]
    pub fn cache_tier(mut self, tier: Arc<dyn CacheTier>) -> Self {
        self.cache_tier = Some(tier);
        self
    }

    /// Runs jobs of your own: those of `kind`, which wait in `queue`. They share the slots of `worker.concurrency`
    /// with the renditions. The queues `uploads`, `video` and `housekeeping` are the platform's own: opening
    /// refuses handlers for them.
    #[must_use]
    pub fn handler(mut self, queue: &str, kind: &str, handler: Arc<dyn JobHandler>) -> Self {
        self.handlers = self.handlers.with(queue, kind, handler);
        self
    }

    /// Writes a job of your own at every moment of a schedule, once for all processes of the platform;
    /// [`handler`](Self::handler) says who runs it.
    #[must_use]
    pub fn cron(mut self, entry: CronEntry) -> Self {
        self.handlers = self.handlers.cron(entry);
        self
    }

    /// Whether to migrate the database or to wait until another process has. Default: migrate.
    #[cfg(feature = "sqlite")]
    #[must_use]
    pub fn migrations(mut self, migrations: crate::store::sqlite::Migrations) -> Self {
        self.migrations = migrations;
        self
    }

    /// Opens the platform on the current tokio runtime.
    ///
    /// # Errors
    /// [`OpenError`]; nothing is left running then.
    pub async fn open(mut self) -> Result<Platform, OpenError> {
        let options = checks::worker_options(&self.settings.worker)?;
        self.check_jobs()?;
        checks::check_limits(&self.settings.rate_limits)?;
        make_data_folder(&self.settings.data_dir).map_err(OpenError::Folder)?;
        self.redis = RedisParts::open(&self.settings, &self.entropy)?;
        let chosen = self.own_dispatcher.take().or_else(|| self.redis.as_ref().and_then(RedisParts::dispatcher));
        self.dispatcher = chosen.unwrap_or_else(|| Arc::new(LocalDispatcher::new()));
        let shared = self.shared_tier()?;
        let caches = Arc::new(Caches::new(shared));
        self.observers.push(Arc::clone(&caches) as _);
        self.observers.push(Arc::new(AnnounceJobs(Arc::clone(&self.dispatcher))));
        let point_reads = if self.store.is_some() { PointReads::Shared } else { PointReads::Direct };
        let opened = self.open_store(&caches).await?;
        let keys = match self.keys.take() {
            Some(keys) => keys,
            None => self.open_keys().await?,
        };
        let objects = match self.objects.take() {
            Some(objects) => objects,
            None => self.settings.open_objects(&self.settings.storage).await?,
        };
        let transcoder = match self.transcoder.take() {
            Some(transcoder) => Choice::made(transcoder, "the program chose it"),
            None => crate::media::choose(&self.settings.media, &self.clock).await?,
        };
        let parts = Arc::new(Parts {
            links: Links::new(&self.settings.public_url),
            cursors: CursorCodec::new(keys.clone()),
            settings: self.settings.clone(),
            clock: Arc::clone(&self.clock),
            entropy: Arc::clone(&self.entropy),
            keys,
            store: opened.store,
            objects,
            notify: opened.notify,
            caches,
            transcoder,
        });
        let limiter = self.limiter(&parts.keys)?;
        let views = Arc::new(ViewBuffer::new(Arc::clone(&parts.store), Arc::clone(&parts.clock)));
        let services = Services::new(&parts, point_reads, &limiter, &views);
        // What other processes committed before this one began may not have reached the shared tier.
        parts.caches.drop_all(parts.store.change_bounds().await?.last);
        let workers = self.start_workers(&parts, options)?;
        let running = Running {
            workers,
            views: (Arc::clone(&views), tokio::spawn(Arc::clone(&views).run())),
            housekeeping: tokio::spawn(super::housekeeping::run(Arc::clone(&parts))),
            figures: tokio::spawn(super::figures::run(Arc::clone(&parts))),
            shared_cache: tokio::spawn(follow_changes(Arc::clone(&parts))),
            #[cfg(feature = "sqlite")]
            changes: opened.changes,
        };
        Ok(assemble(parts, services, limiter, self.redis, running))
    }

    /// Jobs of a queue that two workers of one process look at would be claimed by the one that cannot run them.
    fn check_jobs(&self) -> Result<(), OpenError> {
        let own = [UPLOADS_QUEUE, VIDEO_QUEUE, HOUSEKEEPING_QUEUE];
        if let Some(queue) = self.handlers.queues().iter().find(|queue| own.contains(&queue.as_str())) {
            return Err(OpenError::OwnQueue { queue: queue.clone() });
        }
        if self.settings.housekeeping.collect_every_s == 0 {
            let message = "at least 1".to_owned();
            return Err(OpenError::Setting { setting: "housekeeping.collect_every_s", message });
        }
        if self.settings.uploads.verify_attempts == 0 {
            return Err(OpenError::Setting { setting: "uploads.verify_attempts", message: "at least 1".to_owned() });
        }
        Ok(())
    }

    async fn open_keys(&self) -> Result<KeyRing, OpenError> {
        let folder = self.settings.data_dir.join("keys");
        Ok(KeyRing::open(&folder, Arc::clone(&self.clock), Arc::clone(&self.entropy))?)
    }

    /// One worker for what may take hours, one for what takes moments and one that keeps house: no upload
    /// waits for an encoding or for a walk over all objects.
    fn start_workers(&mut self, parts: &Arc<Parts>, options: WorkerOptions) -> Result<Vec<Worker>, OpenError> {
        if !self.settings.worker.enabled {
            return Ok(Vec::new());
        }
        let worker_parts = WorkerParts {
            store: Arc::clone(&parts.store),
            dispatcher: Arc::clone(&self.dispatcher),
            notify: Arc::clone(&parts.notify),
            clock: Arc::clone(&parts.clock),
            entropy: Arc::clone(&parts.entropy),
            name: format!("pid-{}", std::process::id()),
        };
        let short = WorkerOptions { concurrency: self.settings.worker.short_concurrency, ..options };
        let house = WorkerOptions { concurrency: 1, ..options };
        let long = long_jobs(parts, std::mem::take(&mut self.handlers));
        [(long, options), (short_jobs(parts), short), (crate::housekeeping::handlers(parts), house)]
            .into_iter()
            .map(|(handlers, options)| Worker::start(worker_parts.clone(), handlers, options))
            .collect::<Result<_, _>>()
            .map_err(OpenError::Thread)
    }
}

/// Who runs the jobs that make renditions and pictures, beside those of the program's own.
fn long_jobs(parts: &Arc<Parts>, own: Handlers) -> Handlers {
    let picture = |picture| Arc::new(MakePicture(Arc::clone(parts), picture));
    own.with(MEDIA_QUEUE, MAKE_RENDITION, Arc::new(MakeRendition(Arc::clone(parts))))
        .with(MEDIA_QUEUE, MAKE_POSTER, picture(Picture::Poster))
        .with(MEDIA_QUEUE, MAKE_STORYBOARD, picture(Picture::Storyboard))
        // Last words of jobs from before they had a queue of their own.
        .with(MEDIA_QUEUE, SETTLE_VIDEO, Arc::new(Settle(Arc::clone(parts))))
        // These waited in this queue before they had one of their own.
        .with(MEDIA_QUEUE, PROCESS_VIDEO, Arc::new(ProcessVideo(Arc::clone(parts))))
        .with(MEDIA_QUEUE, FAIL_VIDEO, Arc::new(FailVideo(Arc::clone(parts))))
}

/// Who checks uploads, plans the processing of videos and says what became of them.
fn short_jobs(parts: &Arc<Parts>) -> Handlers {
    Handlers::new()
        .with(UPLOADS_QUEUE, VERIFY_UPLOAD, Arc::new(VerifyUpload(Arc::clone(parts))))
        .with(UPLOADS_QUEUE, GIVE_UP_UPLOAD, Arc::new(GiveUpUpload(Arc::clone(parts))))
        .with(VIDEO_QUEUE, PROCESS_VIDEO, Arc::new(ProcessVideo(Arc::clone(parts))))
        .with(VIDEO_QUEUE, SETTLE_VIDEO, Arc::new(Settle(Arc::clone(parts))))
        .with(VIDEO_QUEUE, FAIL_VIDEO, Arc::new(FailVideo(Arc::clone(parts))))
}

/// A store with what came with it.
struct OpenedStore {
    store: Arc<dyn Store>,
    notify: Arc<dyn Notify>,
    #[cfg(feature = "sqlite")]
    changes: Option<Arc<crate::notify::SqliteNotify>>,
}

impl PlatformBuilder {
    async fn open_store(&mut self, caches: &Arc<Caches>) -> Result<OpenedStore, OpenError> {
        if let Some(store) = self.store.take() {
            let own = self.notify.take();
            let notify = match &mut self.redis {
                Some(redis) => redis.notify(own),
                None => own.unwrap_or_else(|| Arc::new(LocalNotify::new())),
            };
            return Ok(OpenedStore {
                store,
                notify,
                #[cfg(feature = "sqlite")]
                changes: None,
            });
        }
        self.open_built_in(caches).await
    }

    #[cfg(not(feature = "sqlite"))]
    async fn open_built_in(&mut self, _: &Arc<Caches>) -> Result<OpenedStore, OpenError> {
        Err(OpenError::NoStore)
    }

    #[cfg(feature = "sqlite")]
    async fn open_built_in(&mut self, caches: &Arc<Caches>) -> Result<OpenedStore, OpenError> {
        use crate::notify::{AnnounceChanges, SqliteNotify};
        use crate::store::sqlite::{FILE_NAME, SqliteOptions, SqliteStore};

        let settings = &self.settings.sqlite;
        let mut options = SqliteOptions::new(self.settings.data_dir.join(FILE_NAME));
        if settings.reader_threads > 0 {
            options.reader_threads = settings.reader_threads.into();
        }
        options.busy_timeout = Duration::from_millis(settings.busy_timeout_ms);
        options.queue_depth = settings.queue_depth;
        options.migrations = self.migrations;
        let changes = Arc::new(SqliteNotify::new());
        let mut notify: Arc<dyn Notify> = Arc::clone(&changes) as _;
        if let Some(redis) = &mut self.redis {
            notify = redis.notify(Some(notify));
            self.observers.push(Arc::new(AnnounceChanges(Arc::clone(&notify))));
        }
        let (clock, observers) = (Arc::clone(&self.clock), std::mem::take(&mut self.observers));
        let path = options.path.clone();
        // Opening waits for locks and for the disk.
        let store = tokio::task::spawn_blocking(move || SqliteStore::open(&options, clock, observers))
            .await
            .map_err(|error| StoreError::Unavailable { operation: "open the database", source: error.into() })??;
        let listener = Arc::new(super::listener::OtherProcesses {
            caches: Arc::clone(caches),
            announce: AnnounceJobs(Arc::clone(&self.dispatcher)),
        });
        let interval = Duration::from_millis(settings.change_check_ms.max(1));
        changes.watch(&path, interval, Arc::clone(&self.clock), listener)?;
        Ok(OpenedStore { store: Arc::new(store), notify, changes: Some(changes) })
    }
}

/// Tells the shared tier of every committed change, until it is aborted.
async fn follow_changes(parts: Arc<Parts>) {
    if let Some(shared) = parts.caches.shared() {
        let changes = Arc::clone(&parts.store) as Arc<dyn crate::events::EventStore>;
        shared.follow(&*changes).await;
    }
}

/// The services that have caches.
struct Services {
    auth: Auth,
    catalog: Catalog,
    playback: Playback,
}

impl Services {
    fn new(parts: &Arc<Parts>, point_reads: PointReads, limiter: &Limiter, views: &Arc<ViewBuffer>) -> Self {
        let maker = CacheMaker {
            settings: &parts.settings.cache,
            point_reads,
            caches: &parts.caches,
            clock: &parts.clock,
            entropy: &parts.entropy,
            notify: &parts.notify,
        };
        Self {
            auth: Auth::new(parts, maker.auth(), limiter.clone()),
            catalog: Catalog::new(Arc::clone(parts), maker.catalog(), Arc::clone(views)),
            playback: Playback::new(Arc::clone(parts), maker.playing()),
        }
    }
}

fn assemble(
    parts: Arc<Parts>,
    services: Services,
    limiter: Limiter,
    redis: Option<RedisParts>,
    running: Running,
) -> Platform {
    Platform {
        inner: Arc::new(Inner {
            auth: services.auth,
            catalog: services.catalog,
            uploads: Uploads::new(Arc::clone(&parts)),
            playback: services.playback,
            jobs: Jobs::new(Arc::clone(&parts)),
            limiter,
            redis,
            running: Mutex::new(Some(running)),
            parts,
        }),
    }
}

/// Makes a data folder that only its owner can enter, if it is not there yet: it holds keys and
/// everybody's files.
///
/// # Errors
/// The operating system's own.
pub fn make_data_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}
