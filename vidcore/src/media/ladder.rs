//! Which renditions a video gets, as a pure function of its size as shown.

use crate::media::{MediaInfo, RenditionKind, RenditionPlan};

/// Short sides aimed at, best first.
const SHORT_SIDES: [u32; 2] = [720, 360];

/// Bits per second of 1280x720 at 30 frames/s: the lower of the two rates for that size in Apple's
/// "HLS Authoring Specification for Apple Devices" (H.264 table).
const REFERENCE_BITRATE: f64 = 3_000_000.0;
const REFERENCE_PIXELS: f64 = 1280.0 * 720.0;

/// What is planned where the source's size is not known. Never the case after a probe by ffprobe.
const UNKNOWN_SIZE: (u32, u32) = (640, 360);

/// The renditions of a video: one with a short side of at most 720 pixels, and one of 360 where the
/// first is larger. Never above the source, aspect ratio kept to within the rounding to even sides,
/// best first, named for the short side (`720p`, `360p`).
///
/// A source whose short side is 360 or less gets one rendition of its own size, rounded down to even
/// sides (4:2:0 sampling halves both).
pub fn plan(info: &MediaInfo) -> Vec<RenditionPlan> {
    let source = info.width.zip(info.height).unwrap_or(UNKNOWN_SIZE);
    let has_audio = info.audio_codec.is_some();
    let mut plans: Vec<RenditionPlan> = Vec::new();
    for target in SHORT_SIDES {
        let (width, height) = with_short_side(source, target);
        let smaller = plans.last().is_none_or(|last| width.min(height) < last.width.min(last.height));
        if smaller {
            plans.push(rendition(width, height, has_audio));
        }
    }
    plans
}

/// The largest size of the same shape whose longest side is at most `longest`, sides even, never
/// above `source`.
pub fn within(source: (u32, u32), longest: u32) -> (u32, u32) {
    scaled(source, longest.min(source.0.max(source.1)), source.0.max(source.1))
}

fn with_short_side(source: (u32, u32), target: u32) -> (u32, u32) {
    let short = source.0.min(source.1);
    scaled(source, target.min(short), short)
}

/// `source · numerator / denominator`, rounded down to even sides of at least 2.
fn scaled((width, height): (u32, u32), numerator: u32, denominator: u32) -> (u32, u32) {
    let side = |side: u32| {
        let exact = u64::from(side) * u64::from(numerator) / u64::from(denominator.max(1));
        // The numerator is at most the denominator, so the result fits.
        (u32::try_from(exact).unwrap_or(side) & !1).max(2)
    };
    (side(width), side(height))
}

fn rendition(width: u32, height: u32, has_audio: bool) -> RenditionPlan {
    let short = width.min(height);
    RenditionPlan {
        name: format!("{short}p"),
        kind: RenditionKind::Hls,
        width,
        height,
        video_bitrate: video_bitrate(width, height),
        audio_bitrate: audio_bitrate(short, has_audio),
    }
}

/// The reference rate times (pixels / reference pixels)^0.75: larger pictures compress better per
/// pixel, the common rule of thumb (B. Waggoner, "power of 0.75"). In whole kilobits, from 100 kbit/s
/// to 12 Mbit/s: below that H.264 falls apart, above it a 720p stream gains nothing.
fn video_bitrate(width: u32, height: u32) -> u32 {
    let pixels = f64::from(width) * f64::from(height);
    let rate = REFERENCE_BITRATE * (pixels / REFERENCE_PIXELS).powf(0.75);
    (rate.clamp(100_000.0, 12_000_000.0) / 1000.0) as u32 * 1000
}

