//! The server's own sections. Times are whole milliseconds, sizes are bytes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::middleware::body_guard::BodyPace;

/// Sockets and connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerSettings {
    /// Address and port of the API; port 0 takes a free one. Default `127.0.0.1:8080`.
    pub listen: SocketAddr,
    /// Whether `/metrics` is served at all. Default true.
    pub metrics_enabled: bool,
    /// Address and port of `/metrics`; keep it away from the public. Default `127.0.0.1:9464`.
    pub metrics_listen: SocketAddr,
    /// Connections open at once; further ones wait in the kernel's queue. Default 4096.
    pub max_connections: usize,
    /// How long a new connection may stay silent, in milliseconds. Default 10,000.
    pub first_byte_timeout_ms: u64,
    /// How long a request head may take from its first byte, in milliseconds. Default 10,000.
    pub header_read_timeout_ms: u64,
    /// How long a connection without a request stays open, in milliseconds. Default 75,000.
    pub keep_alive_idle_ms: u64,
    /// How long a client may take none of the answer, in milliseconds. Default 60,000.
    pub write_stall_timeout_ms: u64,
    /// The largest request head, in bytes, which is also what HTTP/1 buffers per direction; at least
    /// 8192. Default 65,536.
    pub max_header_bytes: u32,
    /// HTTP/2 requests at once on one connection. Default 100.
    pub http2_max_streams: u32,
    /// How often a silent HTTP/2 client is asked for a sign of life, in milliseconds. Default 20,000.
    pub http2_ping_interval_ms: u64,
    /// How long it has to answer, in milliseconds. Default 10,000.
    pub http2_ping_timeout_ms: u64,
    /// How long running requests may go on at shutdown, in milliseconds. Default 20,000.
    pub drain_ms: u64,
}

impl Default for ServerSettings {
    fn default() -> Self {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Self {
            listen: SocketAddr::new(loopback, 8080),
            metrics_enabled: true,
            metrics_listen: SocketAddr::new(loopback, 9464),
            max_connections: 4096,
            first_byte_timeout_ms: 10_000,
            header_read_timeout_ms: 10_000,
            keep_alive_idle_ms: 75_000,
            write_stall_timeout_ms: 60_000,
            max_header_bytes: 64 * 1024,
            http2_max_streams: 100,
            http2_ping_interval_ms: 20_000,
            http2_ping_timeout_ms: 10_000,
            drain_ms: 20_000,
        }
    }
}

impl ServerSettings {
    /// [`first_byte_timeout_ms`](Self::first_byte_timeout_ms).
    pub fn first_byte_timeout(&self) -> Duration {
        Duration::from_millis(self.first_byte_timeout_ms)
    }

    /// [`header_read_timeout_ms`](Self::header_read_timeout_ms).
    pub fn header_read_timeout(&self) -> Duration {
        Duration::from_millis(self.header_read_timeout_ms)
    }

    /// [`keep_alive_idle_ms`](Self::keep_alive_idle_ms).
    pub fn keep_alive_idle(&self) -> Duration {
        Duration::from_millis(self.keep_alive_idle_ms)
    }

    /// [`write_stall_timeout_ms`](Self::write_stall_timeout_ms).
    pub fn write_stall_timeout(&self) -> Duration {
        Duration::from_millis(self.write_stall_timeout_ms)
    }

    /// [`drain_ms`](Self::drain_ms).
    pub fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }
}

/// Requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSettings {
    /// How long a JSON request may take in all, in milliseconds. Default 30,000.
    pub request_timeout_ms: u64,
    /// The largest JSON body, in bytes. Default 262,144.
    pub max_body_bytes: usize,
    /// The longest gap without a byte of a request body, in milliseconds. Default 30,000.
    pub body_idle_timeout_ms: u64,
    /// The least average rate of a request body once the gap's time has been waited, in bytes per
    /// second; 0 demands none. Default 1024.
    pub body_min_bytes_per_s: u64,
    /// JSON requests at once; further ones are turned away with 503. Default 1024.
    pub max_in_flight: usize,
    /// Sign-ins and sign-ups at once; 0 means one more than passwords are hashed at once. Default 0.
    pub passwords_at_once: usize,
    /// Searches at once; 0 means as many as there are reader threads. Default 0.
    pub searches_at_once: usize,
    /// Sign-ins, or searches, that may wait for each that may run; further ones are turned away with 503. Default 16.
    pub waiting_per_place: usize,
    /// How long they may wait, in milliseconds. Default 1000.
    pub costly_wait_ms: u64,
    /// Origins whose pages may call the API, each exact, such as `https://app.example`. Default none.
    pub cors_origins: Vec<String>,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            request_timeout_ms: 30_000,
            max_body_bytes: 256 * 1024,
            body_idle_timeout_ms: 30_000,
            body_min_bytes_per_s: 1024,
            max_in_flight: 1024,
            passwords_at_once: 0,
            searches_at_once: 0,
            waiting_per_place: 16,
            costly_wait_ms: 1000,
            cors_origins: Vec::new(),
        }
    }
}

impl HttpSettings {
    /// [`request_timeout_ms`](Self::request_timeout_ms).
    pub fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    /// How slowly a body may come.
    pub fn body_pace(&self) -> BodyPace {
        BodyPace { idle: Duration::from_millis(self.body_idle_timeout_ms), min_bytes_per_s: self.body_min_bytes_per_s }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One JSON object per line.
    #[default]
    Json,
    /// For a person.
    Text,
}

/// Logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// What is logged: a level, or directives such as `info,vidserver::access=off`. Default `info,refinery_core=warn`.
    pub level: String,
    /// `json` or `text`. Default `json`.
    pub format: LogFormat,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { level: "info,refinery_core=warn".to_owned(), format: LogFormat::Json }
    }
}
