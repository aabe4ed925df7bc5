//! Hints as entries of Redis lists.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::Pipeline;

use crate::jobs::{JobHint, QueueName};
use crate::redis::{Cargo, Names};

/// Hints kept per queue; with more, the oldest go. One worker that is woken claims many jobs.
pub const KEPT_HINTS: usize = 1024;

/// How long a list is kept after its last hint. By then every job in it was found by a sweep.
pub const KEPT_HINTS_FOR: Duration = Duration::from_secs(60);

/// One hint on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hint {
    pub(super) queue: QueueName,
    /// The job's id as text, for people who look into the list; nobody acts on it.
    pub(super) job: String,
}

impl Hint {
    pub(super) fn of(hint: &JobHint) -> Self {
        Self { queue: hint.queue.clone(), job: hint.job.to_string() }
    }
}

/// Puts hints into the lists of their queues.
#[derive(Debug)]
pub(super) struct HintLists(pub(super) Names);

impl Cargo for HintLists {
    type Item = Hint;

    const NAME: &'static str = "hints";

    fn pack(&mut self, hints: &[Hint]) -> Pipeline {
        let mut by_queue: BTreeMap<&QueueName, Vec<&str>> = BTreeMap::new();
        for hint in hints {
            by_queue.entry(&hint.queue).or_default().push(&hint.job);
        }
        let mut commands = Pipeline::new();
        // One transaction: no list is ever without its bound and its time to live.
        commands.atomic();
        for (queue, jobs) in by_queue {
            let list = self.0.hints(queue.as_str());
            commands.cmd("LPUSH").arg(&list).arg(jobs).ignore();
            commands.cmd("LTRIM").arg(&list).arg(0).arg(KEPT_HINTS - 1).ignore();
            commands.cmd("PEXPIRE").arg(&list).arg(KEPT_HINTS_FOR.as_millis() as u64).ignore();
        }
        commands
    }

    fn refused(&mut self, hints: usize) {
        metrics::counter!("vid_job_hints_total", "path" => "refused").increment(hints as u64);
    }
}
