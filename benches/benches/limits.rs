//! A decision beside the raw thing: governor's own check, and one EVALSHA of the same script.
//!
//! What the limiter adds in memory is what it tells: how much is left, when it is all there again, when to
//! come back; the bound on subjects; the policy by its value. Before Redis it is the hashed name of a key,
//! the breaker and the time-out. The twin sends the same keys and numbers, made beforehand.

use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use benches::report::{criterion_folder, median, twin_line};
use criterion::{BatchSize, Criterion};
use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use redis::aio::ConnectionManager;
use tokio::runtime::Runtime;
use vidcore::clock::SystemClock;
use vidcore::entropy::SystemEntropy;
use vidcore::id::UserId;
use vidcore::keys::KeyRing;
use vidcore::rate_limit::{Budget, IpSubject, MemoryRateLimit, Policy, RateLimit, RedisRateLimit, Subject};
use vidcore::testkit::TestRedis;
use vidcore::testkit::rate_limit::policy;

/// Subjects that take turns.
const SUBJECTS: usize = 1024;

/// Turns of both, and calls of each: before Redis, and rounds of all subjects in memory.
const TURNS: usize = 101;
const CALLS_A_TURN: usize = 200;
const ROUNDS_A_TURN: usize = 10;

const SCRIPT: &str = include_str!("../../vidcore/src/rate_limit/redis/decide.lua");

fn main() {
    let begun = std::time::SystemTime::now();
    let mut criterion = Criterion::default().configure_from_args().output_directory(&criterion_folder());
    let runtime = Runtime::new().expect("a runtime");
    in_memory(&mut criterion, &runtime);
    in_redis(&mut criterion, &runtime);
    criterion.final_summary();
    for (group, twin) in [
        ("limit_memory", "governor"),
        ("limit_memory_pair", "governor"),
        ("limit_redis", "evalsha"),
        ("limit_redis_pair", "evalsha"),
    ] {
        if let Some(line) = twin_line(begun, group, "rate_limit", twin) {
            println!("{line}");
        }
    }
}

/// Never used up, so that every call is admitted: what is refused costs less.
fn generous(name: &str) -> Policy {
    policy(name, 4_000_000_000, 3600, 1_000_000_000)
}

/// A user's budget alone, or with the address it calls from, as on most calls.
fn budgets(pair: bool) -> Vec<Vec<Budget>> {
    let (user, address) = (generous("read.user"), generous("read.address"));
    (0..SUBJECTS)
        .map(|n| {
            let n = (n as u32).to_be_bytes();
            let mut id = [7; 16];
            id[..4].copy_from_slice(&n);
            let mut both = vec![Budget { subject: Subject::User(UserId::from_bytes(id)), policy: user.clone() }];
            if pair {
                let ip = IpSubject::from(std::net::IpAddr::from(n));
                both.push(Budget { subject: Subject::Address(ip), policy: address.clone() });
            }
            both
        })
        .collect()
}

fn in_memory(criterion: &mut Criterion, runtime: &Runtime) {
    for (name, pair) in [("limit_memory", false), ("limit_memory_pair", true)] {
        let mut group = criterion.benchmark_group(name);
        let budgets = budgets(pair);
        let limits = MemoryRateLimit::new(Arc::new(SystemClock::new()));
        let turns = || (0..SUBJECTS).cycle();
        let mut turn = turns();
        let mut next = move || turn.next().expect("it never ends");
        group.bench_function("rate_limit", |b| b.iter(|| limits.decide(&budgets[next()], 1)));
        let quota = Quota::with_period(Duration::from_micros(2)).expect("not zero");
        let quota = quota.allow_burst(NonZeroU32::new(1_000_000_000).expect("not zero"));
        let same_clock = RateLimiter::dashmap_with_clock(quota, MonotonicClock);
        group.bench_function("governor", |b| b.iter(|| raw(&same_clock, &budgets[next()])));
        // Its own clock reads the processor's counter, which an injected clock does not.
        let own_clock = RateLimiter::dashmap(quota);
        group.bench_function("governor_own_clock", |b| b.iter(|| raw(&own_clock, &budgets[next()])));
        group.bench_function("rate_limit_async", |b| {
            b.to_async(runtime).iter(|| limits.check(&budgets[next()], 1));
        });
        group.finish();
        println!("{name}, in turns: {}", in_turns_in_memory(&limits, &same_clock, &budgets));
    }
}

type Raw<C> = RateLimiter<Subject, DashMapStateStore<Subject>, C, NoOpMiddleware<<C as Clock>::Instant>>;

fn raw<C: Clock>(limiter: &Raw<C>, budgets: &[Budget]) -> bool {
    budgets.iter().all(|budget| matches!(limiter.check_key_n(&budget.subject, NonZeroU32::MIN), Ok(Ok(_))))
}

