//! The worker: what it runs, when it tries again, how it stops, what it does when it lost a job, and how
//! it is steered.

#![cfg(all(feature = "sqlite", feature = "testkit"))]

mod running;
mod site;
mod steering;