/// AAC-LC stereo: 128 kbit/s is transparent to most listeners, 96 is fair where the picture is small.
fn audio_bitrate(short_side: u32, has_audio: bool) -> u32 {
    match (has_audio, short_side >= 480) {
        (false, _) => 0,
        (true, true) => 128_000,
        (true, false) => 96_000,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sizes(width: u32, height: u32) -> Vec<(String, u32, u32)> {
        plan(&info(width, height)).into_iter().map(|plan| (plan.name, plan.width, plan.height)).collect()
    }

    fn info(width: u32, height: u32) -> MediaInfo {
        MediaInfo {
            container: "mov,mp4,m4a,3gp,3g2,mj2".to_owned(),
            content_type: "video/mp4".to_owned(),
            duration_ms: Some(5000),
            width: Some(width),
            height: Some(height),
            video_codec: Some("h264".to_owned()),
            audio_codec: Some("aac".to_owned()),
        }
    }

    #[test]
    fn a_large_source_gets_720p_and_360p() {
        assert_eq!(vec![("720p".into(), 1280, 720), ("360p".into(), 640, 360)], sizes(3840, 2160));
    }

    #[test]
    fn a_portrait_source_stays_portrait() {
        assert_eq!(vec![("720p".into(), 720, 1280), ("360p".into(), 360, 640)], sizes(1080, 1920));
    }

    #[test]
    fn a_source_between_the_steps_gets_its_own_size_and_360p() {
        assert_eq!(vec![("480p".into(), 854, 480), ("360p".into(), 640, 360)], sizes(854, 480));
    }

    #[test]
    fn a_small_source_gets_one_rendition_of_even_sides() {
        assert_eq!(vec![("360p".into(), 640, 360)], sizes(640, 360));
        assert_eq!(vec![("360p".into(), 640, 360)], sizes(641, 361));
        assert_eq!(vec![("240p".into(), 426, 240)], sizes(427, 241));
    }

    #[test]
    fn a_silent_source_plans_no_sound() {
        let silent = MediaInfo { audio_codec: None, ..info(1280, 720) };
        assert!(plan(&silent).iter().all(|plan| plan.audio_bitrate == 0));
    }

    #[test]
    fn bitrates_follow_the_size() {
        let rates: Vec<_> =
            plan(&info(1920, 1080)).iter().map(|plan| (plan.video_bitrate, plan.audio_bitrate)).collect();
        assert_eq!(vec![(3_000_000, 128_000), (1_060_000, 96_000)], rates);
    }

    #[test]
    fn a_poster_keeps_its_shape_within_the_longest_side() {
        assert_eq!((1280, 720), within((3840, 2160), 1280));
        assert_eq!((720, 1280), within((1080, 1920), 1280));
        assert_eq!((426, 240), within((427, 241), 1280));
    }

    proptest! {
        #[test]
        fn no_plan_is_above_its_source(width in 2_u32..20_000, height in 2_u32..20_000) {
            for plan in plan(&info(width, height)) {
                prop_assert!(plan.width <= width && plan.height <= height);
                prop_assert!(plan.width % 2 == 0 && plan.height % 2 == 0);
                prop_assert!(plan.width >= 2 && plan.height >= 2);
                prop_assert!((100_000..=12_000_000).contains(&plan.video_bitrate));
            }
        }

        #[test]
        fn plans_have_distinct_names_and_come_best_first(width in 2_u32..20_000, height in 2_u32..20_000) {
            let plans = plan(&info(width, height));
            prop_assert!((1..=2).contains(&plans.len()));
            for pair in plans.windows(2) {
                prop_assert!(pair[0].name != pair[1].name);
                prop_assert!(pair[0].width >= pair[1].width && pair[0].height >= pair[1].height);
                prop_assert!(pair[0].video_bitrate >= pair[1].video_bitrate);
            }
        }

        #[test]
        fn the_shape_is_kept(width in 360_u32..8000, height in 360_u32..8000) {
            for plan in plan(&info(width, height)) {
                // Each side is off by less than two pixels from the exact one.
                let drift = f64::from(plan.width) * f64::from(height) - f64::from(plan.height) * f64::from(width);
                prop_assert!(drift.abs() <= 2.0 * f64::from(width.max(height)));
            }
        }
    }
}
