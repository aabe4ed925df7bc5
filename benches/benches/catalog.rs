//! Reads of a seeded catalog beside the same SQL on a plain connection in the calling thread, and
//! beside the usual way to call it from async code, tokio's blocking pool.

use std::path::Path;
use std::sync::{Arc, Mutex};

use benches::catalog::{SEARCH, Seeded, seed};
use benches::raw;
use benches::report::{criterion_folder, twin_line};
use criterion::Criterion;
use rusqlite::Connection;
use tokio::runtime::Runtime;
use vidcore::id::VideoId;
use vidcore::page::PageLimit;

const VIDEOS: usize = 20_000;

/// [`SEARCH`] as the catalog hands it to FTS5.
const EXPRESSION: &str = "\"winter\" \"vio\" *";

/// A page and one more row, which tells whether there is a next page.
const PAGE: u16 = 21;

fn main() {
    let begun = std::time::SystemTime::now();
    let mut criterion = Criterion::default().configure_from_args().output_directory(&criterion_folder());
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = Runtime::new().expect("a runtime");
    let seeded = runtime.block_on(seed(folder.path(), VIDEOS)).expect("a catalog");
    point_read(&mut criterion, &runtime, &seeded, folder.path());
    page(&mut criterion, &runtime, &seeded, folder.path());
    search(&mut criterion, &runtime, &seeded, folder.path());
    runtime.block_on(seeded.platform.shutdown());
    criterion.final_summary();
    for (group, twin) in [
        ("catalog_point_read", "rusqlite"),
        ("catalog_point_read", "spawn_blocking"),
        ("catalog_page_20", "rusqlite"),
        ("catalog_search", "rusqlite"),
    ] {
        if let Some(line) = twin_line(begun, group, "platform", twin) {
            println!("{line}");
        }
    }
}

/// Ids in an order that the page cache cannot guess.
fn walk(ids: &[VideoId]) -> impl FnMut() -> VideoId {
    let mut at = 0_usize;
    move || {
        at = (at + 7919) % ids.len();
        ids[at]
    }
}

fn point_read(criterion: &mut Criterion, runtime: &Runtime, seeded: &Seeded, folder: &Path) {
    let mut group = criterion.benchmark_group("catalog_point_read");
    let store = seeded.platform.store();
    let mut next = walk(&seeded.ids);
    group.bench_function("platform", |b| {
        b.to_async(runtime).iter(|| {
            let id = next();
            async move { store.video(id).await.expect("an answer").expect("a video") }
        });
    });
    let connection = raw::open(folder).expect("a connection");
    let mut next = walk(&seeded.ids);
    group.bench_function("rusqlite", |b| b.iter(|| raw::video(&connection, next()).expect("a video")));
    let pooled: Arc<Mutex<Connection>> = Arc::new(Mutex::new(connection));
    let mut next = walk(&seeded.ids);
    group.bench_function("spawn_blocking", |b| {
        b.to_async(runtime).iter(|| {
            let (pooled, id) = (Arc::clone(&pooled), next());
            async move {
                let read = move || raw::video(&pooled.lock().expect("never poisoned"), id).expect("a video");
                tokio::task::spawn_blocking(read).await.expect("never panics")
            }
        });
    });
    group.finish();
}

fn page(criterion: &mut Criterion, runtime: &Runtime, seeded: &Seeded, folder: &Path) {
    let mut group = criterion.benchmark_group("catalog_page_20");
    let store = seeded.platform.store();
    group.bench_function("platform", |b| {
        b.to_async(runtime).iter(|| async { store.public_videos(None, PAGE).await.expect("a page") });
    });
    let connection = raw::open(folder).expect("a connection");
    group.bench_function("rusqlite", |b| b.iter(|| raw::newest(&connection, PAGE).expect("a page")));
    group.finish();
}

fn search(criterion: &mut Criterion, runtime: &Runtime, seeded: &Seeded, folder: &Path) {
    let mut group = criterion.benchmark_group("catalog_search");
    let catalog = seeded.platform.catalog();
    group.bench_function("platform", |b| {
        b.to_async(runtime)
            .iter(|| async { catalog.search(SEARCH, None, PageLimit::default()).await.expect("a page") });
    });
    let connection = raw::open(folder).expect("a connection");
    group.bench_function("rusqlite", |b| b.iter(|| raw::search(&connection, EXPRESSION, PAGE).expect("a page")));
    group.finish();
}
