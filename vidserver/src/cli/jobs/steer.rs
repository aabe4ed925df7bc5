//! `vidserver jobs retry` and `vidserver jobs cancel`

use vidcore::Platform;
use vidcore::id::JobId;
use vidcore::jobs::{JobActor, JobState, JobView};

use super::{CommandError, say};
use crate::cli::output::Form;

pub(super) async fn retry(platform: &Platform, id: JobId, form: Form) -> Result<(), CommandError> {
    let job = platform.jobs().retry(JobActor::Operator, id, None).await?.into_inner();
    tell(&job, form, "is queued again")
}

pub(super) async fn cancel(platform: &Platform, id: JobId, form: Form) -> Result<(), CommandError> {
    let job = platform.jobs().cancel(JobActor::Operator, id, None).await?.into_inner();
    let what = match job.state {
        JobState::Cancelled => "is cancelled",
        _ => "is asked to stop",
    };
    tell(&job, form, what)
}

fn tell(job: &JobView, form: Form, what: &str) -> Result<(), CommandError> {
    match form {
        Form::Json => say(&serde_json::to_string(job)?),
        Form::Table | Form::Plain => say(&format!("{} {what}", job.id)),
    }
}
