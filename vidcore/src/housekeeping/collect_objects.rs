//! Deletes the objects that belong to nobody: what killed and fenced attempts put, what was staged for
//! uploads that ended, what came too late.
//!
//! No age has to pass first. A key is listed before the rows are asked about it, and what the rows say
//! belongs to nothing does so for ever: an attempt that has ended publishes nothing, an upload that has
//! ended takes nothing, and an attempt's prefix is a row before its first object is put. A process that
//! was frozen may put an object after the collection; the next one takes it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use tokio_util::sync::CancellationToken;

use crate::clock::Timestamp;
use crate::doctor::upload_of;
use crate::jobs::worker::{JobContext, JobFailure, JobHandler};
use crate::platform::parts::Parts;
use crate::storage::Objects;
use crate::storage::UploadStatus;
use crate::storage::objects::ObjectError;
use crate::storage::objects::direct::{PartsOf, Unfinished};
use crate::store::{Causes, Store, StoreError};

use super::ended;

pub(super) const KIND: &str = "collect_objects";

/// Objects that one job deletes, in round numbers.
const OBJECTS_AT_ONCE: u64 = 10_000;

/// Rows and keys looked at together.
const BATCH: u16 = 500;

/// How long after an upload's time nobody writes for it any more.
const UNFINISHED_MARGIN: Duration = Duration::from_secs(86_400);

/// Where this program's keys begin. Whatever else is in the object store is somebody else's.
const ROOMS: [&str; 3] = ["staging/", "originals/", "renditions/"];

/// What a collection did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// Objects deleted.
    pub objects: u64,
    /// Prefixes of ended attempts that were forgotten.
    pub prefixes: u64,
    /// Whether there is more than one run takes.
    pub more: bool,
}

/// Why a collection did not come to its end. What it deleted until then is gone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CollectError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The object store did not answer.
    #[error(transparent)]
    Objects(#[from] ObjectError),
    /// It was asked to stop.
    #[error("the collection was cancelled")]
    Cancelled,
}

#[derive(Debug)]
pub(super) struct CollectObjects(pub(super) Arc<Parts>);

#[async_trait]
impl JobHandler for CollectObjects {
    async fn run(&self, context: JobContext) -> Result<Causes, JobFailure> {
        let collected = collect_share(&*self.0.store, &self.0.objects, &context.cancel, OBJECTS_AT_ONCE).await;
        match collected {
            Ok(collected) => {
                let before = self.0.now().minus(Duration::from_secs(self.0.settings.uploads.ttl_s) + UNFINISHED_MARGIN);
                // Keys that may not list them are no reason to collect nothing else.
                if !collected.more
                    && let Err(error) =
                        collect_unfinished(&*self.0.store, &self.0.objects, before, &context.cancel).await
                {
                    tracing::warn!(%error, "unfinished parts in the bucket could not be collected");
                }
                Ok(ended(&self.0, KIND, collected.more))
            }
            Err(CollectError::Cancelled) => Err(JobFailure::Cancelled),
            Err(error) => Err(JobFailure::Retry(error.into())),
        }
    }
}

/// Deletes every object of `objects` that belongs to nobody by the rows of `store`.
///
/// It may run beside everything else, and twice at once. When all is quiet, one call leaves nothing that
/// the doctor calls an orphan, but for keys that are not this program's.
///
/// # Errors
/// [`CollectError`].
pub async fn collect(store: &dyn Store, objects: &Objects) -> Result<Collected, CollectError> {
    let mut all = Collected::default();
    loop {
        let run = collect_share(store, objects, &CancellationToken::new(), OBJECTS_AT_ONCE).await?;
        all.objects += run.objects;
        all.prefixes += run.prefixes;
        if !run.more {
            return Ok(all);
        }
    }
}

/// Gives up the parts in a bucket that no upload waits for, those that no row names only if they were begun before `before`:
/// a row may be about to name them, or something is being written. How many.
///
/// # Errors
/// [`CollectError`]. Parts that cannot be given up are told in the log, and hold nothing else up.
pub async fn collect_unfinished(
    store: &dyn Store,
    objects: &Objects,
    before: Timestamp,
    cancel: &CancellationToken,
) -> Result<u64, CollectError> {
    let mut given_up = 0;
    // An empty catalog beside full objects is a lost database, and nothing to build a deletion on.
    if !store.knows_videos().await? {
        return Ok(0);
    }
    for direct in objects.all_direct() {
        let mut after = None;
        loop {
            if cancel.is_cancelled() {
                return Err(CollectError::Cancelled);
            }
            let page = direct.unfinished(after.as_ref()).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.parts.clone());
            for parts in of_nobody(store, page, before).await? {
                match direct.abort(&parts).await {
                    Ok(()) => given_up += 1,
                    Err(error) => tracing::warn!(%error, key = parts.key, "unfinished parts could not be given up"),
                }
            }
        }
    }
    if given_up > 0 {
        tracing::info!(given_up, "unfinished parts of nobody were given up");
    }
    Ok(given_up)
}

/// Those of a page that no upload waits for.
async fn of_nobody(store: &dyn Store, page: Vec<Unfinished>, before: Timestamp) -> Result<Vec<PartsOf>, StoreError> {
    let ours: Vec<_> = page.into_iter().filter(|it| ROOMS.iter().any(|room| it.parts.key.starts_with(room))).collect();
    let named = store.bucket_uploads(ours.iter().map(|it| it.parts.id.clone()).collect()).await?;
    let is_nobodys = |it: &Unfinished| match named.iter().find(|(id, _)| *id == it.parts.id) {
        Some((_, status)) => !matches!(status, UploadStatus::Open | UploadStatus::Verifying),
        None => it.begun < before,
    };
    Ok(ours.into_iter().filter(is_nobodys).map(|it| it.parts).collect())
}

