//! Small writes, views that are not gathered, through the group writer beside one commit per statement on a plain connection to the
//! same file. Every commit of either is on disk before it is answered (`synchronous=FULL`).

use std::path::Path;

use benches::catalog::{Seeded, new_view, seed};
use benches::raw;
use benches::report::{criterion_folder, twin_line};
use criterion::{Criterion, Throughput};
use futures_util::future::join_all;
use tokio::runtime::Runtime;

const VIDEOS: usize = 1000;

/// Callers at once: what one group holds at most.
const CALLERS: usize = 64;

fn main() {
    let begun = std::time::SystemTime::now();
    let mut criterion = Criterion::default().configure_from_args().output_directory(&criterion_folder());
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = Runtime::new().expect("a runtime");
    let seeded = runtime.block_on(seed(folder.path(), VIDEOS)).expect("a catalog");
    for callers in [1, CALLERS] {
        count_views(&mut criterion, &runtime, &seeded, folder.path(), callers);
    }
    runtime.block_on(seeded.platform.shutdown());
    criterion.final_summary();
    for callers in [1, CALLERS] {
        if let Some(line) = twin_line(begun, &group_name(callers), "group_writer", "commit_each") {
            println!("{line}");
        }
    }
}

fn group_name(callers: usize) -> String {
    format!("count_view_{callers}")
}

fn count_views(criterion: &mut Criterion, runtime: &Runtime, seeded: &Seeded, folder: &Path, callers: usize) {
    let mut group = criterion.benchmark_group(group_name(callers));
    group.throughput(Throughput::Elements(callers as u64));
    let ids = &seeded.ids[..callers];
    let store = seeded.platform.store();
    group.bench_function("group_writer", |b| {
        b.to_async(runtime).iter(|| async {
            let counted = join_all(ids.iter().map(|id| store.count_views(vec![new_view(*id)]))).await;
            assert!(counted.into_iter().all(|counted| counted.expect("an answer")[0].is_some()));
        });
    });
    let connection = raw::open(folder).expect("a connection");
    group.bench_function("commit_each", |b| {
        b.iter(|| {
            for id in ids {
                assert_eq!(1, raw::count_view(&connection, *id).expect("an answer"));
            }
        });
    });
    group.finish();
}
