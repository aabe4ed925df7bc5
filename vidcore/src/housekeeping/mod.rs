//! What has to be thrown away from time to time, as scheduled jobs: one file per kind.
//!
//! Every kind may run twice, at once or after a crash, without harm; does a bounded amount of work at a
//! time; and ends with another job of its kind while there is more to do. Without a worker anywhere
//! nothing of this runs, and what should go stays.

use std::sync::Arc;
use std::time::Duration;

use crate::id::JobId;
use crate::jobs::NewJob;
use crate::jobs::cron::{CronEntry, Schedule};
use crate::jobs::worker::{Handlers, JobFailure, JobHandler};
use crate::platform::parts::Parts;
use crate::store::{Causes, StoreError};

mod collect_objects;
mod drop_originals;
mod expire_uploads;
mod prune_changes;
mod prune_idempotency;
mod prune_jobs;
mod prune_sessions;
mod prune_viewers;
mod purge_trash;

pub use collect_objects::{CollectError, Collected, collect, collect_unfinished};

/// The queue of these jobs.
pub const HOUSEKEEPING_QUEUE: &str = "housekeeping";

/// Rows that one job of a pruning kind deletes.
const ROWS_AT_ONCE: u16 = 500;

/// How often each of them is tried; the next moment of its schedule brings another anyhow.
const ATTEMPTS: u16 = 3;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Every kind with its schedule.
pub(crate) fn handlers(parts: &Arc<Parts>) -> Handlers {
    let collect_every = Duration::from_secs(parts.settings.housekeeping.collect_every_s);
    let kinds: [(&str, Duration, Arc<dyn JobHandler>); 9] = [
        (expire_uploads::KIND, 5 * MINUTE, Arc::new(expire_uploads::ExpireUploads(Arc::clone(parts)))),
        (purge_trash::KIND, HOUR, Arc::new(purge_trash::PurgeTrash(Arc::clone(parts)))),
        (collect_objects::KIND, collect_every, Arc::new(collect_objects::CollectObjects(Arc::clone(parts)))),
        (drop_originals::KIND, 10 * MINUTE, Arc::new(drop_originals::DropOriginals(Arc::clone(parts)))),
        (prune_jobs::KIND, HOUR, Arc::new(prune_jobs::PruneJobs(Arc::clone(parts)))),
        (prune_idempotency::KIND, HOUR, Arc::new(prune_idempotency::PruneIdempotency(Arc::clone(parts)))),
        (prune_changes::KIND, 10 * MINUTE, Arc::new(prune_changes::PruneChanges(Arc::clone(parts)))),
        (prune_sessions::KIND, HOUR, Arc::new(prune_sessions::PruneSessions(Arc::clone(parts)))),
        (prune_viewers::KIND, 10 * MINUTE, Arc::new(prune_viewers::PruneViewers(Arc::clone(parts)))),
    ];
    kinds.into_iter().fold(Handlers::new(), |handlers, (kind, every, handler)| {
        let entry =
            CronEntry { max_attempts: ATTEMPTS, ..CronEntry::new(kind, HOUSEKEEPING_QUEUE, Schedule::every(every)) };
        handlers.with(HOUSEKEEPING_QUEUE, kind, handler).cron(entry)
    })
}

/// How a job of `kind` ends that has done its share: with another one, if there is more.
fn ended(parts: &Parts, kind: &str, more: bool) -> Causes {
    if !more {
        return Causes::none();
    }
    let now = parts.now();
    Causes::none().job(NewJob {
        max_attempts: ATTEMPTS,
        // That of the schedule's jobs: there is one at a time, whoever wrote it.
        unique_key: Some(CronEntry::unique_key(kind)),
        ..NewJob::new(JobId::new(now, &*parts.entropy), HOUSEKEEPING_QUEUE, kind, serde_json::Value::Null, now)
    })
}

/// How a pruning job ends: a full share means that there may be more.
fn pruned(parts: &Parts, kind: &str, gone: Result<u64, StoreError>) -> Result<Causes, JobFailure> {
    let gone = gone.map_err(|error| JobFailure::Retry(error.into()))?;
    Ok(ended(parts, kind, gone >= u64::from(ROWS_AT_ONCE)))
}
