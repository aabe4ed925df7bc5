//! Forward decay: scores that fade by themselves, so that a ranking is an order of a column.
//!
//! A view at time t weighs 2^((t − L) / half-life) and keeps that weight. Dividing all sums by the
//! weight of the moment at which one looks gives the exponentially decayed counts of that moment, and leaves
//! their order as it is: no score is ever touched but by a new view (Cormode, Shkapenyuk, Srivastava and Xu,
//! "Forward Decay", ICDE 2009). Kept is the sum's log2, which grows by one per half-life and never overflows.

use std::f64::consts::LN_2;

use crate::clock::Timestamp;

/// The moment at which a view weighs 1: 2026-01-01T00:00:00Z. Every score rests on it; it never moves.
const LANDMARK: Timestamp = Timestamp::from_millis(1_767_225_600_000);

const HOUR_MS: f64 = 3_600_000.0;

/// A view as old as the window it is looked at through weighs an eighth: three half-lives in a day.
const DAY_HALF_LIFE_MS: f64 = 8.0 * HOUR_MS;

/// Three half-lives in a week.
const WEEK_HALF_LIFE_MS: f64 = 56.0 * HOUR_MS;

/// Four half-lives in a day: what is on the rise within hours.
const TRENDING_HALF_LIFE_MS: f64 = 6.0 * HOUR_MS;

/// The age at which a view of a video counts half as much as one of a new video towards trending.
const NOVELTY_MS: f64 = 24.0 * HOUR_MS;

/// The scores of one video, each the log2 of a sum of weights; `None` before the first view.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Scores {
    /// Over about a day.
    pub day: Option<f64>,
    /// Over about a week.
    pub week: Option<f64>,
    /// Over hours, the younger the video the more.
    pub trending: Option<f64>,
}

impl Scores {
    /// The scores after one more view at `at` of a video that was published at `published_at`.
    #[must_use]
    pub fn viewed(self, at: Timestamp, published_at: Timestamp) -> Self {
        let since_landmark_ms = at.as_millis().saturating_sub(LANDMARK.as_millis()) as f64;
        let age_ms = at.since(published_at).as_millis() as f64;
        Self {
            day: add(self.day, since_landmark_ms / DAY_HALF_LIFE_MS),
            week: add(self.week, since_landmark_ms / WEEK_HALF_LIFE_MS),
            trending: add(
                self.trending,
                since_landmark_ms / TRENDING_HALF_LIFE_MS - (age_ms / NOVELTY_MS).ln_1p() / LN_2,
            ),
        }
    }
}

/// log2(2^sum + 2^weight), without ever raising two to either.
fn add(sum: Option<f64>, weight: f64) -> Option<f64> {
    let Some(sum) = sum else { return Some(weight) };
    let (high, low) = if sum >= weight { (sum, weight) } else { (weight, sum) };
    Some(high + (low - high).exp2().ln_1p() / LN_2)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn scores(views_ms: &[u32]) -> Scores {
        views_ms.iter().fold(Scores::default(), |scores, ms| scores.viewed(at(*ms), LANDMARK))
    }

    fn at(ms: u32) -> Timestamp {
        LANDMARK.plus(Duration::from_millis(ms.into()))
    }

    /// The decayed count at `later`, summed anew from every view.
    fn reference(views_ms: &[u32], later: f64, half_life_ms: f64) -> f64 {
        views_ms.iter().map(|ms| (-(later - f64::from(*ms)) / half_life_ms).exp2()).sum()
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_the_decayed_counts_at_any_later_moment(
            one in proptest::collection::vec(0..604_800_000_u32, 1..60),
            two in proptest::collection::vec(0..604_800_000_u32, 1..60),
            wait_ms in 0..604_800_000_u32,
        ) {
            let later = 604_800_000.0 + f64::from(wait_ms);
            let (first, second) = (scores(&one), scores(&two));
            for (ours, theirs, half_life) in [
                (first.day, second.day, DAY_HALF_LIFE_MS),
                (first.week, second.week, WEEK_HALF_LIFE_MS),
            ] {
                let (a, b) = (reference(&one, later, half_life), reference(&two, later, half_life));
                // What rounding alone tells apart has no order.
                if (a / b - 1.0).abs() > 1e-9 {
                    prop_assert_eq!(a > b, ours > theirs);
                }
                let decayed = (ours.expect("it was viewed") - later / half_life).exp2();
                prop_assert!((decayed / a - 1.0).abs() < 1e-9, "{} is not {}", decayed, a);
            }
        }
    }

    #[test]
    fn a_hundred_years_of_views_overflow_nothing_and_are_told_apart() {
        let mut kept = Scores::default();
        let mut now = LANDMARK;
        for _ in 0..100 * 365 * 24 {
            now = now.plus(HOUR);
            let before = kept;
            kept = kept.viewed(now, LANDMARK);
            for (after, before) in [(kept.day, before.day), (kept.week, before.week), (kept.trending, before.trending)]
            {
                assert!(after.is_some_and(f64::is_finite) && after > before, "at {now}");
            }
        }
        // A stream that goes on for ever counts as what has not faded of it.
        let decayed =
            (kept.day.expect("viewed") - (now.as_millis() - LANDMARK.as_millis()) as f64 / DAY_HALF_LIFE_MS).exp2();
        let expected = 1.0 / (1.0 - (-HOUR_MS / DAY_HALF_LIFE_MS).exp2());
        assert!((decayed / expected - 1.0).abs() < 1e-6, "{decayed} is not {expected}");
    }

    #[test]
    fn the_order_of_two_views_does_not_matter() {
        let (there, back) = (scores(&[0, 50_000_000]), scores(&[50_000_000, 0]));
        assert!((there.day.expect("viewed") - back.day.expect("viewed")).abs() < 1e-12);
    }

    #[test]
    fn a_day_old_video_needs_twice_the_views_to_trend() {
        let now = LANDMARK.plus(48 * HOUR);
        let new = Scores::default().viewed(now, now);
        let day_old = now.minus(24 * HOUR);
        let old = Scores::default().viewed(now, day_old).viewed(now, day_old);
        assert!((new.trending.expect("viewed") - old.trending.expect("viewed")).abs() < 1e-12);
        assert!(new.day < old.day);
    }
}
