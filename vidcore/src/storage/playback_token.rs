//! Playback tokens: a right to play one video, small enough to stand in a URL's path.
//!
//! In the path, every relative URI of a playlist inherits it on every player. A token names the
//! video, the epoch of its links and an expiry; once the video's epoch is another, every token of
//! the old one is void, which the caller checks against the video's row. It may be bound to a network and to the
//! origin of a page, and may grant downloading. It says who minted it, in the clear as everything it says.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::clock::Timestamp;
use crate::id::{UserId, VideoId};
use crate::keys::{KeyId, KeyRing, Purpose};
use crate::storage::signed_url::SignatureError;
use crate::storage::viewer::{AddressPrefix, OriginRule, Visitor};

/// The format's version, the first byte of every token. What is new gets a flag, so that tokens without it stay what they were.
const VERSION: u8 = 2;

/// Version, flags, video (16 bytes), epoch (4) and expiry (8), all big-endian; then what the flags say.
const FIXED_LEN: usize = 30;

/// Bytes kept of the MAC: 18 (144 bits).
const MAC_LEN: usize = 18;

/// Bytes of who minted it.
const MINTER_LEN: usize = 16;

/// The most characters of a token.
const MAX_CHARS: usize =
    (FIXED_LEN + AddressPrefix::LEN + OriginRule::LEN + MINTER_LEN + KeyId::LEN + MAC_LEN).div_ceil(3) * 4;

const DOWNLOAD: u8 = 1;
const ADDRESS: u8 = 2;
const ORIGIN: u8 = 4;
const MINTER: u8 = 8;

/// What a token grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlaybackGrant {
    /// The video that may be played.
    pub video: VideoId,
    /// The epoch of the video's links when the token was made.
    pub epoch: u32,
    /// Until when, in whole seconds.
    pub expires_at: Timestamp,
    /// Where the viewer has to be, if anywhere.
    pub address: Option<AddressPrefix>,
    /// On whose page the viewer has to be, if on anyone's.
    pub origin: Option<OriginRule>,
    /// Whether the original may be downloaded.
    pub download: bool,
    /// Who made it; `None` in tokens from before they said so.
    pub minter: Option<UserId>,
}

impl PlaybackGrant {
    /// Whether a viewer is within the token's bounds.
    pub fn admits(&self, visitor: &Visitor) -> bool {
        visitor.is_within(self.address, self.origin)
    }
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

    /// A token of 70 to 136 characters, each a letter, a digit, `-` or `_`. The expiry is rounded down to a
    /// second. Whoever holds it may play the video: keep it out of logs.
    pub fn mint(&self, grant: &PlaybackGrant) -> String {
        let body = write_body(grant);
        let (key, mac) = self.keys.mac(Purpose::Playback, &[&body]);
        URL_SAFE_NO_PAD.encode([&body, &key.as_bytes()[..], &mac[..MAC_LEN]].concat())
    }

    /// What a token grants at `now`. Whether its epoch is still the video's, and whether the viewer is within its
    /// bounds, are the caller's checks.
    ///
    /// # Errors
    /// [`SignatureError::Invalid`] for any text that [`mint`](Self::mint) did not make with a key that
    /// is still live; [`SignatureError::Expired`] from the token's expiry on.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<PlaybackGrant, SignatureError> {
        if token.len() > MAX_CHARS {
            return Err(SignatureError::Invalid);
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| SignatureError::Invalid)?;
        let (rest, mac) = bytes.split_last_chunk::<MAC_LEN>().ok_or(SignatureError::Invalid)?;
        let (body, key) = rest.split_last_chunk::<{ KeyId::LEN }>().ok_or(SignatureError::Invalid)?;
        if !self.keys.verify_mac(Purpose::Playback, KeyId::from_bytes(*key), &[body], mac) {
            return Err(SignatureError::Invalid);
        }
        let grant = read_body(body).ok_or(SignatureError::Invalid)?;
        if now >= grant.expires_at { Err(SignatureError::Expired) } else { Ok(grant) }
    }
}

