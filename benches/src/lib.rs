//! What the platform costs beside the libraries it stands on, measured side by side.
//!
//! The criterion benches stand in `benches/benches`, each with its raw twin; the programs `http_ratio`
//! and `figures` start a real `vidserver` and speak HTTP to it over loopback. This library holds what
//! they share: a seeded catalog, the twins, a client that costs little, and child processes.

pub mod bare;
pub mod campaign;
pub mod catalog;
pub mod child;
pub mod client;
pub mod jobs;
pub mod load;
pub mod raw;
pub mod report;

/// What a program of this crate ends with when it cannot go on.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
