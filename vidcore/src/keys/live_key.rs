//! One live key and what is derived from it.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::encoding::{AsBigEndian, Curve25519SeedBin};
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};
use aws_lc_rs::hmac;
use aws_lc_rs::signature::Ed25519KeyPair;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::clock::Timestamp;
use crate::entropy::{Entropy, EntropyExt};
use crate::keys::{BadSeal, Purpose};

/// Bytes of a symmetric secret and of an Ed25519 seed.
const SECRET_LEN: usize = 32;

/// Extraction salt; fixed, because the secrets are uniform already (RFC 5869 §3.1).
const SALT: &[u8] = b"vidcore key ring v1";

/// Names a key in tokens and in a JWKS; no secret. Shown as eight hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; 4]);

impl KeyId {
    /// Length in bytes.
    pub const LEN: usize = 4;

    /// The id with these bytes.
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// Its bytes, as tokens carry them.
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not a [`KeyId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a key id")]
pub struct ParseKeyIdError;

impl FromStr for KeyId {
    type Err = ParseKeyIdError;

    fn from_str(text: &str) -> Result<Self, ParseKeyIdError> {
        let mut bytes = [0; Self::LEN];
        // One spelling per id: upper-case digits are refused.
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(ParseKeyIdError);
        }
        hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseKeyIdError)?;
        Ok(Self(bytes))
    }
}

impl Serialize for KeyId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// One key of a ring, with its derived MAC and sealing keys. `Debug` shows no secret.
pub struct LiveKey {
    id: KeyId,
    created_at: Timestamp,
    secret: Zeroizing<Vec<u8>>,
    mac: hmac::Key,
    seal: LessSafeKey,
}

impl LiveKey {
    /// A fresh key for `purpose`: 32 random bytes, or an Ed25519 key for [`Purpose::Jwt`].
    pub(super) fn generate(purpose: Purpose, now: Timestamp, entropy: &dyn Entropy) -> Self {
        let seed = Zeroizing::new(entropy.bytes::<SECRET_LEN>());
        let secret = match purpose {
            Purpose::Jwt => Zeroizing::new(pkcs8_of(&seed[..])),
            _ => Zeroizing::new(seed.to_vec()),
        };
        Self::derive(purpose, KeyId(entropy.bytes()), now, secret)
    }

    /// The key with this secret, refused with a reason when it is too short or plainly not random.
    pub(super) fn new(
        purpose: Purpose,
        id: KeyId,
        created_at: Timestamp,
        secret: Zeroizing<Vec<u8>>,
    ) -> Result<Self, &'static str> {
        match purpose {
            Purpose::Jwt => {
                let pair = Ed25519KeyPair::from_pkcs8(&secret).map_err(|_| "not an Ed25519 key in PKCS#8")?;
                let seed = pair.seed().map_err(|_| "an Ed25519 key without its seed")?;
                let seed: Curve25519SeedBin<'_> = seed.as_be_bytes().map_err(|_| "an Ed25519 key without its seed")?;
                refuse_weak(seed.as_ref())?;
            }
            _ => refuse_weak(&secret)?,
        }
        Ok(Self::derive(purpose, id, created_at, secret))
    }

    fn derive(purpose: Purpose, id: KeyId, created_at: Timestamp, secret: Zeroizing<Vec<u8>>) -> Self {
        let prk = Salt::new(HKDF_SHA256, SALT).extract(&secret);
        let mac = hmac::Key::new(hmac::HMAC_SHA256, &expand(&prk, purpose, "mac")[..]);
        let seal = UnboundKey::new(&AES_256_GCM, &expand(&prk, purpose, "seal")[..])
            .expect("AES-256-GCM takes a key of 32 bytes");
        Self { id, created_at, secret, mac, seal: LessSafeKey::new(seal) }
    }

    /// The same key once more, for the next list it stands in.
    pub(super) fn duplicate(&self, purpose: Purpose) -> Self {
        Self::derive(purpose, self.id, self.created_at, self.secret.clone())
    }

    /// Its name.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// When it was made.
    pub fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// The secret itself: a PKCS#8 document (DER) for [`Purpose::Jwt`], else 32 random bytes.
    pub fn expose_secret(&self) -> &[u8] {
        &self.secret
    }

    pub(super) fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.mac);
        for part in parts {
            // The length goes first, so that moving a byte from one part to the next changes the MAC.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context.sign().as_ref().try_into().expect("HMAC-SHA-256 has 32 bytes")
    }

    pub(super) fn seal(&self, nonce: [u8; NONCE_LEN], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(KeyId::LEN + NONCE_LEN + plaintext.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(&self.id.0);
        sealed.extend_from_slice(&nonce);
        let mut body = plaintext.to_vec();
        self.seal
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut body)
            .expect("a message far below 64 GiB is sealed");
        sealed.append(&mut body);
        sealed
    }

    /// Opens nonce, ciphertext and tag: what [`seal`](Self::seal) made, without the key id.
    pub(super) fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, BadSeal> {
        let (nonce, body) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(BadSeal)?;
        let mut body = body.to_vec();
        let plaintext = self
            .seal
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(aad), &mut body)
            .map_err(|_| BadSeal)?;
        let len = plaintext.len();
        body.truncate(len);
        Ok(body)
    }
}

impl fmt::Debug for LiveKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveKey").field("id", &self.id).field("created_at", &self.created_at).finish_non_exhaustive()
    }
}

/// The live keys of one purpose, newest first: one, or two after a rotation.
#[derive(Debug)]
pub struct LiveKeys(Vec<LiveKey>);

impl LiveKeys {
    /// `keys` must hold one or two, newest first.
    pub(super) fn new(keys: Vec<LiveKey>) -> Self {
        debug_assert!((1..=2).contains(&keys.len()));
        Self(keys)
    }

    /// The keys, newest first; never empty.
    pub fn iter(&self) -> impl Iterator<Item = &LiveKey> {
        self.0.iter()
    }

    /// The key with this id.
    pub fn find(&self, id: KeyId) -> Option<&LiveKey> {
        self.0.iter().find(|key| key.id == id)
    }

    /// The key to sign with at `now`: the newest that every process has had time to read
    /// ([`SETTLE_TIME`](super::SETTLE_TIME)), else the oldest.
    pub fn signing(&self, now: Timestamp) -> &LiveKey {
        let settled = now.minus(super::SETTLE_TIME);
        self.0
            .iter()
            .find(|key| key.created_at <= settled)
            .or(self.0.last())
            .expect("a ring has at least one key per purpose")
    }
}

fn refuse_weak(secret: &[u8]) -> Result<(), &'static str> {
    if secret.len() != SECRET_LEN {
        return Err("not 32 bytes");
    }
    if secret.iter().all(|byte| *byte == secret[0]) {
        return Err("all bytes are equal");
    }
    Ok(())
}

fn pkcs8_of(seed: &[u8]) -> Vec<u8> {
    let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("any 32 bytes are an Ed25519 seed");
    pair.to_pkcs8().expect("an Ed25519 key is written as PKCS#8").as_ref().to_vec()
}

fn expand(prk: &Prk, purpose: Purpose, usage: &str) -> Zeroizing<[u8; SECRET_LEN]> {
    let mut key = Zeroizing::new([0; SECRET_LEN]);
    // Neither name holds a slash, so purpose and usage cannot run into each other.
    prk.expand(&[purpose.as_str().as_bytes(), b"/", usage.as_bytes()], HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut key[..]))
        .expect("HKDF-SHA-256 yields 32 bytes");
    key
}
