//! Views that are gathered beside one UPDATE and one commit for each, and a page of a ranking beside the same
//! page of a list that is sorted and skipped through at each call.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use benches::catalog::{Seeded, new_view, seed};
use benches::raw;
use benches::report::{criterion_folder, twin_line};
use criterion::{Criterion, Throughput};
use tokio::runtime::Runtime;
use vidcore::catalog::Window;
use vidcore::catalog::popularity::{RANKING_FRESH, RankingAt, RankingKind};

const VIDEOS: usize = 20_000;

/// Views of one batch.
const VIEWS: usize = 512;

/// Videos that are watched at the same time.
const WATCHED: usize = 64;

const PAGE: u16 = 20;

/// Where pages begin: the first one, and one near the end of a ranking.
const RANKS: [u32; 2] = [0, 960];

fn main() {
    let begun = std::time::SystemTime::now();
    let mut criterion = Criterion::default().configure_from_args().output_directory(&criterion_folder());
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = Runtime::new().expect("a runtime");
    let seeded = runtime.block_on(seed(folder.path(), VIDEOS)).expect("a catalog");
    views(&mut criterion, &runtime, &seeded, folder.path());
    pages(&mut criterion, &runtime, &seeded, folder.path());
    building(&mut criterion, &runtime, &seeded);
    runtime.block_on(seeded.platform.shutdown());
    criterion.final_summary();
    for rank in RANKS {
        if let Some(line) = twin_line(begun, &page_group(rank), "ranking", "offset") {
            println!("{line}");
        }
    }
    for ours in ["batch", "call"] {
        if let Some(line) = twin_line(begun, "views_512", ours, "commit_each") {
            println!("{line}");
        }
    }
}

fn page_group(rank: u32) -> String {
    format!("ranking_page_at_{rank}")
}

/// What 512 views cost: the batch that writes them, the calls that take them in, and one commit for each.
fn views(criterion: &mut Criterion, runtime: &Runtime, seeded: &Seeded, folder: &Path) {
    let mut group = criterion.benchmark_group("views_512");
    group.throughput(Throughput::Elements(VIEWS as u64)).sample_size(10);
    let (store, catalog) = (seeded.platform.store(), seeded.platform.catalog());
    let videos = || seeded.ids[..WATCHED].iter().copied().cycle().take(VIEWS);
    group.bench_function("batch", |b| {
        b.to_async(runtime).iter(|| async {
            let counted = store.count_views(videos().map(new_view).collect()).await.expect("an answer");
            assert!(counted.iter().all(Option::is_some));
        });
    });
    // Viewers whom the process knows: what a call costs that writes nothing itself.
    let viewers: Vec<_> = (0..VIEWS as u32).map(|number| std::net::IpAddr::from(number.to_be_bytes())).collect();
    group.bench_function("call", |b| {
        b.to_async(runtime).iter(|| async {
            for (video, viewer) in videos().zip(&viewers) {
                let viewer = vidcore::catalog::Viewer::Network((*viewer).into());
                catalog.count_view(video, viewer).await.expect("it is open");
            }
        });
    });
    let connection = raw::open(folder).expect("a connection");
    group.bench_function("commit_each", |b| {
        b.iter(|| {
            for video in videos() {
                assert_eq!(1, raw::count_view(&connection, video).expect("an answer"));
            }
        });
    });
    group.finish();
}

fn pages(criterion: &mut Criterion, runtime: &Runtime, seeded: &Seeded, folder: &Path) {
    const KIND: RankingKind = RankingKind::Popular(Window::All);
    let (store, now) = (seeded.platform.store(), seeded.platform.now());
    let snapshot = runtime.block_on(store.build_ranking(KIND, now)).expect("an answer").expect("there are videos");
    let connection = raw::open(folder).expect("a connection");
    for rank in RANKS {
        let mut group = criterion.benchmark_group(page_group(rank));
        group.bench_function("ranking", |b| {
            b.to_async(runtime).iter(|| async {
                let page = store.ranked_videos(KIND, RankingAt::Snapshot(snapshot), now, rank, PAGE).await;
                assert_eq!(usize::from(PAGE), page.expect("an answer").expect("it is kept").videos.len());
            });
        });
        group.bench_function("offset", |b| {
            b.iter(|| {
                let page = raw::most_viewed(&connection, rank, PAGE).expect("a page");
                assert_eq!(usize::from(PAGE), page.len());
            });
        });
        group.finish();
    }
}

/// What putting 20,000 videos in order costs, on disk, once in half a minute for each kind that is read.
fn building(criterion: &mut Criterion, runtime: &Runtime, seeded: &Seeded) {
    let store = seeded.platform.store();
    let halves = AtomicU64::new(1);
    let begun = seeded.platform.now();
    criterion.bench_function("build_ranking", |b| {
        b.to_async(runtime).iter(|| async {
            let later = RANKING_FRESH * u32::try_from(halves.fetch_add(1, Ordering::Relaxed)).expect("few");
            let now = begun.plus(later + Duration::from_millis(1));
            store.build_ranking(RankingKind::Trending, now).await.expect("an answer").expect("there are videos")
        });
    });
}
