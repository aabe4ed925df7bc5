//! `vidserver cache`: what the caches of a running process do, as its metrics listener tells.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::output::{Column, Form, rows};
use super::{CommandError, say};
use crate::config::Config;

/// How long the process may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum CacheCommand {
    /// A row for each cache of one process, since it started
    Stats(StatsFlags),
}

/// How to look.
#[derive(Debug, Args)]
pub(super) struct StatsFlags {
    /// The process's metrics listener [setting: server.metrics_listen]
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// One cache, as its figures tell.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Row {
    cache: String,
    entries: u64,
    size_bytes: u64,
    hits: u64,
    negative_hits: u64,
    stale_hits: u64,
    misses: u64,
    waits: u64,
    shared_hits: u64,
    shared_misses: u64,
    shared_waits: u64,
    tier_errors: u64,
    loads: u64,
    load_errors: u64,
    mean_load_us: u64,
    refused_sets: u64,
    hit_ratio: f64,
    shared_hit_ratio: f64,
}

const COLUMNS: [Column<Row>; 13] = [
    ("CACHE", |row| row.cache.clone()),
    ("ENTRIES", |row| row.entries.to_string()),
    ("BYTES", |row| row.size_bytes.to_string()),
    ("HIT %", |row| percent(row.hit_ratio)),
    ("HITS", |row| (row.hits + row.negative_hits).to_string()),
    ("STALE", |row| row.stale_hits.to_string()),
    ("MISSES", |row| row.misses.to_string()),
    ("WAITS", |row| row.waits.to_string()),
    ("SHARED HIT %", |row| percent(row.shared_hit_ratio)),
    ("LOADS", |row| row.loads.to_string()),
    ("FAILED", |row| row.load_errors.to_string()),
    ("MEAN LOAD", |row| format!("{:.2} ms", row.mean_load_us as f64 / 1000.0)),
    ("REFUSED", |row| row.refused_sets.to_string()),
];

pub(super) async fn run(config: Config, command: CacheCommand) -> Result<(), CommandError> {
    let CacheCommand::Stats(StatsFlags { metrics, json }) = command;
    let address = metrics.unwrap_or(config.server.metrics_listen);
    let figures = fetch(address).await.map_err(|error| {
        format!(
            "nothing answers at {address}, where a running process shows its figures (server.metrics_listen): {error}"
        )
    })?;
    let found = read(&figures);
    if found.is_empty() {
        return Err(format!("the process at {address} shows no caches").into());
    }
    say(&rows(Form::of_stdout(json), &found, &COLUMNS)?)
}

async fn fetch(address: SocketAddr) -> Result<String, reqwest::Error> {
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
    client.get(format!("http://{address}/metrics")).send().await?.error_for_status()?.text().await
}

/// The rows in a text of the Prometheus exposition format, by name of the cache.
fn read(figures: &str) -> Vec<Row> {
    let mut rows: BTreeMap<String, (Row, u64)> = BTreeMap::new();
    for line in figures.lines().filter(|line| line.starts_with("vid_cache_")) {
        let Some((name, labels, value)) = sample(line) else { continue };
        let Some(cache) = labels.get("cache") else { continue };
        let (row, load_us) = rows.entry((*cache).to_owned()).or_default();
        match (name, labels.get("outcome").copied().unwrap_or_default()) {
            ("vid_cache_entries", _) => row.entries = value,
            ("vid_cache_bytes", _) => row.size_bytes = value,
            ("vid_cache_lookups_total", "hit") => row.hits = value,
            ("vid_cache_lookups_total", "negative_hit") => row.negative_hits = value,
            ("vid_cache_lookups_total", "stale_hit") => row.stale_hits = value,
            ("vid_cache_lookups_total", "miss") => row.misses = value,
            ("vid_cache_lookups_total", "wait") => row.waits = value,
            ("vid_cache_shared_lookups_total", "hit" | "stale_hit") => row.shared_hits += value,
            ("vid_cache_shared_lookups_total", "miss" | "behind") => row.shared_misses += value,
            ("vid_cache_shared_lookups_total", "wait") => row.shared_waits = value,
            ("vid_cache_shared_lookups_total", "error") => row.tier_errors = value,
            ("vid_cache_loads_total", "failed") => row.load_errors = value,
            ("vid_cache_loads_total", _) => row.loads = value,
            ("vid_cache_load_us_total", _) => *load_us = value,
            ("vid_cache_refused_sets_total", _) => row.refused_sets += value,
            _ => {}
        }
    }
    let finish = |(cache, (mut row, load_us)): (String, (Row, u64))| {
        row.loads += row.load_errors;
        row.mean_load_us = load_us.checked_div(row.loads).unwrap_or(0);
        let kept = row.hits + row.negative_hits + row.stale_hits;
        row.hit_ratio = ratio(kept, kept + row.misses + row.waits);
        let others = row.shared_misses + row.shared_waits + row.tier_errors;
        row.shared_hit_ratio = ratio(row.shared_hits, row.shared_hits + others);
        Row { cache, ..row }
    };
    rows.into_iter().map(finish).collect()
}

/// Name, labels and value of one line; ours have no escapes in their labels.
fn sample(line: &str) -> Option<(&str, BTreeMap<&str, &str>, u64)> {
    let (name, rest) = line.split_once('{')?;
    let (labels, value) = rest.split_once("} ")?;
    let labels = labels.split(',').filter_map(|label| {
        let (name, value) = label.split_once('=')?;
        Some((name, value.trim_matches('"')))
    });
    Some((name, labels.collect(), value.trim().parse::<f64>().ok()? as u64))
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn percent(ratio: f64) -> String {
    format!("{:.1}", 100.0 * ratio)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_from_figures() {
        let figures = "# HELP vid_cache_lookups_total x\n\
            vid_cache_lookups_total{cache=\"popular\",outcome=\"hit\"} 90\n\
            vid_cache_lookups_total{cache=\"popular\",outcome=\"miss\"} 10\n\
            vid_cache_shared_lookups_total{cache=\"popular\",outcome=\"hit\"} 7\n\
            vid_cache_shared_lookups_total{cache=\"popular\",outcome=\"miss\"} 3\n\
            vid_cache_loads_total{cache=\"popular\",outcome=\"loaded\"} 3\n\
            vid_cache_loads_total{cache=\"popular\",outcome=\"failed\"} 1\n\
            vid_cache_load_us_total{cache=\"popular\",outcome=\"\"} 4000\n\
            vid_cache_bytes{cache=\"popular\"} 1.5e3\n\
            vid_http_requests_total{route=\"/x\"} 5\n";
        let expected = Row {
            cache: "popular".to_owned(),
            size_bytes: 1500,
            hits: 90,
            misses: 10,
            shared_hits: 7,
            shared_misses: 3,
            loads: 4,
            load_errors: 1,
            mean_load_us: 1000,
            hit_ratio: 0.9,
            shared_hit_ratio: 0.7,
            ..Row::default()
        };
        assert_eq!(vec![expected], read(figures));
    }
}
