//! Ten thousand readers in eight processes ask for one cold key at one moment, with and without the death
//! of the process that loads it.

use std::time::{Duration, Instant};

use clap::Args;
use vidcore::cache::LEASE;
use vidcore::testkit::redis::TestRedis;

use crate::Failure;
use crate::campaign::fleet::Fleet;
use crate::campaign::node::{NodeOptions, Order};
use crate::campaign::{millis, moment_after, print};
use crate::report::{Bound, Figure};

/// Processes.
const NODES: usize = 8;

/// Readers in all of them together.
const READERS: usize = 10_000;

/// How long a load takes.
const LOAD: Duration = Duration::from_millis(200);

/// What readers have to set themselves up before they begin.
const BEFORE: Duration = Duration::from_millis(500);

/// How many times the load a reader may wait.
const ANSWERED_WITHIN: f64 = 1.5;

/// How often it is tried
#[derive(Debug, Clone, Copy, Args)]
pub struct StampedeOptions {
    /// Times with nobody dying
    #[arg(long, default_value_t = 10)]
    pub rounds: u32,
    /// Times with the loading process killed half way
    #[arg(long, default_value_t = 5)]
    pub kills: u32,
    /// Two times and one
    #[arg(long)]
    pub short: bool,
}

/// What came of one stampede.
#[derive(Debug, Default, Clone, Copy)]
struct Outcome {
    loads: u64,
    answered: usize,
    expected: usize,
    p50: Duration,
    p99: Duration,
    most: Duration,
}

/// Runs it and prints what came of it; whether all bounds were kept.
///
/// # Errors
/// Redis or a node is not there.
pub async fn run(options: StampedeOptions) -> Result<bool, Failure> {
    let (rounds, kills) = if options.short { (2, 1) } else { (options.rounds, options.kills) };
    let redis = TestRedis::start().ok_or("there is no redis-server")?;
    let settings = redis.settings();
    let node = NodeOptions {
        redis: settings.url.expose().to_owned(),
        prefix: settings.prefix,
        load_ms: LOAD.as_millis() as u64,
        ttl_ms: 60_000,
        stale_ms: 0,
    };
    let mut fleet = Fleet::start(NODES, node).await?;
    println!("{READERS} readers in {NODES} processes, one cold key, a load of {} ms", LOAD.as_millis());
    println!("{:<14} {:>5} {:>8} {:>9} {:>9} {:>9}", "", "loads", "answered", "p50 ms", "p99 ms", "max ms");
    let mut figures = Vec::new();
    for (name, count, ending) in [("all live", rounds, Ending::None), ("leader killed", kills, Ending::Killed)] {
        let (mut most, mut unanswered) = (Duration::ZERO, 0);
        let (mut fewest_loads, mut most_loads) = (u64::MAX, 0);
        for round in 0..count {
            let outcome = stampede(&mut fleet, &format!("{ending:?}-{round}"), ending).await?;
            let [p50, p99, slowest] = [outcome.p50, outcome.p99, outcome.most].map(millis);
            let Outcome { loads, answered, .. } = outcome;
            println!("{name:<14} {loads:>5} {answered:>8} {p50:>9.1} {p99:>9.1} {slowest:>9.1}");
            most = most.max(outcome.most);
            unanswered += outcome.expected - outcome.answered;
            (fewest_loads, most_loads) = (fewest_loads.min(loads), most_loads.max(loads));
        }
        if count == 0 {
            continue;
        }
        let loads = if ending == Ending::Killed { 2.0 } else { 1.0 };
        let waited = LOAD.mul_f64(ANSWERED_WITHIN) + if ending == Ending::Killed { LEASE } else { Duration::ZERO };
        let mut figure = |what: &str, value: f64, bound, unit| {
            figures.push(Figure { name: format!("{name}: {what}"), value, bound, unit });
        };
        figure("most loads of one key", most_loads as f64, Bound::AtMost(loads), "loads");
        figure("fewest loads of one key", fewest_loads as f64, Bound::AtLeast(loads), "loads");
        figure("readers without their answer", unanswered as f64, Bound::AtMost(0.0), "readers");
        figure("slowest answer", millis(most), Bound::AtMost(millis(waited)), "ms");
    }
    Ok(print(&figures))
}

/// What becomes of the process that loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    None,
    Killed,
}

async fn stampede(fleet: &mut Fleet, key: &str, ending: Ending) -> Result<Outcome, Failure> {
    let at_ms = moment_after(BEFORE)?;
    let order = Order::Stampede { key: key.to_owned(), readers: READERS / NODES, at_ms };
    for node in 0..NODES {
        fleet.order(node, &order).await?;
    }
    let (mut outcome, mut waited_for, mut doomed) = (Outcome::default(), fleet.living(), None);
    while !waited_for.is_empty() {
        let said = match doomed {
            None => fleet.said().await?,
            Some((node, due)) => {
                match fleet.said_within(Instant::saturating_duration_since(&due, Instant::now())).await {
                    Ok(said) => said,
                    Err(_) => {
                        fleet.kill(node).await?;
                        doomed = None;
                        continue;
                    }
                }
            }
        };
        let words: Vec<&str> = said.words.iter().flatten().map(String::as_str).collect();
        match words[..] {
            ["load", of] if of == key => {
                outcome.loads += 1;
                if ending == Ending::Killed && outcome.loads == 1 {
                    doomed = Some((said.node, Instant::now() + LOAD / 2));
                }
            }
            ["done", of, answered, p50, p99, most] if of == key => {
                let micros = |text: &str| text.parse().map(Duration::from_micros);
                outcome.answered += answered.parse::<usize>()?;
                outcome.expected += READERS / NODES;
                // Of the nodes, the slowest.
                outcome.p50 = outcome.p50.max(micros(p50)?);
                outcome.p99 = outcome.p99.max(micros(p99)?);
                outcome.most = outcome.most.max(micros(most)?);
                waited_for.retain(|node| *node != said.node);
            }
            [] if !fleet.living().contains(&said.node) => waited_for.retain(|node| *node != said.node),
            _ => return Err(format!("node {} said {words:?}", said.node).into()),
        }
    }
    fleet.start_missing().await?;
    Ok(outcome)
}
