//! Two places while objects move: what is not here is looked for there.
//!
//! Whatever is written is written here, whatever is deleted is deleted in both, whatever is renamed is here
//! afterwards. So the other place only ever loses objects, and at the end nothing asks for it.

use std::sync::Arc;

use super::{ObjectError, Objects};

impl Objects {
    /// Looks for what is not here in `other`. Its own fallback is not asked.
    #[must_use]
    pub fn with_fallback(self, other: Self) -> Self {
        Self { fallback: Some(Arc::new(other)), ..self }
    }

    /// The other place, if objects are moving.
    pub fn fallback(&self) -> Option<&Self> {
        self.fallback.as_deref()
    }

    /// This place alone.
    #[must_use]
    pub fn without_fallback(&self) -> Self {
        Self { fallback: None, ..self.clone() }
    }

    pub(super) async fn rename_from_fallback(&self, from: &str, to: &str) -> Result<(), ObjectError> {
        let fallback = self.fallback.as_deref().ok_or(ObjectError::NotFound)?;
        // An earlier call got as far as here: what is there under the old key may be an older copy.
        if self.size_here(to).await?.is_some() {
            return match fallback.size_here(from).await? {
                Some(_) => fallback.delete_here(from).await,
                None => Err(ObjectError::NotFound),
            };
        }
        self.copy_from(fallback, from, to).await?;
        fallback.delete_here(from).await
    }

    pub(super) async fn delete_in_fallback(&self, key: &str) -> Result<(), ObjectError> {
        match &self.fallback {
            Some(fallback) => fallback.delete_here(key).await,
            None => Ok(()),
        }
    }
}
