//! What was published, as seen from outside: kept here, never in the programs under test.
//!
//! A rendition is published once. Whoever sees it ready a second time sees the same attempt's work.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::findings::Findings;

/// The work that made a rendition ready, from its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The attempt's token.
    pub token: i64,
    /// Where its objects are.
    pub prefix: String,
    /// When it became ready, in milliseconds since 1970-01-01.
    pub ready_at_ms: i64,
}

/// Everything seen published so far.
#[derive(Debug, Default)]
pub struct Ledger {
    rows: Mutex<BTreeMap<String, Published>>,
    answers: Mutex<BTreeMap<String, String>>,
}

impl Ledger {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many renditions were seen published.
    pub fn published(&self) -> usize {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Takes a video's renditions as a client was told them.
    pub fn seen(&self, video: &str, renditions: &Value, findings: &Findings) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        for rendition in renditions.as_array().into_iter().flatten() {
            let id = rendition["id"].as_str().unwrap_or_default();
            let ready_at = rendition["ready_at"].as_str();
            let before = answers.get(id);
            let kept = before.is_none_or(|before| rendition["status"] == "ready" && ready_at == Some(before));
            findings.demand(kept, || format!("{id} of {video} was ready since {before:?} and is now {rendition}"));
            if let Some(ready_at) = ready_at {
                answers.entry(id.to_owned()).or_insert_with(|| ready_at.to_owned());
            }
        }
    }

    /// Takes the ready rows of the database.
    pub fn recorded(&self, ready: Vec<(String, Published)>, findings: &Findings) {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let now: BTreeMap<_, _> = ready.into_iter().collect();
        for (id, before) in rows.iter() {
            let after = now.get(id);
            findings.demand(after == Some(before), || {
                format!("{id} was published as {before:?} and is now {after:?}: a second published effect")
            });
        }
        rows.extend(now);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn published(token: i64) -> Published {
        Published { token, prefix: format!("renditions/{token}"), ready_at_ms: 1 }
    }

    #[test]
    fn a_rendition_that_is_published_again_is_a_finding() {
        let (ledger, findings) = (Ledger::new(), Findings::new());
        ledger.recorded(vec![("r".to_owned(), published(1))], &findings);
        ledger.recorded(vec![("r".to_owned(), published(1)), ("s".to_owned(), published(2))], &findings);
        assert_eq!(0, findings.count());
        ledger.recorded(vec![("r".to_owned(), published(3)), ("s".to_owned(), published(2))], &findings);
        assert_eq!(1, findings.count());
    }

    #[test]
    fn a_rendition_that_is_no_longer_ready_is_a_finding() {
        let (ledger, findings) = (Ledger::new(), Findings::new());
        ledger.seen("v", &json!([{"id": "r", "status": "encoding", "ready_at": null}]), &findings);
        ledger.seen("v", &json!([{"id": "r", "status": "ready", "ready_at": "2026"}]), &findings);
        assert_eq!(0, findings.count());
        ledger.seen("v", &json!([{"id": "r", "status": "encoding", "ready_at": null}]), &findings);
        assert_eq!(1, findings.count());
    }
}
