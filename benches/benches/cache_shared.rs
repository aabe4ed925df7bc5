//! A value taken from the shared tier beside a bare `GET` of as many bytes, one at a time and with many
//! in flight. What is kept in the process is too old by the clock of this bench, so that each read goes to Redis
//! and back and is checked by its checksum.
//!
//! Two cases: a process that reads the key for the first time turns the bytes into a value and keeps it; one that has
//! the value, but must ask whether it is still that one, as every 5 s, compares them.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use benches::report::{criterion_folder, median, twin_line};
use criterion::Criterion;
use futures_util::future::join_all;
use redis::aio::ConnectionManager;
use tokio::runtime::Runtime;
use vidcore::cache::{CacheOptions, CacheParts, MAX_AGE_IN_PROCESS, ReadThrough, RedisCache, SharedTier};
use vidcore::clock::{Clock, Sleep, SystemClock, Timestamp};
use vidcore::entropy::SystemEntropy;
use vidcore::notify::LocalNotify;
use vidcore::testkit::TestRedis;
use vidcore::testkit::changes::ChangeLog;

/// The one that the server's program has: reading and dropping values is for the most part its work.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Ours = ReadThrough<Vec<String>, Infallible>;

/// Reads under way at once.
const IN_FLIGHT: usize = 64;

/// Turns of both, and reads of each in one.
const TURNS: usize = 101;
const READS_A_TURN: usize = 256;

fn main() {
    let begun = std::time::SystemTime::now();
    let Some(server) = TestRedis::start() else { return };
    let mut criterion = Criterion::default().configure_from_args().output_directory(&criterion_folder());
    let runtime = Runtime::new().expect("a runtime");
    let (ours, raw) = runtime.block_on(open(&server));
    one(&mut criterion, &runtime, &ours, &raw);
    many(&mut criterion, &runtime, &ours, &raw);
    criterion.final_summary();
    for group in ["cache_shared_hit", "cache_shared_hit_64"] {
        if let Some(line) = twin_line(begun, group, "read_through", "redis_get") {
            println!("{line}");
        }
    }
    println!("cache_shared_hit, in turns: {}", runtime.block_on(in_turns(&ours, &raw)));
    let [known, new, look] = runtime.block_on(in_turns_at_once(&ours, &raw));
    println!("cache_shared_hit_64, value known to the process, in turns: {known}");
    println!("cache_shared_hit_64, value new to the process, in turns: {new}");
    println!("a bare MGET of entry, generation and mark, in turns: {look}");
}

/// A clock by which so much time passes between two looks that a process never believes its own memory.
#[derive(Debug)]
struct Leaping {
    wall: SystemClock,
    leaps: AtomicU32,
}

impl Clock for Leaping {
    fn now(&self) -> Timestamp {
        self.wall.now()
    }

    fn monotonic(&self) -> Duration {
        2 * MAX_AGE_IN_PROCESS * self.leaps.fetch_add(1, Ordering::Relaxed)
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        self.wall.sleep(duration)
    }
}

/// About 1 KiB of JSON.
fn value() -> Vec<String> {
    (0..20).map(|number| format!("the value of line number {number:>20}")).collect()
}

/// A name made beforehand: to make it costs a tenth of what is measured.
fn key(number: usize) -> &'static str {
    static KEYS: LazyLock<Vec<String>> =
        LazyLock::new(|| (0..IN_FLIGHT).map(|number| format!("video_{number:026}")).collect());
    &KEYS[number % IN_FLIGHT]
}

/// A cache whose values are all in Redis and none in the process, and a connection to values of the same
/// length.
async fn open(server: &TestRedis) -> (Ours, ConnectionManager) {
    let settings = server.settings();
    let clock = Arc::new(Leaping { wall: SystemClock::new(), leaps: AtomicU32::new(0) });
    let tier = RedisCache::new(&TestRedis::server(&settings), Duration::from_secs(1), clock.clone());
    let shared = SharedTier::new(Arc::new(tier.expect("it can be reached")), IN_FLIGHT);
    // The clock leaps ten seconds at each look at it: nothing is to be too old by that.
    let ttl = Duration::from_secs(40 * 86_400);
    let options = CacheOptions { name: "bench", max_bytes: 64 << 20, ttl, stale: Duration::ZERO, negative_ttl: ttl };
    let parts = CacheParts {
        clock,
        entropy: Arc::new(SystemEntropy),
        notify: Arc::new(LocalNotify::new()),
        shared: Some(shared.clone()),
    };
    let ours = Ours::new(options, parts);
    tokio::spawn(async move { shared.follow(&ChangeLog::new()).await });
    let client = redis::Client::open(settings.url.expose()).expect("a URL");
    let mut raw = ConnectionManager::new(client).await.expect("it connects");
    for number in 0..IN_FLIGHT {
        let cached = ours.get_or_load(key(number), async { Ok(Some(value())) }).await.expect("never fails");
        let bytes = cached.expect("there is a value").json.to_vec();
        redis::cmd("SET").arg(key(number)).arg(bytes).exec_async(&mut raw).await.expect("it is kept");
    }
    let small = redis::cmd("MSET").arg("the generation").arg("1795000000000000").arg("the mark").arg(1).take();
    small.exec_async(&mut raw).await.expect("it is kept");
    until_stored(&ours).await;
    (ours, raw)
}

