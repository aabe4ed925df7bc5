//! What a failed ffmpeg or ffprobe meant: the file's fault, which no retry mends, or the machine's.

use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;

use crate::media::MediaError;
use crate::media::process::Finished;

/// Lines of standard error that go into the log.
const LOGGED_LINES: usize = 3;

/// The machine's fault, whatever else was said.
const MACHINE: [&str; 5] = [
    "No space left on device",
    "Disk quota exceeded",
    "Input/output error",
    "Cannot allocate memory",
    "Too many open files",
];

/// The file's fault.
const FILE: [&str; 10] = [
    "Invalid data found when processing input",
    "moov atom not found",
    // What a demuxer says that finds no packet in the whole file.
    ": End of file",
    "matches no streams",
    "does not contain any stream",
    "Could not find codec parameters",
    "Decoder (codec",
    "Error while decoding stream",
    "Picture size",
    "Invalid frame dimensions",
];

/// Whether the disk was full, which ffmpeg does not always end with a failure for.
pub(crate) fn says_disk_full(stderr: &str) -> bool {
    ["No space left on device", "Disk quota exceeded"].iter().any(|words| stderr.contains(words))
}

/// The outcome of a tool that did not end well.
pub(crate) fn of(tool: &'static str, finished: &Finished) -> MediaError {
    let says = |words: &[&str]| words.iter().any(|words| finished.stderr.contains(words));
    // A signal says nothing about the file: it may be the memory limit or an operator.
    if finished.status.signal().is_none() && !says(&MACHINE) && says(&FILE) {
        return MediaError::Unacceptable { reason: "The file is damaged or not a video.".to_owned() };
    }
    MediaError::Failed {
        message: format!("{tool} ended with {}: {}", finished.status, last_lines(&finished.stderr)),
        source: says_disk_full(&finished.stderr).then(|| std::io::Error::from(ErrorKind::StorageFull).into()),
    }
}

/// The last lines, joined, without control characters: they quote the file.
pub(crate) fn last_lines(stderr: &str) -> String {
    let lines: Vec<&str> = stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(LOGGED_LINES)..].join(" | ");
    let clean: String = last.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if clean.is_empty() { "it said nothing".to_owned() } else { clean }
}

#[cfg(test)]
mod tests {
    use std::process::ExitStatus;

    use super::*;

    fn judged(code: i32, stderr: &str) -> MediaError {
        of("ffmpeg", &Finished { status: ExitStatus::from_raw(code), stderr: stderr.to_owned() })
    }

    #[test]
    fn invalid_data_is_the_files_fault() {
        let error = judged(1 << 8, "file:x: Invalid data found when processing input\n");
        assert!(
            matches!(error, MediaError::Unacceptable { reason } if reason == "The file is damaged or not a video.")
        );
    }

    #[test]
    fn a_file_without_a_single_packet_is_at_fault_itself() {
        assert!(!judged(1 << 8, "file:/x/source: End of file\n").is_retryable());
    }

    #[test]
    fn a_full_disk_is_the_machines_fault_whatever_else_was_said() {
        let error = judged(1 << 8, "Invalid data found when processing input\nav_write: No space left on device\n");
        assert!(error.is_retryable());
    }

    #[test]
    fn a_killed_tool_says_nothing_about_the_file() {
        assert!(judged(9, "Invalid data found when processing input").is_retryable());
    }

    #[test]
    fn the_log_gets_the_last_lines_without_control_characters() {
        let MediaError::Failed { message, .. } = judged(1 << 8, "one\ntwo\nthree\n\x1b[31mfour\n") else {
            panic!("nothing blames the file");
        };
        assert_eq!("ffmpeg ended with exit status: 1: two | three |  [31mfour", message);
    }
}
