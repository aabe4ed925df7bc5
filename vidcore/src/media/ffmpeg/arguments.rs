//! ffmpeg's command lines. Every word is made here; nothing an uploader wrote gets in.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use crate::media::hls::{INIT_SEGMENT, PLAYLIST};
use crate::media::probe::{SourceLimits, guarded_input};
use crate::media::sniff::Container;
use crate::media::storyboard::Layout;
use crate::media::{MediaError, RenditionPlan};

/// Seconds from one segment, and one forced key frame, to the next.
const SEGMENT_S: u32 = 4;

/// Where each picture of a storyboard leaves a line that begins with `frame:`.
pub(super) const TILES: &str = "tiles.txt";

/// Which frames a storyboard is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// Every one.
    Frames,
    /// Those that stand alone: a small part of the work, and near enough where pictures are far apart.
    KeyFrames,
}

/// What all command lines have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arguments {
    pub(super) limits: SourceLimits,
    /// 0 lets ffmpeg choose.
    pub(super) threads: u16,
}

impl Arguments {
    /// One HLS rendition, written into the current folder.
    pub(super) fn rendition(
        &self,
        container: Container,
        input: &Path,
        plan: &RenditionPlan,
    ) -> Result<Vec<OsString>, MediaError> {
        let mut words = self.opening(container, input)?;
        add(&mut words, &["-progress", "pipe:1", "-stats_period", "0.5", "-nostats"]);
        self.add_video(&mut words, plan);
        add_audio(&mut words, plan);
        // One second more than allowed: enough to see that a source which does not tell its length
        // is too long, without encoding all of it.
        let longest = self.limits.max_duration.as_secs().saturating_add(1);
        add(&mut words, &["-t", &longest.to_string()]);
        add_hls(&mut words);
        Ok(words)
    }

    /// One picture, written into the current folder as `name`.
    pub(super) fn poster(
        &self,
        container: Container,
        input: &Path,
        at: Duration,
        (width, height): (u32, u32),
        name: &str,
    ) -> Result<Vec<OsString>, MediaError> {
        let mut words = start();
        // Before the input, so that ffmpeg seeks instead of decoding up to there.
        add(&mut words, &["-ss", &format!("{:.3}", at.as_secs_f64())]);
        words.extend(self.input(container, input)?);
        add(&mut words, &["-map", "0:V:0", "-an", "-sn", "-dn", "-map_metadata", "-1", "-frames:v", "1"]);
        add(&mut words, &["-vf", &format!("scale={width}:{height},setsar=1,format=yuvj420p")]);
        add(&mut words, &["-c:v", "mjpeg", "-q:v", "4", "-f", "image2", "-update", "1", "-y", name]);
        Ok(words)
    }

    /// A storyboard's sheets, written into the current folder by number, and [`TILES`], which has a line for
    /// each picture on them.
    pub(super) fn storyboard(
        &self,
        container: Container,
        input: &Path,
        layout: &Layout,
        pace: Pace,
    ) -> Result<Vec<OsString>, MediaError> {
        let Layout { width, height, columns, rows, sheets, interval } = layout;
        let mut words = start();
        if pace == Pace::KeyFrames {
            add(&mut words, &["-skip_frame", "nokey"]);
        }
        words.extend(self.input(container, input)?);
        add(&mut words, &["-map", "0:V:0", "-an", "-sn", "-dn", "-map_metadata", "-1"]);
        // A file may be longer than it says; how many pictures there really are is counted.
        let filters = format!(
            "fps=fps=1000/{},scale={width}:{height},setsar=1,format=yuvj420p,\
             metadata=mode=add:key=tile:value=1,metadata=mode=print:key=tile:file={TILES},tile={columns}x{rows}",
            interval.as_millis()
        );
        add(&mut words, &["-vf", &filters, "-frames:v", &sheets.to_string()]);
        add(&mut words, &["-c:v", "mjpeg", "-q:v", "5", "-f", "image2", "-y", "sheet_%03d.jpg"]);
        Ok(words)
    }

    fn opening(&self, container: Container, input: &Path) -> Result<Vec<OsString>, MediaError> {
        let mut words = start();
        words.extend(self.input(container, input)?);
        // `V` is the first video stream that is not cover art; sound is optional.
        add(
            &mut words,
            &["-map", "0:V:0", "-map", "0:a:0?", "-sn", "-dn", "-map_metadata", "-1", "-map_chapters", "-1"],
        );
        Ok(words)
    }

    fn input(&self, container: Container, input: &Path) -> Result<Vec<OsString>, MediaError> {
        let mut words = Vec::new();
        if self.threads > 0 {
            // Before the input this bounds the decoder.
            add(&mut words, &["-threads", &self.threads.to_string()]);
        }
        words.extend(guarded_input(container, self.limits.max_pixels, input)?);
        Ok(words)
    }

