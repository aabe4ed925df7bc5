//! Popularity: who is counted as a viewer, how views fade, and rankings that stand still while they are paged.
//!
//! What one viewer can do, the half-lives and their reasons are in `docs/popularity.md`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::catalog::Video;
use crate::clock::Timestamp;
use crate::id::{UserId, VideoId};
use crate::keys::{KeyRing, Purpose};
use crate::rate_limit::IpSubject;

pub(crate) mod buffer;
pub mod score;
mod service;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;

/// Views of one video by one viewer count once within this time.
pub const VIEW_WINDOW: Duration = Duration::from_secs(30 * 60);

/// How many videos a ranking holds.
pub const RANKED: u16 = 1000;

/// How old a ranking is at most when somebody begins to read it.
pub const RANKING_FRESH: Duration = Duration::from_secs(30);

/// How long a ranking is kept for those who read it page by page.
pub const RANKING_KEPT: Duration = Duration::from_secs(600);

/// Who watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Viewer {
    /// Somebody who is signed in.
    User(UserId),
    /// Whoever is at an address: IPv4 whole, IPv6 by its first 64 bits.
    Network(IpSubject),
}

impl Viewer {
    /// The key under which this viewer is known. It outlives one rotation of the keys; after a second one
    /// everybody is a new viewer.
    pub fn key(&self, keys: &KeyRing) -> ViewerKey {
        let mac = match self {
            Self::User(user) => keys.fingerprint(Purpose::Viewer, &[b"user", &user.as_bytes()[..]]),
            Self::Network(network) => {
                keys.fingerprint(Purpose::Viewer, &[b"network", network.network().to_string().as_bytes()])
            }
        };
        let (key, _) = mac.split_first_chunk().expect("32 bytes begin with 16");
        ViewerKey(*key)
    }
}

/// A viewer as tables know it: the first 16 bytes of a MAC, from which nobody without the key learns who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ViewerKey(pub [u8; 16]);

/// A view to be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewView {
    /// Of what.
    pub video: VideoId,
    /// By whom.
    pub viewer: ViewerKey,
    /// When.
    pub at: Timestamp,
}

/// Over which time views count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Window {
    /// About a day: a view halves every 8 hours.
    Day,
    /// About a week: a view halves every 56 hours.
    #[default]
    Week,
    /// All views alike.
    All,
}

/// An order of the public videos.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RankingKind {
    /// By views.
    Popular(Window),
    /// By views of the last hours, the younger a video the more.
    Trending,
}

impl RankingKind {
    /// Every kind.
    pub const ALL: [Self; 4] =
        [Self::Popular(Window::Day), Self::Popular(Window::Week), Self::Popular(Window::All), Self::Trending];

    /// The name used in tables and cache keys, and what its cursors are bound to.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Popular(Window::Day) => "popular_day",
            Self::Popular(Window::Week) => "popular_week",
            Self::Popular(Window::All) => "popular_all",
            Self::Trending => "trending",
        }
    }
}

/// Which ranking of a kind is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RankingAt {
    /// The newest, unless it is older than [`RANKING_FRESH`].
    Fresh,
    /// This one, unless it is older than [`RANKING_KEPT`].
    Snapshot(i64),
}

/// A part of a ranking.
#[derive(Debug, Clone, PartialEq)]
pub struct RankedVideos {
    /// The ranking's id, never given out twice.
    pub snapshot: i64,
    /// How many places it has.
    pub len: u32,
    /// The videos at the places asked for, in their order, but for those that are not public any more.
    pub videos: Vec<Video>,
}
