//! The cached read beside moka alone: a hit, a miss, and a hundred callers for one missing key.
//!
//! What the read-through adds is in the difference: generations, times to live on the injected clock,
//! the load in a task of its own, JSON and digest built once, counters and metrics.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use benches::report::{criterion_folder, twin_line};
use criterion::Criterion;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use vidcore::cache::{CacheOptions, CacheParts, Cached, ReadThrough};
use vidcore::clock::SystemClock;
use vidcore::entropy::SystemEntropy;
use vidcore::notify::LocalNotify;

type Ours = ReadThrough<Vec<String>, Infallible>;
type Moka = moka::future::Cache<Arc<str>, Arc<Cached<Vec<String>>>>;

const WAITERS: usize = 100;

/// Far above what a bench inserts between two evictions.
const MAX_BYTES: u64 = 64 << 20;

fn main() {
    let begun = std::time::SystemTime::now();
    let mut criterion = Criterion::default().configure_from_args().output_directory(&criterion_folder());
    let runtime = Runtime::new().expect("a runtime");
    hit(&mut criterion, &runtime);
    miss(&mut criterion, &runtime);
    stampede(&mut criterion, &runtime);
    criterion.final_summary();
    for (group, twin) in
        [("cache_hit", "moka_get"), ("cache_miss", "moka_try_get_with"), ("cache_stampede_100", "moka_try_get_with")]
    {
        if let Some(line) = twin_line(begun, group, "read_through", twin) {
            println!("{line}");
        }
    }
}

fn ours() -> Ours {
    let ttl = Duration::from_secs(3600);
    let options = CacheOptions { name: "bench", max_bytes: MAX_BYTES, ttl, stale: Duration::ZERO, negative_ttl: ttl };
    let parts = CacheParts {
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(SystemEntropy),
        notify: Arc::new(LocalNotify::new()),
        shared: None,
    };
    ReadThrough::new(options, parts)
}

fn moka() -> Moka {
    moka::future::Cache::builder()
        .max_capacity(MAX_BYTES)
        .weigher(|_: &Arc<str>, value: &Arc<Cached<Vec<String>>>| value.json.len() as u32 * 2 + 256)
        .build()
}

/// About 1 KiB of JSON.
fn value() -> Vec<String> {
    (0..20).map(|number| format!("the value of line number {number:>20}")).collect()
}

async fn load() -> Result<Option<Vec<String>>, Infallible> {
    Ok(Some(value()))
}

async fn moka_load() -> Result<Arc<Cached<Vec<String>>>, Infallible> {
    Ok(Arc::new(Cached::new(value())))
}

/// A key nobody has asked for before.
fn new_key() -> Arc<str> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed).to_string().into()
}

fn hit(criterion: &mut Criterion, runtime: &Runtime) {
    let mut group = criterion.benchmark_group("cache_hit");
    let (ours, moka) = (ours(), moka());
    runtime.block_on(async {
        ours.get_or_load("key", load()).await.expect("never fails");
        moka.try_get_with("key".into(), moka_load()).await.expect("never fails");
    });
    group.bench_function("read_through", |b| b.to_async(runtime).iter(|| ours.get_or_load("key", load())));
    group.bench_function("moka_get", |b| b.to_async(runtime).iter(|| moka.get("key")));
    group.finish();
}

fn miss(criterion: &mut Criterion, runtime: &Runtime) {
    let mut group = criterion.benchmark_group("cache_miss");
    let (ours, moka) = (ours(), moka());
    group.bench_function("read_through", |b| {
        b.to_async(runtime).iter(|| async {
            let key = new_key();
            ours.get_or_load(&key, load()).await
        });
    });
    group.bench_function("moka_try_get_with", |b| {
        b.to_async(runtime).iter(|| moka.try_get_with(new_key(), moka_load()));
    });
    group.finish();
}

/// The load gives way a few times, as one that asks a database would, so that the callers meet.
async fn slowly() {
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
}

fn stampede(criterion: &mut Criterion, runtime: &Runtime) {
    let mut group = criterion.benchmark_group("cache_stampede_100");
    let (ours, moka) = (ours(), moka());
    group.bench_function("read_through", |b| {
        b.to_async(runtime).iter(|| {
            let (ours, key) = (ours.clone(), new_key());
            everybody(move || {
                let (ours, key) = (ours.clone(), Arc::clone(&key));
                async move {
                    let load = async {
                        slowly().await;
                        load().await
                    };
                    ours.get_or_load(&key, load).await.expect("never fails");
                }
            })
        });
    });
    group.bench_function("moka_try_get_with", |b| {
        b.to_async(runtime).iter(|| {
            let (moka, key) = (moka.clone(), new_key());
            everybody(move || {
                let (moka, key) = (moka.clone(), Arc::clone(&key));
                async move {
                    let load = async {
                        slowly().await;
                        moka_load().await
                    };
                    moka.try_get_with(key, load).await.expect("never fails");
                }
            })
        });
    });
    group.finish();
}

/// Runs [`WAITERS`] callers as tasks of their own.
fn everybody<F: Future<Output = ()> + Send + 'static>(caller: impl Fn() -> F) -> impl Future<Output = ()> {
    let callers: Vec<F> = (0..WAITERS).map(|_| caller()).collect();
    async {
        let mut running: JoinSet<()> = callers.into_iter().collect();
        while let Some(ended) = running.join_next().await {
            ended.expect("no caller panics");
        }
    }
}