/// Values are stored after they were answered.
async fn until_stored(ours: &Ours) {
    while ours.loads_under_way() > 0 {
        tokio::task::yield_now().await;
    }
    for number in 0..IN_FLIGHT {
        read(ours, number).await;
    }
}

async fn read(ours: &Ours, number: usize) {
    let never = async { panic!("the value is in Redis") };
    ours.get_or_load(key(number), never).await.expect("it is found");
}

/// As a process does that never read it.
async fn read_new(ours: &Ours, number: usize) {
    ours.invalidate(key(number));
    read(ours, number).await;
}

async fn get(raw: &ConnectionManager, number: usize) {
    let bytes: Vec<u8> = redis::cmd("GET").arg(key(number)).query_async(&mut raw.clone()).await.expect("it answers");
    assert!(!bytes.is_empty());
}

async fn mget(raw: &ConnectionManager, number: usize) {
    let command = redis::cmd("MGET").arg(key(number)).arg("the generation").arg("the mark").take();
    let (bytes, generation, mark): (Vec<u8>, Vec<u8>, i64) =
        command.query_async(&mut raw.clone()).await.expect("it answers");
    assert!(!bytes.is_empty() && !generation.is_empty() && mark == 1);
}

fn one(criterion: &mut Criterion, runtime: &Runtime, ours: &Ours, raw: &ConnectionManager) {
    let mut group = criterion.benchmark_group("cache_shared_hit");
    group.bench_function("read_through", |b| b.to_async(runtime).iter(|| read(ours, 7)));
    group.bench_function("redis_get", |b| b.to_async(runtime).iter(|| get(raw, 7)));
    group.finish();
}

fn many(criterion: &mut Criterion, runtime: &Runtime, ours: &Ours, raw: &ConnectionManager) {
    let mut group = criterion.benchmark_group("cache_shared_hit_64");
    group.bench_function("read_through", |b| {
        b.to_async(runtime).iter(|| join_all((0..IN_FLIGHT).map(|number| read(ours, number))));
    });
    group.bench_function("redis_get", |b| {
        b.to_async(runtime).iter(|| join_all((0..IN_FLIGHT).map(|number| get(raw, number))));
    });
    group.finish();
}

/// Both in turns, so that whatever slows the machine slows both.
async fn in_turns(ours: &Ours, raw: &ConnectionManager) -> String {
    let mut times = Vec::new();
    for _ in 0..TURNS {
        let begun = Instant::now();
        for number in 0..READS_A_TURN {
            read(ours, number).await;
        }
        let mine = begun.elapsed();
        let begun = Instant::now();
        for number in 0..READS_A_TURN {
            get(raw, number).await;
        }
        times.push((mine, begun.elapsed()));
    }
    compare(&times)
}

/// The same with [`IN_FLIGHT`] tasks at once, each with a key of its own: nobody shares an answer. Beside it
/// what the look itself takes, sent by the bare client: an `MGET` of as many keys and bytes.
async fn in_turns_at_once(ours: &Ours, raw: &ConnectionManager) -> [String; 3] {
    let (mut known, mut new, mut looks) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let read = at_once(ours, |ours, number| async move { read(&ours, number).await }).await;
        let first = at_once(ours, |ours, number| async move { read_new(&ours, number).await }).await;
        let look = at_once(raw, |raw, number| async move { mget(&raw, number).await }).await;
        let got = at_once(raw, |raw, number| async move { get(&raw, number).await }).await;
        known.push((read, got));
        new.push((first, got));
        looks.push((look, got));
    }
    [compare(&known), compare(&new), compare(&looks)]
}

/// How long [`IN_FLIGHT`] tasks take, each of which does so [`READS_A_TURN`] times.
async fn at_once<C, F>(client: &C, once: fn(C, usize) -> F) -> Duration
where
    C: Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let begun = Instant::now();
    let tasks = (0..IN_FLIGHT).map(|number| {
        let client = client.clone();
        tokio::spawn(async move {
            for _ in 0..READS_A_TURN {
                once(client.clone(), number).await;
            }
        })
    });
    for ended in join_all(tasks).await {
        ended.expect("no read fails");
    }
    begun.elapsed()
}

fn compare(times: &[(Duration, Duration)]) -> String {
    let ratio = median(times.iter().map(|(ours, raw)| ours.as_secs_f64() / raw.as_secs_f64()).collect());
    format!("median of {} ratios of time {ratio:.2}, which is {:.2} of the rate", times.len(), 1.0 / ratio)
}
