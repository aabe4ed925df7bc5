//! What a deep queue does to a claim.

use std::path::Path;
use std::time::{Duration, Instant};

use vidcore::clock::{Clock as _, SystemClock};
use vidcore::store::sqlite::FILE_NAME;
use vidcore::testkit::jobs::BareLoop;

use crate::Failure;
use crate::jobs::{QUEUE, Site, new_job};
use crate::report::median;

/// Jobs written by one transaction.
const FILL: usize = 5_000;

/// A file with a number of queued jobs, whose claims are timed.
#[derive(Debug)]
pub struct Depth(BareLoop);

impl Depth {
    /// A file in `folder` with `jobs` queued jobs.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn fill(folder: &Path, jobs: usize) -> Result<Self, Failure> {
        std::fs::create_dir_all(folder)?;
        drop(Site::open(folder)?);
        let mut bare = BareLoop::open(&folder.join(FILE_NAME))?;
        for done in (0..jobs).step_by(FILL) {
            bare.enqueue((0..FILL.min(jobs - done)).map(|_| new_job()).collect(), SystemClock::new().now())?;
        }
        Ok(Self(bare))
    }

    /// The median time of `turns` turns, each of which completes a job and claims another, in one commit.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn claims(&mut self, turns: usize) -> Result<Duration, Failure> {
        let clock = SystemClock::new();
        let mut times = Vec::with_capacity(turns);
        for _ in 0..turns {
            let begun = Instant::now();
            self.0.turn(QUEUE, 1, clock.now())?;
            times.push(begun.elapsed().as_secs_f64());
        }
        Ok(Duration::from_secs_f64(median(times)))
    }
}
