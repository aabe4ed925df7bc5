//! What back ends promise, as reusable test suites.

pub mod cache;
pub mod rate_limit;
