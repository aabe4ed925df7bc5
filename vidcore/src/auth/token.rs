//! Access tokens: JWTs of type `at+jwt`, signed with Ed25519.
//!
//! After RFC 9068, without `client_id` (there are no OAuth clients here), and with the advice of
//! RFC 8725: one algorithm, fixed by the key and not by the token; the type is checked; every claim is
//! required. Times are judged by the injected [`Clock`]. A token alone admits nobody: its session and
//! `auth_epoch` are compared with the database on each request.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::auth::{AuthError, BadToken, IssuedToken, Role};
use crate::cache::Cached;
use crate::clock::{Clock, Timestamp};
use crate::id::{SessionId, UserId};
use crate::keys::{KeyId, KeyRing, LiveKey, LiveKeys, Purpose};

/// How far the clocks of two processes may differ, in seconds: an access token is accepted this long
/// after `exp`, and when `iat` lies at most this far ahead.
pub const LEEWAY_S: i64 = 5;

/// `typ` of an access token (RFC 9068 §2.1).
const TYPE: &str = "at+jwt";

/// Ours have about 500 bytes; nothing longer than this is looked at.
const MAX_TOKEN_BYTES: usize = 4096;

/// A public key as RFC 8037 shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Jwk {
    /// Key type, always `OKP`.
    pub kty: String,
    /// Curve, always `Ed25519`.
    pub crv: String,
    /// The public key, 32 bytes as base64url without padding.
    pub x: String,
    /// Names the key in the header of a token.
    pub kid: String,
    /// Always `EdDSA`.
    pub alg: String,
    /// Always `sig`.
    #[serde(rename = "use")]
    pub usage: String,
}

/// The keys that access tokens may be signed with, newest first (RFC 7517 §5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Jwks {
    /// One key, or two after a rotation.
    pub keys: Vec<Jwk>,
}

/// What an access token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub(crate) iss: String,
    pub(crate) aud: String,
    pub(crate) sub: UserId,
    pub(crate) sid: SessionId,
    pub(crate) iat: i64,
    pub(crate) exp: i64,
    pub(crate) jti: String,
    pub(crate) auth_epoch: i64,
    pub(crate) role: Role,
}

/// A token whose signature was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checked {
    /// The key that signed it.
    kid: String,
    claims: Claims,
}

/// Everything an access token is made of besides the settings: equal subjects give equal tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) user: UserId,
    pub(crate) session: SessionId,
    pub(crate) role: Role,
    pub(crate) auth_epoch: i64,
    pub(crate) token_id: String,
    pub(crate) issued_at: Timestamp,
}

/// Signs and verifies access tokens.
pub(crate) struct AccessTokens {
    ring: KeyRing,
    clock: Arc<dyn Clock>,
    issuer: String,
    audience: String,
    ttl: Duration,
    parsed: RwLock<Arc<Parsed>>,
}

/// A snapshot of the ring, ready for use.
struct Parsed {
    of: Arc<LiveKeys>,
    keys: Vec<SigningKey>,
    jwks: Arc<Cached<Jwks>>,
}

struct SigningKey {
    id: KeyId,
    sign: EncodingKey,
    verify: DecodingKey,
    jwk: Jwk,
}

impl AccessTokens {
    pub(crate) fn new(ring: KeyRing, clock: Arc<dyn Clock>, issuer: String, audience: String, ttl: Duration) -> Self {
        let parsed = RwLock::new(Arc::new(Parsed::of(ring.live(Purpose::Jwt))));
        Self { ring, clock, issuer, audience, ttl, parsed }
    }

    /// Life of a token in seconds.
    pub(crate) fn ttl_s(&self) -> u64 {
        self.ttl.as_secs()
    }

    /// The key that signs now.
    pub(crate) fn signing_key(&self) -> KeyId {
        self.ring.live(Purpose::Jwt).signing(self.clock.now()).id()
    }

    /// Signs a token for `subject` with the live key `id`, or with the one that signs now if that key
    /// is gone.
    pub(crate) fn issue(&self, subject: &Subject, id: KeyId) -> Result<IssuedToken, AuthError> {
        let parsed = self.parsed();
        let key = parsed.find(id).or_else(|| parsed.find(self.signing_key()));
        let key = key.ok_or_else(|| sign_error("the ring changed while it was read"))?;
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(TYPE.to_owned());
        header.kid = Some(key.id.to_string());
        let token = jsonwebtoken::encode(&header, &self.claims(subject), &key.sign).map_err(sign_error)?;
        Ok(IssuedToken::new(token))
    }

    /// Checks that `token` is ours and meant for us, which does not change as long as its key is live.
    pub(crate) fn check(&self, token: &str) -> Result<Checked, BadToken> {
        if is_too_long(token) {
            return Err(BadToken::Invalid);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| BadToken::Invalid)?;
        let id = key_of(&header)?;
        let parsed = self.parsed();
        let key = parsed.find(id).ok_or(BadToken::Invalid)?;
        let claims = jsonwebtoken::decode::<Claims>(token, &key.verify, &self.validation())
            .map_err(|_| BadToken::Invalid)?
            .claims;
        Ok(Checked { kid: id.to_string(), claims })
    }

