//! What can be set: plain structs with documented defaults. Binaries read files, variables and flags
//! into them; the library reads nothing by itself.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

mod limits;
mod storage;

pub use crate::platform::secret::Secret;
pub(crate) use limits::shipped_policies;
pub use limits::{CostSettings, LimitSettings, LimitsChoice, PolicySettings, RateLimitSettings, Unlimited};
pub use storage::{FallbackChoice, FallbackSettings, S3Settings, StorageChoice, StorageProblem, StorageSettings};

/// Everything that can be set, by part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Folder of the database, keys, objects and staging. Default `vid-data`.
    pub data_dir: PathBuf,
    /// Where clients reach the server; its path becomes the prefix of every URL in a body.
    /// Default `http://127.0.0.1:8080`.
    pub public_url: String,
    /// The database.
    pub sqlite: SqliteSettings,
    /// Tokens and sessions.
    pub auth: AuthSettings,
    /// The catalog.
    pub catalog: CatalogSettings,
    /// Where objects are kept.
    pub storage: StorageSettings,
    /// Uploads.
    pub uploads: UploadSettings,
    /// Playback tokens.
    pub playback: PlaybackSettings,
    /// Transcoding.
    pub media: MediaSettings,
    /// Cached reads.
    pub cache: CacheSettings,
    /// Rate limits.
    pub rate_limits: RateLimitSettings,
    /// Background jobs.
    pub worker: WorkerSettings,
    /// How long ended jobs are kept.
    pub jobs: JobSettings,
    /// What is thrown away from time to time.
    pub housekeeping: HousekeepingSettings,
    /// Redis, for hints and notices between processes, and for what they cache and count together.
    pub redis: RedisSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data_dir: "vid-data".into(),
            public_url: "http://127.0.0.1:8080".to_owned(),
            sqlite: SqliteSettings::default(),
            auth: AuthSettings::default(),
            catalog: CatalogSettings::default(),
            storage: StorageSettings::default(),
            uploads: UploadSettings::default(),
            playback: PlaybackSettings::default(),
            media: MediaSettings::default(),
            cache: CacheSettings::default(),
            rate_limits: RateLimitSettings::default(),
            worker: WorkerSettings::default(),
            jobs: JobSettings::default(),
            housekeeping: HousekeepingSettings::default(),
            redis: RedisSettings::default(),
        }
    }
}

/// The SQLite database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SqliteSettings {
    /// Reader threads, each with its own connection; 0 means one per core, at least 2; at most 256. Default 0.
    pub reader_threads: u16,
    /// How long a write waits for another process's write, in milliseconds. Default 5000.
    pub busy_timeout_ms: u64,
    /// Reads and writes that may wait; more are refused as unavailable. Default 1024.
    pub queue_depth: usize,
    /// How often other processes' commits are looked for, in milliseconds. Default 25.
    pub change_check_ms: u64,
}

impl Default for SqliteSettings {
    fn default() -> Self {
        Self { reader_threads: 0, busy_timeout_ms: 5000, queue_depth: 1024, change_check_ms: 25 }
    }
}

/// Tokens and sessions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSettings {
    /// `iss` of access tokens. Default `vidcore`.
    pub issuer: String,
    /// `aud` of access tokens. Default `vidcore`.
    pub audience: String,
    /// Life of an access token in seconds. Default 600.
    pub access_ttl_s: u64,
    /// Life of an unused refresh token in seconds. Default 2,592,000 (30 days).
    pub refresh_ttl_s: u64,
    /// How long a consumed refresh token still yields its successor, in seconds. Default 10.
    pub refresh_grace_s: u64,
    /// Passwords hashed at once; 0 means cores − 1, at least 1. Default 0.
    pub hash_permits: usize,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            issuer: "vidcore".to_owned(),
            audience: "vidcore".to_owned(),
            access_ttl_s: 600,
            refresh_ttl_s: 30 * 86_400,
            refresh_grace_s: 10,
            hash_permits: 0,
        }
    }
}

