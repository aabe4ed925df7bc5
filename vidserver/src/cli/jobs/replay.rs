//! `vidserver jobs replay`

use clap::Args;
use vidcore::Platform;
use vidcore::id::VideoId;
use vidcore::jobs::{JobActor, JobError, JobQuery, QueueName, Replay};

use super::{CommandError, name, queue_name, say};
use crate::cli::output::Form;

/// Which dead jobs.
#[derive(Debug, Args)]
pub(super) struct ReplayFlags {
    /// Only those of this queue
    #[arg(long, value_parser = queue_name)]
    queue: Option<QueueName>,
    /// Only those of this kind, such as `process_video`
    #[arg(long, value_parser = name)]
    kind: Option<String>,
    /// Only those about this video
    #[arg(long)]
    video: Option<VideoId>,
}

pub(super) async fn run(platform: &Platform, flags: ReplayFlags, form: Form) -> Result<(), CommandError> {
    let ReplayFlags { queue, kind, video } = flags;
    let query = JobQuery { queue, kind, video, ..JobQuery::default() };
    let all = replay(platform, query).await?;
    if form == Form::Json {
        return say(&serde_json::to_string(&all)?);
    }
    say(&format!("{} queued again", all.replayed))?;
    if all.left_out > 0 {
        say(&format!("{} left dead: a live job has the same unique key", all.left_out))?;
    }
    Ok(())
}

/// Goes on until nothing is left of what is dead now: a job that dies again meanwhile is not queued a
/// second time, or this would not end where all do.
async fn replay(platform: &Platform, query: JobQuery) -> Result<Replay, JobError> {
    let queues = platform.jobs().queues(JobActor::Operator).await?;
    let dead: u64 = queues.iter().map(|stats| stats.dead).sum();
    let mut all = Replay::default();
    loop {
        let step = platform.jobs().replay(JobActor::Operator, query.clone(), None).await?.into_inner();
        // Those that have to stay are met again by each call.
        all = Replay { replayed: all.replayed + step.replayed, left_out: step.left_out, more: step.more };
        if !step.more || all.replayed >= dead {
            return Ok(all);
        }
    }
}
