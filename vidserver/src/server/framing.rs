//! Where request heads begin and end on an HTTP/1 connection, for two things hyper does not tell:
//! when a head began, and whether its body's end is uncertain: both `Content-Length` and
//! `Transfer-Encoding`, or a length too long to be read along.
//!
//! hyper removes the length of such a request, so that a route cannot see it (RFC 9112 §6.3 allows
//! serving it; two programs on a path that disagree about its end are how requests are smuggled).
//! This reads along and decides nothing else: hyper parses the very same bytes and refuses what is
//! malformed. After a chunked request the reading stops, so such a request is the last one on its
//! connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What an HTTP/2 client sends first (RFC 9113 §3.4).
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How much of a header line is kept: names and lengths are shorter.
const LINE_KEPT: usize = 128;

/// No request.
const NONE: u64 = u64::MAX;

/// What the reader tells the service of the same connection.
#[derive(Debug)]
pub(super) struct HeadWatch {
    ambiguous: AtomicU64,
    served: AtomicU64,
}

impl Default for HeadWatch {
    fn default() -> Self {
        Self { ambiguous: AtomicU64::new(NONE), served: AtomicU64::new(0) }
    }
}

impl HeadWatch {
    /// Called once per request in order; whether it is uncertain where this one ends.
    pub(super) fn next_is_ambiguous(&self) -> bool {
        self.served.fetch_add(1, Ordering::AcqRel) == self.ambiguous.load(Ordering::Acquire)
    }
}

/// Where the reader stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// No byte of the next head has come.
    Between,
    /// Inside a head.
    Head,
    /// Inside a body, or where this reader does not follow.
    Elsewhere,
}

#[derive(Debug)]
enum Mode {
    /// So many bytes of the HTTP/2 preface have come, and nothing else.
    Preface(usize),
    Head(Head),
    Body(u64),
    Unfollowed,
}

#[derive(Debug, Default)]
struct Head {
    started: bool,
    lines: usize,
    length: Option<Length>,
    chunked: bool,
}

#[derive(Debug, Clone, Copy)]
enum Length {
    Bytes(u64),
    /// hyper refuses it.
    Unreadable,
    /// It does not fit into what is kept of a line; hyper may serve it (zeros in front are allowed),
    /// and this reader would no longer know where the next head begins.
    TooLong,
}

/// The reader.
#[derive(Debug)]
pub(super) struct Heads {
    mode: Mode,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    heads: u64,
    fresh: bool,
    watch: Arc<HeadWatch>,
}

impl Heads {
    pub(super) fn new(watch: Arc<HeadWatch>) -> Self {
        Self { mode: Mode::Preface(0), line: Vec::new(), heads: 0, fresh: true, watch }
    }

    /// Whether no byte has come at all.
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh
    }

    pub(super) fn phase(&self) -> Phase {
        match &self.mode {
            Mode::Preface(0) => Phase::Between,
            Mode::Preface(_) => Phase::Head,
            Mode::Head(head) if head.started => Phase::Head,
            Mode::Head(_) => Phase::Between,
            Mode::Body(_) | Mode::Unfollowed => Phase::Elsewhere,
        }
    }

    /// Reads along; whether a head ended within these bytes.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> bool {
        self.fresh &= bytes.is_empty();
        let heads = self.heads;
        while let Some((&byte, rest)) = bytes.split_first() {
            match &mut self.mode {
                Mode::Unfollowed => break,
                Mode::Body(left) => {
                    let skipped = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= skipped as u64;
                    bytes = &bytes[skipped..];
                    if *left == 0 {
                        self.mode = Mode::Head(Head::default());
                    }
                }
                Mode::Preface(matched) if byte == H2_PREFACE[*matched] => {
                    *matched += 1;
                    bytes = rest;
                    if *matched == H2_PREFACE.len() {
                        self.mode = Mode::Unfollowed;
                    }
                }
                Mode::Preface(matched) => {
                    let read = &H2_PREFACE[..*matched];
                    self.mode = Mode::Head(Head::default());
                    let mut read = read;
                    while !read.is_empty() {
                        read = &read[self.head_bytes(read)..];
                    }
                }
                Mode::Head(_) => bytes = &bytes[self.head_bytes(bytes)..],
            }
        }
        self.heads != heads
    }

    /// Takes bytes up to the end of the line they are in; how many that are.
    fn head_bytes(&mut self, bytes: &[u8]) -> usize {
        let Mode::Head(head) = &mut self.mode else { return bytes.len() };
        head.started = true;
        let end = bytes.iter().position(|&byte| byte == b'\n');
        let piece = &bytes[..end.unwrap_or(bytes.len())];
        let room = LINE_KEPT - self.line.len();
        self.line.extend_from_slice(&piece[..piece.len().min(room)]);
        let Some(end) = end else { return bytes.len() };
        let is_last = head.end_line(&self.line);
        self.line.clear();
        if is_last {
            self.mode = self.after_head();
        }
        end + 1
    }

    fn after_head(&mut self) -> Mode {
        let Mode::Head(head) = &self.mode else { return Mode::Unfollowed };
        let index = self.heads;
        self.heads += 1;
        match (head.chunked, head.length) {
            (true, Some(_)) | (false, Some(Length::TooLong)) => {
                self.watch.ambiguous.store(index, Ordering::Release);
                Mode::Unfollowed
            }
            (true, None) | (false, Some(Length::Unreadable)) => Mode::Unfollowed,
            (false, Some(Length::Bytes(length))) if length > 0 => Mode::Body(length),
            (false, _) => Mode::Head(Head::default()),
        }
    }
}

