//! What a sign-in is given, drawn once and answered the same each time it is asked for with one key.

use crate::auth::grant::Grant;
use crate::auth::service::Inner;
use crate::auth::session::{RefreshToken, Successor};
use crate::auth::{AuthError, NewSession, Rotated, Rotation, SessionAccount, SignedIn};
use crate::clock::Timestamp;
use crate::entropy::EntropyExt;
use crate::id::{SessionId, UserId};
use crate::idempotency::{IdempotencyKey, IdempotencyRecord};
use crate::store::{Causes, Outcome};

impl Inner {
    /// A fresh set of secrets for a sign-in at `now`.
    pub(super) fn grant(&self, now: Timestamp) -> Grant {
        Grant {
            refresh_token: RefreshToken::draw(&*self.entropy).to_text(),
            refresh_expires_at: now.plus(self.refresh_ttl),
            token_id: hex::encode(self.entropy.bytes::<16>()),
            issued_at: now,
            signing_key: self.tokens.signing_key(),
        }
    }

    pub(super) fn new_session(&self, user: UserId, grant: &Grant) -> NewSession {
        NewSession {
            id: SessionId::new(grant.issued_at, &*self.entropy),
            user,
            token_hash: grant.token_hash(),
            now: grant.issued_at,
            expires_at: grant.refresh_expires_at,
        }
    }

    pub(super) fn rotation(&self, presented: &RefreshToken, grant: &Grant) -> Rotation {
        let successor = Successor {
            token: RefreshToken::parse(grant.refresh_token.expose()).expect("it is a token's own text"),
            expires_at: grant.refresh_expires_at,
        };
        Rotation {
            presented: presented.hash(),
            successor: successor.token.hash(),
            sealed: presented.seal(&successor, &*self.entropy),
            now: grant.issued_at,
            expires_at: grant.refresh_expires_at,
            grace: self.refresh_grace,
        }
    }

    pub(super) fn causes(&self, idem: Option<&IdempotencyKey>, grant: Option<&Grant>) -> Causes {
        Causes::none().idempotent(idem.map(|key| IdempotencyRecord {
            key: key.clone(),
            expires_at: self.clock.now().plus(self.keep_keys),
            sealed: grant.map(|grant| grant.sealed_for(key, &self.keys)),
        }))
    }

    pub(super) fn answer(
        &self,
        outcome: Outcome<SessionAccount>,
        grant: Grant,
        idem: Option<&IdempotencyKey>,
    ) -> Result<Outcome<SignedIn>, AuthError> {
        match outcome {
            Outcome::Done(account) => grant.into_answer(account, &self.tokens).map(Outcome::Done),
            Outcome::Replayed { value, sealed } => {
                let first = self.replayed_grant(sealed.as_deref(), idem)?;
                let value = first.into_answer(value, &self.tokens)?;
                Ok(Outcome::Replayed { value, sealed: None })
            }
        }
    }

    pub(super) fn replayed_grant(
        &self,
        sealed: Option<&[u8]>,
        idem: Option<&IdempotencyKey>,
    ) -> Result<Grant, AuthError> {
        let (Some(sealed), Some(key)) = (sealed, idem) else {
            return Err(AuthError::Key { operation: "opening a sealed answer", source: "there is none".into() });
        };
        Grant::open(sealed, key, &self.keys)
    }

    pub(super) fn rotated(
        &self,
        rotated: Rotated,
        presented: &RefreshToken,
        grant: Grant,
    ) -> Result<SignedIn, AuthError> {
        match rotated {
            Rotated::Fresh(account) => grant.into_answer(account, &self.tokens),
            Rotated::Twin { account, sealed } => {
                let successor = presented.open(&sealed).map_err(AuthError::seal)?;
                grant.with_successor(&successor).into_answer(account, &self.tokens)
            }
            Rotated::Reused { session } => {
                metrics::counter!("vid_refresh_reuse_total").increment(1);
                tracing::warn!(session.id = %session, "a used refresh token came back: {session} is revoked");
                Err(AuthError::RefreshRefused)
            }
            Rotated::Refused => Err(AuthError::RefreshRefused),
        }
    }
}
