//! The grants of playback paths.

use serde::Deserialize;
use vidcore::id::VideoId;
use vidcore::media::playback::Grant;

/// `{token}`
#[derive(Debug, Deserialize)]
pub struct TokenPath {
    /// A playback token.
    pub token: String,
}

/// `public/{video}/{epoch}`
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct PublicPath {
    /// The video.
    pub video: VideoId,
    /// The epoch the link was made at.
    pub epoch: u32,
}

impl From<TokenPath> for Grant {
    fn from(path: TokenPath) -> Self {
        Self::Token(path.token)
    }
}

impl From<PublicPath> for Grant {
    fn from(path: PublicPath) -> Self {
        Self::Public { video: path.video, epoch: path.epoch }
    }
}
