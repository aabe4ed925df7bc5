//! Where finished log lines wait to be written.
//!
//! A busy server logs a line for each request, and a call to the system for each line costs more than
//! making it. Lines of requests are therefore gathered for a moment and written together. Every other
//! line is written at once, after those before it: what explains a crash is never in memory only.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

/// The target of the line each request makes.
pub const ACCESS: &str = "vidserver::access";

/// How long a request's line may wait. Real time and not the platform's: it bounds what a killed
/// process takes with it, and nothing is decided by it.
const GATHER: Duration = Duration::from_millis(50);

/// Bytes that may wait; whoever adds the line that goes beyond writes them all itself.
const ROOM: usize = 64 * 1024;

/// Lines on their way to a writer. Clones share them.
#[derive(Debug)]
pub(super) struct Lines<W> {
    shared: Arc<Shared<W>>,
}

#[derive(Debug)]
struct Shared<W> {
    waiting: Mutex<Vec<u8>>,
    arrived: Condvar,
    out: Mutex<Out<W>>,
}

#[derive(Debug)]
struct Out<W> {
    writer: W,
    /// Takes the place of the lines that are being written, so that neither buffer is made anew.
    spare: Vec<u8>,
}

impl<W: Write + Send + 'static> Lines<W> {
    /// Lines for `writer` that somebody has to [`flush`](Self::flush).
    fn new(writer: W) -> Self {
        let out = Mutex::new(Out { writer, spare: Vec::new() });
        Self { shared: Arc::new(Shared { waiting: Mutex::default(), arrived: Condvar::new(), out }) }
    }

    /// Lines for `writer` that a thread writes a moment after they arrive, for as long as the process lives.
    ///
    /// # Errors
    /// The system starts no thread.
    pub(super) fn start(writer: W) -> io::Result<Self> {
        let lines = Self::new(writer);
        let written = lines.clone();
        std::thread::Builder::new().name("log".to_owned()).spawn(move || {
            loop {
                written.wait_for_some();
                std::thread::sleep(GATHER);
                written.flush();
            }
        })?;
        Ok(lines)
    }

    /// Writes what waits. A writer that fails loses it: there is nowhere left to say so.
    pub(super) fn flush(&self) {
        // Taken before the lines are, so that two who flush write in the order of arrival.
        let mut out = lock(&self.shared.out);
        let Out { writer, spare } = &mut *out;
        std::mem::swap(&mut *lock(&self.shared.waiting), spare);
        let _ = writer.write_all(spare);
        spare.clear();
    }

    fn wait_for_some(&self) {
        let waiting = lock(&self.shared.waiting);
        drop(self.shared.arrived.wait_while(waiting, |waiting| waiting.is_empty()));
    }

    fn add(&self, line: &[u8], at_once: bool) {
        let mut waiting = lock(&self.shared.waiting);
        let is_first = waiting.is_empty();
        waiting.extend_from_slice(line);
        let is_full = waiting.len() > ROOM;
        drop(waiting);
        if at_once || is_full {
            self.flush();
        } else if is_first {
            self.shared.arrived.notify_one();
        }
    }
}

impl<W> Clone for Lines<W> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

/// Takes one line.
#[derive(Debug)]
pub(super) struct Line<'a, W> {
    lines: &'a Lines<W>,
    at_once: bool,
}

impl<W: Write + Send + 'static> Write for Line<'_, W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.lines.add(line, self.at_once);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lines.flush();
        Ok(())
    }
}

impl<'a, W: Write + Send + 'static> MakeWriter<'a> for Lines<W> {
    type Writer = Line<'a, W>;

    fn make_writer(&'a self) -> Line<'a, W> {
        Line { lines: self, at_once: true }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line<'a, W> {
        Line { lines: self, at_once: metadata.target() != ACCESS }
    }
}

/// What a panic while the lock was held left behind is whole lines all the same.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            lock(&self.0).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Written {
        fn text(&self) -> String {
            String::from_utf8_lossy(&lock(&self.0)).into_owned()
        }
    }

    #[test]
    fn a_line_written_at_once_comes_after_those_that_waited() {
        let written = Written::default();
        let lines = Lines::new(written.clone());
        lines.add(b"first\n", false);
        assert_eq!("", written.text());
        lines.add(b"second\n", true);
        assert_eq!("first\nsecond\n", written.text());
        lines.flush();
        assert_eq!("first\nsecond\n", written.text());
    }

    #[test]
    fn lines_beyond_the_room_are_written_by_who_adds_them() {
        let written = Written::default();
        let lines = Lines::new(written.clone());
        lines.add(&vec![b'x'; ROOM], false);
        assert_eq!("", written.text());
        lines.add(b"\n", false);
        assert_eq!(ROOM + 1, written.text().len());
    }

    #[test]
    fn a_waiting_line_is_written_without_another_one() {
        let written = Written::default();
        let lines = Lines::start(written.clone()).expect("a thread");
        lines.add(b"alone\n", false);
        let begun = std::time::Instant::now();
        while written.text().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(20), "never written");
            std::thread::yield_now();
        }
        assert_eq!("alone\n", written.text());
    }
}
