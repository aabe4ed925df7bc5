//! Named points at which a test kills or stops the process. Without the feature `failpoints` they are
//! nothing.
//!
//! Armed by the variable `FAILPOINTS`, for example `FAILPOINTS=before-publish=return`: the process
//! aborts there as by SIGKILL, with no destructor run and no buffer flushed. `return(stop)` stops it
//! there as by SIGSTOP, until somebody continues it. The syntax is that of the crate `fail`: chances
//! (`20%return`), passes that do nothing first (`3*off->return`), several points apart by `;`.

/// Every point there is, in the order in which a video passes them; the last three are passed by
/// everything that writes, and by a worker that is asked to stop.
pub const NAMES: [&str; 18] = [
    "upload-half-way",
    "received-before-commit",
    "appended-before-commit",
    "after-claim",
    "before-heartbeat",
    "after-heartbeat",
    "before-pin",
    "mid-join",
    "after-pin",
    "verified-before-commit",
    "before-put",
    "after-put",
    "mid-encode",
    "before-publish",
    "published-before-done",
    "holding-lock",
    "committed-before-answer",
    "mid-drain",
];

/// How long a thread that stopped its process waits to be stopped itself.
#[cfg(feature = "failpoints")]
const STOPPED_WITHIN: std::time::Duration = std::time::Duration::from_millis(100);

/// Dies here if the point is armed, as by `kill -9`, or stops here as by `kill -STOP`.
#[inline]
pub(crate) fn hit(name: &'static str) {
    #[cfg(feature = "failpoints")]
    fail::fail_point!(name, |argument| act(argument.as_deref()));
    #[cfg(not(feature = "failpoints"))]
    let _ = name;
}

#[cfg(feature = "failpoints")]
fn act(argument: Option<&str>) {
    use rustix::process::{Signal, getpid, kill_process};
    if argument == Some("stop") {
        let _ = kill_process(getpid(), Signal::STOP);
        // The kernel hands the signal to the first thread and stops the others a moment later: without
        // a pause, this one would leave the point before it stands still.
        std::thread::sleep(STOPPED_WITHIN);
        return;
    }
    let _ = kill_process(getpid(), Signal::KILL);
    loop {
        std::thread::park();
    }
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
