//! What is done to Redis, one thing after the other.

use crate::campaign::proxy::{Mode, Proxy};
use vidcore::testkit::redis::TestRedis;

/// A time in which one thing is the matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Everybody gets to know each other; judged by nobody.
    WarmUp,
    /// Nothing is the matter.
    Normal,
    /// Its process stands still: it takes connections and answers nothing.
    Frozen,
    /// It was killed.
    Killed,
    /// It has come back with nothing in it, or was emptied.
    Empty,
    /// It was emptied where it stands.
    Flushed,
    /// It refuses every write for want of memory.
    Full,
    /// Every connection ends half way through an answer.
    Cut,
    /// Nobody listens.
    Refused,
}

/// The script: everything that is the matter, and calm after each.
pub const SCRIPT: [Phase; 13] = {
    use Phase::{Cut, Empty, Flushed, Frozen, Full, Killed, Normal, Refused};
    [Normal, Frozen, Normal, Killed, Empty, Flushed, Normal, Full, Normal, Cut, Normal, Refused, Normal]
};

impl Phase {
    /// What tables call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::WarmUp => "warm-up",
            Self::Normal => "normal",
            Self::Frozen => "frozen",
            Self::Killed => "killed",
            Self::Empty => "back, empty",
            Self::Flushed => "flushed",
            Self::Full => "out of memory",
            Self::Cut => "cut half way",
            Self::Refused => "refused",
        }
    }

    /// Whether Redis does not do what it is asked.
    pub fn is_trouble(self) -> bool {
        matches!(self, Self::Frozen | Self::Killed | Self::Full | Self::Cut | Self::Refused)
    }

    /// Whether Redis has nothing in it at the beginning.
    pub fn empties(self) -> bool {
        matches!(self, Self::Empty | Self::Flushed)
    }

    /// Makes it so.
    ///
    /// # Panics
    /// If Redis does not do what it is told to.
    pub fn begin(self, redis: &mut TestRedis, proxy: &Proxy) {
        match self {
            Self::WarmUp | Self::Normal => {}
            Self::Frozen => redis.freeze(),
            Self::Killed => redis.stop(),
            Self::Empty => redis.restart(),
            Self::Flushed => redis.flush(),
            Self::Full => assert_eq!("+OK", redis.command("CONFIG SET maxmemory 1")),
            Self::Cut => proxy.set(Mode::CutHalfWay),
            Self::Refused => proxy.set(Mode::Refuse),
        }
    }

    /// Ends it.
    ///
    /// # Panics
    /// If Redis does not do what it is told to.
    pub fn end(self, redis: &TestRedis, proxy: &Proxy) {
        match self {
            Self::WarmUp | Self::Normal | Self::Killed | Self::Empty | Self::Flushed => {}
            Self::Frozen => redis.thaw(),
            Self::Full => assert_eq!("+OK", redis.command("CONFIG SET maxmemory 64mb")),
            Self::Cut | Self::Refused => proxy.set(Mode::Pass),
        }
    }
}
