//! A video-sharing backend as a library.
//!
//! `vidcore` holds everything a video platform decides and stores: accounts and tokens, a catalog
//! with search and popularity, durable background jobs, object storage with signed URLs, a
//! read-through cache and rate limits. Each of these sits behind a trait ("port") with a back end
//! built in, and is reached through a service on [`Platform`].
//!
//! It deliberately knows no HTTP: no status code, no header, no router. `vidserver` is the thin
//! layer that does, and your own program may be another.
//!
//! # Where to begin
//!
//! [`Platform::embedded`] opens everything over one folder, with a worker in this process; it needs
//! no service and, without ffmpeg, publishes originals as they are. [`Platform::open`] takes
//! [`Settings`](platform::Settings), [`Platform::builder`] back ends of your own. The services:
//! [`Auth`](auth::Auth), [`Catalog`](catalog::Catalog), [`Uploads`](storage::Uploads),
//! [`Playback`](media::Playback), [`Jobs`](jobs::Jobs), [`Limiter`](rate_limit::Limiter).
//!
//! ```
//! use vidcore::Platform;
//! use vidcore::auth::RegisterInput;
//! use vidcore::catalog::{CreateVideo, Visibility};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let data_dir = folder.path();
//! let platform = Platform::embedded(data_dir).await?;
//! let person = RegisterInput {
//!     email: "ada@example.org".to_owned(),
//!     handle: "ada".to_owned(),
//!     display_name: None,
//!     password: "correct horse battery staple".into(),
//! };
//! let signed_in = platform.auth().register(person, None).await?.into_inner();
//! let actor = platform.auth().authenticate(signed_in.access_token.expose()).await?;
//! let about = CreateVideo {
//!     title: "My first video".to_owned(),
//!     description: String::new(),
//!     tags: Vec::new(),
//!     visibility: Visibility::Public,
//! };
//! let video = platform.catalog().create(&actor, about, None).await?.into_inner();
//! assert_eq!(video.id, platform.catalog().read(Some(&actor), video.id).await?.value.id);
//! platform.shutdown().await;
//! # Ok(()) }
//! ```
//!
//! The example program `embed` goes on from there: upload, processing, playback.
//!
//! # Features
//!
//! * `sqlite` (default): accounts, catalog, uploads and jobs in SQLite. Without it the builder needs
//!   a [`Store`](store::Store) of your own.
//! * `redis`: hints about jobs and notices between processes through Redis.
//! * `openapi`: `utoipa::ToSchema` on the views.
//! * `testkit`: the contract suites that every back end has to pass, with builders and fixtures.
//! * `failpoints`: named points at which a test kills the process; never in a production build.

pub mod clock;
pub mod entropy;
pub mod id;

pub mod auth;
pub mod cache;
pub mod catalog;
pub mod doctor;
pub mod events;
pub mod failpoints;
pub mod housekeeping;
pub mod idempotency;
pub mod invalid;
pub mod jobs;
pub mod keys;
pub mod media;
mod network;
pub mod notify;
pub mod page;
pub mod platform;
pub mod rate_limit;
#[cfg(feature = "redis")]
pub mod redis;
pub mod storage;
pub mod store;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;

pub use platform::Platform;
