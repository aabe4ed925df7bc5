//! Jobs per second: the engine beside a bare loop, and enqueues beside one commit each.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use vidcore::clock::{Clock as _, SystemClock};
use vidcore::jobs::JobStore as _;
use vidcore::store::Causes;
use vidcore::store::sqlite::FILE_NAME;
use vidcore::testkit::jobs::BareLoop;

use crate::Failure;
use crate::jobs::{NoOp, QUEUE, SLOTS, Site, new_job};

/// Jobs per second that `consumers` workers run to the end.
///
/// # Errors
/// The store does not answer.
pub async fn engine(site: &Site, consumers: usize, jobs: usize) -> Result<f64, Failure> {
    site.fill(jobs).await?;
    let handler = Arc::new(NoOp::default());
    let begun = Instant::now();
    let workers: Vec<_> = (0..consumers).map(|_| site.worker(handler.clone())).collect::<Result<_, _>>()?;
    site.until_empty().await?;
    let rate = jobs as f64 / begun.elapsed().as_secs_f64();
    for worker in workers {
        worker.stop().await;
    }
    Ok(rate)
}

/// Jobs per second of the bare loop, `batch` jobs in each transaction.
///
/// # Errors
/// SQLite's own.
pub fn bare(folder: &Path, batch: u16, jobs: usize) -> Result<f64, Failure> {
    let clock = SystemClock::new();
    // Brings the schema up to date.
    drop(Site::open(folder)?);
    let mut bare = BareLoop::open(&folder.join(FILE_NAME))?;
    for _ in 0..jobs / usize::from(SLOTS) {
        bare.enqueue((0..SLOTS).map(|_| new_job()).collect(), clock.now())?;
    }
    let begun = Instant::now();
    let mut done = bare.turn(QUEUE, batch, clock.now())?;
    loop {
        let completed = bare.turn(QUEUE, batch, clock.now())?;
        if completed == 0 {
            break;
        }
        done += completed;
    }
    Ok(done as f64 / begun.elapsed().as_secs_f64())
}

/// Enqueues per second of `callers` who each wait for their answer before they go on.
///
/// # Errors
/// The store refuses.
pub async fn enqueue(site: &Site, callers: usize, jobs: usize) -> Result<f64, Failure> {
    let begun = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..callers {
        let store = site.store.clone();
        running.spawn(async move {
            for _ in 0..jobs / callers {
                store.enqueue(new_job(), Causes::none()).await?;
            }
            Ok::<_, Failure>(())
        });
    }
    while let Some(caller) = running.join_next().await {
        caller??;
    }
    Ok((jobs / callers * callers) as f64 / begun.elapsed().as_secs_f64())
}

/// Enqueues per second of the bare loop, one commit each.
///
/// # Errors
/// SQLite's own.
pub fn bare_enqueue(folder: &Path, jobs: usize) -> Result<f64, Failure> {
    let clock = SystemClock::new();
    drop(Site::open(folder)?);
    let mut bare = BareLoop::open(&folder.join(FILE_NAME))?;
    let begun = Instant::now();
    for _ in 0..jobs {
        bare.enqueue(vec![new_job()], clock.now())?;
    }
    Ok(jobs as f64 / begun.elapsed().as_secs_f64())
}
