//! One connection from its first byte to its last.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderValue, Request, StatusCode, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::door;
use super::framing::HeadWatch;
use super::shutdown::Stop;
use super::streams::{StreamExecutor, StreamWatch};
use super::wire::{Wire, WireTimeouts};
use crate::config::ServerSettings;
use crate::metrics::names;

/// Bytes waiting to be sent per HTTP/2 stream.
const H2_SEND_BUFFER: usize = 64 * 1024;

/// Bytes an HTTP/2 client may send ahead, per stream and per connection.
const H2_STREAM_WINDOW: u32 = 256 * 1024;
const H2_CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Streams a client may reset before they were accepted, and those reset for its errors, before the
/// connection is closed (CVE-2023-44487 and its kin).
const H2_RESETS: usize = 20;

/// What every connection of a server shares.
#[derive(Clone)]
pub(super) struct Connections {
    app: Router,
    builder: Arc<auto::Builder<StreamExecutor>>,
    settings: Arc<ServerSettings>,
    stop: Stop,
    kill: CancellationToken,
}

impl Connections {
    pub(super) fn new(app: Router, settings: Arc<ServerSettings>, stop: Stop, kill: CancellationToken) -> Self {
        Self { app, builder: Arc::new(builder(&settings)), settings, stop, kill }
    }

    /// Serves until the client leaves, a bound is met, or the server stops.
    pub(super) async fn serve(self, stream: TcpStream, peer: SocketAddr) {
        metrics::gauge!(names::CONNECTIONS).increment(1.0);
        let _open = OpenConnection;
        // Answers are written whole; waiting to fill packets would only delay them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        let heads = Arc::new(HeadWatch::default());
        let activity = Arc::new(Activity::new());
        let wire = Wire::new(stream, WireTimeouts::of(&self.settings), heads.clone());
        let service = Requests { app: self.app.clone(), peer, heads, activity: activity.clone() };
        let connection = self.builder.serve_connection(TokioIo::new(wire), hyper_service(service));
        self.watch(pin!(connection), &activity).await;
    }

    async fn watch<C: Gentle>(&self, mut connection: Pin<&mut C>, activity: &Activity) {
        let idle = self.settings.keep_alive_idle();
        // A connection asked to close because it is idle has nothing left to say.
        let last_word = self.settings.header_read_timeout();
        let mut closing = false;
        let mut deadline = pin!(tokio::time::sleep(idle));
        loop {
            tokio::select! {
                ended = connection.as_mut() => return report_end(ended),
                () = self.kill.cancelled() => return cut("drain"),
                () = self.stop.drain_asked(), if !closing => {
                    closing = true;
                    connection.as_mut().close_gently();
                    deadline.as_mut().reset(Instant::now() + FAR_FUTURE);
                }
                () = deadline.as_mut() => match activity.idle_until(idle) {
                    Some(later) => deadline.as_mut().reset(later),
                    None if closing => return cut("idle"),
                    None => {
                        closing = true;
                        connection.as_mut().close_gently();
                        deadline.as_mut().reset(Instant::now() + last_word);
                    }
                },
            }
        }
    }
}

/// Longer than any drain: the drain's own deadline ends the connection.
const FAR_FUTURE: Duration = Duration::from_secs(86_400);

fn builder(settings: &ServerSettings) -> auto::Builder<StreamExecutor> {
    let mut builder = auto::Builder::new(StreamExecutor::new(settings.write_stall_timeout()));
    let header_bytes = settings.max_header_bytes;
    builder
        .http1()
        .timer(TokioTimer::new())
        // The wire bounds heads and idle time apart; hyper's one timer covers both and stands behind.
        .header_read_timeout(
            settings.keep_alive_idle() + settings.header_read_timeout() + settings.header_read_timeout(),
        )
        // The buffer bounds the head: one that does not fit is answered with 431.
        .max_buf_size(header_bytes as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.http2_max_streams)
        .max_header_list_size(header_bytes)
        .max_send_buf_size(H2_SEND_BUFFER)
        .initial_stream_window_size(H2_STREAM_WINDOW)
        .initial_connection_window_size(H2_CONNECTION_WINDOW)
        .max_pending_accept_reset_streams(H2_RESETS)
        .max_local_error_reset_streams(H2_RESETS)
        .keep_alive_interval(Duration::from_millis(settings.http2_ping_interval_ms))
        .keep_alive_timeout(Duration::from_millis(settings.http2_ping_timeout_ms));
    builder
}

