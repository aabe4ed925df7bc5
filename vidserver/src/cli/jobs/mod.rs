//! `vidserver jobs`: what an operator sees and steers, straight on the data folder.
//!
//! Whoever holds the folder may do what an administrator may; no account is needed and no server.

mod list;
mod pause;
mod queues;
mod replay;
mod show;
mod steer;
mod watch;

use clap::{Args, Subcommand};
use vidcore::Platform;
use vidcore::id::JobId;
use vidcore::jobs::{QueueName, is_name};

use super::output::Form;
use super::{CommandError, say, visit};
use crate::config::Config;

/// `vidserver jobs` with what follows.
#[derive(Debug, Args)]
pub(super) struct JobsArguments {
    /// Print JSON, one value a line
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: JobsCommand,
}

/// What to do with the jobs.
#[derive(Debug, Subcommand)]
enum JobsCommand {
    /// List jobs, newest first
    List(list::ListFlags),
    /// Show one job with what came of it so far
    Show {
        /// The job
        id: JobId,
    },
    /// Queue a dead job again, with all its attempts
    Retry {
        /// The job
        id: JobId,
    },
    /// Ask a job to stop: a queued one ends at once, a running one soon
    Cancel {
        /// The job
        id: JobId,
    },
    /// Queue every dead job again, those that died first first
    Replay(replay::ReplayFlags),
    /// Show how full each queue is
    Queues(queues::QueuesFlags),
    /// Claim nothing more of a queue; what runs goes on
    Pause {
        /// The queue, such as `media`
        #[arg(value_parser = queue_name)]
        queue: QueueName,
    },
    /// Let a paused queue go on
    Resume {
        /// The queue, such as `media`
        #[arg(value_parser = queue_name)]
        queue: QueueName,
    },
}

pub(super) async fn run(config: Config, arguments: JobsArguments) -> Result<(), CommandError> {
    let platform = visit::open(config).await?;
    let outcome = command(&platform, arguments.command, Form::of_stdout(arguments.json)).await;
    platform.shutdown().await;
    outcome
}

async fn command(platform: &Platform, command: JobsCommand, form: Form) -> Result<(), CommandError> {
    match command {
        JobsCommand::List(flags) => list::run(platform, flags, form).await,
        JobsCommand::Show { id } => show::run(platform, id, form).await,
        JobsCommand::Retry { id } => steer::retry(platform, id, form).await,
        JobsCommand::Cancel { id } => steer::cancel(platform, id, form).await,
        JobsCommand::Replay(flags) => replay::run(platform, flags, form).await,
        JobsCommand::Queues(flags) => queues::run(platform, flags, form).await,
        JobsCommand::Pause { queue } => pause::run(platform, &queue, true, form).await,
        JobsCommand::Resume { queue } => pause::run(platform, &queue, false, form).await,
    }
}

/// The name of a queue.
fn queue_name(text: &str) -> Result<QueueName, String> {
    name(text).map(QueueName::new)
}

/// The name of a queue or a kind.
fn name(text: &str) -> Result<String, String> {
    match is_name(text) {
        true => Ok(text.to_owned()),
        false => Err("1 to 64 lower-case letters, digits, underscores, dots and hyphens".to_owned()),
    }
}
