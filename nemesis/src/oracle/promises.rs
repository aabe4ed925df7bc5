//! The whole history, read back from its file, against the rows: what was acknowledged once holds at
//! the end, whatever the users remember of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::Failure;
use crate::findings::Findings;
use crate::history::{Entry, Outcome};
use crate::oracle::Rows;

pub(super) fn check(history: &[Entry], rows: &Rows, findings: &Findings) -> Result<(), Failure> {
    one_effect_for_a_key(history, findings);
    titles(history, rows, findings)?;
    for entry in history.iter().filter(|entry| entry.outcome == Outcome::Acknowledged) {
        check_upload(entry, rows, findings)?;
    }
    Ok(())
}

/// A key stands for one effect: it was never answered with two ids.
fn one_effect_for_a_key(history: &[Entry], findings: &Findings) {
    let mut made: BTreeMap<&str, &str> = BTreeMap::new();
    for entry in history.iter().filter(|entry| entry.outcome == Outcome::Acknowledged) {
        if let (Some(key), Some(value)) = (&entry.key, &entry.value) {
            let first = made.entry(key).or_insert(value);
            findings.demand(first == value, || format!("the key {key} made {first} and {value}"));
        }
    }
}

/// Every video is there, with the title of its last acknowledged change or one that came after it.
fn titles(history: &[Entry], rows: &Rows, findings: &Findings) -> Result<(), Failure> {
    let mut videos = BTreeSet::new();
    let mut patched: BTreeMap<&str, &str> = BTreeMap::new();
    let mut unsure: BTreeSet<&str> = BTreeSet::new();
    for entry in history {
        match (entry.call.as_str(), entry.outcome, &entry.value) {
            ("create", Outcome::Acknowledged, Some(id)) => {
                videos.insert(id.as_str());
            }
            ("patch", Outcome::Acknowledged, Some(title)) => {
                patched.insert(&entry.subject, title);
                unsure.remove(entry.subject.as_str());
            }
            ("patch", Outcome::Maybe, _) => {
                unsure.insert(&entry.subject);
            }
            _ => {}
        }
    }
    for id in videos {
        let title = rows.title(id)?;
        findings.demand(title.is_some(), || format!("{id} was acknowledged and has no row"));
        if let (Some(title), Some(&last), false) = (title, patched.get(id), unsure.contains(id)) {
            findings.demand(title == last, || format!("{id} was last called {last:?} and is called {title:?}"));
        }
    }
    Ok(())
}

/// Bytes that were acknowledged are those of the row; what was completed is over.
fn check_upload(entry: &Entry, rows: &Rows, findings: &Findings) -> Result<(), Failure> {
    if !matches!(entry.call.as_str(), "put" | "complete") {
        return Ok(());
    }
    let id = &entry.subject;
    let Some(row) = rows.upload(id)? else {
        findings.add(format!("{id} was acknowledged and has no row"));
        return Ok(());
    };
    if entry.call == "put" {
        findings.demand(row.sha256 == entry.value, || format!("{id} took {:?} and holds {row:?}", entry.value));
    } else {
        let over = row.status == "complete" || (row.status == "rejected" && row.reason.is_some());
        findings.demand(over, || format!("{id} was completed and is {row:?}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, value: &str) -> Entry {
        Entry {
            at_ms: 0,
            user: 0,
            call: "create".to_owned(),
            subject: String::new(),
            key: Some(key.to_owned()),
            outcome: Outcome::Acknowledged,
            status: Some(201),
            value: Some(value.to_owned()),
        }
    }

    #[test]
    fn a_key_that_made_two_things_is_a_finding() {
        let findings = Findings::new();
        one_effect_for_a_key(&[entry("a", "1"), entry("b", "2"), entry("a", "1")], &findings);
        assert_eq!(0, findings.count());
        one_effect_for_a_key(&[entry("a", "1"), entry("a", "2")], &findings);
        assert_eq!(1, findings.count());
    }
}
