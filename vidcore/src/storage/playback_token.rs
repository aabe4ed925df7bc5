//! Playback tokens: a right to play one video, small enough to stand in a URL's path.
//!
//! In the path, every relative URI of a playlist inherits it on every player. A token names the
//! video, the epoch of its links and an expiry; once the video's epoch is another, every token of
//! the old one is void, which the caller checks against the video's row.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::clock::Timestamp;
use crate::id::VideoId;
use crate::keys::{KeyId, KeyRing, Purpose};
use crate::storage::signed_url::SignatureError;

/// The format's version, the first byte of every token.
const VERSION: u8 = 1;

/// Version, video (16 bytes), epoch (4) and expiry (8), all big-endian.
const BODY_LEN: usize = 29;

/// Bytes kept of the MAC: 18, so that a token is 51 bytes and fills its last character exactly.
const MAC_LEN: usize = 18;

/// Characters of a token.
const TOKEN_CHARS: usize = 68;

/// What a token grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlaybackGrant {
    /// The video that may be played.
    pub video: VideoId,
    /// The epoch of the video's links when the token was made.
    pub epoch: u32,
    /// Until when, in whole seconds.
    pub expires_at: Timestamp,
}

/// Makes and checks playback tokens.
#[derive(Debug, Clone)]
pub struct PlaybackTokens {
    keys: KeyRing,
}

impl PlaybackTokens {
    /// Tokens over the keys of [`Purpose::Playback`].
    pub fn new(keys: KeyRing) -> Self {
        Self { keys }
    }

    /// A token of 68 characters, each a letter, a digit, `-` or `_`. The expiry is rounded down to a
    /// second. Whoever holds it may play the video: keep it out of logs.
    pub fn mint(&self, video: VideoId, epoch: u32, expires_at: Timestamp) -> String {
        let expires = u64::try_from(expires_at.as_secs()).unwrap_or(0);
        let mut body = [VERSION; BODY_LEN];
        body[1..17].copy_from_slice(video.as_bytes());
        body[17..21].copy_from_slice(&epoch.to_be_bytes());
        body[21..].copy_from_slice(&expires.to_be_bytes());
        let (key, mac) = self.keys.mac(Purpose::Playback, &[&body]);
        URL_SAFE_NO_PAD.encode([&body, &key.as_bytes()[..], &mac[..MAC_LEN]].concat())
    }

    /// What a token grants at `now`. Whether its epoch is still the video's is the caller's check.
    ///
    /// # Errors
    /// [`SignatureError::Invalid`] for any text that [`mint`](Self::mint) did not make with a key that
    /// is still live; [`SignatureError::Expired`] from the token's expiry on.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<PlaybackGrant, SignatureError> {
        if token.len() != TOKEN_CHARS {
            return Err(SignatureError::Invalid);
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| SignatureError::Invalid)?;
        let (body, rest) = bytes.split_first_chunk::<BODY_LEN>().ok_or(SignatureError::Invalid)?;
        let (key, mac) = rest.split_first_chunk::<{ KeyId::LEN }>().ok_or(SignatureError::Invalid)?;
        if !self.keys.verify_mac(Purpose::Playback, KeyId::from_bytes(*key), &[body], mac) {
            return Err(SignatureError::Invalid);
        }
        let grant = read_body(body).ok_or(SignatureError::Invalid)?;
        if now >= grant.expires_at { Err(SignatureError::Expired) } else { Ok(grant) }
    }
}

