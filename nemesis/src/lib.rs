//! Proof by killing: the real programs run under a load of clients while this one kills, stops and
//! freezes them, at random moments and at named points, and checks from outside that nothing that was
//! acknowledged is lost, nothing is stuck, and nothing was published twice.
//!
//! Nothing here runs inside the programs under test. What is true is read through their API, from the
//! database with a connection of this program's own, and from the objects; what was promised stands in
//! the [`history`], which only grows.

pub mod battle;
pub mod campaign;
pub mod client;
pub mod effects;
pub mod findings;
pub mod frozen;
pub mod history;
pub mod ledger;
pub mod logs;
pub mod node;
pub mod options;
pub mod oracle;
pub mod pairing;
pub mod plan;
pub mod process;
pub mod redis;
pub mod report;
pub mod site;
mod strikes;

/// What ends a campaign that could not be carried out; a broken promise is a finding instead.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How long anything may take before a campaign gives up waiting: far above what it takes.
pub const BOUND: std::time::Duration = std::time::Duration::from_secs(60);