fn write_body(grant: &PlaybackGrant) -> Vec<u8> {
    let expires = u64::try_from(grant.expires_at.as_secs()).unwrap_or(0);
    let flag = |is_set: bool, flag| if is_set { flag } else { 0 };
    let flags =
        flag(grant.download, DOWNLOAD) | flag(grant.address.is_some(), ADDRESS) | flag(grant.origin.is_some(), ORIGIN);
    let flags = flags | flag(grant.minter.is_some(), MINTER);
    let mut body = vec![VERSION, flags];
    body.extend_from_slice(grant.video.as_bytes());
    body.extend_from_slice(&grant.epoch.to_be_bytes());
    body.extend_from_slice(&expires.to_be_bytes());
    body.extend(grant.address.iter().flat_map(|address| address.to_bytes()));
    body.extend(grant.origin.iter().flat_map(|origin| origin.to_bytes()));
    body.extend(grant.minter.iter().flat_map(|minter| *minter.as_bytes()));
    body
}

/// Reads an authenticated body; `None` if it is of another version.
fn read_body(body: &[u8]) -> Option<PlaybackGrant> {
    let (&[version, flags], rest) = body.split_first_chunk::<2>()?;
    let (video, rest) = rest.split_first_chunk::<16>()?;
    let (epoch, rest) = rest.split_first_chunk::<4>()?;
    let (expires, mut rest) = rest.split_first_chunk::<8>()?;
    let expires_ms = i64::try_from(u64::from_be_bytes(*expires).checked_mul(1000)?).ok()?;
    let (mut address, mut origin, mut minter) = (None, None, None);
    if flags & ADDRESS != 0 {
        let (bytes, after) = rest.split_first_chunk()?;
        (address, rest) = (Some(AddressPrefix::from_bytes(bytes)?), after);
    }
    if flags & ORIGIN != 0 {
        let (bytes, after) = rest.split_first_chunk()?;
        (origin, rest) = (Some(OriginRule::from_bytes(*bytes)), after);
    }
    if flags & MINTER != 0 {
        let (bytes, after) = rest.split_first_chunk::<MINTER_LEN>()?;
        (minter, rest) = (Some(UserId::from_bytes(*bytes)), after);
    }
    let is_ours = version == VERSION && rest.is_empty() && flags & !(DOWNLOAD | ADDRESS | ORIGIN | MINTER) == 0;
    is_ours.then(|| PlaybackGrant {
        video: VideoId::from_bytes(*video),
        epoch: u32::from_be_bytes(*epoch),
        expires_at: Timestamp::from_millis(expires_ms),
        address,
        origin,
        download: flags & DOWNLOAD != 0,
        minter,
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

    fn grant() -> PlaybackGrant {
        let (video, expires_at) = (video(), in_an_hour());
        PlaybackGrant { video, epoch: 3, expires_at, address: None, origin: None, download: false, minter: None }
    }

    /// With everything a token can say.
    fn bound() -> PlaybackGrant {
        let (address, minter) = ("203.0.113.0/24".parse().ok(), Some(UserId::from_bytes([7; 16])));
        PlaybackGrant { address, origin: OriginRule::parse("https://example.org"), download: true, minter, ..grant() }
    }

    #[test]
    fn a_viewer_outside_the_bounds_is_not_admitted_nor_one_who_does_not_say() {
        let visitor = |address: &str, origin: &str| Visitor {
            address: address.parse().ok(),
            origin: (!origin.is_empty()).then(|| origin.to_owned()),
        };
        assert!(bound().admits(&visitor("203.0.113.9", "https://example.org")));
        for (address, origin) in [
            ("203.0.112.9", "https://example.org"),
            ("", "https://example.org"),
            ("203.0.113.9", "https://example.com"),
            ("203.0.113.9", "http://example.org"),
            ("203.0.113.9", ""),
        ] {
            assert!(!bound().admits(&visitor(address, origin)), "{address} {origin}");
        }
        assert!(grant().admits(&Visitor::default()));
    }

    #[test]
    fn a_token_is_as_long_as_what_it_says() {
        let tokens = tokens();
        let lengths = [grant(), bound()].map(|grant| tokens.mint(&grant).len());
        assert!(lengths[0] < 80 && lengths[1] <= MAX_CHARS, "{lengths:?}");
    }

    /// The layout of every token that was given out before tokens said who minted them.
    #[test]
    fn a_token_that_does_not_say_who_minted_it_is_read_as_ever() {
        let (tokens, bound) = (tokens(), PlaybackGrant { minter: None, ..bound() });
        let expires = in_an_hour().as_secs().to_be_bytes();
        let (address, origin) = (bound.address.expect("bound"), bound.origin.expect("bound"));
        let fixed = [&[2, 7][..], &[5; 16], &[0, 0, 0, 3], &expires].concat();
        let body = [&fixed[..], &address.to_bytes(), &origin.to_bytes()].concat();
        let (key, mac) = tokens.keys.mac(Purpose::Playback, &[&body]);
        let token = URL_SAFE_NO_PAD.encode([&body, &key.as_bytes()[..], &mac[..18]].concat());
        assert_eq!(Ok(bound), tokens.verify(&token, now()));
    }

    #[test]
    fn a_token_is_accepted_until_it_expires() {
        let tokens = tokens();
        let (grant, token) = (grant(), tokens.mint(&grant()));
        assert_eq!(Ok(grant), tokens.verify(&token, now()));
        assert_eq!(Ok(grant), tokens.verify(&token, in_an_hour().minus(Duration::from_millis(1))));
        assert_eq!(Err(SignatureError::Expired), tokens.verify(&token, in_an_hour()));
    }

    #[test]
    fn a_token_outlives_one_rotation_and_not_two() {
        let tokens = tokens();
        let token = tokens.mint(&grant());
        tokens.keys.rotate(Purpose::Playback).expect("rotates");
        assert!(tokens.verify(&token, now()).is_ok());
        tokens.keys.rotate(Purpose::Playback).expect("rotates");
        assert_eq!(Err(SignatureError::Invalid), tokens.verify(&token, now()));
    }

    #[test]
    fn a_token_of_another_platform_is_refused() {
        let other = KeyRing::ephemeral(Arc::new(ManualClock::default()), Arc::new(SeededEntropy::new(2)));
        let token = PlaybackTokens::new(other).mint(&grant());
        assert_eq!(Err(SignatureError::Invalid), tokens().verify(&token, now()));
    }

    #[test]
    fn a_longer_shorter_or_padded_spelling_is_refused() {
        let tokens = tokens();
        let token = tokens.mint(&grant());
        for spelling in
            [&token[1..], &token[..token.len() - 1], &format!("{token}="), &format!("{token}A"), &format!(" {token}")]
        {
            assert_eq!(Err(SignatureError::Invalid), tokens.verify(spelling, now()), "{spelling}");
        }
    }

    proptest! {
        #[test]
        fn any_grant_is_read_back(
            id: [u8; 16],
            epoch: u32,
            seconds in 1_u64..1 << 40,
            bounded: bool,
            download: bool,
        ) {
            let tokens = tokens();
            let expires_at = now().plus(Duration::from_secs(seconds));
            let base = if bounded { bound() } else { grant() };
            let grant = PlaybackGrant { video: VideoId::from_bytes(id), epoch, expires_at, download, ..base };
            let token = tokens.mint(&grant);
            prop_assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
            prop_assert_eq!(Ok(grant), tokens.verify(&token, now()));
        }

        #[test]
        fn a_token_with_any_bit_changed_is_refused(at: prop::sample::Index, flip in 1_u8..) {
            let tokens = tokens();
            let mut bytes = URL_SAFE_NO_PAD.decode(tokens.mint(&bound())).expect("base64url");
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert_eq!(Err(SignatureError::Invalid), tokens.verify(&URL_SAFE_NO_PAD.encode(bytes), now()));
        }

        #[test]
        fn a_token_with_any_character_changed_is_refused(
            at: prop::sample::Index,
            with in proptest::char::range('!', '~'),
        ) {
            let tokens = tokens();
            let mut text: Vec<char> = tokens.mint(&bound()).chars().collect();
            let at = at.index(text.len());
            prop_assume!(text[at] != with);
            text[at] = with;
            let verdict = tokens.verify(&text.into_iter().collect::<String>(), now());
            prop_assert_eq!(Err(SignatureError::Invalid), verdict);
        }

        #[test]
        fn any_text_is_refused_without_a_panic(text in ".{0,130}") {
            prop_assert_eq!(Err(SignatureError::Invalid), tokens().verify(&text, now()));
        }
    }
}
