//! No ffmpeg outlives the call that started it, nor the process that made the call.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use vidcore::clock::{Clock, ManualClock, SystemClock};
use vidcore::media::ffmpeg::FfmpegTranscoder;
use vidcore::media::sandbox::Layer;
use vidcore::media::{EncodeRequest, Encoded, MediaError};
use vidcore::platform::settings::MediaSettings;
use vidcore::testkit::media::{MediaHarness, fixture};
use vidcore::testkit::require;

/// Set for the process that is to be killed: the source it encodes.
const WORKER_INPUT: &str = "VID_TEST_WORKER_INPUT";

/// A source of several minutes, made without encoding anything.
fn long_source(h: &MediaHarness) -> PathBuf {
    let path = h.folder.path().join("long.mp4");
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-stream_loop", "40", "-i"])
        .arg(fixture("demo.mp4"))
        .args(["-c", "copy"])
        .arg(&path)
        .status()
        .expect("ffmpeg runs");
    assert!(made.success());
    path
}

async fn ffmpeg_on(clock: Arc<dyn Clock>) -> Option<FfmpegTranscoder> {
    let detected = FfmpegTranscoder::detect(&MediaSettings::default(), clock).await;
    require("ffmpeg", detected.is_ok()).then_some(())?;
    detected.ok()
}

async fn request(h: &MediaHarness, input: &Path, cancel: &CancellationToken) -> EncodeRequest {
    let info = h.probe(input).await.expect("the source is a video");
    let plan = h.transcoder.plan(&info).remove(0);
    EncodeRequest { cancel: cancel.clone(), ..h.request(input, &info, &plan) }
}

/// Processes whose command line names `path`; the dead that nobody has reaped have none.
fn processes_naming(path: &Path) -> Vec<i32> {
    let text = path.to_str().expect("the folder's name is text");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("this is Linux").flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(text) {
            found.push(id);
        }
    }
    found
}

/// Waits until that many processes name `path`: they have their own time, so the wait is bounded.
async fn until_processes(path: &Path, count: usize) -> Vec<i32> {
    for _ in 0..1500 {
        let found = processes_naming(path);
        if found.len() == count {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{:?} name the source after 30 s, {count} were expected", processes_naming(path));
}

/// An encoding that has started its process.
async fn started(h: &MediaHarness, input: &Path, cancel: &CancellationToken) -> Encoding {
    let request = request(h, input, cancel).await;
    let transcoder = h.transcoder.clone();
    let encoding = tokio::spawn(async move { transcoder.encode(request).await });
    let process = until_processes(input, 1).await[0];
    // The fifth field is the group; names of programs run here hold no space.
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    assert_eq!(Some(process.to_string().as_str()), stat.split_whitespace().nth(4), "it leads its own group");
    encoding
}

type Encoding = tokio::task::JoinHandle<Result<Encoded, MediaError>>;

#[tokio::test]
async fn cancelling_ends_the_process_before_the_call_returns() {
    let Some(h) = MediaHarness::ffmpeg().await else { return };
    let (input, cancel) = (long_source(&h), CancellationToken::new());
    let encoding = started(&h, &input, &cancel).await;
    cancel.cancel();
    assert!(matches!(encoding.await.expect("no panic"), Err(MediaError::Cancelled)));
    assert!(processes_naming(&input).is_empty());
}

#[tokio::test]
async fn a_call_over_its_time_ends_its_process_before_it_returns() {
    let clock = ManualClock::default();
    let Some(ffmpeg) = ffmpeg_on(Arc::new(clock.clone())).await else { return };
    let h = MediaHarness::new(Arc::new(ffmpeg));
    let input = long_source(&h);
    let encoding = started(&h, &input, &CancellationToken::new()).await;
    let limit = Duration::from_secs(MediaSettings::default().encode_timeout_s);
    clock.advance(limit - Duration::from_millis(1));
    assert_eq!(1, processes_naming(&input).len());
    clock.advance(Duration::from_millis(1));
    assert!(matches!(encoding.await.expect("no panic"), Err(MediaError::TimedOut { limit: told }) if told == limit));
    assert!(processes_naming(&input).is_empty());
}

#[tokio::test]
async fn dropping_the_call_ends_its_process() {
    let Some(h) = MediaHarness::ffmpeg().await else { return };
    let input = long_source(&h);
    let encoding = started(&h, &input, &CancellationToken::new()).await;
    encoding.abort();
    assert!(encoding.await.is_err_and(|error| error.is_cancelled()));
    until_processes(&input, 0).await;
}

#[tokio::test]
async fn a_process_outlives_the_runtime_thread_that_asked_for_it() {
    let Some(h) = MediaHarness::ffmpeg().await else { return };
    let (input, cancel) = (long_source(&h), CancellationToken::new());
    let request = request(&h, &input, &cancel).await;
    // Polled once on a thread that then ends: were it the parent, its death would kill ffmpeg.
    let (transcoder, runtime) = (h.transcoder.clone(), tokio::runtime::Handle::current());
    let encoding = std::thread::spawn(move || {
        let _entered = runtime.enter();
        tokio::spawn(async move { transcoder.encode(request).await })
    });
    let encoding = encoding.join().expect("the thread only spawns");
    let process = until_processes(&input, 1).await;
    assert_eq!(process, until_processes(&input, 1).await);
    cancel.cancel();
    assert!(matches!(encoding.await.expect("no panic"), Err(MediaError::Cancelled)));
}

#[tokio::test]
async fn killing_the_worker_kills_its_ffmpeg() {
    let Some(ffmpeg) = ffmpeg_on(Arc::new(SystemClock::new())).await else { return };
    if !require("setpriv", ffmpeg.sandbox().layers().contains(&Layer::DiesWithParent)) {
        return;
    }
    let h = MediaHarness::new(Arc::new(ffmpeg));
    let input = long_source(&h);
    let this = std::env::current_exe().expect("a test has a binary");
    let mut worker = Command::new(this)
        .args(["--exact", "the_worker_that_is_killed", "--nocapture"])
        .env(WORKER_INPUT, &input)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("this very program runs");
    let ffmpeg = until_encoding(&input).await;
    worker.kill().expect("the worker runs");
    worker.wait().expect("the worker is ours");
    until_processes(&input, 0).await;
    assert!(!processes_naming(&input).contains(&ffmpeg));
}

/// The worker probes before it encodes; only ffmpeg itself is waited for.
async fn until_encoding(input: &Path) -> i32 {
    for _ in 0..1500 {
        let encoding = processes_naming(input).into_iter().find(|process| {
            fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|name| name.trim() == "ffmpeg")
        });
        if let Some(process) = encoding {
            return process;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the worker started no ffmpeg within 30 s");
}

/// Not a claim of its own: the other process of [`killing_the_worker_kills_its_ffmpeg`].
#[tokio::test]
async fn the_worker_that_is_killed() {
    let Some(input) = std::env::var_os(WORKER_INPUT).map(PathBuf::from) else { return };
    let ffmpeg = ffmpeg_on(Arc::new(SystemClock::new())).await.expect("the other process found it");
    let h = MediaHarness::new(Arc::new(ffmpeg));
    let request = request(&h, &input, &CancellationToken::new()).await;
    let ended = h.transcoder.encode(request).await;
    panic!("it was to be killed, but {ended:?}");
}
