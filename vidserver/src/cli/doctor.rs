//! `vidserver doctor`: what must always be true, checked over database and objects, and repaired on demand.
//! Safe beside servers and workers that run.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use vidcore::Platform;
use vidcore::doctor::{Checked, Finding, Remedy, RepairReport, Report};

use super::{CommandError, printable, say, visit};
use crate::config::Config;

/// Something was found that is still there.
const FOUND: u8 = 1;

/// What to look at and whether to act.
#[derive(Debug, Args)]
pub(super) struct DoctorFlags {
    /// Repair what can be repaired; what has to be made again is left to the workers
    #[arg(long)]
    fix: bool,
    /// Read and hash every object, and let the database check its whole file
    #[arg(long)]
    deep: bool,
    /// Print the report as one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(config: Config, flags: DoctorFlags) -> Result<ExitCode, CommandError> {
    let platform = visit::open(config).await?;
    let outcome = if flags.fix { fix(&platform, &flags).await } else { look(&platform, &flags).await };
    platform.shutdown().await;
    outcome.map(|is_sound| if is_sound { ExitCode::SUCCESS } else { ExitCode::from(FOUND) })
}

async fn look(platform: &Platform, flags: &DoctorFlags) -> Result<bool, CommandError> {
    let report = platform.examine(flags.deep).await?;
    if flags.json {
        print_json(&report)?;
    } else {
        report.findings.iter().try_for_each(|finding| say(&line(finding)))?;
        say(&summary(&report))?;
    }
    Ok(report.is_sound())
}

async fn fix(platform: &Platform, flags: &DoctorFlags) -> Result<bool, CommandError> {
    let report = platform.repair(flags.deep).await?;
    if flags.json {
        print_json(&report)?;
    } else {
        print_repairs(&report)?;
    }
    Ok(report.after.is_sound())
}

fn print_repairs(report: &RepairReport) -> Result<(), CommandError> {
    for treated in &report.treated {
        let remedy = match treated.remedy {
            Remedy::Repaired => "repaired",
            Remedy::Gone => "gone",
            Remedy::Left => "left",
        };
        say(&line(&treated.finding))?;
        say(&format!("    {remedy}: {}", printable(&treated.note)))?;
    }
    // What was repaired and is there again, or came up at the very end.
    let is_told =
        |finding: &Finding| report.treated.iter().any(|it| it.finding == *finding && it.remedy == Remedy::Left);
    for finding in report.after.findings.iter().filter(|finding| !is_told(finding)) {
        say(&format!("{}\n    still there", line(finding)))?;
    }
    say(&summary(&report.after))
}

/// A finding names keys and quotes texts that are not this program's.
fn line(finding: &Finding) -> String {
    printable(&finding.to_string())
}

fn print_json(report: &impl Serialize) -> Result<(), CommandError> {
    say(&serde_json::to_string_pretty(report)?)
}

fn summary(report: &Report) -> String {
    let Checked { jobs, videos, uploads, objects, keys, hashed_bytes } = report.checked;
    let verdict = match report.findings.len() {
        0 => "sound".to_owned(),
        1 => "1 finding".to_owned(),
        more => format!("{more} findings"),
    };
    format!(
        "{verdict}: looked at {videos} videos, {uploads} uploads, {jobs} jobs, {objects} recorded objects, \
         {keys} stored ones; hashed {hashed_bytes} bytes"
    )
}
