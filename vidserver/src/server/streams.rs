//! HTTP/2 streams whose client takes none of the answer.
//!
//! A client may leave a stream's window at zero while its connection stays lively, and so hold a
//! file and its buffers for as long as it likes. hyper runs each stream as one future on the
//! connection's executor; this executor ends those whose body has waited for the client too long,
//! which resets that stream and leaves the others alone.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::Executor;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::metrics::names;

tokio::task_local! {
    static STREAM: Arc<StreamWatch>;
}

/// Since when a stream's answer waits for its client.
#[derive(Debug, Default)]
pub(super) struct StreamWatch(Mutex<Option<Instant>>);

impl StreamWatch {
    /// The watch of the stream whose future is being polled; `None` on HTTP/1.
    pub(super) fn current() -> Option<Arc<Self>> {
        STREAM.try_with(Arc::clone).ok()
    }

    /// A part of the answer was handed over; the next is asked for when the client took it.
    pub(super) fn waits_for_client(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// The client is ready; the next part is the server's business.
    pub(super) fn waits_for_server(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn waiting_since(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Spawns streams on the runtime, each with a bound on how long its client may take nothing.
#[derive(Debug, Clone)]
pub(super) struct StreamExecutor {
    stall: Duration,
}

impl StreamExecutor {
    pub(super) fn new(stall: Duration) -> Self {
        Self { stall }
    }
}

impl<F> Executor<F> for StreamExecutor
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        tokio::spawn(WatchedStream {
            future: Box::pin(future),
            watch: Arc::default(),
            stall: self.stall,
            deadline: Box::pin(sleep_until(Instant::now() + self.stall)),
        });
    }
}

struct WatchedStream<F> {
    future: Pin<Box<F>>,
    watch: Arc<StreamWatch>,
    stall: Duration,
    deadline: Pin<Box<Sleep>>,
}

impl<F: Future> Future for WatchedStream<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let watch = this.watch.clone();
        if STREAM.sync_scope(watch, || this.future.as_mut().poll(cx)).is_ready() {
            return Poll::Ready(());
        }
        loop {
            // While the server is at work the timer only comes round to look again.
            let due = this.watch.waiting_since().unwrap_or_else(Instant::now) + this.stall;
            if this.deadline.deadline() < due && this.deadline.is_elapsed() {
                this.deadline.as_mut().reset(due);
            }
            if this.deadline.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if this.watch.waiting_since().is_some_and(|since| since.elapsed() >= this.stall) {
                metrics::counter!(names::CONNECTIONS_CUT, "reason" => "stream_stall").increment(1);
                return Poll::Ready(());
            }
        }
    }
}
