//! Reads of a public site at a steady rate that waits for nobody, over a bounded number of connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use vidcore::id::VideoId;

use crate::Failure;
use crate::campaign::zipf::Zipf;
use crate::catalog::WORDS;
use crate::client::Client;

/// Connections, so also the most reads under way at once.
const CONNECTIONS: usize = 32;

/// One read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// When it was due, since the beginning.
    pub due: Duration,
    /// From then to the end of its answer: a read that had to wait for a connection has waited.
    pub took: Duration,
    /// The status; 0 if the connection broke.
    pub status: u16,
}

/// What is read, in this order again and again; so every kind has its share.
const KINDS: [Kind; 10] = {
    use Kind::{Page, Popular, Profile, Search, Trending};
    [Popular, Page, Trending, Page, Search, Popular, Page, Profile, Trending, Search]
};

#[derive(Debug, Clone, Copy)]
enum Kind {
    Popular,
    Trending,
    Search,
    Page,
    Profile,
}

/// The requests of `count` reads, each as bytes; pages and searches are drawn by Zipf's law.
pub fn requests(count: usize, videos: &[VideoId], profile: &str) -> Vec<Vec<u8>> {
    let (mut page, mut word) = (Zipf::new(videos.len(), 1), Zipf::new(WORDS.len(), 2));
    let path = |number: usize| match KINDS[number % KINDS.len()] {
        Kind::Popular => format!("/api/v1/videos/popular?limit={}", 10 + number % 3 * 5),
        Kind::Trending => "/api/v1/videos/trending".to_owned(),
        Kind::Search => format!("/api/v1/search?q={}", WORDS[word.draw()]),
        Kind::Page => format!("/api/v1/videos/{}", videos[page.draw()]),
        Kind::Profile => format!("/api/v1/users/{profile}"),
    };
    (0..count).map(path).map(|path| Client::get_head(&path)).collect()
}

/// Sends the requests one after the other, `rate` a second from `begun` on, for `length`.
///
/// # Errors
/// The first connections cannot be made.
pub async fn send(
    address: SocketAddr,
    requests: Arc<[Vec<u8>]>,
    rate: f64,
    begun: Instant,
    length: Duration,
) -> Result<Vec<Read>, Failure> {
    let (tickets, mut callers) = (Arc::new(AtomicU64::new(0)), JoinSet::new());
    for _ in 0..CONNECTIONS {
        let (requests, tickets, mut client) =
            (Arc::clone(&requests), Arc::clone(&tickets), Client::connect(address).await?);
        callers.spawn(async move {
            let mut reads = Vec::new();
            loop {
                let ticket = tickets.fetch_add(1, Ordering::Relaxed);
                let due = Duration::from_secs_f64(ticket as f64 / rate);
                if due >= length {
                    return reads;
                }
                tokio::time::sleep_until(begun + due).await;
                let answer = client.exchange(&requests[ticket as usize % requests.len()]).await;
                let (took, status) = (begun.elapsed().saturating_sub(due), answer.map_or(0, |answer| answer.status));
                reads.push(Read { due, took, status });
                if status == 0
                    && let Ok(again) = Client::connect(address).await
                {
                    client = again;
                }
            }
        });
    }
    let mut reads = Vec::new();
    while let Some(theirs) = callers.join_next().await {
        reads.extend(theirs?);
    }
    Ok(reads)
}
