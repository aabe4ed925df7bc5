//! The socket under hyper, with the bounds hyper has not: the first byte, a request head apart from
//! the idle time before it, and a client that does not read.

use std::error::Error;
use std::future::Future;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::framing::{HeadWatch, Heads, Phase};
use crate::config::ServerSettings;

/// How long each wait may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct WireTimeouts {
    first_byte: Duration,
    head: Duration,
    write_stall: Duration,
}

impl WireTimeouts {
    pub(super) fn of(settings: &ServerSettings) -> Self {
        Self {
            first_byte: settings.first_byte_timeout(),
            head: settings.header_read_timeout(),
            write_stall: settings.write_stall_timeout(),
        }
    }
}

/// Which bound a connection met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
struct TimedOut(&'static str);

/// A socket that fails with [`ErrorKind::TimedOut`] when the client is too slow.
#[derive(Debug)]
pub(super) struct Wire<I> {
    io: I,
    timeouts: WireTimeouts,
    heads: Heads,
    reading: Deadline,
    writing: Deadline,
}

impl<I> Wire<I> {
    pub(super) fn new(io: I, timeouts: WireTimeouts, watch: Arc<HeadWatch>) -> Self {
        let mut reading = Deadline::default();
        reading.arm(timeouts.first_byte);
        Self { io, timeouts, heads: Heads::new(watch), reading, writing: Deadline::default() }
    }

    /// Takes note of bytes that arrived, and of the bound that holds from now on.
    fn received(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let before = self.heads.phase();
        let ended_one = self.heads.feed(bytes);
        match self.heads.phase() {
            // The time for a head runs from its first byte and is not prolonged by the next ones.
            Phase::Head if before != Phase::Head || ended_one => self.reading.arm(self.timeouts.head),
            Phase::Head => {}
            Phase::Between | Phase::Elsewhere => self.reading.disarm(),
        }
    }

    fn write_progress<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.writing.disarm();
            return polled;
        }
        self.writing.arm_if_idle(self.timeouts.write_stall);
        self.writing.poll(cx, "write_stall").map(Err)
    }
}

impl Wire<()> {
    /// The bound a connection's error comes from, if it comes from one.
    pub(super) fn timeout_behind(error: &(dyn Error + 'static)) -> Option<&'static str> {
        let mut next = Some(error);
        while let Some(error) = next {
            let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            if let Some(TimedOut(reason)) = inner.and_then(|inner| inner.downcast_ref::<TimedOut>()) {
                return Some(reason);
            }
            next = error.source();
        }
        None
    }
}

/// A timer that is off until it is armed.
#[derive(Debug, Default)]
struct Deadline {
    sleep: Option<Pin<Box<Sleep>>>,
    armed: bool,
}

impl Deadline {
    fn arm(&mut self, after: Duration) {
        let at = Instant::now() + after;
        self.armed = true;
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(at),
            None => self.sleep = Some(Box::pin(sleep_until(at))),
        }
    }

    fn arm_if_idle(&mut self, after: Duration) {
        if !self.armed {
            self.arm(after);
        }
    }

    fn disarm(&mut self) {
        self.armed = false;
    }

    fn poll(&mut self, cx: &mut Context<'_>, reason: &'static str) -> Poll<io::Error> {
        match &mut self.sleep {
            Some(sleep) if self.armed => {
                sleep.as_mut().poll(cx).map(|()| io::Error::new(ErrorKind::TimedOut, TimedOut(reason)))
            }
            _ => Poll::Pending,
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Wire<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        match Pin::new(&mut this.io).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                this.received(&buf.filled()[before..]);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                let reason = if this.heads.is_fresh() { "first_byte" } else { "head" };
                this.reading.poll(cx, reason).map(Err)
            }
        }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Wire<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        self.write_progress(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.write_progress(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        self.write_progress(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_shutdown(cx);
        self.write_progress(cx, polled)
    }
}
