//! Storyboards: small pictures at equal distances, many to a sheet, and the WebVTT file that says which part
//! of which sheet shows which moment. What players show beside the pointer on their time line.
//!
//! The cues' text is an address relative to the file itself with a spatial fragment in pixels
//! (`sheet.jpg#xywh=160,90,160,90`, W3C Media Fragments URI 1.0 §4.2.2).

use std::fmt::Write as _;
use std::time::Duration;

use crate::media::ladder;

/// The WebVTT file's name.
pub const INDEX: &str = "storyboard.vtt";

/// What it is served as.
pub const INDEX_TYPE: &str = "text/vtt";

/// The longest side of one picture in pixels.
const SIDE: u32 = 160;

/// Pictures beside and below each other on a whole sheet: 1600 pixels at most, which every decoder takes.
const COLUMNS: u32 = 10;
const ROWS: u32 = 10;

/// The most pictures of one video: two sheets.
const MOST: u64 = 200;

/// The least distance between two pictures.
const LEAST: Duration = Duration::from_secs(1);

/// How a storyboard is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// How far one picture is from the next.
    pub interval: Duration,
    /// Width of one picture in pixels, even.
    pub width: u32,
    /// Height of one picture in pixels, even.
    pub height: u32,
    /// Pictures beside each other on a sheet.
    pub columns: u32,
    /// Pictures below each other on a sheet.
    pub rows: u32,
    /// The most sheets.
    pub sheets: u32,
}

impl Layout {
    /// For a source of this size as shown and this length: a picture each second or, so that there are at
    /// most 200, less often. A short video's only sheet has no more room than it needs.
    pub fn of((width, height): (u32, u32), length: Duration) -> Self {
        let length_ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        // Whole tenths of a second: what is shown of a time line is no finer.
        let interval_ms = (length_ms.div_ceil(MOST).div_ceil(100) * 100).max(LEAST.as_millis() as u64);
        let pictures = length_ms.div_ceil(interval_ms).clamp(1, MOST) as u32;
        let columns = pictures.min(COLUMNS);
        let rows = pictures.div_ceil(columns).min(ROWS);
        let (width, height) = ladder::within((width, height), SIDE);
        let interval = Duration::from_millis(interval_ms);
        Self { interval, width, height, columns, rows, sheets: pictures.div_ceil(columns * rows) }
    }

    /// Pictures on a whole sheet.
    pub fn per_sheet(&self) -> u32 {
        self.columns * self.rows
    }

    /// The WebVTT file (W3C WebVTT §4) of `pictures` pictures on these sheets, each named by an address
    /// relative to the file, for a video of this length. Pictures without a sheet are left out.
    pub fn index(&self, sheets: &[String], pictures: u32, length: Duration) -> String {
        let mut text = "WEBVTT\n".to_owned();
        for picture in 0..pictures {
            let Some(sheet) = sheets.get((picture / self.per_sheet()) as usize) else { break };
            let begin = self.interval * picture;
            let end = if picture + 1 == pictures { length.max(begin + LEAST) } else { begin + self.interval };
            let place = picture % self.per_sheet();
            let (x, y) = (place % self.columns * self.width, place / self.columns * self.height);
            let (begin, end) = (Moment(begin), Moment(end));
            // Writing to a string does not fail.
            let _ = write!(text, "\n{begin} --> {end}\n{sheet}#xywh={x},{y},{},{}\n", self.width, self.height);
        }
        text
    }
}

/// A WebVTT timestamp: hours of two or more digits.
struct Moment(Duration);

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.0.as_secs();
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        write!(f, "{hours:02}:{minutes:02}:{:02}.{:03}", seconds % 60, self.0.subsec_millis())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_short_video_has_a_picture_each_second_on_one_sheet_that_fits() {
        let layout = Layout::of((1280, 720), Duration::from_millis(7_500));
        assert_eq!((160, 90, 8, 1, 1), (layout.width, layout.height, layout.columns, layout.rows, layout.sheets));
        assert_eq!(Duration::from_secs(1), layout.interval);
    }

    #[test]
    fn a_long_video_has_two_hundred_pictures() {
        let layout = Layout::of((1080, 1920), Duration::from_secs(3600));
        assert_eq!((90, 160, 10, 10, 2), (layout.width, layout.height, layout.columns, layout.rows, layout.sheets));
        assert_eq!(Duration::from_secs(18), layout.interval);
    }

    #[test]
    fn the_cues_follow_each_other_to_the_end_and_name_their_part() {
        let layout = Layout::of((640, 360), Duration::from_millis(11_500));
        let text = layout.index(&["a.jpg".to_owned()], 12, Duration::from_millis(11_500));
        assert!(text.starts_with("WEBVTT\n\n00:00:00.000 --> 00:00:01.000\na.jpg#xywh=0,0,160,90\n\n"), "{text}");
        assert!(text.ends_with("\n00:00:11.000 --> 00:00:12.000\na.jpg#xywh=160,90,160,90\n"), "{text}");
        assert_eq!(12, text.matches("-->").count());
    }

    proptest! {
        #[test]
        fn whatever_the_length_the_pictures_suffice_and_are_few(ms in 0_u64..=48 * 3_600_000, w in 1_u32..9000, h in 1_u32..9000) {
            let layout = Layout::of((w, h), Duration::from_millis(ms));
            prop_assert!(layout.interval >= LEAST && layout.sheets <= 2);
            prop_assert!(layout.columns <= COLUMNS && layout.rows <= ROWS);
            let room = layout.interval * layout.per_sheet() * layout.sheets;
            prop_assert!(room >= Duration::from_millis(ms), "{layout:?}");
        }
    }
}
