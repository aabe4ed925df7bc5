//! `kill -9` at named points: what was acknowledged is not lost, and the video ends ready.
//!
//! Each test runs the real program on a folder of its own, armed to die at one point, walks a video
//! towards playback until it dies, starts it again unarmed, and goes on. At the end the platform's own
//! checks find nothing wrong. A disk that is full is tried the same way.

#[cfg(feature = "failpoints")]
mod disk;
#[cfg(feature = "failpoints")]
mod full_disk;
#[cfg(feature = "failpoints")]
mod multipart;
#[cfg(feature = "failpoints")]
mod points;
#[cfg(feature = "failpoints")]
mod process;
#[cfg(feature = "failpoints")]
#[path = "../resumable/mod.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod resumable;
#[cfg(feature = "failpoints")]
mod tus;
#[cfg(feature = "failpoints")]
mod tus_disk;
#[cfg(feature = "failpoints")]
mod two_servers;
#[cfg(feature = "failpoints")]
mod views;

#[cfg(not(feature = "failpoints"))]
#[test]
fn kill_points_need_the_feature_failpoints() {
    vidcore::testkit::require("the feature `failpoints` (kill points)", false);
}
