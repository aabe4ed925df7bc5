//! Where a platform keeps its objects.

use super::{OpenError, Settings};
use crate::platform::settings::{FallbackChoice, S3Settings, StorageChoice, StorageSettings};
use crate::storage::Objects;

/// Folder of the data folder that holds the objects of a local back end.
const FOLDER: &str = "objects";

impl Settings {
    /// The objects that `storage` names, in this data folder or in a bucket, with its fallback.
    ///
    /// # Errors
    /// [`OpenError::Setting`] for the first that cannot be used; [`OpenError::Objects`] if the folder cannot be made,
    /// or the bucket is not there or takes no such keys. A bucket that does not answer is no reason.
    pub async fn open_objects(&self, storage: &StorageSettings) -> Result<Objects, OpenError> {
        if let Some((setting, message)) = storage.problems().into_iter().next() {
            return Err(OpenError::Setting { setting, message: message.to_owned() });
        }
        let local = || Objects::local(&self.data_dir.join(FOLDER));
        let objects = match storage.back_end {
            StorageChoice::Local => local()?,
            StorageChoice::Memory => Objects::memory(),
            StorageChoice::S3 => bucket(&storage.s3, "storage.back_end").await?,
        };
        Ok(match storage.fallback.back_end {
            FallbackChoice::None => objects,
            FallbackChoice::Local => objects.with_fallback(local()?),
            FallbackChoice::S3 => {
                objects.with_fallback(bucket(&storage.fallback.s3, "storage.fallback.back_end").await?)
            }
        })
    }
}

#[cfg(feature = "s3")]
async fn bucket(settings: &S3Settings, _: &'static str) -> Result<Objects, OpenError> {
    Objects::check_s3(settings).await?;
    Ok(Objects::s3(settings)?)
}

#[cfg(not(feature = "s3"))]
async fn bucket(_: &S3Settings, setting: &'static str) -> Result<Objects, OpenError> {
    Err(OpenError::Setting { setting, message: "this program was built without the feature `s3`".to_owned() })
}
