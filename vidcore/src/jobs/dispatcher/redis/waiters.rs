//! Those in this process who wait for hints.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use super::list::Hint;
use crate::jobs::QueueName;

/// What ended a wait.
#[derive(Debug)]
pub(super) enum Woken {
    /// A hint, which is this waiter's alone.
    ByHint(Hint),
    /// Everybody was woken.
    WithAll,
}

/// Waiters in the order they came. A hint goes to the first who waits for its queue.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    table: Mutex<Table>,
    /// One permit for the one who pops: the table has changed.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    waiting: BTreeMap<u64, Waiter>,
    /// Queues that somebody has ever waited for.
    known: BTreeSet<QueueName>,
    /// Queues whose next waiter need not wait, because everybody was woken.
    owed: BTreeSet<QueueName>,
}

#[derive(Debug)]
struct Waiter {
    queues: Vec<QueueName>,
    wake: oneshot::Sender<Woken>,
}

impl Waiters {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place at the end of the line, or `None` for one whom an earlier waking of all was for.
    pub(super) fn enter(&self, queues: &[QueueName]) -> Option<(u64, oneshot::Receiver<Woken>)> {
        let mut table = self.table();
        if queues.iter().any(|queue| table.owed.remove(queue)) {
            return None;
        }
        table.known.extend(queues.iter().cloned());
        let (wake, woken) = oneshot::channel();
        let number = table.next;
        table.next += 1;
        table.waiting.insert(number, Waiter { queues: queues.to_vec(), wake });
        drop(table);
        self.changed.notify_one();
        Some((number, woken))
    }

    /// Gives up the place, if it is still held.
    pub(super) fn leave(&self, number: u64) {
        if self.table().waiting.remove(&number).is_some() {
            self.changed.notify_one();
        }
    }

    /// Wakes the first who waits for the hint's queue, or gives the hint back.
    pub(super) fn give(&self, hint: Hint) -> Result<(), Hint> {
        let mut hint = hint;
        loop {
            let Some(waiter) = self.table().take_waiter(&hint.queue) else { return Err(hint) };
            self.changed.notify_one();
            match waiter.wake.send(Woken::ByHint(hint)) {
                Ok(()) => return Ok(()),
                // It has just gone away; the next one, then.
                Err(Woken::ByHint(back)) => hint = back,
                Err(Woken::WithAll) => return Ok(()),
            }
        }
    }

    /// Wakes everybody, and whoever waits next for a queue that was waited for before.
    pub(super) fn wake_all(&self) {
        let mut table = self.table();
        let waiting = std::mem::take(&mut table.waiting);
        table.owed = table.known.clone();
        drop(table);
        self.changed.notify_one();
        for waiter in waiting.into_values() {
            // Those who have just gone away need no waking.
            let _ = waiter.wake.send(Woken::WithAll);
        }
    }

    /// Every queue that somebody waits for.
    pub(super) fn wanted(&self) -> BTreeSet<QueueName> {
        self.table().waiting.values().flat_map(|waiter| &waiter.queues).cloned().collect()
    }

    /// Waits until what is [`wanted`](Self::wanted) is other than `known`, and returns it. For one
    /// caller at a time.
    pub(super) async fn wanted_other_than(&self, known: &BTreeSet<QueueName>) -> BTreeSet<QueueName> {
        loop {
            let wanted = self.wanted();
            if wanted != *known {
                return wanted;
            }
            self.changed.notified().await;
        }
    }
}

impl Table {
    fn take_waiter(&mut self, queue: &QueueName) -> Option<Waiter> {
        let number = *self.waiting.iter().find(|(_, waiter)| waiter.queues.contains(queue))?.0;
        self.waiting.remove(&number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(name: &str) -> QueueName {
        QueueName::new(name)
    }

    fn hint(name: &str) -> Hint {
        Hint { queue: queue(name), job: "job".to_owned() }
    }

    fn enter(waiters: &Waiters, queues: &[&str]) -> (u64, oneshot::Receiver<Woken>) {
        let queues: Vec<_> = queues.iter().map(|name| queue(name)).collect();
        waiters.enter(&queues).expect("nothing is owed")
    }

    #[test]
    fn a_hint_goes_to_the_first_who_waits_for_its_queue_and_is_still_there() {
        let waiters = Waiters::default();
        let (_, mut other) = enter(&waiters, &["other"]);
        let (_, gone) = enter(&waiters, &["mine"]);
        let (_, mut second) = enter(&waiters, &["mine", "other"]);
        drop(gone);
        assert_eq!(Ok(()), waiters.give(hint("mine")));
        assert!(matches!(second.try_recv(), Ok(Woken::ByHint(given)) if given == hint("mine")));
        assert!(other.try_recv().is_err());
        assert_eq!(Err(hint("mine")), waiters.give(hint("mine")), "nobody waits for it");
    }

    #[test]
    fn only_what_is_waited_for_is_wanted() {
        let waiters = Waiters::default();
        assert!(waiters.wanted().is_empty());
        let (first, _kept) = enter(&waiters, &["a", "b"]);
        let (_, _kept_too) = enter(&waiters, &["b", "c"]);
        assert_eq!(BTreeSet::from(["a", "b", "c"].map(queue)), waiters.wanted());
        waiters.leave(first);
        assert_eq!(BTreeSet::from(["b", "c"].map(queue)), waiters.wanted());
        assert_eq!(Ok(()), waiters.give(hint("c")));
        assert!(waiters.wanted().is_empty(), "who was given a hint waits no more");
    }

    #[test]
    fn the_next_waiter_of_each_known_queue_is_owed_a_waking_of_all() {
        let waiters = Waiters::default();
        let (_, mut there) = enter(&waiters, &["a"]);
        waiters.wake_all();
        assert!(matches!(there.try_recv(), Ok(Woken::WithAll)));
        assert!(waiters.enter(&[queue("a")]).is_none());
        assert!(waiters.enter(&[queue("a")]).is_some(), "once");
    }
}
