//! `vidserver storage migrate`: objects move to another place beside servers and workers that run.
//!
//! Before the switch (`--to`) it copies from the place that is in use to the one that a file names; after it
//! (`--finish`), from the fallback to the place that is in use. Both go on until a pass finds nothing new.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use vidcore::Platform;
use vidcore::platform::settings::{FallbackSettings, StorageSettings};
use vidcore::storage::Objects;
use vidcore::storage::moving::{InUse, Look, Moved, copy_pass, lacking};

use super::{CommandError, printable, say, visit};
use crate::config::{Config, Sources};

/// The most passes of one call: a place that never stops filling is told, not chased for ever.
const MOST_PASSES: usize = 20;

/// The most keys that are printed.
const SHOWN: usize = 20;

/// What to do with the objects as a whole.
#[derive(Debug, Subcommand)]
pub(super) enum StorageCommand {
    /// Copy every object to another place, verified; may be broken off and called again
    Migrate(MigrateFlags),
}

/// From where to where.
#[derive(Debug, Args)]
pub(super) struct MigrateFlags {
    /// TOML file whose `[storage]` names the new place; nothing else in it is read
    #[arg(long, value_name = "FILE", required_unless_present = "finish")]
    to: Option<PathBuf>,
    /// After the switch: bring over what is only in `storage.fallback` still
    #[arg(long, conflicts_with = "to")]
    finish: bool,
    /// Also read and hash what is there already
    #[arg(long)]
    verify: bool,
}

pub(super) async fn run(config: Config, command: StorageCommand) -> Result<(), CommandError> {
    let StorageCommand::Migrate(flags) = command;
    let target = flags.to.map(new_place).transpose()?;
    let platform = visit::open(config).await?;
    let outcome = match target {
        Some(target) => migrate(&platform, target, flags.verify).await,
        None => finish(&platform, flags.verify).await,
    };
    platform.shutdown().await;
    outcome
}

/// The `[storage]` of a file. Variables are left out: they belong to the place that is in use.
fn new_place(file: PathBuf) -> Result<StorageSettings, CommandError> {
    let sources = Sources { file: Some(file), ..Sources::default() };
    // The place it comes from is not asked for anything but the copy.
    Ok(StorageSettings { fallback: FallbackSettings::default(), ..Config::load(&sources)?.platform.storage })
}

async fn migrate(platform: &Platform, target: StorageSettings, verify: bool) -> Result<(), CommandError> {
    let in_use = &platform.settings().storage;
    if (target.back_end, &target.s3.endpoint, &target.s3.bucket, &target.s3.prefix)
        == (in_use.back_end, &in_use.s3.endpoint, &in_use.s3.bucket, &in_use.s3.prefix)
    {
        return Err("the file's [storage] is the place that is in use".into());
    }
    let to = platform.settings().open_objects(&target).await?;
    copy(platform, platform.objects(), &to, InUse::Old, verify).await?;
    say("Now put this [storage] into the configuration, with [storage.fallback] for the old place, restart every \
         process, then run `vidserver storage migrate --finish`.")
}

async fn finish(platform: &Platform, verify: bool) -> Result<(), CommandError> {
    let Some(from) = platform.objects().fallback() else {
        return Err("storage.fallback names no place to bring objects from".into());
    };
    copy(platform, from, platform.objects(), InUse::New, verify).await?;
    say(
        "Now take [storage.fallback] out of the configuration and restart every process. The old place is not used any more.",
    )
}

async fn copy(
    platform: &Platform,
    from: &Objects,
    to: &Objects,
    in_use: InUse,
    verify: bool,
) -> Result<(), CommandError> {
    let store = &**platform.store();
    let mut look = if verify { Look::Hash } else { Look::Length };
    for _ in 0..MOST_PASSES {
        let moved = copy_pass(store, from, to, in_use, look).await?;
        say(&summary(&moved))?;
        if !moved.damaged.is_empty() {
            return Err(listed(
                "differ from their rows and were not copied: `vidserver doctor --deep --fix`",
                &moved.damaged,
            ));
        }
        if moved.copied == 0 {
            let lacking = lacking(store, to, SHOWN).await?;
            if lacking.is_empty() {
                return Ok(());
            }
            return Err(listed("are in neither place: `vidserver doctor --fix`", &lacking));
        }
        // What this pass copied was measured on the way.
        look = Look::Length;
    }
    Err("new objects kept coming: call it again".into())
}

fn summary(moved: &Moved) -> String {
    let Moved { kept, copied, copied_bytes, damaged } = moved;
    format!("copied {copied} objects of {copied_bytes} bytes; {kept} were there; {} left out", damaged.len())
}

fn listed(what: &str, keys: &[String]) -> CommandError {
    let shown: Vec<String> = keys.iter().take(SHOWN).map(|key| format!("\n    {}", printable(key))).collect();
    format!("these objects {what}{}", shown.concat()).into()
}
