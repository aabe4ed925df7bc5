//! Moving the objects of a platform from one place to another while it works.
//!
//! A pass copies what belongs to somebody and is not there yet. It deletes nothing in the old place and reads the
//! rows alone of the database, so it may be broken off and begun again. Keys of recorded objects are never given to other
//! bytes, so what is there with its length is there. Staged segments may still grow in the place that is in use: before the
//! switch they are left where they are, and after it what stands in the new place is the longer one.

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::Objects;
use super::objects::{ObjectError, Written};
use crate::doctor::ExamineError;
use crate::media::NewObject;
use crate::store::Store;

/// Keys asked about together.
const BATCH: u16 = 500;

/// Objects copied at once; each holds up to four parts of 5 MiB.
const AT_ONCE: usize = 4;

/// How closely a pass looks at what is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// At its length.
    Length,
    /// At all of its bytes.
    Hash,
}

/// Which of the two places is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InUse {
    /// The one that objects are copied from.
    Old,
    /// The one that they are copied to, by every process.
    New,
}

/// What a pass did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Moved {
    /// Objects that were there already.
    pub kept: u64,
    /// Objects that were copied.
    pub copied: u64,
    /// Their bytes.
    pub copied_bytes: u64,
    /// Keys of objects that are not what their rows say in the old place either: they were not copied.
    pub damaged: Vec<String>,
}

enum Step {
    Kept,
    Copied(Written),
    Damaged(String),
    Gone,
}

/// Copies from `from` to `to` what belongs to somebody by the rows of `store`: recorded objects, whose length and
/// hash are compared with the row on the way, what running attempts have put and, once the new place is in use, what is
/// staged for live uploads.
///
/// # Errors
/// [`ExamineError`]; what was copied until then stays, and the next pass goes on from there.
pub async fn copy_pass(
    store: &dyn Store,
    from: &Objects,
    to: &Objects,
    in_use: InUse,
    look: Look,
) -> Result<Moved, ExamineError> {
    let (from, to) = (from.without_fallback(), to.without_fallback());
    let mut moved = Moved::default();
    let mut batches = from.keys().try_chunks(BATCH.into());
    while let Some(keys) = batches.try_next().await.map_err(|error| error.1)? {
        let unknown = store.unknown_keys(keys.clone()).await?;
        let is_left = |key: &str| in_use == InUse::Old && is_staged(key);
        let known = keys.into_iter().filter(|key| !unknown.contains(key) && !is_left(key));
        let mut steps = stream::iter(known).map(|key| one(store, &from, &to, look, key)).buffer_unordered(AT_ONCE);
        while let Some(step) = steps.try_next().await? {
            moved.count(step);
        }
    }
    Ok(moved)
}

impl Moved {
    fn count(&mut self, step: Step) {
        match step {
            Step::Kept => self.kept += 1,
            Step::Copied(written) => {
                self.copied += 1;
                self.copied_bytes += written.size_bytes;
            }
            Step::Damaged(key) => self.damaged.push(key),
            Step::Gone => {}
        }
    }
}

async fn one(store: &dyn Store, from: &Objects, to: &Objects, look: Look, key: String) -> Result<Step, ExamineError> {
    let row = store.object(&key).await?;
    if is_there(from, to, look, &key, row.as_ref()).await? {
        return Ok(Step::Kept);
    }
    crate::failpoints::hit("before-copy");
    let written = match to.copy_from(from, &key, &key).await {
        Ok(written) => written,
        // Deleted or renamed since it was listed.
        Err(ObjectError::NotFound) => return Ok(Step::Gone),
        Err(error) => return Err(error.into()),
    };
    if row.is_some_and(|row| (row.size_bytes, row.sha256) != (written.size_bytes, written.sha256)) {
        to.delete(&key).await?;
        return Ok(Step::Damaged(key));
    }
    Ok(Step::Copied(written))
}

fn is_staged(key: &str) -> bool {
    key.starts_with("staging/")
}

async fn is_there(
    from: &Objects,
    to: &Objects,
    look: Look,
    key: &str,
    row: Option<&NewObject>,
) -> Result<bool, ExamineError> {
    let Some(size_bytes) = to.size(key).await? else { return Ok(false) };
    let expected = match row {
        Some(row) => Some(row.size_bytes),
        None if is_staged(key) => return Ok(true),
        None => from.size(key).await?,
    };
    if expected.is_some_and(|expected| expected != size_bytes) {
        return Ok(false);
    }
    match (look, row) {
        (Look::Hash, Some(row)) => Ok(to.measure(key).await?.sha256 == row.sha256),
        _ => Ok(true),
    }
}

/// The keys of recorded objects that are not in `to` with their length: at most `limit` of them.
///
/// # Errors
/// [`ExamineError`].
pub async fn lacking(store: &dyn Store, to: &Objects, limit: usize) -> Result<Vec<String>, ExamineError> {
    let to = to.without_fallback();
    let (mut after, mut lacking) = (String::new(), Vec::new());
    loop {
        let rows = store.recorded_objects(&after, BATCH).await?;
        let Some(last) = rows.last() else { return Ok(lacking) };
        after.clone_from(&last.key);
        for row in rows {
            // One that was deleted since it was listed is missed by nobody.
            if to.size(&row.key).await? != Some(row.size_bytes) && store.object(&row.key).await?.is_some() {
                lacking.push(row.key);
            }
            if lacking.len() >= limit {
                return Ok(lacking);
            }
        }
    }
}
