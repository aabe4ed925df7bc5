//! `vidserver jobs pause` and `vidserver jobs resume`

use vidcore::Platform;
use vidcore::jobs::{JobActor, QueueName};

use super::{CommandError, say};
use crate::cli::output::Form;

pub(super) async fn run(platform: &Platform, queue: &QueueName, paused: bool, form: Form) -> Result<(), CommandError> {
    let stats = platform.jobs().set_paused(JobActor::Operator, queue, paused, None).await?.into_inner();
    if form == Form::Json {
        return say(&serde_json::to_string(&stats)?);
    }
    let what = if paused { "is paused" } else { "goes on" };
    let waiting = stats.ready + stats.delayed;
    say(&format!("{queue} {what}: {waiting} waiting, {} running, {} dead", stats.running, stats.dead))
}
