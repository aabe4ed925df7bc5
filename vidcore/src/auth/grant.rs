//! What a sign-in hands out, and how the same request gets the same answer again.
//!
//! An idempotency record keeps the command's result in clear and this part of the answer sealed.
//! Ed25519 signs deterministically, so both together give the first answer again, byte by byte,
//! without an access token being stored anywhere.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::auth::session::{RefreshToken, Successor};
use crate::auth::token::{AccessTokens, Subject};
use crate::auth::{AuthError, IssuedToken, SessionAccount, SignedIn, TokenType};
use crate::clock::Timestamp;
use crate::idempotency::IdempotencyKey;
use crate::keys::{KeyId, KeyRing, Purpose};

/// The parts of an answer that are neither in the database nor in the settings.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Grant {
    pub(super) refresh_token: IssuedToken,
    pub(super) refresh_expires_at: Timestamp,
    /// `jti` of the access token.
    pub(super) token_id: String,
    pub(super) issued_at: Timestamp,
    pub(super) signing_key: KeyId,
}

impl Grant {
    /// The same grant with the refresh token that a twin was given first.
    pub(super) fn with_successor(self, successor: &Successor) -> Self {
        Self { refresh_token: successor.token.to_text(), refresh_expires_at: successor.expires_at, ..self }
    }

    /// Hash of the refresh token, as the database keeps it.
    pub(super) fn token_hash(&self) -> [u8; 32] {
        RefreshToken::parse(self.refresh_token.expose()).expect("it is a token's own text").hash()
    }

    /// The grant, bound to the key it is to be replayed under.
    pub(super) fn sealed_for(&self, key: &IdempotencyKey, ring: &KeyRing) -> Vec<u8> {
        let json = Zeroizing::new(serde_json::to_vec(self).expect("strings, times and ids are JSON"));
        ring.seal(Purpose::Idempotency, &bound_to(key), &json)
    }

    /// Opens what [`sealed_for`](Self::sealed_for) made for the same key.
    pub(super) fn open(sealed: &[u8], key: &IdempotencyKey, ring: &KeyRing) -> Result<Self, AuthError> {
        let json = ring.open_sealed(Purpose::Idempotency, &bound_to(key), sealed).map_err(AuthError::seal)?;
        let json = Zeroizing::new(json);
        serde_json::from_slice(&json)
            .map_err(|_| AuthError::Key { operation: "opening a sealed answer", source: "it is no grant".into() })
    }

    /// The answer for the account and session that the command returned.
    pub(super) fn into_answer(self, of: SessionAccount, tokens: &AccessTokens) -> Result<SignedIn, AuthError> {
        let SessionAccount { session, account } = of;
        let subject = Subject {
            user: account.id,
            session,
            role: account.role,
            auth_epoch: account.auth_epoch,
            token_id: self.token_id,
            issued_at: self.issued_at,
        };
        Ok(SignedIn {
            access_token: tokens.issue(&subject, self.signing_key)?,
            token_type: TokenType::Bearer,
            expires_in: tokens.ttl_s(),
            refresh_token: self.refresh_token,
            refresh_expires_at: self.refresh_expires_at,
            user: account.into(),
        })
    }
}

/// Additional data of the seal: scope and key, told apart by the length of the first.
fn bound_to(key: &IdempotencyKey) -> Vec<u8> {
    let scope = key.scope.as_bytes();
    [&(scope.len() as u64).to_be_bytes()[..], scope, key.key.as_bytes()].concat()
}
