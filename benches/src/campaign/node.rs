//! One process of a fleet: a read-through before a shared tier in Redis, told what to do by lines on its
//! standard input. It ends when that does.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use vidcore::cache::{CacheOptions, CacheParts, ReadThrough, RedisCache, SharedTier};
use vidcore::clock::SystemClock;
use vidcore::entropy::SystemEntropy;
use vidcore::notify::LocalNotify;
use vidcore::platform::settings::{CacheSettings, RedisSettings, Secret};
use vidcore::testkit::changes::ChangeLog;
use vidcore::testkit::redis::TestRedis;

use crate::Failure;
use crate::campaign::zipf::Zipf;
use crate::campaign::{PATIENCE, instant_of, quantile};

/// Bytes of a value.
const VALUE_BYTES: usize = 1024;

/// What a node is told at its start.
#[derive(Debug, Clone, Args)]
pub struct NodeOptions {
    /// Where Redis is
    #[arg(long)]
    pub redis: String,
    /// What its keys begin with
    #[arg(long)]
    pub prefix: String,
    /// How long a load takes
    #[arg(long)]
    pub load_ms: u64,
    /// How long a value is fresh
    #[arg(long)]
    pub ttl_ms: u64,
    /// How much longer it may be served while it is loaded anew
    #[arg(long)]
    pub stale_ms: u64,
}

/// What a node is told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Many readers ask for one key at one moment.
    Stampede {
        /// The key.
        key: String,
        /// How many there are.
        readers: usize,
        /// When.
        at_ms: u64,
    },
    /// Keys drawn by Zipf's law are read at a steady rate.
    Zipf {
        /// What is drawn from.
        seed: u64,
        /// Reads per second.
        rate: u32,
        /// How many keys there are.
        keys: usize,
        /// When it begins.
        at_ms: u64,
        /// How long it lasts.
        length_ms: u64,
        /// Where the reads are written down: microseconds since the beginning and the key, a line each.
        trace: PathBuf,
    },
}

impl Order {
    /// The line that says it. The trace's path must not have spaces.
    pub fn line(&self) -> String {
        match self {
            Self::Stampede { key, readers, at_ms } => format!("stampede {key} {readers} {at_ms}\n"),
            Self::Zipf { seed, rate, keys, at_ms, length_ms, trace } => {
                format!("zipf {seed} {rate} {keys} {at_ms} {length_ms} {}\n", trace.display())
            }
        }
    }

    /// What such a line says.
    pub fn parse(line: &str) -> Option<Self> {
        let words: Vec<_> = line.split_whitespace().collect();
        Some(match words[..] {
            ["stampede", key, readers, at_ms] => {
                Self::Stampede { key: key.to_owned(), readers: readers.parse().ok()?, at_ms: at_ms.parse().ok()? }
            }
            ["zipf", seed, rate, keys, at_ms, length_ms, trace] => Self::Zipf {
                seed: seed.parse().ok()?,
                rate: rate.parse().ok()?,
                keys: keys.parse().ok()?,
                at_ms: at_ms.parse().ok()?,
                length_ms: length_ms.parse().ok()?,
                trace: trace.into(),
            },
            _ => return None,
        })
    }
}

struct Node {
    cache: ReadThrough<String, Infallible>,
    loads: Arc<AtomicU64>,
    load_time: Duration,
}

/// Runs until standard input ends.
///
/// # Errors
/// It cannot be set up, or is told what it does not understand.
pub async fn run(options: NodeOptions) -> Result<(), Failure> {
    let settings = RedisSettings {
        url: Secret::new(options.redis.clone()),
        prefix: options.prefix.clone(),
        ..RedisSettings::default()
    };
    let product = CacheSettings::default();
    let clock = Arc::new(SystemClock::new());
    let patience = Duration::from_millis(product.redis_timeout_ms);
    let tier = RedisCache::new(&TestRedis::server(&settings), patience, Arc::clone(&clock) as _)?;
    let shared = SharedTier::new(Arc::new(tier), product.bypass_loads as usize);
    let parts = CacheParts {
        clock,
        entropy: Arc::new(SystemEntropy),
        notify: Arc::new(LocalNotify::new()),
        shared: Some(shared.clone()),
    };
    let options_of_cache = CacheOptions {
        name: "campaign",
        max_bytes: product.max_bytes,
        ttl: Duration::from_millis(options.ttl_ms),
        stale: Duration::from_millis(options.stale_ms),
        negative_ttl: Duration::from_secs(1),
    };
    let cache = ReadThrough::new(options_of_cache, parts);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { shared.follow(&ChangeLog::new()).await });
    let node = Node { cache, loads: Arc::default(), load_time: Duration::from_millis(options.load_ms) };
    node.warm().await?;
    println!("ready");
    let mut orders = orders();
    while let Some(line) = orders.recv().await {
        match Order::parse(&line).ok_or("an order that is none")? {
            Order::Stampede { key, readers, at_ms } => node.stampede(&key, readers, at_ms).await?,
            Order::Zipf { seed, rate, keys, at_ms, length_ms, trace } => {
                let (zipf, length) = (Zipf::new(keys, seed), Duration::from_millis(length_ms));
                let (lines, late) = node.read_by(zipf, rate, at_ms, length).await?;
                std::fs::write(trace, lines)?;
                let stats = node.cache.stats();
                println!("traced {} {late} {}", node.loads.load(Ordering::SeqCst), stats.tier_errors);
            }
        }
    }
    Ok(())
}