/// A connection that can be asked to end after what is running.
trait Gentle: Future<Output = Result<(), Box<dyn std::error::Error + Send + Sync>>> {
    fn close_gently(self: Pin<&mut Self>);
}

impl<I, S, E, B> Gentle for auto::Connection<'_, I, S, E>
where
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: 'static,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
    B: HttpBody + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    E: auto::HttpServerConnExec<S::Future, B>,
{
    fn close_gently(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

fn report_end(ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    let Err(error) = ended else { return };
    match Wire::timeout_behind(error.as_ref()) {
        Some(reason) => cut(reason),
        // A client that leaves or talks nonsense is its own affair; hyper has answered what it could.
        None => tracing::debug!(error = %error, "connection ended with an error"),
    }
}

fn cut(reason: &'static str) {
    metrics::counter!(names::CONNECTIONS_CUT, "reason" => reason).increment(1);
    tracing::debug!(reason, "connection cut");
}

/// Keeps the gauge right however the task ends.
struct OpenConnection;

impl Drop for OpenConnection {
    fn drop(&mut self) {
        metrics::gauge!(names::CONNECTIONS).decrement(1.0);
    }
}

/// Which requests of a connection are running, and since when none is.
#[derive(Debug)]
struct Activity {
    running: AtomicUsize,
    idle_since: Mutex<Instant>,
}

impl Activity {
    fn new() -> Self {
        Self { running: AtomicUsize::new(0), idle_since: Mutex::new(Instant::now()) }
    }

    fn begin(self: &Arc<Self>) -> RunningRequest {
        self.running.fetch_add(1, Ordering::AcqRel);
        RunningRequest(self.clone())
    }

    /// When to look again; `None` if nothing has run for `idle`.
    fn idle_until(&self, idle: Duration) -> Option<Instant> {
        let now = Instant::now();
        if self.running.load(Ordering::Acquire) > 0 {
            return Some(now + idle);
        }
        let since = *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner);
        Some(since + idle).filter(|until| *until > now)
    }
}

/// A request until the last byte of its answer was handed to hyper, or it was dropped.
#[derive(Debug)]
struct RunningRequest(Arc<Activity>);

impl Drop for RunningRequest {
    fn drop(&mut self) {
        *self.0.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Turns hyper's requests into the router's.
#[derive(Clone)]
struct Requests {
    app: Router,
    peer: SocketAddr,
    heads: Arc<HeadWatch>,
    activity: Arc<Activity>,
}

fn hyper_service(
    requests: Requests,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = Response<AnswerBody>,
    Error = Infallible,
    Future: Future<Output = Result<Response<AnswerBody>, Infallible>> + Send + 'static,
> {
    hyper::service::service_fn(move |request| {
        // Counted here and not in the future: a stream that was accepted is running even before it
        // is first polled.
        let running = requests.activity.begin();
        let refused = door::refuse(&request, &requests.heads);
        let is_http1 = request.version() <= Version::HTTP_11;
        let last = is_http1 && (refused.is_some() || request.headers().contains_key(TRANSFER_ENCODING));
        let mut app = requests.app.clone();
        let peer = requests.peer;
        async move {
            let mut response = match refused {
                Some(problem) => problem.into_response(),
                None => {
                    let mut request = request.map(Body::new);
                    request.extensions_mut().insert(ConnectInfo(peer));
                    app.call(request).await.unwrap_or_else(|never| match never {})
                }
            };
            if response.status() == StatusCode::NOT_MODIFIED {
                // The router writes down that there is no body, but the header would speak of what the caller holds
                // (RFC 9110 §8.6).
                response.headers_mut().remove(CONTENT_LENGTH);
            }
            if last {
                response = close_after(response);
            }
            Ok(response.map(|body| AnswerBody::new(body, running)))
        }
    })
}

/// The framing of what follows is not worth trusting (refused requests), or not followed (chunked
/// ones, see [`HeadWatch`]).
fn close_after(mut response: Response) -> Response {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// An answer's body: marks its request as running, and on HTTP/2 shows when the client takes none of it.
struct AnswerBody {
    inner: Body,
    stream: Option<Arc<StreamWatch>>,
    _running: RunningRequest,
}

impl AnswerBody {
    fn new(inner: Body, running: RunningRequest) -> Self {
        let stream = StreamWatch::current();
        if let Some(stream) = &stream {
            stream.waits_for_client();
        }
        Self { inner, stream, _running: running }
    }
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(stream) = &self.stream {
            stream.waits_for_server();
        }
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let (Some(stream), Poll::Ready(Some(_))) = (&self.stream, &polled) {
            stream.waits_for_client();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
