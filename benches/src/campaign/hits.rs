//! What a server's caches did, from its metrics.

use std::net::SocketAddr;

use crate::Failure;
use crate::client::Client;

/// The caches that reads go through; those of tokens and keys are left out.
const CACHES: [&str; 4] = ["popular", "search", "video", "profile"];

/// Counters at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hits {
    /// Calls of the caches.
    pub lookups: u64,
    /// Loads from the database, for a caller or in the background.
    pub loads: u64,
}

impl Hits {
    /// What the process says now.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn fetch(metrics: SocketAddr) -> Result<Self, Failure> {
        let (answer, text) = Client::connect(metrics).await?.fetch("/metrics").await?;
        if answer.status != 200 {
            return Err(format!("/metrics answered with {}", answer.status).into());
        }
        Ok(Self::parse(&String::from_utf8_lossy(&text)))
    }

    fn parse(text: &str) -> Self {
        let of = |name: &str| {
            let lines = text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')));
            let ours = lines.filter(|line| CACHES.iter().any(|cache| line.contains(&format!("cache=\"{cache}"))));
            ours.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
        };
        Self { lookups: of("vid_cache_lookups_total"), loads: of("vid_cache_loads_total") }
    }

    /// The share of the calls since `before` that cost the database nothing; `None` without any.
    pub fn ratio_since(self, before: Self) -> Option<f64> {
        let lookups = self.lookups.checked_sub(before.lookups).filter(|lookups| *lookups > 0)?;
        Some(1.0 - self.loads.saturating_sub(before.loads) as f64 / lookups as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_the_read_caches_are_summed() {
        let text = "# TYPE vid_cache_lookups_total counter\n\
            vid_cache_lookups_total{cache=\"popular\",outcome=\"hit\"} 90\n\
            vid_cache_lookups_total{cache=\"search\",outcome=\"miss\"} 10\n\
            vid_cache_lookups_total{cache=\"tokens\",outcome=\"hit\"} 7\n\
            vid_cache_loads_total{cache=\"search\",outcome=\"loaded\"} 10\n";
        let hits = Hits::parse(text);
        assert_eq!(Hits { lookups: 100, loads: 10 }, hits);
        assert_eq!(Some(0.9), hits.ratio_since(Hits::default()));
        assert_eq!(None, hits.ratio_since(hits));
    }
}