/// The catalog.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CatalogSettings {
    /// How long a trashed video can be restored, in seconds. Default 2,592,000 (30 days).
    pub trash_keep_s: u64,
    /// How long an `Idempotency-Key` is remembered, in seconds. Default 86,400 (24 hours).
    pub idempotency_keep_s: u64,
}

impl Default for CatalogSettings {
    fn default() -> Self {
        Self { trash_keep_s: 30 * 86_400, idempotency_keep_s: 86_400 }
    }
}

/// Uploads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UploadSettings {
    /// The largest file in bytes. Default 16 GiB.
    pub max_size_bytes: u64,
    /// How long an upload takes bytes after it was opened, in seconds. Default 86,400 (24 hours).
    pub ttl_s: u64,
    /// What one user may have stored and reserved, in bytes. Default 64 GiB.
    pub quota_bytes: u64,
    /// Open uploads per video. Default 5.
    pub max_open_per_video: u32,
    /// Open parts of one user, which are to be joined. Default 100.
    pub max_open_parts: u32,
    /// How often a complete upload is checked, should the server have trouble, before it is rejected. As shipped the
    /// last try comes after a quarter of an hour or later. Default 15.
    pub verify_attempts: u16,
    /// Whether clients may put files into the bucket themselves, in parts, by signed URLs. Takes `storage.back_end =
    /// "s3"` and, for browsers, a CORS rule of the bucket. Default false.
    pub direct: bool,
    /// Bytes of such a part, 5 MiB to 5 GiB; those of files that would have more than 10,000 are larger. Default 16 MiB.
    pub part_size_bytes: u64,
    /// Life of the URL of such a part in seconds, 1 to 604,800 (7 days). Default 3,600.
    pub part_url_ttl_s: u64,
}

impl UploadSettings {
    /// Bytes of each part but the last of a file of `size_bytes`.
    pub(crate) fn part_size(&self, size_bytes: u64) -> u64 {
        const MIB: u64 = 1 << 20;
        // S3 takes no smaller ones but the last.
        self.part_size_bytes.max(5 * MIB).max(size_bytes.div_ceil(MOST_PARTS).div_ceil(MIB) * MIB)
    }
}

/// The most parts that S3 takes of one object.
const MOST_PARTS: u64 = 10_000;

impl Default for UploadSettings {
    fn default() -> Self {
        Self {
            max_size_bytes: 16 << 30,
            ttl_s: 86_400,
            quota_bytes: 64 << 30,
            max_open_per_video: 5,
            max_open_parts: 100,
            verify_attempts: 15,
            direct: false,
            part_size_bytes: 16 << 20,
            part_url_ttl_s: 3600,
        }
    }
}

/// Playback tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlaybackSettings {
    /// Life of a playback token in seconds when the caller names none. Default 21,600 (6 hours).
    pub token_ttl_s: u64,
    /// The longest life a caller may ask for, in seconds. Default 604,800 (7 days).
    pub max_token_ttl_s: u64,
    /// Bytes of small objects, such as segments, that are kept in memory because many play them; 0 keeps none.
    /// Default 64 MiB.
    pub hot_bytes: u64,
    /// `proxy` or `redirect`. Default `proxy`.
    pub delivery: DeliveryChoice,
    /// Life of the URLs of the bucket that viewers are redirected to, in seconds, 1 to 604,800 (7 days). Default 600.
    pub redirect_ttl_s: u64,
}

/// How the bytes of videos reach viewers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryChoice {
    /// Through this program.
    #[default]
    Proxy,
    /// From the bucket, which viewers are redirected to by URLs that are signed for them. Takes `storage.back_end =
    /// "s3"` and, for pages, a CORS rule of the bucket. Who has such a URL keeps what it leads to for as long as it
    /// lives, whatever is revoked meanwhile.
    Redirect,
}

impl Default for PlaybackSettings {
    fn default() -> Self {
        Self {
            token_ttl_s: 6 * 3600,
            max_token_ttl_s: 7 * 86_400,
            hot_bytes: 64 << 20,
            delivery: DeliveryChoice::default(),
            redirect_ttl_s: 600,
        }
    }
}

