//! `vidserver migrate`: the database's schema, brought up to date without serving.

use std::sync::Arc;

use vidcore::clock::SystemClock;
use vidcore::store::sqlite::{FILE_NAME, SCHEMA_VERSION, SqliteOptions, SqliteStore};

use super::{CommandError, say};
use crate::config::Config;

pub(super) async fn run(config: Config) -> Result<(), CommandError> {
    let folder = config.platform.data_dir;
    vidcore::platform::make_data_folder(&folder)?;
    let options = SqliteOptions::new(folder.join(FILE_NAME));
    tokio::task::spawn_blocking(move || SqliteStore::open(&options, Arc::new(SystemClock::new()), Vec::new()))
        .await??;
    say(&format!("{} is at schema version {SCHEMA_VERSION}", folder.join(FILE_NAME).display()))
}
