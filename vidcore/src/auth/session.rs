//! Refresh tokens: 32 random bytes, shown once, stored as a hash.
//!
//! Rotation leaves the successor with the consumed token, sealed under a key derived from that
//! token: whoever presents it again within the grace gets the same successor, while the database
//! alone opens nothing.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::auth::IssuedToken;
use crate::clock::Timestamp;
use crate::entropy::{Entropy, EntropyExt};
use crate::keys::BadSeal;

const TOKEN_LEN: usize = 32;

/// Lets scanners for leaked secrets recognise a token.
const PREFIX: &str = "vrt_";

const SALT: &[u8] = b"vidcore refresh token v1";
const SEAL_INFO: &[u8] = b"successor/seal";

/// A refresh token. `Debug` shows nothing of it.
#[derive(Clone)]
pub(crate) struct RefreshToken(Zeroizing<[u8; TOKEN_LEN]>);

impl RefreshToken {
    /// A token that nobody has seen.
    pub(crate) fn draw(entropy: &dyn Entropy) -> Self {
        Self(Zeroizing::new(entropy.bytes()))
    }

    /// The token in the text a client presents; `None` if it has another shape.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let encoded = text.strip_prefix(PREFIX)?;
        let mut bytes = Zeroizing::new([0; TOKEN_LEN]);
        // decode_slice refuses what does not fit, so the text's length is bounded too.
        let len = URL_SAFE_NO_PAD.decode_slice(encoded, &mut bytes[..]).ok()?;
        (len == TOKEN_LEN).then_some(Self(bytes))
    }

    /// The text a client is given.
    pub(crate) fn to_text(&self) -> IssuedToken {
        IssuedToken::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&self.0[..])))
    }

    /// What the database knows of it: SHA-256. The token is uniform, so no slower hash is needed.
    pub(crate) fn hash(&self) -> [u8; 32] {
        digest(&SHA256, &self.0[..]).as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    /// Seals `successor` so that only who presents this token can open it: nonce, ciphertext, tag.
    pub(crate) fn seal(&self, successor: &Successor, entropy: &dyn Entropy) -> Vec<u8> {
        // Twins that race seal different successors under the same key, hence a random nonce.
        let nonce: [u8; NONCE_LEN] = entropy.bytes();
        let mut body = Vec::with_capacity(TOKEN_LEN + 8 + AES_256_GCM.tag_len());
        body.extend_from_slice(&successor.token.0[..]);
        body.extend_from_slice(&successor.expires_at.as_millis().to_be_bytes());
        self.sealing_key()
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut body)
            .expect("a message of 40 bytes is sealed");
        [&nonce[..], &body].concat()
    }

    /// Opens what [`seal`](Self::seal) of the same token made.
    pub(crate) fn open(&self, sealed: &[u8]) -> Result<Successor, BadSeal> {
        let (nonce, body) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(BadSeal)?;
        let mut body = Zeroizing::new(body.to_vec());
        let plain = self
            .sealing_key()
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::empty(), &mut body)
            .map_err(|_| BadSeal)?;
        let (token, expires_at) = plain.split_first_chunk::<TOKEN_LEN>().ok_or(BadSeal)?;
        let expires_at = expires_at.first_chunk().copied().map(i64::from_be_bytes).ok_or(BadSeal)?;
        Ok(Successor { token: Self(Zeroizing::new(*token)), expires_at: Timestamp::from_millis(expires_at) })
    }

    fn sealing_key(&self) -> LessSafeKey {
        let prk = Salt::new(HKDF_SHA256, SALT).extract(&self.0[..]);
        let mut key = Zeroizing::new([0; 32]);
        prk.expand(&[SEAL_INFO], HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut key[..]))
            .expect("HKDF-SHA-256 yields 32 bytes");
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key[..]).expect("AES-256-GCM takes a key of 32 bytes"))
    }
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefreshToken(***)")
    }
}

/// The token a client goes on with, and when it ends.
#[derive(Debug, Clone)]
pub(crate) struct Successor {
    pub(crate) token: RefreshToken,
    pub(crate) expires_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;

    #[test]
    fn a_token_is_read_back_from_its_own_text_alone() {
        let token = RefreshToken::draw(&SystemEntropy);
        let text = token.to_text();
        let parsed = RefreshToken::parse(text.expose()).expect("its own text");
        assert_eq!(token.hash(), parsed.hash());
        for bad in [
            "",
            "vrt_",
            "vrt_AAAA",
            &text.expose()[4..],
            &format!("{}A", text.expose()),
            &format!("{} ", text.expose()),
        ] {
            assert!(RefreshToken::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn a_successor_is_opened_by_the_token_it_follows_and_by_no_other() {
        let (presented, other) = (RefreshToken::draw(&SystemEntropy), RefreshToken::draw(&SystemEntropy));
        let successor =
            Successor { token: RefreshToken::draw(&SystemEntropy), expires_at: Timestamp::from_millis(7_000) };
        let sealed = presented.seal(&successor, &SystemEntropy);
        let opened = presented.open(&sealed).expect("its own seal");
        assert_eq!((successor.token.hash(), successor.expires_at), (opened.token.hash(), opened.expires_at));
        assert_eq!(Some(BadSeal), other.open(&sealed).err());
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert_eq!(Some(BadSeal), presented.open(&changed).err());
        }
        assert_eq!(Some(BadSeal), presented.open(&sealed[..8]).err());
    }
}
