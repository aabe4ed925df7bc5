//! Contract suites: what every back end of a port promises, as tests that each of them runs.
//!
//! A suite is a set of functions, one claim each, over a harness that a back end fills in, and a macro
//! that makes a test of every claim.

pub mod accounts;
pub mod cache;
pub mod media;
pub mod rate_limit;

use std::io::Write;

/// Whether a test that needs `what` can run, given that it is `present`.
///
/// If not, says so in one line on standard error, past the test harness's capture, so that what was
/// left out is seen.
///
/// # Panics
/// If `what` is absent and `VID_TEST_REQUIRE` is `all`: then nothing may be left out.
pub fn require(what: &str, present: bool) -> bool {
    if present {
        return true;
    }
    assert!(std::env::var_os("VID_TEST_REQUIRE").is_none_or(|value| value != "all"), "{what} is required and missing");
    // A test that cannot say it was left out has still been left out.
    let _ = writeln!(std::io::stderr(), "left out: a test that needs {what}");
    false
}
