//! A circuit breaker: a server that does not answer is not asked for a while.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Clock;
use crate::entropy::{Entropy, EntropyExt};

/// Failures in a row that open it: one may be a connection that was cut, three are not.
pub(super) const OPENS_AT: u32 = 3;

/// The first pause, and the longest. Each is drawn from its upper half, so that a fleet does not come
/// back in step; after the server's return it is noticed within the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Counts failures in a row; from the third on one probe per pause is let through, until one succeeds.
#[derive(Debug)]
pub(crate) struct Breaker {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        probe_at: Duration,
        pause: Duration,
    },
    /// A probe is on its way; should it never report, the next one goes at that time.
    Probing {
        until: Duration,
        pause: Duration,
    },
}

/// What a report has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing.
    None,
    /// The server is not asked any more.
    Opened,
    /// It answers again.
    Closed,
}

impl Breaker {
    pub(crate) fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self { clock, entropy, state: Mutex::new(State::Closed { failures: 0 }) }
    }

    /// Whether to ask now, if it is open as a probe. Where it says so, report what came of it.
    pub(crate) fn lets_through(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (due, pause) = match *state {
            State::Closed { .. } => return true,
            State::Open { probe_at, pause } => (probe_at, pause),
            State::Probing { until, pause } => (until, pause),
        };
        let now = self.clock.monotonic();
        if now < due {
            return false;
        }
        *state = State::Probing { until: now + LONGEST_PAUSE, pause };
        true
    }

    /// Whether calls are let through as usual.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(*self.state.lock().unwrap_or_else(PoisonError::into_inner), State::Closed { .. })
    }

    /// The server answered.
    pub(crate) fn succeeded(&self) -> Turn {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = match *state {
            State::Closed { .. } => Turn::None,
            _ => Turn::Closed,
        };
        *state = State::Closed { failures: 0 };
        turn
    }

    /// It did not.
    pub(crate) fn failed(&self) -> Turn {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (pause, turn) = match *state {
            State::Closed { failures } if failures + 1 < OPENS_AT => {
                *state = State::Closed { failures: failures + 1 };
                return Turn::None;
            }
            State::Closed { .. } => (FIRST_PAUSE, Turn::Opened),
            // Calls that were on their way when it opened say nothing new.
            State::Open { .. } => return Turn::None,
            State::Probing { pause, .. } => ((2 * pause).min(LONGEST_PAUSE), Turn::None),
        };
        let drawn = pause.mul_f64(0.5 + 0.5 * self.entropy.unit());
        *state = State::Open { probe_at: self.clock.monotonic() + drawn, pause };
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::entropy::SeededEntropy;

    fn breaker() -> (Breaker, ManualClock) {
        let clock = ManualClock::default();
        (Breaker::new(Arc::new(clock.clone()), Arc::new(SeededEntropy::new(3))), clock)
    }

    fn open(breaker: &Breaker) {
        assert_eq!([Turn::None, Turn::None, Turn::Opened], [(); 3].map(|()| breaker.failed()));
    }

    #[test]
    fn three_failures_in_a_row_open_it_and_fewer_do_not() {
        let (breaker, _) = breaker();
        for _ in 0..10 {
            breaker.failed();
            breaker.failed();
            assert_eq!(Turn::None, breaker.succeeded());
            assert!(breaker.lets_through());
        }
        open(&breaker);
        assert!(!breaker.lets_through() && !breaker.is_closed());
    }

    #[test]
    fn one_probe_goes_through_per_pause_and_pauses_end_at_a_second() {
        let (breaker, clock) = breaker();
        open(&breaker);
        for round in 0..10 {
            assert!(!breaker.lets_through());
            clock.advance(LONGEST_PAUSE);
            assert!(breaker.lets_through(), "round {round}");
            assert!(!breaker.lets_through(), "one probe, no second one");
            assert_eq!(Turn::None, breaker.failed());
        }
    }

    #[test]
    fn a_probe_that_succeeds_closes_it() {
        let (breaker, clock) = breaker();
        open(&breaker);
        clock.advance(FIRST_PAUSE);
        assert!(breaker.lets_through());
        assert_eq!(Turn::Closed, breaker.succeeded());
        assert!(breaker.is_closed() && breaker.lets_through());
    }

    #[test]
    fn a_probe_that_never_reports_does_not_keep_it_open_for_ever() {
        let (breaker, clock) = breaker();
        open(&breaker);
        clock.advance(FIRST_PAUSE);
        assert!(breaker.lets_through());
        clock.advance(LONGEST_PAUSE);
        assert!(breaker.lets_through());
    }

    #[test]
    fn late_failures_do_not_put_the_probe_off() {
        let (breaker, clock) = breaker();
        open(&breaker);
        clock.advance(FIRST_PAUSE - Duration::from_millis(1));
        breaker.failed();
        clock.advance(Duration::from_millis(1));
        assert!(breaker.lets_through());
    }
}
