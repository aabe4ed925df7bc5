//! Contract suites: what every back end of a port promises, as tests that each of them runs.
//!
//! A suite is a set of functions, one claim each, over a harness that a back end fills in, and a macro
//! that makes a test of every claim.

pub mod accounts;
pub mod cache;
pub mod rate_limit;
