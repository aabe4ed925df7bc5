//! Which processes share a data folder, and how workers hear of jobs.

/// One arrangement of the same programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pairing {
    /// Its name on the command line.
    pub name: &'static str,
    /// `vidworker` processes beside the server; with none, the worker lives in the server.
    pub workers: usize,
}

/// Every pairing there is.
pub const PAIRINGS: [Pairing; 2] = [
    // The server runs its jobs itself and hears of them within the process.
    Pairing { name: "local", workers: 0 },
    // A server without a worker; two workers hear of jobs by the change check.
    Pairing { name: "sqlite", workers: 2 },
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