/// Which transcoder processes videos.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TranscoderChoice {
    /// ffmpeg where it is found and works, else the simulated one.
    #[default]
    Auto,
    /// ffmpeg, or refuse to start.
    Ffmpeg,
    /// The simulated one: the original is published as it is.
    Simulated,
}

/// Transcoding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MediaSettings {
    /// `auto`, `ffmpeg` or `simulated`. Default `auto`.
    pub transcoder: TranscoderChoice,
    /// The ffmpeg program: a path, or a name looked up in `PATH`. Default `ffmpeg`.
    pub ffmpeg: PathBuf,
    /// The ffprobe program: a path, or a name looked up in `PATH`. Default `ffprobe`.
    pub ffprobe: PathBuf,
    /// The longest one encoding may take, in seconds. Default 14,400 (4 hours).
    pub encode_timeout_s: u64,
    /// The longest one probe or poster may take, in seconds. Default 60.
    pub probe_timeout_s: u64,
    /// The longest source accepted, in seconds. Default 43,200 (12 hours).
    pub max_duration_s: u64,
    /// The most pixels (width × height) of a source. Default 35,000,000.
    pub max_pixels: u64,
    /// Address space one ffmpeg process may use, in bytes; 0 sets no limit. Default 4 GiB.
    pub max_memory_bytes: u64,
    /// Threads one encoding may use; 0 lets ffmpeg choose. Default 0.
    pub threads: u16,
}

impl Default for MediaSettings {
    fn default() -> Self {
        Self {
            transcoder: TranscoderChoice::Auto,
            ffmpeg: "ffmpeg".into(),
            ffprobe: "ffprobe".into(),
            encode_timeout_s: 4 * 3600,
            probe_timeout_s: 60,
            max_duration_s: 12 * 3600,
            max_pixels: 35_000_000,
            max_memory_bytes: 4 << 30,
            threads: 0,
        }
    }
}

/// What processes share of what they have cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheChoice {
    /// Redis where `redis.url` is set, else nothing.
    #[default]
    Auto,
    /// Nothing: each process has what is in its own memory.
    None,
    /// A second store in this process's memory, which is of use to tests alone.
    Memory,
    /// Redis; without `redis.url` the platform does not open.
    Redis,
}

/// Cached reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CacheSettings {
    /// Bytes all cached values together may take. Default 64 MiB.
    pub max_bytes: u64,
    /// How long a popular list is served before it is loaded anew, in milliseconds. Default 5000.
    pub popular_ttl_ms: u64,
    /// How long a public video page, and what plays of it, is served before it is loaded anew, in milliseconds.
    /// Default 5000.
    pub video_ttl_ms: u64,
    /// How long the first page of a search is, in milliseconds. Default 5000.
    pub search_ttl_ms: u64,
    /// How long a public profile is, in milliseconds. Default 5000.
    pub profile_ttl_ms: u64,
    /// How long a checked signature of an access token is, in milliseconds; session, role and expiry are
    /// looked at on each request all the same. Default 60,000.
    pub token_ttl_ms: u64,
    /// How much longer a value is served while it is loaded anew, or if that fails, in milliseconds.
    /// Changes are not affected: what they make stale is never served. Default 30,000.
    pub stale_ms: u64,
    /// What processes share: `auto`, `none`, `memory` or `redis`. Default `auto`.
    pub tier: CacheChoice,
    /// The longest one answer of Redis to a cached read is waited for, in milliseconds; at least 1.
    /// Default 100.
    pub redis_timeout_ms: u64,
    /// Loads that may run at once while Redis is away; at least 1. Default 64.
    pub bypass_loads: u32,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            max_bytes: 64 << 20,
            popular_ttl_ms: 5000,
            video_ttl_ms: 5000,
            search_ttl_ms: 5000,
            profile_ttl_ms: 5000,
            token_ttl_ms: 60_000,
            stale_ms: 30_000,
            tier: CacheChoice::Auto,
            redis_timeout_ms: 100,
            bypass_loads: 64,
        }
    }
}

