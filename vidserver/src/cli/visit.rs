//! A visit to a data folder: the services straight on it, beside whatever else is running.

use std::time::Duration;

use vidcore::Platform;
use vidcore::platform::settings::TranscoderChoice;
use vidcore::store::sqlite::{FILE_NAME, Migrations};

use super::CommandError;
use crate::config::Config;

/// How long a server that is just starting may take to bring the schema up to date.
const PATIENCE: Duration = Duration::from_secs(2);

/// Opens the data folder as it is: without a worker, without time spent on looking for ffmpeg, and without
/// changing a schema that a server of another version may be using.
///
/// # Errors
/// Nothing is made where there is no database, and one of another version is refused.
pub(super) async fn open(mut config: Config) -> Result<Platform, CommandError> {
    let database = config.platform.data_dir.join(FILE_NAME);
    if !database.try_exists()? {
        let folder = config.platform.data_dir.display();
        return Err(format!("there is no database in {folder}: name the server's folder with --data-dir").into());
    }
    config.platform.worker.enabled = false;
    config.platform.media.transcoder = TranscoderChoice::Simulated;
    crate::logging::init(&config.log)?;
    Ok(Platform::builder(config.platform).migrations(Migrations::Expect(PATIENCE)).open().await?)
}