    /// H.264 High in 4:2:0 with 8 bits, which every player decodes. Constant quality with a ceiling:
    /// easy pictures take less than the plan's rate, none takes more for long. The level is left to
    /// x264, which states the lowest that size, frame rate and ceiling need; it is read back from
    /// the result. At most 60 frames/s: sources with a varying rate may claim thousands.
    fn add_video(&self, words: &mut Vec<OsString>, plan: &RenditionPlan) {
        let RenditionPlan { width, height, video_bitrate, .. } = plan;
        add(words, &["-vf", &format!("scale={width}:{height}:flags=bicubic,setsar=1,format=yuv420p")]);
        add(words, &["-c:v", "libx264", "-preset", "veryfast", "-profile:v", "high", "-crf", "23", "-fpsmax", "60"]);
        add(words, &["-maxrate", &video_bitrate.to_string(), "-bufsize", &video_bitrate.saturating_mul(2).to_string()]);
        // Key frames at the same moments in every rendition, whatever the frame rate; none at cuts.
        add(words, &["-force_key_frames", &format!("expr:gte(t,n_forced*{SEGMENT_S})"), "-sc_threshold", "0"]);
        if self.threads > 0 {
            add(words, &["-threads", &self.threads.to_string()]);
        }
    }
}

/// Everything up to the input; never a question, never an overwrite of what is there.
fn start() -> Vec<OsString> {
    ["-hide_banner", "-nostdin", "-v", "error"].map(OsString::from).into()
}

fn add_audio(words: &mut Vec<OsString>, plan: &RenditionPlan) {
    if plan.audio_bitrate == 0 {
        add(words, &["-an"]);
    } else {
        let rate = plan.audio_bitrate.to_string();
        add(words, &["-c:a", "aac", "-b:a", &rate, "-ac", "2", "-ar", "48000"]);
    }
}

fn add_hls(words: &mut Vec<OsString>) {
    add(words, &["-f", "hls", "-hls_time", &SEGMENT_S.to_string(), "-hls_list_size", "0", "-hls_playlist_type", "vod"]);
    add(words, &["-hls_flags", "independent_segments", "-hls_segment_type", "fmp4"]);
    add(words, &["-hls_fmp4_init_filename", INIT_SEGMENT, "-hls_segment_filename", "seg_%05d.m4s", PLAYLIST]);
}

fn add(words: &mut Vec<OsString>, more: &[&str]) {
    words.extend(more.iter().map(OsString::from));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::RenditionKind;

    const ARGUMENTS: Arguments = Arguments {
        limits: SourceLimits { max_duration: Duration::from_secs(60), max_pixels: 35_000_000 },
        threads: 2,
    };

    fn line(words: Result<Vec<OsString>, MediaError>) -> String {
        words.expect("the path is absolute").join(" ".as_ref()).into_string().expect("all words are ASCII")
    }

    fn plan(audio_bitrate: u32) -> RenditionPlan {
        RenditionPlan {
            name: "360p".to_owned(),
            kind: RenditionKind::Hls,
            width: 640,
            height: 360,
            video_bitrate: 1_060_000,
            audio_bitrate,
        }
    }

    #[test]
    fn every_line_opens_the_file_under_all_guards() {
        let guards = "-protocol_whitelist file,crypto,data -format_whitelist mov,matroska,webm,avi,mpegts,flv \
                      -max_pixels 35000000 -f matroska -i file:/in/put";
        let input = Path::new("/in/put");
        let rendition = line(ARGUMENTS.rendition(Container::WebM, input, &plan(96_000)));
        let poster =
            line(ARGUMENTS.poster(Container::WebM, input, Duration::from_millis(500), (640, 360), "poster.jpg"));
        let layout = Layout::of((640, 360), Duration::from_secs(8));
        let storyboard = line(ARGUMENTS.storyboard(Container::WebM, input, &layout, Pace::KeyFrames));
        for line in [rendition, poster, storyboard] {
            assert!(line.contains(guards), "{line}");
            assert!(line.contains("-nostdin") && line.contains("-sn -dn -map_metadata -1"), "{line}");
        }
    }

    #[test]
    fn a_silent_plan_takes_no_sound() {
        let silent = line(ARGUMENTS.rendition(Container::Mp4, Path::new("/in"), &plan(0)));
        assert!(silent.contains(" -an ") && !silent.contains("-c:a"));
        let sounding = line(ARGUMENTS.rendition(Container::Mp4, Path::new("/in"), &plan(96_000)));
        assert!(sounding.contains("-c:a aac -b:a 96000") && !sounding.contains(" -an "));
    }
}
