//! Secret keys: one ring, a few purposes, at most two live keys for each.
//!
//! A key made for one purpose is never used for another, and what is derived from it for MACs is
//! never what seals bytes. Rotation puts a new key in front and keeps the one before it, so that
//! what was signed yesterday still verifies today; a second rotation ends that.
//!
//! The ring deliberately does not sign JWTs: it hands the Ed25519 key of [`Purpose::Jwt`] to the
//! part that does. Refresh tokens need no key here: their seal is derived from the token itself.

use std::fmt;
use std::path::PathBuf;

mod file;
mod live_key;
mod ring;

pub use live_key::{KeyId, LiveKey, LiveKeys};
pub use ring::{KeyRing, SETTLE_TIME};

/// What a key is for. A key of one purpose never serves another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Page cursors.
    Cursor,
    /// Playback tokens.
    Playback,
    /// Signed upload URLs.
    UploadUrl,
    /// Fingerprints of requests, and sealed outcomes of idempotent ones.
    Idempotency,
    /// Access tokens: an Ed25519 key, where every other purpose has 32 random bytes.
    Jwt,
    /// Keys of viewers, so that no table holds who watched what.
    Viewer,
}

impl Purpose {
    /// Every purpose.
    pub const ALL: [Self; 6] =
        [Self::Cursor, Self::Playback, Self::UploadUrl, Self::Idempotency, Self::Jwt, Self::Viewer];

    /// The name used for files, logs and key derivation.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cursor => "cursor",
            Self::Playback => "playback",
            Self::UploadUrl => "upload_url",
            Self::Idempotency => "idempotency",
            Self::Jwt => "jwt",
            Self::Viewer => "viewer",
        }
    }

    /// The purpose with this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.as_str() == text)
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why keys could not be read or written. No variant holds a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The folder or file may be used by others than its owner; `chmod go-rwx` repairs it, but a key
    /// that others could read should be rotated twice.
    #[error("{} is open to other users (mode {mode:03o})", path.display())]
    Exposed {
        /// What is open.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is not a list of keys.
    #[error("{} is not a key file: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A key is too short or plainly not random.
    #[error("{} holds a weak key: {reason}", path.display())]
    Weak {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The file system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// The system's own words.
        #[source]
        source: std::io::Error,
    },
}

/// Sealed bytes that are not ours, were changed, or whose key is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sealed bytes cannot be opened")]
pub struct BadSeal;
