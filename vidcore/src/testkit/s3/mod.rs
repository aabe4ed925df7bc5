//! An S3 server of a test's own, in this process, which checks signatures and can be told to misbehave.
//!
//! It keeps objects as files of a temporary folder. It has threads of its own, so that a test that blocks one, or
//! runs another process, finds it answering.

mod bucket;

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use futures_util::stream::{self, StreamExt};
use http_body_util::{BodyExt, StreamBody};
pub use hyper::Method;
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use s3s::Body;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::bucket::Bucket;
use crate::platform::settings::{S3Settings, Secret};

/// The one bucket.
const BUCKET: &str = "videos";

const ACCESS_KEY_ID: &str = "test-key";

/// The one secret that the server takes.
pub const SECRET_ACCESS_KEY: &str = "hidden-secret-of-the-test";

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// An answer of this status with this code in its body; nothing is carried out.
    Refuse(u16, &'static str),
    /// It is carried out, and the line breaks in the middle of the answer's body.
    CutBody,
    /// It is carried out, and the line breaks before the answer.
    LoseAnswer,
    /// Nothing happens until [`TestS3::release`]; then it is carried out.
    Hang,
}

#[derive(Debug, Clone)]
struct Planned {
    method: Method,
    /// What the request's path and query contain.
    part: String,
    fault: Fault,
}

#[derive(Debug, Default)]
struct Control {
    planned: VecDeque<Planned>,
    /// A fault of every request from now on, if any.
    always: Option<Fault>,
    /// Method, path and query of all requests so far.
    seen: Vec<(Method, String)>,
    released: CancellationToken,
}

/// A server on a loopback port with one bucket. It ends with the value.
pub struct TestS3 {
    folder: TempDir,
    address: SocketAddr,
    control: Arc<Mutex<Control>>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for TestS3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestS3").field("address", &self.address).finish_non_exhaustive()
    }
}

impl TestS3 {
    /// Starts one, with an empty bucket.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("there is a temporary folder");
        std::fs::create_dir(folder.path().join(BUCKET)).expect("a new folder is writable");
        let bucket = Bucket::new(FileSystem::new(folder.path()).expect("the folder is there"));
        let mut builder = S3ServiceBuilder::new(bucket);
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY_ID, SECRET_ACCESS_KEY));
        let (service, control) = (builder.build(), Arc::new(Mutex::new(Control::default())));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        listener.set_nonblocking(true).expect("a socket can be used without waiting");
        let address = listener.local_addr().expect("a bound socket has an address");
        let stop = CancellationToken::new();
        let served = serve(listener, service, Arc::clone(&control), stop.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(served);
        });
        Self { folder, address, control, stop, thread: Some(thread) }
    }

    /// How the bucket is reached. Repetitions come after milliseconds, and no answer is waited for longer than two
    /// seconds.
    pub fn settings(&self) -> S3Settings {
        S3Settings {
            bucket: BUCKET.to_owned(),
            endpoint: self.url(),
            access_key_id: ACCESS_KEY_ID.to_owned(),
            secret_access_key: Secret::new(SECRET_ACCESS_KEY),
            request_timeout_ms: 2000,
            retries: 3,
            retry_base_ms: 1,
            ..S3Settings::default()
        }
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The URL of an object, unsigned.
    pub fn url_of(&self, key: &str) -> String {
        format!("{}/{BUCKET}/{key}", self.url())
    }

    /// The file that holds an object.
    pub fn file_of(&self, key: &str) -> PathBuf {
        self.folder.path().join(BUCKET).join(key)
    }

    /// Has the next request of `method` whose path and query contain `part` fail; plans are met in their order.
    pub fn plan(&self, method: Method, part: &str, fault: Fault) {
        self.control().planned.push_back(Planned { method, part: part.to_owned(), fault });
    }

    /// Has every request fail from now on, or none.
    pub fn always(&self, fault: Option<Fault>) {
        self.control().always = fault;
    }

    /// Lets all requests go on that hang.
    pub fn release(&self) {
        std::mem::take(&mut self.control().released).cancel();
    }

    /// How many requests of `method` there were whose path and query contain `part`.
    pub fn requests(&self, method: &Method, part: &str) -> usize {
        self.control().seen.iter().filter(|(seen, target)| seen == method && target.contains(part)).count()
    }

    /// Files of uploads in parts that were neither completed nor given up.
    pub fn parts_left(&self) -> usize {
        let names = std::fs::read_dir(self.folder.path()).expect("the folder is there");
        let is_part = |name: &str| name.starts_with(".upload");
        names.filter(|name| name.as_ref().is_ok_and(|name| name.file_name().to_str().is_some_and(is_part))).count()
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        lock(&self.control)
    }
}

impl Drop for TestS3 {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(control: &Mutex<Control>) -> MutexGuard<'_, Control> {
    control.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(
    listener: std::net::TcpListener,
    service: S3Service,
    control: Arc<Mutex<Control>>,
    stop: CancellationToken,
) {
    let listener = TcpListener::from_std(listener).expect("a listening socket can be watched");
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => if let Ok((socket, _)) = accepted {
                connections.spawn(converse(socket, service.clone(), Arc::clone(&control)));
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse(socket: TcpStream, service: S3Service, control: Arc<Mutex<Control>>) {
    let answering = service_fn(move |request| answer(request, service.clone(), Arc::clone(&control)));
    // A line that breaks is what some tests want.
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), answering).await;
}

/// Hyper breaks the line on an error of the service.
async fn answer(
    request: Request<Incoming>,
    service: S3Service,
    control: Arc<Mutex<Control>>,
) -> Result<Response<Body>, Broken> {
    let (fault, released) = lock(&control).fault_of(&request);
    match fault {
        Some(Fault::Refuse(status, code)) => {
            // The request is taken in first: an answer before its end is another fault.
            let _ = request.into_body().collect().await;
            return Ok(refusal(status, code));
        }
        Some(Fault::Hang) => released.cancelled().await,
        _ => {}
    }
    let response = hyper::service::Service::call(&service, request).await.map_err(|_| Broken)?;
    match fault {
        Some(Fault::CutBody) => Ok(cut(response).await),
        Some(Fault::LoseAnswer) => Err(Broken),
        _ => Ok(response),
    }
}

impl Control {
    fn fault_of(&mut self, request: &Request<Incoming>) -> (Option<Fault>, CancellationToken) {
        let (method, target) = (request.method().clone(), request.uri().to_string());
        let met = self.planned.iter().position(|plan| plan.method == method && target.contains(&plan.part));
        self.seen.push((method, target));
        let planned = met.and_then(|at| self.planned.remove(at)).map(|plan| plan.fault);
        (self.always.or(planned), self.released.clone())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the line breaks here")]
struct Broken;

fn refusal(status: u16, code: &str) -> Response<Body> {
    let xml = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>planned</Message></Error>");
    let mut response = Response::new(Body::from(xml));
    *response.status_mut() = StatusCode::from_u16(status).expect("tests name statuses that exist");
    response
}

/// The first half of the body, under the length of all of it.
async fn cut(response: Response<Body>) -> Response<Body> {
    let (head, body) = response.into_parts();
    let bytes = BodyExt::collect(body).await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let half = Ok(Frame::data(bytes.slice(..bytes.len() / 2)));
    // Once nothing more comes at once, hyper sends what it has.
    let end = stream::once(tokio::task::yield_now()).map(|()| Err(Broken));
    Response::from_parts(head, Body::http_body_unsync(StreamBody::new(stream::iter([half]).chain(end))))
}
