//! Contract suites: what every back end of a port promises, as tests that each of them runs.
//!
//! A suite is a set of functions, one claim each, over a harness that a back end fills in, and a macro
//! that makes a test of every claim.

use std::io::Write as _;

pub mod accounts;
pub mod cache;
#[cfg(feature = "sqlite")]
pub mod catalog;
pub mod changes;
pub mod fleet;
#[cfg(feature = "sqlite")]
pub mod jobs;
pub mod media;
#[cfg(feature = "sqlite")]
pub mod notify;
pub mod objects;
pub mod rate_limit;
#[cfg(all(feature = "sqlite", feature = "redis"))]
pub mod redis;
#[cfg(feature = "sqlite")]
pub mod renditions;
#[cfg(feature = "s3")]
pub mod s3;
pub mod staging;
pub mod stepped;
#[cfg(feature = "sqlite")]
pub mod store;
pub mod tier;
#[cfg(feature = "sqlite")]
pub mod uploads;
#[cfg(feature = "sqlite")]
pub mod videos;

#[cfg(all(feature = "sqlite", feature = "redis"))]
pub use redis::TestRedis;
#[cfg(feature = "s3")]
pub use s3::TestS3;
#[cfg(feature = "sqlite")]
pub use store::TestStore;

/// Whether a test may go on that needs `what`, which is `present` or not.
///
/// When it is absent, one line on standard error says what was left out: written directly, because
/// the test harness swallows what tests print. With `VID_TEST_REQUIRE=all` nothing may be left out.
///
/// # Panics
/// If `what` is absent and `VID_TEST_REQUIRE` is `all`.
pub fn require(what: &str, present: bool) -> bool {
    if !present {
        let all = std::env::var_os("VID_TEST_REQUIRE").is_some_and(|value| value == "all");
        assert!(!all, "VID_TEST_REQUIRE=all, but this machine lacks {what}");
        // Nothing can be done about a closed standard error.
        let _ = writeln!(std::io::stderr(), "left out: a test that needs {what}");
    }
    present
}
