//! The short campaign: every pairing, forty kills each. The program is run as anybody would run it, so
//! that it ends its children whatever becomes of it.

#[cfg(feature = "failpoints")]
#[test]
fn nothing_acknowledged_is_lost_under_forty_kills_of_every_pairing() {
    let path = std::env::var_os("PATH").unwrap_or_default();
    for program in ["ffmpeg", "redis-server"] {
        let is_there = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
        // Without it the campaign leaves out what it cannot do, and says so; here it may not be optional.
        vidcore::testkit::require(program, is_there);
    }
    let mut campaign = std::process::Command::new(env!("CARGO_BIN_EXE_nemesis"));
    // Its lines are shown as they come: the seed is what a failure is tried again with.
    let status = campaign.stdin(std::process::Stdio::null()).status().expect("the campaign starts");
    assert!(status.success(), "the campaign ended with {status}; its last lines say how to try it again");
}

#[cfg(not(feature = "failpoints"))]
#[test]
fn campaigns_need_the_feature_failpoints() {
    vidcore::testkit::require("the feature `failpoints` (nemesis)", false);
}
