//! The doctor: what it finds, and what it does about it.

mod finding;
mod patient;
mod repairing;
