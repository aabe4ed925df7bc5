//! `vidserver jobs queues`

use clap::Args;
use vidcore::Platform;
use vidcore::jobs::{JobActor, QueueStats};

use super::CommandError;
use super::watch::WatchFlag;
use crate::cli::output::{Column, Form, moment, rows};

/// How to look.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct QueuesFlags {
    #[command(flatten)]
    watch: WatchFlag,
}

const COLUMNS: [Column<QueueStats>; 7] = [
    ("QUEUE", |stats| stats.queue.to_string()),
    ("READY", |stats| stats.ready.to_string()),
    ("DELAYED", |stats| stats.delayed.to_string()),
    ("RUNNING", |stats| stats.running.to_string()),
    ("DEAD", |stats| stats.dead.to_string()),
    ("OLDEST DUE SINCE", |stats| moment(stats.oldest_due_at)),
    ("PAUSED SINCE", |stats| moment(stats.paused_since)),
];

pub(super) async fn run(platform: &Platform, flags: QueuesFlags, form: Form) -> Result<(), CommandError> {
    flags.watch.show(form, async || rows(form, &platform.jobs().queues(JobActor::Operator).await?, &COLUMNS)).await
}
