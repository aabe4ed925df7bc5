//! Named points at which a test kills the process. Without the feature `failpoints` they are nothing.
//!
//! Armed by the variable `FAILPOINTS`, for example `FAILPOINTS=before-publish=return`: the process
//! aborts there as by SIGKILL, with no destructor run and no buffer flushed.

/// Every point there is, in the order in which a video passes them.
pub const NAMES: [&str; 7] = [
    "upload-half-way",
    "received-before-commit",
    "after-claim",
    "verified-before-commit",
    "mid-encode",
    "before-publish",
    "published-before-done",
];

/// Dies here if the point is armed, as by `kill -9`.
#[inline]
pub(crate) fn hit(name: &'static str) {
    #[cfg(feature = "failpoints")]
    fail::fail_point!(name, |_| {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        loop {
            std::thread::park();
        }
    });
    #[cfg(not(feature = "failpoints"))]
    let _ = name;
}

/// Armed points; dropping it disarms them.
#[cfg(feature = "failpoints")]
pub struct Armed(#[expect(dead_code, reason = "held for its destructor")] fail::FailScenario<'static>);

#[cfg(feature = "failpoints")]
impl std::fmt::Debug for Armed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Armed").finish_non_exhaustive()
    }
}

/// Reads the variable `FAILPOINTS`; the answer must live as long as the points are to work.
#[cfg(feature = "failpoints")]
#[must_use = "dropping it disarms the points"]
pub fn arm() -> Armed {
    Armed(fail::FailScenario::setup())
}
