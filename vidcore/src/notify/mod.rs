//! Best-effort news between the parts and processes of one platform: something changed, look again.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;

use crate::store::{CommitObserver, Committed};

pub mod local;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "sqlite")]
pub mod sqlite;

pub use local::LocalNotify;
#[cfg(feature = "redis")]
pub use redis::RedisNotify;
#[cfg(feature = "sqlite")]
pub use sqlite::{ChangeListener, SqliteNotify};

/// The topic of a notice that says: news may have been lost, whatever was learnt from it may be out of
/// date. Its key is empty.
pub const MISSED: &str = "missed";

/// One piece of news.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What it is about, the topic of a change, or [`MISSED`].
    pub topic: String,
    /// Which one.
    pub key: String,
}

impl Notice {
    /// The notice of [`MISSED`].
    pub fn missed() -> Self {
        Self { topic: MISSED.to_owned(), key: String::new() }
    }
}

/// Passes news to all who listen.
///
/// # Contract
/// * Every subscriber of the same platform hears every notice published after it subscribed, once or
///   more, or hears of [`MISSED`]; a subscriber that falls 1,024 notices behind is told by its receiver.
/// * Nothing is kept: news for nobody is lost.
pub trait Notify: fmt::Debug + Send + Sync + 'static {
    /// Tells all subscribers. Does not block.
    fn publish(&self, notice: Notice);

    /// Hears everything published from now on.
    fn subscribe(&self) -> broadcast::Receiver<Notice>;

    /// How long ago this process last had proof that it hears the others; zero in process.
    fn silence(&self) -> Duration;
}

/// Told by commits: makes news of what each has changed, so that others need not look for it.
#[derive(Debug)]
pub struct AnnounceChanges(pub Arc<dyn Notify>);

impl CommitObserver for AnnounceChanges {
    fn committed(&self, committed: &Committed) {
        for change in &committed.changes {
            self.0.publish(Notice { topic: change.topic.clone(), key: change.key.clone() });
        }
    }
}
