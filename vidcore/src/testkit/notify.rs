//! What every way of passing news promises, one claim per function.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::cache::MAX_SILENCE;
use crate::events::NewChange;
use crate::notify::{ChangeListener, LocalNotify, MISSED, Notice, Notify, SqliteNotify};
use crate::store::{Causes, Committed, StoreError};
use crate::testkit::TestStore;
use crate::testkit::store::PATIENCE;

/// How often the change check looks here.
const CHECK: Duration = Duration::from_millis(1);

/// More than a subscriber may fall behind.
const TOO_MANY: usize = 1100;

/// Two processes of one platform: one has news, the other listens.
pub struct NotifyHarness {
    /// The one that listens; in process it is the same one.
    pub listening: Arc<dyn Notify>,
    source: Source,
    #[cfg(feature = "redis")]
    _redis: Option<crate::testkit::TestRedis>,
}

/// How news comes into the world.
enum Source {
    /// Somebody publishes it.
    Published(Arc<dyn Notify>),
    /// A transaction says what it changed.
    Committed(Box<TestStore>),
}

#[derive(Debug)]
struct NobodyElse;

impl ChangeListener for NobodyElse {
    fn changed(&self, _: &Committed) {}
    fn missed(&self, _: i64) {}
    fn jobs_due(&self) {}
}

impl NotifyHarness {
    /// One process.
    pub async fn local() -> Option<Self> {
        let notify = Arc::new(LocalNotify::new());
        Some(Self {
            listening: Arc::clone(&notify) as _,
            source: Source::Published(notify),
            #[cfg(feature = "redis")]
            _redis: None,
        })
    }

    /// Two processes that share a SQLite file.
    pub async fn sqlite_change_check() -> Option<Self> {
        let store = TestStore::open().await;
        Some(Self {
            listening: watching(&store),
            source: Source::Committed(Box::new(store)),
            #[cfg(feature = "redis")]
            _redis: None,
        })
    }

    /// Two processes that share a Redis.
    #[cfg(feature = "redis")]
    pub async fn redis() -> Option<Self> {
        use crate::notify::RedisNotify;
        use crate::testkit::TestRedis;

        let redis = TestRedis::start()?;
        let server = TestRedis::server(&redis.settings());
        let listening = Arc::new(RedisNotify::start(&server));
        connected(&*listening).await;
        let publishing = Arc::new(RedisNotify::start(&server));
        Some(Self { listening, source: Source::Published(publishing), _redis: Some(redis) })
    }

    /// Two processes that share a SQLite file and a Redis.
    #[cfg(feature = "redis")]
    pub async fn sqlite_beside_redis() -> Option<Self> {
        use crate::notify::{AnnounceChanges, RedisNotify};
        use crate::testkit::TestRedis;

        let redis = TestRedis::start()?;
        let server = TestRedis::server(&redis.settings());
        let publishing = Arc::new(RedisNotify::beside(&server, Arc::new(LocalNotify::new())));
        let store = TestStore::open_with(vec![Arc::new(AnnounceChanges(publishing))], |_| {}).await;
        let listening = Arc::new(RedisNotify::beside(&server, watching(&store)));
        connected(&*listening).await;
        Some(Self { listening, source: Source::Committed(Box::new(store)), _redis: Some(redis) })
    }

    /// Tells the news, in this order.
    ///
    /// # Panics
    /// If a commit is refused.
    pub async fn tell<const N: usize>(&self, notices: [(&str, &str); N]) {
        self.tell_all(notices.map(|(topic, key)| (topic.to_owned(), key.to_owned())).to_vec()).await;
    }

    async fn tell_all(&self, notices: Vec<(String, String)>) {
        match &self.source {
            Source::Published(notify) => {
                notices.into_iter().for_each(|(topic, key)| notify.publish(Notice { topic, key }));
            }
            Source::Committed(store) => {
                let changes = notices.iter().map(|(topic, key)| NewChange::new(topic, key.as_str()));
                let causes = changes.fold(Causes::none(), Causes::change);
                let nothing = |_: &_, _| Ok::<_, crate::store::sqlite::Fail<StoreError>>(());
                store.store.command("change", causes, nothing).await.expect("it commits");
            }
        }
    }

    /// Somebody who listens from now on.
    pub fn ear(&self) -> Ear {
        Ear { news: self.listening.subscribe(), heard: HashSet::new() }
    }
}

impl fmt::Debug for NotifyHarness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotifyHarness").field("listening", &self.listening).finish_non_exhaustive()
    }
}

fn watching(store: &TestStore) -> Arc<dyn Notify> {
    let notify = Arc::new(SqliteNotify::new());
    notify
        .watch(&store.options().path, CHECK, Arc::new(store.clock.clone()), Arc::new(NobodyElse))
        .expect("the file can be watched");
    notify
}

