//! What a user may rely on, from the answers alone.

use std::collections::BTreeSet;

/// A file that is uploaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fixture {
    /// Its bytes.
    pub bytes: &'static [u8],
    /// Whether it is a video that the platform accepts.
    pub good: bool,
}

/// Two videos of one rendition each, a file that is none, and a video of two renditions.
pub const FIXTURES: [Fixture; 4] = [
    Fixture { bytes: include_bytes!("../../../fixtures/landscape.mp4"), good: true },
    Fixture { bytes: include_bytes!("../../../fixtures/no-audio.mp4"), good: true },
    Fixture { bytes: include_bytes!("../../../fixtures/text.mp4"), good: false },
    Fixture { bytes: include_bytes!("../../../fixtures/demo.mp4"), good: true },
];

/// An upload whose opening was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadModel {
    /// Its id.
    pub id: String,
    /// What is uploaded.
    pub fixture: Fixture,
    /// Where the bytes go.
    pub url: String,
    /// Whether its bytes were acknowledged.
    pub received: bool,
    /// Whether its completion was acknowledged.
    pub completed: bool,
    /// Whether giving it up was acknowledged.
    pub aborted: bool,
}

/// A video whose creation was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoModel {
    /// Its id.
    pub id: String,
    /// Titles it may have: the last one acknowledged, and those of later calls without an answer.
    pub titles: BTreeSet<String>,
    /// Whether it is in the trash. Those calls carry keys and are repeated until they are answered.
    pub trashed: bool,
    /// Whether a job of it may have been cancelled: then it may have failed.
    pub may_be_cancelled: bool,
    /// Its uploads, oldest first.
    pub uploads: Vec<UploadModel>,
}

impl VideoModel {
    /// A draft.
    pub fn new(id: String, title: String) -> Self {
        Self { id, titles: BTreeSet::from([title]), trashed: false, may_be_cancelled: false, uploads: Vec::new() }
    }
}
