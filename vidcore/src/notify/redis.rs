//! News between the processes of one platform, through a Redis channel.
//!
//! Published news reaches the subscribers of this process at once and the others through Redis. Every
//! process publishes a beat while it has no news; hearing its own comes back proves that both ways
//! work. News that was lost on the way, or may have been, is told of as
//! [`MISSED`](crate::notify::MISSED).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use redis::{Pipeline, RedisError};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tokio_util::task::AbortOnDropHandle;

use crate::notify::{LocalNotify, Notice, Notify};
use crate::redis::{Backoff, Cargo, Outbox, RedisServer, closed, timed_out};

/// How long a process publishes nothing before it publishes a beat.
pub const BEAT: Duration = Duration::from_millis(300);

/// How long nothing may be heard, not even the own beat, before the connection is made anew.
const LONGEST_SILENCE: Duration = Duration::from_secs(2);

/// What stands on the channel, as JSON with short names.
#[derive(Debug, Serialize, Deserialize)]
struct Message {
    /// The process it comes from.
    #[serde(rename = "p")]
    process: String,
    /// Topic and key; absent from a beat.
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    notice: Option<(String, String)>,
}

/// [`Notify`] through Redis, among all processes that use the same Redis and prefix.
///
/// Holds two connections, which come back by themselves. The tasks end with the value.
#[derive(Debug)]
pub struct RedisNotify {
    near: Near,
    outbox: Outbox<Notice>,
    lost: Arc<AtomicU64>,
    hearing: Arc<Hearing>,
    /// Taken by the first stop.
    listening: Mutex<Option<AbortOnDropHandle<()>>>,
}

/// The subscribers of this process, and who says whether news of the others is heard.
#[derive(Debug, Clone)]
enum Near {
    /// Redis alone brings news.
    Alone(Arc<LocalNotify>),
    /// Another way brings the same news, and is the one to be relied on.
    Beside(Arc<dyn Notify>),
}

impl Near {
    fn notify(&self) -> &dyn Notify {
        match self {
            Self::Alone(local) => &**local,
            Self::Beside(other) => &**other,
        }
    }
}

/// When the channel was last heard.
#[derive(Debug)]
struct Hearing {
    origin: Instant,
    /// Milliseconds after `origin`.
    heard_at: AtomicU64,
}

impl Hearing {
    fn note(&self) {
        let elapsed = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard_at.store(elapsed, Ordering::Relaxed);
    }

    fn silence(&self) -> Duration {
        let heard_at = Duration::from_millis(self.heard_at.load(Ordering::Relaxed));
        self.origin.elapsed().saturating_sub(heard_at)
    }
}

impl RedisNotify {
    /// Starts on the current tokio runtime, as the only way by which news comes. Does not wait for
    /// Redis, which may come later.
    pub fn start(server: &RedisServer) -> Self {
        Self::over(server, Near::Alone(Arc::new(LocalNotify::new())))
    }

    /// Starts on the current tokio runtime, beside another way that brings the same news by itself and
    /// more slowly, such as the change check of SQLite: subscribers hear both, and some news twice.
    ///
    /// [`silence`](Notify::silence) is the other way's: news that Redis loses is not missed while the
    /// other works, and Redis alone does not replace it.
    pub fn beside(server: &RedisServer, other: Arc<dyn Notify>) -> Self {
        Self::over(server, Near::Beside(other))
    }

    fn over(server: &RedisServer, near: Near) -> Self {
        let (process, channel) = (server.sender_id(), server.names().notices());
        let lost = Arc::new(AtomicU64::new(0));
        let cargo = Publications {
            process: process.clone(),
            channel: channel.clone(),
            lost: Arc::clone(&lost),
            lost_told: 0,
            lost_packed: 0,
        };
        let hearing = Arc::new(Hearing { origin: Instant::now(), heard_at: AtomicU64::new(0) });
        let listener = Listener {
            server: server.clone(),
            process,
            channel,
            near: near.clone(),
            hearing: Arc::clone(&hearing),
            backoff: server.backoff(),
        };
        let listening = Mutex::new(Some(AbortOnDropHandle::new(tokio::spawn(listener.run()))));
        Self { near, outbox: Outbox::start(server.clone(), cargo), lost, hearing, listening }
    }

    /// How long ago this process last heard anything through Redis, its own beat included.
    pub fn redis_silence(&self) -> Duration {
        self.hearing.silence()
    }

