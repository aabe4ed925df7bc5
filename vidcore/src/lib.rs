//! A video-sharing backend as a library.
//!
//! `vidcore` holds everything a video platform decides and stores: accounts and tokens, a catalog
//! with search and popularity, durable background jobs, object storage with signed URLs, a
//! read-through cache and rate limits. Each of these sits behind a trait ("port") with a back end
//! built in, and is reached through a service on [`Platform`].
//!
//! It deliberately knows no HTTP: no status code, no header, no router. `vidserver` is the thin
//! layer that does, and your own program may be another.

pub mod clock;
pub mod entropy;
pub mod id;

pub mod auth;
pub mod cache;
pub mod catalog;
pub mod doctor;
pub mod events;
pub mod failpoints;
pub mod idempotency;
pub mod invalid;
pub mod jobs;
pub mod keys;
pub mod media;
pub mod notify;
pub mod page;
pub mod platform;
pub mod rate_limit;
pub mod storage;
pub mod store;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;

pub use platform::Platform;
