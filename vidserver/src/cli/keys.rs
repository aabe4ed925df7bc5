//! `vidserver keys`: make, list and rotate the keys of a data folder. Secrets are never shown.

use std::sync::Arc;

use clap::Subcommand;
use vidcore::clock::SystemClock;
use vidcore::entropy::SystemEntropy;
use vidcore::keys::{KeyRing, Purpose};

use super::{CommandError, say};
use crate::config::Config;

/// What to do with the keys.
#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// Make the keys that are missing
    Init,
    /// List the live keys of every purpose, newest first
    List,
    /// Make a new key for a purpose; the one before stays good for what it signed
    Rotate {
        /// `cursor`, `playback`, `upload_url`, `idempotency`, `jwt` or `viewer`
        #[arg(value_parser = parse_purpose)]
        purpose: Purpose,
    },
}

pub(super) fn run(config: &Config, command: &KeysCommand) -> Result<(), CommandError> {
    vidcore::platform::make_data_folder(&config.platform.data_dir)?;
    let folder = config.platform.data_dir.join("keys");
    let ring = KeyRing::open(&folder, Arc::new(SystemClock::new()), Arc::new(SystemEntropy))?;
    match command {
        KeysCommand::Init => say(&format!("{} holds a key for every purpose", folder.display())),
        KeysCommand::List => list(&ring),
        KeysCommand::Rotate { purpose } => {
            let id = ring.rotate(*purpose)?;
            say(&format!("{} {id}", purpose.as_str()))
        }
    }
}

fn list(ring: &KeyRing) -> Result<(), CommandError> {
    for purpose in Purpose::ALL {
        for key in ring.live(purpose).iter() {
            say(&format!("{:<12} {} {}", purpose.as_str(), key.id(), key.created_at()))?;
        }
    }
    Ok(())
}

fn parse_purpose(text: &str) -> Result<Purpose, String> {
    Purpose::parse(text).ok_or_else(|| "cursor, playback, upload_url, idempotency, jwt or viewer".to_owned())
}