impl Head {
    /// Takes a line that has ended, without its line feed; whether it was the empty one that ends the head.
    fn end_line(&mut self, line: &[u8]) -> bool {
        let cut = line.len() == LINE_KEPT;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            // Empty lines before the request line are skipped (RFC 9112 §2.2).
            return self.lines > 0;
        }
        self.lines += 1;
        let mut parts = line.splitn(2, |&byte| byte == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { return false };
        if self.lines == 1 {
            return false;
        }
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.chunked = true;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            self.length = Some(if cut { Length::TooLong } else { Length::read(value) });
        }
        false
    }
}

impl Length {
    fn read(value: &[u8]) -> Self {
        let text = std::str::from_utf8(value).unwrap_or_default().trim();
        text.parse().map_or(Self::Unreadable, Self::Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the text in pieces of `size` bytes.
    fn read(text: &str, size: usize) -> (Heads, Arc<HeadWatch>) {
        let watch = Arc::new(HeadWatch::default());
        let mut heads = Heads::new(watch.clone());
        for piece in text.as_bytes().chunks(size) {
            heads.feed(piece);
        }
        (heads, watch)
    }

    const BOTH: &str = "POST / HTTP/1.1\r\nhost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    const BOTH_TURNED: &str = "POST / HTTP/1.1\r\nTRANSFER-ENCODING: chunked\nContent-length: 5\n\n0\r\n\r\n";

    #[test]
    fn two_lengths_are_seen_in_either_order_and_in_any_pieces() {
        for text in [BOTH, BOTH_TURNED] {
            for size in [1, 2, 7, 1000] {
                let (_, watch) = read(text, size);
                assert!(watch.next_is_ambiguous(), "{size}");
                assert!(!watch.next_is_ambiguous());
            }
        }
    }

    #[test]
    fn only_the_pipelined_request_with_two_lengths_is_named() {
        let good = "POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\n\n\n\nGET /b HTTP/1.1\r\nhost: x\r\n\r\n";
        for size in [1, 5, 1000] {
            let (_, watch) = read(&format!("{good}{BOTH}"), size);
            assert_eq!([false, false, true], [(); 3].map(|()| watch.next_is_ambiguous()), "{size}");
        }
    }

    #[test]
    fn a_length_too_long_to_follow_hides_nothing_behind_it() {
        let body = "a b\r\n\r\n";
        let length = format!("{}{}", "0".repeat(LINE_KEPT), body.len());
        let padded = format!("POST /a HTTP/1.1\r\nhost: x\r\nContent-Length: {length}\r\n\r\n{body}");
        for size in [1, 5, 1000] {
            let (_, watch) = read(&format!("{padded}{BOTH}"), size);
            assert!(watch.next_is_ambiguous(), "{size}");
        }
    }

    #[test]
    fn a_body_that_looks_like_a_head_is_none() {
        let body = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
        let (heads, watch) = read(&format!("PUT / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len()), 3);
        assert!(!watch.next_is_ambiguous());
        assert_eq!(Phase::Between, heads.phase());
    }

    #[test]
    fn phases_follow_the_bytes() {
        let mut heads = Heads::new(Arc::default());
        assert!(heads.is_fresh());
        assert_eq!(Phase::Between, heads.phase());
        assert!(!heads.feed(b"P"));
        assert_eq!((Phase::Head, false), (heads.phase(), heads.is_fresh()));
        assert!(heads.feed(b"OST / HTTP/1.1\r\ncontent-length: 2\r\n\r\n"));
        assert_eq!(Phase::Elsewhere, heads.phase());
        assert!(!heads.feed(b"xy"));
        assert_eq!(Phase::Between, heads.phase());
    }

    #[test]
    fn http2_is_left_alone_after_its_preface() {
        for size in [1, 24] {
            let (heads, watch) = read(std::str::from_utf8(H2_PREFACE).expect("ascii"), size);
            assert_eq!(Phase::Elsewhere, heads.phase());
            assert!(!watch.next_is_ambiguous());
        }
        let (heads, _) = read("PRI * HT", 3);
        assert_eq!(Phase::Head, heads.phase());
    }
}
