//! Broken promises, as they are found.

use std::sync::{Arc, Mutex, PoisonError};

use crate::campaign::say;

/// The most that are kept; one is enough to fail a campaign.
const KEPT: usize = 100;

/// What was found so far. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Findings(Arc<Mutex<Vec<String>>>);

impl Findings {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a broken promise, in one sentence, and says so at once: a campaign that breaks off has told it.
    pub fn add(&self, finding: impl Into<String>) {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if found.len() < KEPT {
            let finding = finding.into();
            say(&format!("VIOLATION: {finding}"));
            found.push(finding);
        }
    }

    /// Notes one unless the promise was kept.
    pub fn demand(&self, kept: bool, finding: impl FnOnce() -> String) {
        if !kept {
            self.add(finding());
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
