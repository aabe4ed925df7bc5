//! Reading `-progress`: lines of `key=value`, a block every half second.

use crate::media::Progress;

/// Longer lines are none of ours and are skipped.
const MAX_LINE_BYTES: usize = 256;

/// Turns ffmpeg's reports into shares that never go back.
pub(super) struct ProgressReader {
    duration_us: Option<f64>,
    line: Vec<u8>,
    share: f32,
    progress: Progress,
}

impl ProgressReader {
    /// Without a duration nothing is told until the end.
    pub(super) fn new(duration_ms: Option<u64>, progress: Progress) -> Self {
        let duration_us = duration_ms.filter(|duration| *duration > 0).map(|duration| duration as f64 * 1000.0);
        Self { duration_us, line: Vec::new(), share: 0.0, progress }
    }

    /// Takes the next piece of output; lines may be cut anywhere.
    pub(super) fn take(&mut self, piece: &[u8]) {
        for byte in piece {
            if *byte == b'\n' {
                self.end_line();
            } else if self.line.len() <= MAX_LINE_BYTES {
                self.line.push(*byte);
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let Some(duration) = self.duration_us else { return };
        let value = std::str::from_utf8(&line).ok().and_then(|line| line.strip_prefix("out_time_us="));
        // Before the first frame the value is `N/A` or negative.
        let Some(done) = value.and_then(|value| value.trim().parse::<i64>().ok()) else { return };
        // The last step, to 1.0, is the caller's, once the result is checked.
        let share = (done as f64 / duration).clamp(0.0, 0.99) as f32;
        if share > self.share {
            self.share = share;
            (self.progress)(share);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, PoisonError};

    use super::*;

    fn told(duration_ms: Option<u64>, pieces: &[&[u8]]) -> Vec<f32> {
        let shares = Arc::new(Mutex::new(Vec::new()));
        let keep = shares.clone();
        let progress: Progress = Arc::new(move |share| keep.lock().unwrap_or_else(PoisonError::into_inner).push(share));
        let mut reader = ProgressReader::new(duration_ms, progress);
        pieces.iter().for_each(|piece| reader.take(piece));
        let shares = shares.lock().unwrap_or_else(PoisonError::into_inner);
        shares.clone()
    }

    #[test]
    fn shares_grow_and_never_reach_the_end_early() {
        let pieces: [&[u8]; 3] = [
            b"out_time_us=N/A\nout_time_us=250",
            b"0000\nprogress=continue\nout_time_us=1000000\n",
            b"out_time_us=12000000\n",
        ];
        assert_eq!(vec![0.25, 0.99], told(Some(10_000), &pieces));
    }

    #[test]
    fn without_a_length_nothing_is_told() {
        assert!(told(None, &[b"out_time_us=2500000\n"]).is_empty());
    }

    #[test]
    fn an_endless_line_is_skipped() {
        let long = vec![b'x'; 100_000];
        assert_eq!(vec![0.5], told(Some(2), &[&long, b"\nout_time_us=1000\n"]));
    }
}
