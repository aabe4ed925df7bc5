//! A catalog to measure: one account and as many public videos as asked for, the same each time.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::JoinSet;
use vidcore::Platform;
use vidcore::auth::{Actor, RegisterInput, SignedIn};
use vidcore::catalog::popularity::{NewView, ViewerKey};
use vidcore::catalog::{CreateVideo, Visibility};
use vidcore::clock::{Clock, SystemClock};
use vidcore::id::VideoId;
use vidcore::platform::Settings;

use crate::{Failure, raw};

/// Creations under way at once: what the group writer puts into one commit at most.
const AT_ONCE: usize = 64;

/// The e-mail address of the one account.
pub const EMAIL: &str = "bench@example.org";

/// Its password.
pub const PASSWORD: &str = "long enough to hash";

/// Titles are made of these; every word stands in about every 16th title.
pub const WORDS: [&str; 48] = [
    "harbour", "winter", "violin", "kitchen", "mountain", "lantern", "bicycle", "orchard", "thunder", "paper",
    "marble", "desert", "falcon", "garden", "engine", "island", "copper", "meadow", "signal", "velvet", "canyon",
    "rocket", "timber", "glacier", "puzzle", "saffron", "temple", "willow", "anchor", "basalt", "cobalt", "dragon",
    "ember", "forest", "granite", "hollow", "indigo", "jungle", "kernel", "lagoon", "magnet", "nectar", "oyster",
    "pepper", "quartz", "ribbon", "silver", "turbine",
];

/// A search that a seeded catalog answers with about one video in 250: two words, one of them begun.
pub const SEARCH: &str = "winter vio";

/// A platform over a seeded catalog.
#[derive(Debug)]
pub struct Seeded {
    /// Without a worker; everything else as by default.
    pub platform: Platform,
    /// Every video, in the order of creation.
    pub ids: Vec<VideoId>,
}

/// Opens a platform in `folder` and fills it with `videos` public, playable videos.
///
/// They are created through the service. What processing would have written is set by one statement
/// on a connection of its own: no media exist, so they can be listed and not played.
///
/// # Errors
/// Whatever keeps the platform from opening or a video from being stored.
pub async fn seed(folder: &Path, videos: usize) -> Result<Seeded, Failure> {
    let mut settings = Settings { data_dir: folder.to_owned(), ..Settings::default() };
    settings.worker.enabled = false;
    // What is measured is the search and not its cache.
    settings.cache.search_ttl_ms = 0;
    let platform = Platform::open(settings).await?;
    let actor = sign_up(&platform).await?;
    let mut ids = Vec::with_capacity(videos);
    for first in (0..videos).step_by(AT_ONCE) {
        let mut group = JoinSet::new();
        for number in first..videos.min(first + AT_ONCE) {
            let platform = platform.clone();
            group.spawn(async move { platform.catalog().create(&actor, draft(number), None).await });
        }
        while let Some(created) = group.join_next().await {
            ids.push(created??.into_inner().id);
        }
    }
    publish(folder)?;
    Ok(Seeded { platform, ids })
}

/// A view by somebody who was never seen before, now.
pub fn new_view(video: VideoId) -> NewView {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut viewer = [0; 16];
    viewer[..8]
        .copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    NewView { video, viewer: ViewerKey(viewer), at: SystemClock::new().now() }
}

async fn sign_up(platform: &Platform) -> Result<Actor, Failure> {
    let input: RegisterInput = serde_json::from_value(serde_json::json!({
        "email": EMAIL, "handle": "bench", "password": PASSWORD,
    }))?;
    let signed_in: SignedIn = platform.auth().register(input, None).await?.into_inner();
    Ok(platform.auth().authenticate(signed_in.access_token.expose()).await?)
}

fn draft(number: usize) -> CreateVideo {
    let word = |salt: usize| WORDS[(number.wrapping_mul(0x9e37_79b9) >> salt) % WORDS.len()];
    CreateVideo {
        title: format!("{} {} {}", word(3), word(7), word(11)),
        description: format!("Number {number}: a {} beside a {}, filmed from afar.", word(5), word(13)),
        tags: vec![word(2).to_owned(), word(9).to_owned()],
        visibility: Visibility::Public,
    }
}

fn publish(folder: &Path) -> Result<(), Failure> {
    let database = raw::open(folder)?;
    database.execute(
        "UPDATE videos SET status = 'ready', playback_kind = 'file', published_at_ms = created_at_ms + pk,
            duration_ms = 60000, width = 1280, height = 720, views = (pk * 7919) % 1000003,
            score_day = ((pk * 104729) % 1000003) / 1000.0, score_week = ((pk * 1299709) % 1000003) / 1000.0,
            score_trending = ((pk * 15485863) % 1000003) / 1000.0",
        [],
    )?;
    // The planner's statistics are those of a catalog that has been in use.
    database.execute_batch("ANALYZE")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use vidcore::catalog::Window;
    use vidcore::page::PageLimit;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_seeded_catalog_is_listed_and_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let seeded = seed(folder.path(), 500).await.expect("a catalog");
        assert_eq!(500, seeded.ids.len());
        let catalog = seeded.platform.catalog();
        let popular = catalog.popular(Window::Week, None, PageLimit::default()).await.expect("a list");
        assert_eq!(20, popular.value.items.len());
        assert!(!catalog.search(SEARCH, None, PageLimit::default()).await.expect("a page").value.items.is_empty());
        seeded.platform.shutdown().await;
    }
}