/// One run, which ends soon after it has deleted `limit` objects.
async fn collect_share(
    store: &dyn Store,
    objects: &Objects,
    cancel: &CancellationToken,
    limit: u64,
) -> Result<Collected, CollectError> {
    let mut run = Run { store, objects, cancel, limit, done: Collected::default() };
    run.attempts().await?;
    run.staging().await?;
    run.strays().await?;
    run.broken_writes().await?;
    if run.done.objects + run.done.prefixes > 0 {
        let Collected { objects, prefixes, more } = run.done;
        tracing::info!(objects, prefixes, more, "objects of nobody were deleted");
    }
    metrics::counter!("vid_objects_collected_total").increment(run.done.objects);
    Ok(run.done)
}

struct Run<'a> {
    store: &'a dyn Store,
    objects: &'a Objects,
    cancel: &'a CancellationToken,
    limit: u64,
    done: Collected,
}

impl Run<'_> {
    /// Whether this run has done its share.
    fn is_full(&mut self) -> Result<bool, CollectError> {
        if self.cancel.is_cancelled() {
            return Err(CollectError::Cancelled);
        }
        self.done.more |= self.done.objects >= self.limit;
        Ok(self.done.more)
    }

    /// What ended attempts put and did not publish, with what broken writes left there. Their prefixes
    /// are forgotten: each is looked at once.
    async fn attempts(&mut self) -> Result<(), CollectError> {
        let mut after = String::new();
        while !self.is_full()? {
            let ended = self.store.ended_prefixes(&after, BATCH).await?;
            let Some(last) = ended.last() else { return Ok(()) };
            after.clone_from(last);
            let mut emptied = Vec::with_capacity(ended.len());
            for prefix in ended {
                if self.is_full()? {
                    break;
                }
                self.empty(&prefix).await?;
                emptied.push(prefix);
            }
            self.done.prefixes += self.store.forget_prefixes(emptied).await?;
        }
        Ok(())
    }

    async fn empty(&mut self, prefix: &str) -> Result<(), CollectError> {
        let keys = self.objects.keys_under(prefix).await?;
        let put = keys.len();
        let unknown = self.store.unknown_keys(keys).await?;
        if unknown.len() == put {
            // Nothing was published under it, so the folder may go as a whole.
            self.objects.delete_under(prefix).await?;
            self.done.objects += put as u64;
            return Ok(());
        }
        self.delete(unknown).await
    }

    /// What was staged for uploads that take no bytes any more, with what broken writes left there.
    async fn staging(&mut self) -> Result<(), CollectError> {
        let mut folders = self.objects.folders("staging").await?;
        // Whatever else lies there is found among the strays, key by key.
        folders.retain(|folder| upload_of(folder).is_some());
        for folders in folders.chunks(BATCH.into()) {
            // A folder belongs to its upload as every key in it does.
            for folder in self.store.unknown_keys(folders.to_vec()).await? {
                if self.is_full()? {
                    return Ok(());
                }
                let staged = self.objects.keys_under(&folder).await?.len();
                self.objects.delete_under(&folder).await?;
                self.done.objects += staged as u64;
            }
        }
        Ok(())
    }

    /// Every other object of nobody, wherever it is.
    async fn strays(&mut self) -> Result<(), CollectError> {
        // An empty catalog beside full objects is a lost database, and nothing to build a deletion on.
        if self.is_full()? || !self.store.knows_videos().await? {
            return Ok(());
        }
        let ours = self.objects.keys().try_filter(|key| {
            let ours = ROOMS.iter().any(|room| key.starts_with(room));
            std::future::ready(ours)
        });
        let mut batches = ours.try_chunks(BATCH.into());
        while let Some(keys) = batches.try_next().await.map_err(|error| error.1)? {
            if self.is_full()? {
                return Ok(());
            }
            let unknown = self.store.unknown_keys(keys).await?;
            self.delete(unknown).await?;
        }
        Ok(())
    }

    /// What broken writes left in the folders of attempts whose prefix is forgotten: a process that was
    /// frozen may have begun them afterwards. The store hides such files, so that no key leads to them.
    async fn broken_writes(&mut self) -> Result<(), CollectError> {
        if !self.objects.hides_broken_writes() || self.is_full()? || !self.store.knows_videos().await? {
            return Ok(());
        }
        for video in self.objects.folders("renditions").await? {
            for attempt in self.objects.folders(&video).await? {
                if self.is_full()? {
                    return Ok(());
                }
                // What is asked about was listed before: a prefix is a row before anything is put there.
                let made = self.objects.folders(&attempt).await?;
                let probes = made.iter().map(|folder| format!("{folder}/")).collect();
                for folder in self.store.unknown_keys(probes).await? {
                    self.empty(folder.trim_end_matches('/')).await?;
                }
            }
        }
        Ok(())
    }

    async fn delete(&mut self, keys: Vec<String>) -> Result<(), CollectError> {
        for key in keys {
            self.objects.delete(&key).await?;
            self.done.objects += 1;
        }
        Ok(())
    }
}