    /// What a checked token says, if its key is still live and its time is not over.
    pub(crate) fn judge<'a>(&self, checked: &'a Checked) -> Result<&'a Claims, BadToken> {
        let is_live = self.parsed().keys.iter().any(|key| key.jwk.kid == checked.kid);
        if !is_live {
            return Err(BadToken::Invalid);
        }
        self.judge_times(&checked.claims)?;
        Ok(&checked.claims)
    }

    /// The public halves of the live keys: built once per rotation.
    pub(crate) fn jwks(&self) -> Arc<Cached<Jwks>> {
        Arc::clone(&self.parsed().jwks)
    }

    fn claims(&self, subject: &Subject) -> Claims {
        let iat = subject.issued_at.as_secs();
        Claims {
            iss: self.issuer.clone(),
            aud: self.audience.clone(),
            sub: subject.user,
            sid: subject.session,
            iat,
            exp: iat.saturating_add(i64::try_from(self.ttl.as_secs()).unwrap_or(i64::MAX)),
            jti: subject.token_id.clone(),
            auth_epoch: subject.auth_epoch,
            role: subject.role,
        }
    }

    /// The crate would judge times by the system's clock, so that part is ours.
    fn validation(&self) -> Validation {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.validate_exp = false;
        validation
    }

    fn judge_times(&self, claims: &Claims) -> Result<(), BadToken> {
        let now = self.clock.now().as_secs();
        if claims.iat > now.saturating_add(LEEWAY_S) || claims.exp <= claims.iat {
            return Err(BadToken::Invalid);
        }
        if now >= claims.exp.saturating_add(LEEWAY_S) {
            return Err(BadToken::Expired);
        }
        Ok(())
    }

    /// The ring's keys, parsed once per rotation.
    fn parsed(&self) -> Arc<Parsed> {
        let live = self.ring.live(Purpose::Jwt);
        let parsed = Arc::clone(&self.parsed.read().unwrap_or_else(PoisonError::into_inner));
        if Arc::ptr_eq(&parsed.of, &live) {
            return parsed;
        }
        let fresh = Arc::new(Parsed::of(live));
        *self.parsed.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&fresh);
        fresh
    }
}

impl fmt::Debug for AccessTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessTokens")
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}

impl Parsed {
    fn of(live: Arc<LiveKeys>) -> Self {
        let keys: Vec<_> = live.iter().map(SigningKey::of).collect();
        let jwks = Jwks { keys: keys.iter().map(|key| key.jwk.clone()).collect() };
        Self { of: live, keys, jwks: Arc::new(Cached::new(jwks)) }
    }

    fn find(&self, id: KeyId) -> Option<&SigningKey> {
        self.keys.iter().find(|key| key.id == id)
    }
}

impl SigningKey {
    fn of(key: &LiveKey) -> Self {
        let pair =
            Ed25519KeyPair::from_pkcs8(key.expose_secret()).expect("the ring holds Ed25519 keys for this purpose");
        let public = pair.public_key().as_ref();
        Self {
            id: key.id(),
            sign: EncodingKey::from_ed_der(key.expose_secret()),
            // Despite its name this takes the 32 bytes of the public key.
            verify: DecodingKey::from_ed_der(public),
            jwk: Jwk {
                kty: "OKP".to_owned(),
                crv: "Ed25519".to_owned(),
                x: URL_SAFE_NO_PAD.encode(public),
                kid: key.id().to_string(),
                alg: "EdDSA".to_owned(),
                usage: "sig".to_owned(),
            },
        }
    }
}

/// Whether a token is too long to be looked at.
pub(crate) fn is_too_long(token: &str) -> bool {
    token.len() > MAX_TOKEN_BYTES
}

/// The key a header names, if the header is that of an access token of ours.
fn key_of(header: &Header) -> Result<KeyId, BadToken> {
    // RFC 9068 §4 allows the long form of the media type too; names of types ignore case.
    let is_access_token = header
        .typ
        .as_deref()
        .is_some_and(|typ| typ.eq_ignore_ascii_case(TYPE) || typ.eq_ignore_ascii_case("application/at+jwt"));
    // Extensions that must be understood are not understood here (RFC 7515 §4.1.11).
    if !is_access_token || header.alg != Algorithm::EdDSA || header.crit.is_some() {
        return Err(BadToken::Invalid);
    }
    header.kid.as_deref().and_then(|kid| kid.parse().ok()).ok_or(BadToken::Invalid)
}

fn sign_error(source: impl Into<crate::store::BoxError>) -> AuthError {
    AuthError::Key { operation: "signing an access token", source: source.into() }
}
