//! `vidserver jobs list`

use clap::Args;
use vidcore::Platform;
use vidcore::id::VideoId;
use vidcore::jobs::{JobActor, JobQuery, JobState, JobView, QueueName};
use vidcore::page::{MAX_PAGE, PageLimit};

use super::watch::WatchFlag;
use super::{CommandError, name, queue_name};
use crate::cli::output::{Column, Form, rows, text};

/// What of a job's error a list shows, in characters; `show` shows all of it.
const ERROR_SHOWN: usize = 80;

/// Which jobs.
#[derive(Debug, Args)]
pub(super) struct ListFlags {
    /// Only those that are `queued`, `leased`, `done`, `dead` or `cancelled`
    #[arg(long, value_parser = state)]
    state: Option<JobState>,
    /// Only those of this queue
    #[arg(long, value_parser = queue_name)]
    queue: Option<QueueName>,
    /// Only those of this kind, such as `process_video`
    #[arg(long, value_parser = name)]
    kind: Option<String>,
    /// Only those about this video
    #[arg(long)]
    video: Option<VideoId>,
    /// At most so many
    #[arg(long, value_name = "JOBS", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    limit: u16,
    #[command(flatten)]
    watch: WatchFlag,
}

const COLUMNS: [Column<JobView>; 8] = [
    ("JOB", |job| job.id.to_string()),
    ("QUEUE", |job| job.queue.to_string()),
    ("KIND", |job| job.kind.clone()),
    ("STATE", |job| job.state.to_string()),
    ("TRIES", |job| format!("{}/{}", job.attempts, job.max_attempts)),
    ("DONE", |job| format!("{}%", job.progress / 10)),
    ("CHANGED", |job| job.updated_at.to_string()),
    ("ERROR", |job| text(job.last_error.as_deref()).chars().take(ERROR_SHOWN).collect()),
];

pub(super) async fn run(platform: &Platform, flags: ListFlags, form: Form) -> Result<(), CommandError> {
    let ListFlags { state, queue, kind, video, limit, watch } = flags;
    let query = JobQuery { state, queue, kind, video };
    watch.show(form, async || rows(form, &jobs(platform, &query, limit.into()).await?, &COLUMNS)).await
}

/// The newest `most` jobs, page by page.
async fn jobs(platform: &Platform, query: &JobQuery, most: usize) -> Result<Vec<JobView>, CommandError> {
    let (mut jobs, mut cursor) = (Vec::new(), None);
    while jobs.len() < most {
        let wanted = u16::try_from(most - jobs.len()).unwrap_or(MAX_PAGE).min(MAX_PAGE);
        let limit = PageLimit::new(wanted).unwrap_or_default();
        let page = platform.jobs().list(JobActor::Operator, query.clone(), cursor.as_deref(), limit).await?;
        jobs.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    Ok(jobs)
}

fn state(text: &str) -> Result<JobState, String> {
    JobState::parse(text).ok_or_else(|| {
        let names: Vec<_> = JobState::ALL.into_iter().map(JobState::as_str).collect();
        format!("one of {}", names.join(", "))
    })
}
