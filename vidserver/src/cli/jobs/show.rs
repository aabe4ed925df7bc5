//! `vidserver jobs show`

use vidcore::Platform;
use vidcore::id::JobId;
use vidcore::jobs::{AttemptView, JobActor, JobView, JobWithHistory};

use super::{CommandError, say};
use crate::cli::output::{Column, Form, moment, rows, text};

const HISTORY: [Column<AttemptView>; 6] = [
    ("TOKEN", |attempt| text(attempt.token.map(|token| token.to_string()).as_deref())),
    ("WORKER", |attempt| text(attempt.worker.as_deref())),
    ("STARTED", |attempt| attempt.started_at.to_string()),
    ("ENDED", |attempt| moment(attempt.ended_at)),
    ("OUTCOME", |attempt| text(attempt.outcome.map(|outcome| outcome.as_str()))),
    ("ERROR", |attempt| text(attempt.error.as_deref())),
];

/// A name and a value.
type Line = (&'static str, String);

const LINE: [Column<Line>; 2] = [("JOB", |(name, _)| (*name).to_owned()), ("", |(_, value)| value.clone())];

pub(super) async fn run(platform: &Platform, id: JobId, form: Form) -> Result<(), CommandError> {
    let found = platform.jobs().read(JobActor::Operator, id).await?;
    if form == Form::Json {
        return say(&serde_json::to_string(&found)?);
    }
    let JobWithHistory { job, history } = found;
    say(&rows(form, &lines(&job), &LINE)?)?;
    if history.is_empty() { Ok(()) } else { say(&rows(form, &history, &HISTORY)?) }
}

fn lines(job: &JobView) -> Vec<Line> {
    vec![
        ("id", job.id.to_string()),
        ("queue", job.queue.to_string()),
        ("kind", job.kind.clone()),
        ("state", job.state.to_string()),
        ("death", text(job.death.map(|death| death.as_str()))),
        ("attempts", format!("{} of {}", job.attempts, job.max_attempts)),
        ("progress", format!("{} permille", job.progress)),
        ("priority", job.priority.to_string()),
        ("video", text(job.video_id.map(|id| id.to_string()).as_deref())),
        ("created_at", job.created_at.to_string()),
        ("run_at", job.run_at.to_string()),
        ("updated_at", job.updated_at.to_string()),
        ("finished_at", moment(job.finished_at)),
        ("cancel_requested", job.cancel_requested.to_string()),
        ("last_error", text(job.last_error.as_deref())),
    ]
}
