//! Prometheus figures of the process: one recorder, rendered on a listener of its own.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::task::JoinHandle;

/// Names of the figures this crate writes.
pub mod names {
    /// Requests answered, by `method`, `route` (pattern) and `status`; `cancelled` if the client left.
    pub const REQUESTS: &str = "vid_http_requests_total";
    /// Seconds from a request's head to the head of its answer, by `method` and `route`.
    pub const DURATION: &str = "vid_http_request_duration_seconds";
    /// Requests being answered now.
    pub const IN_FLIGHT: &str = "vid_http_requests_in_flight";
    /// Connections open now.
    pub const CONNECTIONS: &str = "vid_http_connections";
    /// Connections ended by the server, by `reason`.
    pub const CONNECTIONS_CUT: &str = "vid_http_connections_cut_total";
    /// Resident memory of the process in bytes.
    pub const RESIDENT_BYTES: &str = "process_resident_memory_bytes";
    /// Open file descriptors of the process.
    pub const OPEN_FDS: &str = "process_open_fds";
}

/// Upper bounds of the duration buckets, in seconds.
const BUCKETS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The same for what runs in the background, up to the four hours that an encoding may take.
const WORK_BUCKETS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0];

/// How often the recorder folds what was recorded; between two times memory grows with traffic.
const UPKEEP: Duration = Duration::from_secs(5);

/// A recorder could not be installed, because the program has another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("another metrics recorder is installed")]
pub struct OtherRecorder;

/// Installs the process's recorder; a second call gives the same one.
///
/// # Errors
/// [`OtherRecorder`] if the program has installed its own.
pub fn install() -> Result<PrometheusHandle, OtherRecorder> {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = HANDLE.get() {
        return Ok(handle.clone());
    }
    let work = |name: &str| Matcher::Full(name.to_owned());
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)
        .and_then(|builder| builder.set_buckets_for_metric(work("vid_job_run_seconds"), &WORK_BUCKETS))
        .and_then(|builder| builder.set_buckets_for_metric(work("vid_media_encode_seconds"), &WORK_BUCKETS))
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(|_| OtherRecorder)?;
    describe();
    Ok(HANDLE.get_or_init(|| handle).clone())
}

/// Keeps the recorder small until the task is aborted.
pub fn spawn_upkeep(handle: PrometheusHandle) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(UPKEEP);
        loop {
            tick.tick().await;
            handle.run_upkeep();
        }
    })
}

/// The exposition text, with the process's own figures as of now.
pub fn render(handle: &PrometheusHandle) -> String {
    record_process();
    handle.render()
}

fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_counter!(names::REQUESTS, "Requests answered, by method, route and status");
    describe_histogram!(names::DURATION, Unit::Seconds, "Time from a request's head to the head of its answer");
    describe_gauge!(names::IN_FLIGHT, "Requests being answered now");
    describe_gauge!(names::CONNECTIONS, "Connections open now");
    describe_counter!(names::CONNECTIONS_CUT, "Connections ended by the server, by reason");
    describe_gauge!(names::RESIDENT_BYTES, Unit::Bytes, "Resident memory of the process");
    describe_gauge!(names::OPEN_FDS, "Open file descriptors of the process");
}

/// Linux shows both under `/proc`; elsewhere the gauges are left out.
fn record_process() {
    if let Ok(status) = std::fs::read_to_string("/proc/self/status")
        && let Some(kib) = resident_kib(&status)
    {
        metrics::gauge!(names::RESIDENT_BYTES).set(kib as f64 * 1024.0);
    }
    if let Ok(fds) = std::fs::read_dir("/proc/self/fd") {
        metrics::gauge!(names::OPEN_FDS).set(fds.count() as f64);
    }
}

fn resident_kib(status: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installing_twice_gives_one_recorder() {
        let first = install().expect("no other recorder in this process");
        let second = install().expect("the same again");
        metrics::gauge!("vid_test_gauge").set(7.0);
        assert!(render(&first).contains("vid_test_gauge 7"));
        assert!(render(&second).contains("vid_test_gauge 7"));
    }

    #[test]
    fn resident_memory_is_read_from_the_status_text() {
        assert_eq!(Some(1234), resident_kib("Name:\tx\nVmRSS:\t    1234 kB\n"));
        assert_eq!(None, resident_kib("Name:\tx\n"));
    }
}
