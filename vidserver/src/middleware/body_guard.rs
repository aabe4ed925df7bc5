//! Request bodies that come too slowly.
//!
//! A gap without bytes has a bound, and beyond a first grace so has the average rate: a sender of
//! one byte a second would otherwise hold its connection for ever. Only time spent waiting for the
//! client counts; a route that reads slowly is never blamed on it.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use bytes::{Buf, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

/// How slowly a body may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyPace {
    /// The longest gap without a byte; also the grace before the rate is judged.
    pub idle: Duration,
    /// The least average rate in bytes per second of waiting, once the grace is over; 0 demands none.
    pub min_bytes_per_s: u64,
}

/// Why a body was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyStalled {
    /// No byte came for too long.
    #[error("no byte of the body came in time")]
    Idle,
    /// Bytes came, but too few.
    #[error("the body came below the least rate")]
    TooSlow,
}

impl BodyStalled {
    /// Whether this is what lies behind an error of reading a body, at any depth.
    pub fn is_behind(error: &(dyn Error + 'static)) -> bool {
        let mut next = Some(error);
        while let Some(error) = next {
            if error.is::<Self>() {
                return true;
            }
            next = error.source();
        }
        false
    }
}

/// Puts a request's body under a pace; one without a body is left as it is.
pub fn guard_body(request: Request, pace: BodyPace) -> Request {
    if request.body().is_end_stream() {
        return request;
    }
    request.map(|body| Body::new(GuardedBody::new(body, pace)))
}

/// A body that ends with [`BodyStalled`] when the client is too slow.
#[derive(Debug)]
struct GuardedBody {
    inner: Body,
    pace: BodyPace,
    received: u64,
    /// Time spent waiting for the client so far, closed gaps only.
    waited: Duration,
    /// The gap that is open now.
    gap: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl GuardedBody {
    fn new(inner: Body, pace: BodyPace) -> Self {
        Self { inner, pace, received: 0, waited: Duration::ZERO, gap: None }
    }

    fn too_slow(&self) -> bool {
        self.waited > self.pace.idle
            && (self.received as f64) < self.pace.min_bytes_per_s as f64 * self.waited.as_secs_f64()
    }

    /// Waits on while the gap is short enough.
    fn poll_gap(&mut self, cx: &mut Context<'_>) -> Poll<BodyStalled> {
        let idle = self.pace.idle;
        let (_, sleep) = self.gap.get_or_insert_with(|| {
            let now = Instant::now();
            (now, Box::pin(sleep_until(now + idle)))
        });
        sleep.as_mut().poll(cx).map(|()| BodyStalled::Idle)
    }
}

impl HttpBody for GuardedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) else {
            let stalled = ready!(self.poll_gap(cx));
            return Poll::Ready(Some(Err(axum::Error::new(stalled))));
        };
        if let Some((since, _)) = self.gap.take() {
            self.waited += since.elapsed();
        }
        if let Some(Ok(frame)) = &frame {
            self.received += frame.data_ref().map_or(0, |data| data.remaining() as u64);
            if self.too_slow() {
                return Poll::Ready(Some(Err(axum::Error::new(BodyStalled::TooSlow))));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use futures_util::stream::{self, BoxStream};
    use http_body_util::BodyExt;

    use super::*;

    const PACE: BodyPace = BodyPace { idle: Duration::from_secs(10), min_bytes_per_s: 100 };

    fn every(gap: Duration, chunk: &'static [u8], times: usize) -> Body {
        let chunks: BoxStream<'static, Result<Bytes, std::io::Error>> = stream::iter(0..times)
            .then(move |_| async move {
                tokio::time::sleep(gap).await;
                Ok(Bytes::from_static(chunk))
            })
            .boxed();
        Body::from_stream(chunks)
    }

    async fn collect(body: Body) -> Result<Bytes, axum::Error> {
        let request = guard_body(Request::new(body), PACE);
        request.into_body().collect().await.map(http_body_util::Collected::to_bytes)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_keeps_the_pace_arrives_whole() {
        let bytes = collect(every(Duration::from_secs(1), &[7; 128], 60)).await.expect("fast enough");
        assert_eq!(60 * 128, bytes.len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_gap_ends_the_body() {
        let error = collect(every(Duration::from_secs(11), &[7; 100_000], 2)).await.expect_err("gap");
        assert!(BodyStalled::is_behind(&error));
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_a_second_ends_the_body() {
        let error = collect(every(Duration::from_secs(1), b"x", 60)).await.expect_err("too slow");
        assert!(error.to_string().contains("rate"), "{error}");
    }
}