/// Both in turns, so that whatever slows the machine slows both.
fn in_turns_in_memory(limits: &MemoryRateLimit, twin: &Raw<MonotonicClock>, budgets: &[Vec<Budget>]) -> String {
    let time = |decide: &dyn Fn(&[Budget])| {
        let begun = Instant::now();
        for budgets in std::iter::repeat_n(budgets, ROUNDS_A_TURN).flatten() {
            decide(budgets);
        }
        begun.elapsed().as_secs_f64() * 1e9 / (ROUNDS_A_TURN * budgets.len()) as f64
    };
    let (mut ratios, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let mine = time(&|budgets| drop(black_box(limits.decide(black_box(budgets), 1))));
        let raw = time(&|budgets| {
            black_box(raw(twin, black_box(budgets)));
        });
        ratios.push(mine / raw);
        ours.push(mine);
        theirs.push(raw);
    }
    let (ratio, ours, theirs) = (median(ratios), median(ours), median(theirs));
    format!("rate_limit {ours:.0} ns, governor {theirs:.0} ns, median of {TURNS} ratios {ratio:.2}")
}

fn in_redis(criterion: &mut Criterion, runtime: &Runtime) {
    let Some(server) = TestRedis::start() else { return };
    let settings = server.settings();
    let _inside = runtime.enter();
    let clock = Arc::new(SystemClock::new());
    let keys = KeyRing::ephemeral(clock.clone(), Arc::new(SystemEntropy));
    let patience = Duration::from_millis(250);
    let limits = RedisRateLimit::new(&TestRedis::server(&settings), keys, patience, clock).expect("it can be reached");
    let (raw, digest) = runtime.block_on(async {
        let client = redis::Client::open(settings.url.expose()).expect("a URL");
        let mut raw = ConnectionManager::new(client).await.expect("it connects");
        let digest: String =
            redis::cmd("SCRIPT").arg("LOAD").arg(SCRIPT).query_async(&mut raw).await.expect("it is kept");
        (raw, digest)
    });
    for (name, pair) in [("limit_redis", false), ("limit_redis_pair", true)] {
        let mut group = criterion.benchmark_group(name);
        let budgets = budgets(pair);
        let commands: Vec<redis::Cmd> = (0..SUBJECTS).map(|n| evalsha(&digest, n, budgets[n].len())).collect();
        let mut turn = 0;
        let mut next = move || {
            turn = (turn + 1) % SUBJECTS;
            turn
        };
        group.bench_function("rate_limit", |b| {
            b.to_async(runtime).iter_batched(&mut next, |turn| limits.check(&budgets[turn], 1), BatchSize::SmallInput);
        });
        group.bench_function("evalsha", |b| {
            b.to_async(runtime).iter_batched(
                &mut next,
                |turn| {
                    let (mut raw, command) = (raw.clone(), &commands[turn]);
                    async move { command.query_async::<Vec<u64>>(&mut raw).await.expect("it answers") }
                },
                BatchSize::SmallInput,
            );
        });
        group.finish();
        println!("{name}, in turns: {}", runtime.block_on(in_turns(&limits, &budgets, &raw, &commands)));
    }
}

/// Both in turns, a few hundred calls each: a server that answers twice as fast for a while, because it
/// runs on another processor, does so to both.
async fn in_turns(
    limits: &RedisRateLimit,
    budgets: &[Vec<Budget>],
    raw: &ConnectionManager,
    commands: &[redis::Cmd],
) -> String {
    let (mut ratios, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let begun = Instant::now();
        for budgets in &budgets[..CALLS_A_TURN] {
            limits.check(budgets, 1).await.expect("it answers");
        }
        let mine = begun.elapsed();
        let begun = Instant::now();
        for command in &commands[..CALLS_A_TURN] {
            command.query_async::<Vec<u64>>(&mut raw.clone()).await.expect("it answers");
        }
        let raw = begun.elapsed();
        ratios.push(mine.as_secs_f64() / raw.as_secs_f64());
        ours.push(mine.as_secs_f64() * 1e6 / CALLS_A_TURN as f64);
        theirs.push(raw.as_secs_f64() * 1e6 / CALLS_A_TURN as f64);
    }
    let (ratio, ours, theirs) = (median(ratios), median(ours), median(theirs));
    format!("rate_limit {ours:.1} us, evalsha {theirs:.1} us, median of {TURNS} ratios {ratio:.2}")
}

/// The same as the limiter sends, with names of keys of the same length.
fn evalsha(digest: &str, number: usize, keys: usize) -> redis::Cmd {
    let mut command = redis::cmd("EVALSHA");
    command.arg(digest).arg(keys);
    for key in 0..keys {
        command.arg(format!("raw00:v1:limit:read.user:1000000000x2:{number:020}{key:02}"));
    }
    command.arg(1).arg("");
    for _ in 0..keys {
        command.arg(2).arg(1_000_000_000);
    }
    command
}
