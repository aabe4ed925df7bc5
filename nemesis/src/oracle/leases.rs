//! Leases as they are while everything runs: nobody else writes down how long one was to hold.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::findings::Findings;
use crate::oracle::{Attempt, Rows};

/// How often leases are looked at: some times between two heartbeats.
const LOOK: Duration = Duration::from_millis(20);

/// The longest each attempt was seen to be promised its job, in milliseconds since 1970-01-01.
type ByToken = BTreeMap<i64, i64>;

/// Looks at the leases until it is dropped.
#[derive(Debug)]
pub(super) struct Leases {
    seen: Arc<Mutex<ByToken>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Leases {
    /// Looks at the database `path` from now on.
    ///
    /// # Errors
    /// The system starts no thread.
    pub(super) fn watch(path: PathBuf) -> std::io::Result<Self> {
        let (seen, stop) = (Arc::new(Mutex::new(ByToken::new())), Arc::new(AtomicBool::new(false)));
        let (book, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = std::thread::Builder::new().name("leases".to_owned()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                // A database that is not there yet, or not to be read now, is looked at the next time.
                if let Ok(rows) = Rows::open(&path) {
                    while !stopped.load(Ordering::Relaxed)
                        && let Ok(leases) = rows.leases()
                    {
                        note(&mut book.lock().unwrap_or_else(PoisonError::into_inner), leases);
                        std::thread::sleep(LOOK);
                    }
                }
                std::thread::sleep(LOOK);
            }
        })?;
        Ok(Self { seen, stop, thread: Some(thread) })
    }

    /// Nobody's job was taken away as lost before the time it had been promised.
    pub(super) fn check(&self, attempts: &[Attempt], findings: &Findings) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for attempt in attempts.iter().filter(|attempt| attempt.outcome.as_deref() == Some("lost")) {
            let promised = seen.get(&attempt.token).copied().unwrap_or(i64::MIN);
            let held_out = attempt.ended_at_ms.is_some_and(|ended| ended >= promised);
            findings.demand(held_out, || format!("{attempt:?} was robbed: its lease held until {promised}"));
        }
    }
}

impl Drop for Leases {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn note(seen: &mut ByToken, leases: Vec<(i64, i64)>) {
    for (token, until) in leases {
        let longest = seen.entry(token).or_insert(until);
        *longest = until.max(*longest);
    }
}