impl Node {
    /// Reads keys of its own until one came by way of Redis.
    async fn warm(&self) -> Result<(), Failure> {
        let given_up = tokio::time::Instant::now() + PATIENCE;
        let mut number = 0;
        while self.cache.stats().shared_misses == 0 {
            let key = format!("warm-{}-{number}", std::process::id());
            self.cache.get_or_load(&key, async { Ok(Some(String::new())) }).await?;
            number += 1;
            if tokio::time::Instant::now() > given_up {
                return Err("Redis does not become of use".into());
            }
        }
        Ok(())
    }

    async fn stampede(&self, key: &str, readers: usize, at_ms: u64) -> Result<(), Failure> {
        let begin = instant_of(at_ms)?;
        let mut running = JoinSet::new();
        for _ in 0..readers {
            let (cache, key, load_time) = (self.cache.clone(), key.to_owned(), self.load_time);
            running.spawn(async move {
                tokio::time::sleep_until(begin).await;
                let asked = key.clone();
                let load = async move {
                    println!("load {asked}");
                    tokio::time::sleep(load_time).await;
                    Ok(Some(value_of(&asked)))
                };
                let found = cache.get_or_load(&key, load).await;
                let is_right = found.is_ok_and(|found| found.is_some_and(|found| found.value == value_of(&key)));
                is_right.then(|| begin.elapsed())
            });
        }
        let mut times = Vec::with_capacity(readers);
        while let Some(time) = running.join_next().await {
            times.extend(time?);
        }
        let [p50, p99, most] = [0.5, 0.99, 1.0].map(|share| quantile(&mut times, share).as_micros());
        println!("done {key} {} {p50} {p99} {most}", times.len());
        Ok(())
    }

    /// The trace, and how many reads went out more than 50 ms late.
    async fn read_by(&self, mut zipf: Zipf, rate: u32, at_ms: u64, length: Duration) -> Result<(String, u64), Failure> {
        let begin = instant_of(at_ms)?;
        let (mut running, mut trace, mut late) = (JoinSet::new(), String::new(), 0);
        for number in 0.. {
            let due = Duration::from_secs_f64(f64::from(number) / f64::from(rate));
            if due >= length {
                break;
            }
            tokio::time::sleep_until(begin + due).await;
            let (key, at) = (zipf.draw(), begin.elapsed());
            late += u64::from(at > due + Duration::from_millis(50));
            trace.push_str(&format!("{} {key}\n", at.as_micros()));
            let (cache, loads, load_time) = (self.cache.clone(), Arc::clone(&self.loads), self.load_time);
            running.spawn(async move {
                let key = format!("zipf-{key}");
                let asked = key.clone();
                let load = async move {
                    loads.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(load_time).await;
                    Ok(Some(value_of(&asked)))
                };
                cache.get_or_load(&key, load).await.map(drop)
            });
            while let Some(ended) = running.try_join_next() {
                ended??;
            }
        }
        while let Some(ended) = running.join_next().await {
            ended??;
        }
        Ok((trace, late))
    }
}

/// Lines of standard input. A read of it cannot be broken off, so it has a thread of its own.
fn orders() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// What the origin has under a key.
fn value_of(key: &str) -> String {
    format!("{key:>VALUE_BYTES$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_what_its_line_says() {
        let zipf = Order::Zipf { seed: 7, rate: 5, keys: 3, at_ms: 9, length_ms: 10, trace: "/a/b".into() };
        for order in [Order::Stampede { key: "k-1".to_owned(), readers: 1250, at_ms: 3 }, zipf] {
            assert_eq!(Some(order.clone()), Order::parse(&order.line()));
        }
        assert_eq!(None, Order::parse("stampede k"));
    }
}