/// Reads an authenticated body; `None` if it is of another version.
fn read_body(body: &[u8; BODY_LEN]) -> Option<PlaybackGrant> {
    let (version, rest) = body.split_first()?;
    let (video, rest) = rest.split_first_chunk::<16>()?;
    let (epoch, expires) = rest.split_first_chunk::<4>()?;
    let expires = u64::from_be_bytes(expires.try_into().ok()?);
    let expires_ms = i64::try_from(expires.checked_mul(1000)?).ok()?;
    (*version == VERSION).then(|| PlaybackGrant {
        video: VideoId::from_bytes(*video),
        epoch: u32::from_be_bytes(*epoch),
        expires_at: Timestamp::from_millis(expires_ms),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::clock::{Clock, ManualClock};
    use crate::entropy::SeededEntropy;

    fn tokens() -> PlaybackTokens {
        PlaybackTokens::new(KeyRing::ephemeral(Arc::new(ManualClock::default()), Arc::new(SeededEntropy::new(1))))
    }

    fn video() -> VideoId {
        VideoId::from_bytes([5; 16])
    }

    fn now() -> Timestamp {
        ManualClock::default().now()
    }

    fn in_an_hour() -> Timestamp {
        now().plus(Duration::from_secs(3600))
    }

    #[test]
    fn a_token_is_accepted_until_it_expires() {
        let tokens = tokens();
        let token = tokens.mint(video(), 3, in_an_hour());
        let grant = PlaybackGrant { video: video(), epoch: 3, expires_at: in_an_hour() };
        assert_eq!(Ok(grant), tokens.verify(&token, now()));
        assert_eq!(Ok(grant), tokens.verify(&token, in_an_hour().minus(Duration::from_millis(1))));
        assert_eq!(Err(SignatureError::Expired), tokens.verify(&token, in_an_hour()));
    }

    #[test]
    fn a_token_outlives_one_rotation_and_not_two() {
        let tokens = tokens();
        let token = tokens.mint(video(), 3, in_an_hour());
        tokens.keys.rotate(Purpose::Playback).expect("rotates");
        assert!(tokens.verify(&token, now()).is_ok());
        tokens.keys.rotate(Purpose::Playback).expect("rotates");
        assert_eq!(Err(SignatureError::Invalid), tokens.verify(&token, now()));
    }

    #[test]
    fn a_token_of_another_platform_is_refused() {
        let other = KeyRing::ephemeral(Arc::new(ManualClock::default()), Arc::new(SeededEntropy::new(2)));
        let token = PlaybackTokens::new(other).mint(video(), 3, in_an_hour());
        assert_eq!(Err(SignatureError::Invalid), tokens().verify(&token, now()));
    }

    #[test]
    fn a_longer_shorter_or_padded_spelling_is_refused() {
        let tokens = tokens();
        let token = tokens.mint(video(), 3, in_an_hour());
        for spelling in [&token[1..], &token[..67], &format!("{token}="), &format!("{token}A"), &format!(" {token}")] {
            assert_eq!(Err(SignatureError::Invalid), tokens.verify(spelling, now()), "{spelling}");
        }
    }

    proptest! {
        #[test]
        fn any_grant_is_read_back(id: [u8; 16], epoch: u32, seconds in 1_u64..1 << 40) {
            let tokens = tokens();
            let expires_at = now().plus(Duration::from_secs(seconds));
            let token = tokens.mint(VideoId::from_bytes(id), epoch, expires_at);
            prop_assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
            let grant = PlaybackGrant { video: VideoId::from_bytes(id), epoch, expires_at };
            prop_assert_eq!(Ok(grant), tokens.verify(&token, now()));
        }

        #[test]
        fn a_token_with_any_bit_changed_is_refused(at in 0_usize..51, flip in 1_u8..) {
            let tokens = tokens();
            let mut bytes = URL_SAFE_NO_PAD.decode(tokens.mint(video(), 3, in_an_hour())).expect("base64url");
            bytes[at] ^= flip;
            prop_assert_eq!(Err(SignatureError::Invalid), tokens.verify(&URL_SAFE_NO_PAD.encode(bytes), now()));
        }

        #[test]
        fn a_token_with_any_character_changed_is_refused(at in 0_usize..68, with in proptest::char::range('!', '~')) {
            let tokens = tokens();
            let mut text: Vec<char> = tokens.mint(video(), 3, in_an_hour()).chars().collect();
            prop_assume!(text[at] != with);
            text[at] = with;
            let verdict = tokens.verify(&text.into_iter().collect::<String>(), now());
            prop_assert_eq!(Err(SignatureError::Invalid), verdict);
        }

        #[test]
        fn any_text_is_refused_without_a_panic(text in ".{0,80}") {
            prop_assert_eq!(Err(SignatureError::Invalid), tokens().verify(&text, now()));
        }
    }
}