/// Waits until news from outside is heard: whoever begins to hear says that something may have been
/// missed before.
#[cfg(feature = "redis")]
async fn connected(notify: &dyn Notify) {
    let mut news = notify.subscribe();
    let missed = async { while news.recv().await != Ok(Notice::missed()) {} };
    tokio::time::timeout(PATIENCE, missed).await.expect("Redis is reached");
}

/// Hears every piece of news once, however often it comes.
#[derive(Debug)]
pub struct Ear {
    news: broadcast::Receiver<Notice>,
    heard: HashSet<(String, String)>,
}

impl Ear {
    /// The next news that was not heard before.
    ///
    /// # Panics
    /// If none comes, or some was missed.
    pub async fn next(&mut self) -> (String, String) {
        let next = async {
            loop {
                let Notice { topic, key } = self.news.recv().await.expect("no news is missed");
                if topic != MISSED && self.heard.insert((topic.clone(), key.clone())) {
                    return (topic, key);
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("news comes")
    }
}

fn pair(topic: &str, key: &str) -> (String, String) {
    (topic.to_owned(), key.to_owned())
}

/// News is for all who listen.
pub async fn every_subscriber_hears_the_news(h: &NotifyHarness) {
    let mut ears = [h.ear(), h.ear(), h.ear()];
    h.tell([("video_pages", "1")]).await;
    for ear in &mut ears {
        assert_eq!(pair("video_pages", "1"), ear.next().await);
    }
}

/// What one process tells is heard in that order.
pub async fn news_comes_in_the_order_it_was_told(h: &NotifyHarness) {
    let mut ear = h.ear();
    h.tell([("a", "1"), ("b", "1"), ("a", "2")]).await;
    h.tell([("a", "3")]).await;
    for (topic, key) in [("a", "1"), ("b", "1"), ("a", "2"), ("a", "3")] {
        assert_eq!(pair(topic, key), ear.next().await);
    }
}

/// Nothing is kept for those who come later.
pub async fn who_listens_later_does_not_hear_what_was_before(h: &NotifyHarness) {
    let mut early = h.ear();
    h.tell([("topic", "before")]).await;
    early.next().await;
    let mut late = h.ear();
    h.tell([("topic", "after")]).await;
    // A second way may still be on its way with what the first has brought.
    let heard = late.next().await;
    let heard = if heard == pair("topic", "before") { late.next().await } else { heard };
    assert_eq!(pair("topic", "after"), heard);
}

/// Topics and keys are any text.
pub async fn news_is_heard_as_it_was_told(h: &NotifyHarness) {
    let mut ear = h.ear();
    let texts = [("topic", ""), ("t\"o{p}:ic", "*"), ("日本", "line\nbreak \\ \u{1f4fc}")];
    h.tell(texts).await;
    for (topic, key) in texts {
        assert_eq!(pair(topic, key), ear.next().await);
    }
}

/// A subscriber that does not keep up is told so, and hears what comes then.
pub async fn a_subscriber_that_falls_behind_is_told(h: &NotifyHarness) {
    let (mut slow, mut quick) = (h.ear(), h.ear());
    for number in 0..TOO_MANY {
        h.tell([("topic", number.to_string().as_str())]).await;
        quick.next().await;
    }
    assert!(matches!(slow.news.recv().await, Err(RecvError::Lagged(_))));
    h.tell([("topic", "last")]).await;
    // It is as far behind as it may be, so that this very news may push out the next.
    let last = Notice { topic: "topic".to_owned(), key: "last".to_owned() };
    let caught_up = async { while slow.news.recv().await != Ok(last.clone()) {} };
    tokio::time::timeout(PATIENCE, caught_up).await.expect("the last news comes");
}

/// While news is heard there is proof of it, though nothing happens.
pub async fn a_process_that_hears_is_not_silent(h: &NotifyHarness) {
    let proven = async {
        while h.listening.silence() > MAX_SILENCE {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, proven).await.expect("there is proof of life");
}

/// A module called `$name` with one test for every claim about news; `$harness` is a future of an
/// `Option<NotifyHarness>`, `None` when the back end's service is missing.
#[macro_export]
macro_rules! notify_contract {
    ($name:ident, $harness:expr) => {
        mod $name {
            use super::*;
            $crate::notify_contract!(@claims $harness;
                every_subscriber_hears_the_news,
                news_comes_in_the_order_it_was_told,
                who_listens_later_does_not_hear_what_was_before,
                news_is_heard_as_it_was_told,
                a_subscriber_that_falls_behind_is_told,
                a_process_that_hears_is_not_silent,
            );
        }
    };
    (@claims $harness:expr; $($claim:ident),+ $(,)?) => { $(
        #[tokio::test]
        async fn $claim() {
            if let Some(h) = $harness.await {
                $crate::testkit::notify::$claim(&h).await;
            }
        }
    )+ };
}