    /// Publishes what is waiting and ends the tasks; news from Redis is heard no more. Takes no longer
    /// than one connection and one answer may.
    pub async fn stop(&self) {
        drop(self.listening.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.outbox.stop().await;
    }
}

impl Notify for RedisNotify {
    fn publish(&self, notice: Notice) {
        self.near.notify().publish(notice.clone());
        if self.outbox.offer(notice).is_err() {
            // The others are told that they missed something as soon as Redis is there.
            self.lost.fetch_add(1, Ordering::Relaxed);
            count("dropped", 1);
        }
    }

    fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.near.notify().subscribe()
    }

    fn silence(&self) -> Duration {
        match &self.near {
            Near::Alone(_) => self.hearing.silence(),
            Near::Beside(other) => other.silence(),
        }
    }
}

fn count(outcome: &'static str, notices: u64) {
    metrics::counter!("vid_notices_total", "outcome" => outcome).increment(notices);
}

/// What this process publishes.
struct Publications {
    process: String,
    channel: String,
    /// Notices that never got on their way.
    lost: Arc<AtomicU64>,
    /// As many of them as the others were told of.
    lost_told: u64,
    /// As many as what was packed last tells of.
    lost_packed: u64,
}

impl Publications {
    fn message(&self, notice: Option<&Notice>) -> String {
        let notice = notice.map(|notice| (notice.topic.clone(), notice.key.clone()));
        serde_json::to_string(&Message { process: self.process.clone(), notice }).expect("texts are written as JSON")
    }
}

impl Cargo for Publications {
    type Item = Notice;

    const NAME: &'static str = "notices";

    fn pack(&mut self, notices: &[Notice]) -> Pipeline {
        let mut messages: Vec<_> = notices.iter().map(|notice| self.message(Some(notice))).collect();
        self.lost_packed = self.lost.load(Ordering::Relaxed);
        if self.lost_packed != self.lost_told {
            messages.push(self.message(Some(&Notice::missed())));
        }
        if messages.is_empty() {
            messages.push(self.message(None));
        }
        let mut commands = Pipeline::new();
        for message in messages {
            commands.cmd("PUBLISH").arg(&self.channel).arg(message).ignore();
        }
        commands
    }

    fn delivered(&mut self) {
        self.lost_told = self.lost_packed;
    }

    fn refused(&mut self, notices: usize) {
        let notices = notices as u64;
        self.lost.fetch_add(notices, Ordering::Relaxed);
        count("refused", notices);
    }

    fn longest_silence(&self) -> Option<Duration> {
        Some(BEAT)
    }
}

/// The task that listens.
struct Listener {
    server: RedisServer,
    process: String,
    channel: String,
    near: Near,
    hearing: Arc<Hearing>,
    backoff: Backoff,
}

impl Listener {
    /// Runs until it is dropped.
    async fn run(mut self) {
        loop {
            let Err(error) = self.listen().await;
            if self.backoff.is_fresh() {
                tracing::warn!(%error, connection = "news", "Redis does not answer; trying again from time to time");
            }
            metrics::counter!("vid_redis_failures_total", "connection" => "news").increment(1);
            self.backoff.pause().await;
        }
    }

    async fn listen(&mut self) -> Result<std::convert::Infallible, RedisError> {
        let mut news = self.server.subscribe(&self.channel).await?;
        // Who subscribed here before Redis did, now or again, may have missed something.
        self.near.notify().publish(Notice::missed());
        let mut messages = news.on_message();
        loop {
            let message = tokio::time::timeout(LONGEST_SILENCE, messages.next()).await.map_err(|_| timed_out())?;
            let Some(message) = message else { return Err(closed()) };
            self.hearing.note();
            if !self.backoff.is_fresh() {
                tracing::info!(connection = "news", "Redis is back");
                self.backoff.reset();
            }
            self.pass_on(message.get_payload_bytes());
        }
    }

    fn pass_on(&self, payload: &[u8]) {
        match serde_json::from_slice::<Message>(payload) {
            // Its own subscribers have heard it.
            Ok(message) if message.process == self.process => {}
            Ok(Message { notice: Some((topic, key)), .. }) => {
                count("heard", 1);
                self.near.notify().publish(Notice { topic, key });
            }
            Ok(Message { notice: None, .. }) => {}
            Err(_) => count("unreadable", 1),
        }
    }
}
