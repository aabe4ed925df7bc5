//! Which keys there are, here and in the fallback.

use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, TryStreamExt};
use object_store::path::Path;

use super::failure::failure;
use super::{ObjectError, Objects, path};

impl Objects {
    /// The folders right under `prefix/`, as prefixes of their own, whether or not an object is in them.
    ///
    /// # Errors
    /// [`ObjectError::Unavailable`].
    pub async fn folders(&self, prefix: &str) -> Result<Vec<String>, ObjectError> {
        let mut folders = self.folders_here(prefix).await?;
        if let Some(fallback) = &self.fallback {
            folders.extend(fallback.folders_here(prefix).await?);
            sort(&mut folders);
        }
        Ok(folders)
    }

    async fn folders_here(&self, prefix: &str) -> Result<Vec<String>, ObjectError> {
        let listed = self.store.list_with_delimiter(Some(&path(prefix)?)).await;
        match listed.map_err(|error| failure("list folders", error)) {
            Ok(listed) => Ok(listed.common_prefixes.into_iter().map(String::from).collect()),
            Err(ObjectError::NotFound) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// The keys of all objects, one after the other, in no order. Beside a fallback a key may come twice.
    pub fn keys(&self) -> BoxStream<'static, Result<String, ObjectError>> {
        match &self.fallback {
            Some(fallback) => self.list(None).chain(fallback.list(None)).boxed(),
            None => self.list(None).boxed(),
        }
    }

    /// A file whose name can be no key was not put by this program, and must not hide the others.
    fn list(&self, prefix: Option<&Path>) -> impl Stream<Item = Result<String, ObjectError>> + Send + use<> {
        self.store.list(prefix).filter_map(|listed| {
            std::future::ready(match listed {
                Ok(meta) => Some(Ok(meta.location.to_string())),
                Err(object_store::Error::InvalidPath { source }) => {
                    tracing::warn!(error = %source, "a file among the objects has a name that can be no key");
                    None
                }
                Err(error) => Some(Err(failure("list objects", error))),
            })
        })
    }

    /// The keys of every object under `prefix/`, or of all with an empty prefix.
    ///
    /// # Errors
    /// [`ObjectError::Unavailable`].
    pub async fn keys_under(&self, prefix: &str) -> Result<Vec<String>, ObjectError> {
        let mut keys = self.list_under(prefix).await?;
        if let Some(fallback) = &self.fallback {
            keys.extend(fallback.list_under(prefix).await?);
            sort(&mut keys);
        }
        Ok(keys)
    }

    pub(super) async fn list_under(&self, prefix: &str) -> Result<Vec<String>, ObjectError> {
        let prefix = (!prefix.is_empty()).then(|| path(prefix)).transpose()?;
        self.list(prefix.as_ref()).try_collect().await
    }
}

fn sort(keys: &mut Vec<String>) {
    keys.sort_unstable();
    keys.dedup();
}