/// What carries hints about jobs between processes, beside the change check that SQLite always has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DispatcherChoice {
    /// Redis where `redis.url` is set, else within the process.
    #[default]
    Auto,
    /// Within the process.
    Local,
    /// Redis; without `redis.url` the platform does not open.
    Redis,
}

/// Background jobs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkerSettings {
    /// Whether `Platform::open` starts a worker in this process. Default true.
    pub enabled: bool,
    /// What carries hints about jobs: `auto`, `local` or `redis`. Default `auto`.
    pub dispatcher: DispatcherChoice,
    /// Long jobs run at once: renditions and pictures, and jobs of your own. Default 2.
    pub concurrency: u16,
    /// Short jobs run at once beside those, so that none waits for an encoding: checks of uploads, looking at
    /// sources, what follows a death, housekeeping. Default 2.
    pub short_concurrency: u16,
    /// The most jobs of one owner that run at once in one queue, over all workers; 0 sets no limit. Default 0.
    pub max_running_per_owner: u32,
    /// How long a claim holds without a heartbeat, in milliseconds; at most an hour. Default 20,000.
    pub lease_ms: u64,
    /// How often a claim is renewed, in milliseconds; at most a third of `lease_ms`. Default 5000.
    pub heartbeat_ms: u64,
    /// How often expired claims and unannounced jobs are looked for, in milliseconds. Default 5000.
    pub sweep_ms: u64,
    /// How long running jobs may go on at shutdown before they are given back, in milliseconds. Default 10,000.
    pub grace_ms: u64,
    /// How often a job is tried before it is dead. Default 5.
    pub max_attempts: u16,
    /// The longest delay before the second attempt, in milliseconds; doubles with each. Default 2000.
    pub retry_base_ms: u64,
    /// The longest delay before any attempt, in milliseconds. Default 600,000.
    pub retry_cap_ms: u64,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            dispatcher: DispatcherChoice::Auto,
            concurrency: 2,
            short_concurrency: 2,
            max_running_per_owner: 0,
            lease_ms: 20_000,
            heartbeat_ms: 5000,
            sweep_ms: 5000,
            grace_ms: 10_000,
            max_attempts: 5,
            retry_base_ms: 2000,
            retry_cap_ms: 600_000,
        }
    }
}

/// How long ended jobs are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JobSettings {
    /// How long jobs that are done or cancelled are kept, in seconds. Default 604,800 (7 days).
    pub keep_done_s: u64,
    /// How long dead jobs are kept and can be replayed, in seconds. Default 2,592,000 (30 days).
    pub keep_dead_s: u64,
}

impl Default for JobSettings {
    fn default() -> Self {
        Self { keep_done_s: 7 * 86_400, keep_dead_s: 30 * 86_400 }
    }
}

/// What is thrown away from time to time. It takes a worker, in this process or another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HousekeepingSettings {
    /// How often objects that belong to nobody are looked for, in seconds, at least 1: every key is listed.
    /// Default 3600.
    pub collect_every_s: u64,
}

impl Default for HousekeepingSettings {
    fn default() -> Self {
        Self { collect_every_s: 3600 }
    }
}

/// Redis: carries hints and notices and holds cached copies and budgets, never the truth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisSettings {
    /// `redis://[[user]:password@]host[:port][/db]`, shown as `***`; empty goes without Redis. Default empty.
    pub url: Secret,
    /// What the names of all keys and channels begin with, letters, digits, `-`, `_` and `.`; platforms that share a
    /// Redis each need their own. Default `vid`.
    pub prefix: String,
    /// The longest a connection may take to be made, in milliseconds; at least 1. Default 1000.
    pub connect_timeout_ms: u64,
    /// The longest an answer may take, in milliseconds; at least 1. Default 1000.
    pub response_timeout_ms: u64,
}

impl Default for RedisSettings {
    fn default() -> Self {
        Self { url: Secret::default(), prefix: "vid".to_owned(), connect_timeout_ms: 1000, response_timeout_ms: 1000 }
    }
}
