//! Idempotency keys whose first request is still running in this process.
//!
//! A twin in another process meets the unique key in the database and replays.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use vidcore::idempotency::IdempotencyKey;

use crate::extract::PresentedKey;
use crate::problem::{Problem, code};

/// Seconds after which a twin may ask again.
const RETRY_S: u32 = 1;

/// The keys, each as scope and key. Bounded by the requests in flight.
#[derive(Debug, Clone, Default)]
pub struct InProgress(Arc<Mutex<HashSet<(String, String)>>>);

/// Holds one key until the request has been answered.
#[derive(Debug)]
pub struct Running {
    key: Option<IdempotencyKey>,
    keys: InProgress,
}

impl InProgress {
    /// Binds a presented key to its caller and holds it.
    ///
    /// # Errors
    /// 409 while the same key is held.
    pub fn begin(&self, presented: Option<PresentedKey>, caller: &str) -> Result<Running, Problem> {
        let key = presented.map(|presented| presented.scoped(caller));
        if let Some(key) = &key {
            let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if !keys.insert((key.scope.clone(), key.key.clone())) {
                return Err(Problem::new(code::REQUEST_IN_PROGRESS).retry_after(RETRY_S));
            }
        }
        Ok(Running { key, keys: self.clone() })
    }
}

impl Running {
    /// The key for the command, if the caller presented one.
    pub fn key(&self) -> Option<IdempotencyKey> {
        self.key.clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.keys.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(key.scope, key.key));
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn presented() -> Option<PresentedKey> {
        Some(PresentedKey::new("k", [1; 32], &Method::POST, "/videos"))
    }

    #[test]
    fn a_twin_is_refused_until_the_first_is_answered() {
        let keys = InProgress::default();
        let first = keys.begin(presented(), "user_a").expect("free");
        assert_eq!(code::REQUEST_IN_PROGRESS, keys.begin(presented(), "user_a").expect_err("held").code());
        assert!(keys.begin(presented(), "user_b").is_ok(), "another caller's key is another key");
        drop(first);
        assert!(keys.begin(presented(), "user_a").is_ok());
    }
}
