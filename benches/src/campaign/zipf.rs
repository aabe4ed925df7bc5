//! A fleet under reads drawn by Zipf's law, beside one cache that is perfect.
//!
//! The perfect cache sees the same reads in the order of their times. It loads a key exactly when it has
//! no value of it that is younger than its time to live, which each value draws from ±10 % of the same
//! length, as the product's do. It is never short of memory, hears of everything at once and loads in no
//! time. What it would have loaded is the mean over several draws.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use vidcore::entropy::{Entropy, EntropyExt, SeededEntropy};
use vidcore::testkit::redis::TestRedis;

use crate::Failure;
use crate::campaign::fleet::Fleet;
use crate::campaign::node::{NodeOptions, Order};
use crate::campaign::{PATIENCE, moment_after, print};
use crate::report::{Bound, Figure};

/// Keys there are.
const KEYS: usize = 10_000;

/// How long a load takes.
const LOAD: Duration = Duration::from_millis(5);

/// How many more loads than the perfect cache's are borne.
const BOUND: f64 = 1.05;

/// Draws of the perfect cache's times to live.
const DRAWS: u64 = 9;

/// What is tried
#[derive(Debug, Clone, Copy, Args)]
pub struct ZipfOptions {
    /// Length in seconds
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// Processes
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=32))]
    pub nodes: u32,
    /// Reads per second of all together
    #[arg(long, default_value_t = 1600)]
    pub rate: u32,
    /// How long a value is fresh, in milliseconds
    #[arg(long, default_value_t = 3000)]
    pub ttl_ms: u64,
    /// Five seconds, and values that live for one
    #[arg(long)]
    pub short: bool,
}

/// Keys `0..n`, of which the k-th is drawn in proportion to `1 / (k + 1)`.
#[derive(Debug)]
pub struct Zipf {
    /// The chance of each key or one before it.
    cumulative: Vec<f64>,
    entropy: SeededEntropy,
}

impl Zipf {
    /// Draws from `keys` keys, always the same for one seed.
    pub fn new(keys: usize, seed: u64) -> Self {
        let mut sum = 0.0;
        let mut cumulative: Vec<f64> = (1..=keys).map(|rank| (sum += 1.0 / rank as f64, sum).1).collect();
        cumulative.iter_mut().for_each(|chance| *chance /= sum);
        Self { cumulative, entropy: SeededEntropy::new(seed) }
    }

    /// The next key.
    pub fn draw(&mut self) -> usize {
        let unit = (&self.entropy as &dyn Entropy).unit();
        self.cumulative.partition_point(|chance| *chance <= unit).min(self.cumulative.len() - 1)
    }
}

/// Runs it and prints what came of it; whether the bound was kept.
///
/// # Errors
/// Redis or a node is not there.
pub async fn run(options: ZipfOptions) -> Result<bool, Failure> {
    let (seconds, ttl_ms) = if options.short { (5, 1000) } else { (options.seconds, options.ttl_ms) };
    let redis = TestRedis::start().ok_or("there is no redis-server")?;
    let settings = redis.settings();
    let node = NodeOptions {
        redis: settings.url.expose().to_owned(),
        prefix: settings.prefix,
        load_ms: LOAD.as_millis() as u64,
        ttl_ms,
        stale_ms: 30_000,
    };
    let nodes = options.nodes as usize;
    let mut fleet = Fleet::start(nodes, node).await?;
    let (folder, length) = (tempfile::tempdir()?, Duration::from_secs(seconds));
    let at_ms = moment_after(Duration::from_millis(300))?;
    for node in 0..nodes {
        let trace = folder.path().join(node.to_string());
        let (rate, length_ms) = (options.rate / options.nodes, length.as_millis() as u64);
        fleet.order(node, &Order::Zipf { seed: node as u64, rate, keys: KEYS, at_ms, length_ms, trace }).await?;
    }
    let (mut loads, mut late, mut errors) = (0, 0, 0);
    for _ in 0..nodes {
        let said = fleet.said_within(length + PATIENCE).await?;
        let words: Vec<&str> = said.words.iter().flatten().map(String::as_str).collect();
        let ["traced", theirs, delayed, failed] = words[..] else {
            return Err(format!("node {} said {words:?}", said.node).into());
        };
        loads += theirs.parse::<u64>()?;
        late += delayed.parse::<u64>()?;
        errors += failed.parse::<u64>()?;
    }
    let mut reads = Vec::new();
    for node in 0..nodes {
        reads.extend(read_trace(&folder.path().join(node.to_string()))?);
    }
    reads.sort_unstable();
    let ttl = Duration::from_millis(ttl_ms);
    let perfect = (0..DRAWS).map(|seed| perfect_loads(&reads, ttl, seed)).sum::<u64>() as f64 / DRAWS as f64;
    println!(
        "{} reads of {KEYS} keys in {seconds} s by {nodes} processes, values fresh for {ttl_ms} ms ± 10 %, loads of {} ms",
        reads.len(),
        LOAD.as_millis()
    );
    println!("loads {loads}; one perfect cache {perfect:.0}; hit ratio {:.3}", 1.0 - loads as f64 / reads.len() as f64);
    println!("reads sent more than 50 ms late {late}; calls of Redis that failed {errors}");
    Ok(print(&[Figure {
        name: "loads of the fleet beside one perfect cache".to_owned(),
        value: loads as f64 / perfect,
        bound: Bound::AtMost(BOUND),
        unit: "times",
    }]))
}

fn read_trace(file: &Path) -> Result<Vec<(u64, usize)>, Failure> {
    let text = std::fs::read_to_string(file)?;
    let reads = text.lines().map(|line| {
        let (at, key) = line.split_once(' ').ok_or("a trace with another line")?;
        Ok((at.parse()?, key.parse()?))
    });
    reads.collect()
}

/// Loads of one perfect cache on these reads, given as microseconds and key in the order of time.
fn perfect_loads(reads: &[(u64, usize)], ttl: Duration, seed: u64) -> u64 {
    let entropy = SeededEntropy::new(seed);
    let (mut fresh_until, mut loads) = (HashMap::new(), 0);
    for (at, key) in reads {
        if fresh_until.get(key).is_none_or(|until| at >= until) {
            let jitter = 0.9 + 0.2 * (&entropy as &dyn Entropy).unit();
            fresh_until.insert(*key, at + ttl.mul_f64(jitter).as_micros() as u64);
            loads += 1;
        }
    }
    loads
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_key_is_drawn_twice_as_often_as_the_second() {
        let (mut zipf, mut drawn) = (Zipf::new(100, 1), [0_u32; 100]);
        for _ in 0..100_000 {
            drawn[zipf.draw()] += 1;
        }
        let ratio = f64::from(drawn[0]) / f64::from(drawn[1]);
        assert!((1.9..2.1).contains(&ratio), "{ratio}");
        assert!(drawn.iter().all(|count| *count > 0));
    }

    #[test]
    fn the_perfect_cache_loads_again_when_the_time_to_live_is_over() {
        let ttl = Duration::from_secs(1);
        assert_eq!(2, perfect_loads(&[(0, 1), (0, 2), (899_999, 1), (890_000, 2)], ttl, 1));
        assert_eq!(2, perfect_loads(&[(0, 1), (1_100_000, 1), (1_200_000, 1)], ttl, 1));
    }
}
