//! Committed changes without a database: for tests of who reads them.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use crate::clock::Timestamp;
use crate::events::{Change, ChangeBounds, EventStore};
use crate::store::StoreError;

/// Changes in the order of their commits, as a database keeps them.
#[derive(Debug)]
pub struct ChangeLog {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    kept: Vec<Change>,
    last: i64,
    is_away: bool,
}

impl ChangeLog {
    /// One without changes.
    pub fn new() -> Self {
        Self { state: Mutex::default() }
    }

    /// Commits a change; it is returned for those who are to hear of it.
    pub fn commit(&self, topic: &str, key: &str) -> Change {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.last += 1;
        let change = Change { id: state.last, topic: topic.to_owned(), key: key.to_owned() };
        state.kept.push(change.clone());
        change
    }

    /// Forgets every change up to the one with this id.
    pub fn prune(&self, up_to: i64) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).kept.retain(|change| change.id > up_to);
    }

    /// Whether it answers.
    pub fn set_away(&self, is_away: bool) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_away = is_away;
    }

    /// The id of the last change; 0 before the first.
    pub fn last(&self) -> i64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).last
    }

    fn read<T>(&self, read: impl FnOnce(&State) -> T) -> Result<T, StoreError> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_away {
            return Err(StoreError::Unavailable { operation: "read changes", source: "the test says so".into() });
        }
        Ok(read(&state))
    }
}

impl Default for ChangeLog {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl EventStore for ChangeLog {
    async fn change_bounds(&self) -> Result<ChangeBounds, StoreError> {
        self.read(|state| ChangeBounds {
            first_kept: state.kept.first().map_or(state.last + 1, |change| change.id),
            last: state.last,
        })
    }

    async fn changes_after(&self, after: i64, limit: u16) -> Result<Vec<Change>, StoreError> {
        self.read(|state| state.kept.iter().filter(|change| change.id > after).take(limit.into()).cloned().collect())
    }

    async fn prune_changes(&self, _: Timestamp, _: u16) -> Result<u64, StoreError> {
        Ok(0)
    }
}
