//! One reading of the clock for all of a decision.

use std::cell::Cell;
use std::time::Duration;

use governor::clock::Clock;
use governor::nanos::Nanos;

thread_local! {
    static READ_AT: Cell<u64> = const { Cell::new(0) };
}

/// Governor's clock, which says what this thread [took](Reading::take) last.
///
/// Governor reads its clock once per policy, and reading is a quarter of a decision. Nothing here awaits, so
/// that no other decision of the thread comes between a reading and its use.
#[derive(Debug, Clone)]
pub(super) struct Reading;

impl Reading {
    /// From now on, governor's time on this thread.
    pub(super) fn take(at: Duration) -> Nanos {
        let at = Nanos::from(at);
        READ_AT.set(at.as_u64());
        at
    }
}

impl Clock for Reading {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(READ_AT.get())
    }
}
