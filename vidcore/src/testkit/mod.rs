//! What back ends promise, as reusable test suites.

pub mod rate_limit;
