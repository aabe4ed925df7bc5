//! Which processes share a data folder, and how workers hear of jobs.

/// One arrangement of the same programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pairing {
    /// Its name on the command line.
    pub name: &'static str,
    /// `vidworker` processes beside the server; with none, the worker lives in the server.
    pub workers: usize,
    /// Whether hints and notices go through a Redis of the site's own, which is struck like the rest.
    pub redis: bool,
}

/// Every pairing there is.
pub const PAIRINGS: [Pairing; 3] = [
    // The server runs its jobs itself and hears of them within the process.
    Pairing { name: "local", workers: 0, redis: false },
    // A server without a worker; two workers hear of jobs by the change check.
    Pairing { name: "sqlite", workers: 2, redis: false },
    // The same, where each hint goes to one worker through Redis.
    Pairing { name: "redis", workers: 2, redis: true },
];

impl Pairing {
    /// The pairing of that name.
    pub fn named(name: &str) -> Option<Self> {
        PAIRINGS.into_iter().find(|pairing| pairing.name == name)
    }

    /// Whether the server itself runs jobs.
    pub fn works_inside(self) -> bool {
        self.workers == 0
    }
}
