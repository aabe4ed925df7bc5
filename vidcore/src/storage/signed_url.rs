//! Signed upload URLs: whoever holds one may send one upload's bytes until it expires.
//!
//! Only the query is made here; where the route is mounted is the server's business. The signature
//! binds what may be done (`PUT` all bytes, or go on with a resumable upload) and the upload, so a query
//! copied to another URL is refused. That a URL is spent after one whole delivery is decided by the
//! upload's row, not by the signature.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::clock::Timestamp;
use crate::id::UploadId;
use crate::keys::{KeyId, KeyRing, Purpose};

/// Length of a whole MAC in base64url without padding.
const SIGNATURE_CHARS: usize = 43;

/// Why something signed was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// It is genuine, and its time is over.
    #[error("signature has expired")]
    Expired,
    /// It was changed, made for something else, or its key is gone.
    #[error("signature is not valid")]
    Invalid,
}

/// Makes and checks the query of signed upload URLs.
#[derive(Debug, Clone)]
pub struct UploadUrlSigner {
    keys: KeyRing,
    /// What a query allows: part of what is signed.
    grant: &'static [u8],
}

impl UploadUrlSigner {
    /// A signer over the keys of [`Purpose::UploadUrl`], for URLs that all bytes are put to.
    pub fn new(keys: KeyRing) -> Self {
        Self { keys, grant: b"PUT" }
    }

    /// The same, for URLs of uploads that are gone on with.
    pub fn resuming(keys: KeyRing) -> Self {
        Self { keys, grant: b"resume" }
    }

    /// The query `expires=…&kid=…&signature=…`, without a question mark: seconds since 1970 (rounded
    /// down), the key's id, and the whole HMAC-SHA-256 in base64url. The same upload, second and key
    /// always yield the same query. Holds a secret: keep it out of logs.
    pub fn sign(&self, upload: UploadId, expires_at: Timestamp) -> String {
        let expires = expires_at.as_secs();
        let (kid, mac) = self.keys.mac(Purpose::UploadUrl, &self.parts(&upload, &expires.to_be_bytes()));
        format!("expires={expires}&kid={kid}&signature={}", URL_SAFE_NO_PAD.encode(mac))
    }

    /// Checks the three values of a query against the upload it was sent to. `expires` is in seconds.
    ///
    /// # Errors
    /// [`SignatureError::Invalid`] before anything else; [`SignatureError::Expired`] from the second
    /// `expires` on.
    pub fn verify(
        &self,
        upload: UploadId,
        expires: i64,
        kid: &str,
        signature: &str,
        now: Timestamp,
    ) -> Result<(), SignatureError> {
        let kid: KeyId = kid.parse().map_err(|_| SignatureError::Invalid)?;
        if signature.len() != SIGNATURE_CHARS {
            return Err(SignatureError::Invalid);
        }
        let mac = URL_SAFE_NO_PAD.decode(signature).map_err(|_| SignatureError::Invalid)?;
        if !self.keys.verify_mac(Purpose::UploadUrl, kid, &self.parts(&upload, &expires.to_be_bytes()), &mac) {
            return Err(SignatureError::Invalid);
        }
        if now.as_secs() >= expires { Err(SignatureError::Expired) } else { Ok(()) }
    }

    fn parts<'a>(&self, upload: &'a UploadId, expires: &'a [u8; 8]) -> [&'a [u8]; 3] {
        [self.grant, upload.as_bytes(), expires]
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::clock::{Clock, ManualClock};
    use crate::entropy::SeededEntropy;

    fn upload() -> UploadId {
        UploadId::from_bytes([9; 16])
    }

    fn signer() -> UploadUrlSigner {
        UploadUrlSigner::new(KeyRing::ephemeral(Arc::new(ManualClock::default()), Arc::new(SeededEntropy::new(1))))
    }

    fn now() -> Timestamp {
        ManualClock::default().now()
    }

    fn in_an_hour() -> Timestamp {
        now().plus(Duration::from_secs(3600))
    }

    /// The values of a query, in its order.
    fn values(query: &str) -> (i64, String, String) {
        let mut values = ["expires", "kid", "signature"].into_iter().zip(query.split('&')).map(|(name, pair)| {
            let (found, value) = pair.split_once('=').expect("a pair");
            assert_eq!(name, found);
            value.to_owned()
        });
        let mut next = || values.next().expect("three values");
        (next().parse().expect("a number"), next(), next())
    }

    #[test]
    fn a_query_is_accepted_until_its_last_second_ends() {
        let signer = signer();
        let (expires, kid, signature) = values(&signer.sign(upload(), in_an_hour()));
        let check = |now| signer.verify(upload(), expires, &kid, &signature, now);
        assert_eq!(Ok(()), check(now()));
        assert_eq!(Ok(()), check(in_an_hour().minus(Duration::from_millis(1))));
        assert_eq!(Err(SignatureError::Expired), check(in_an_hour()));
    }

    #[test]
    fn the_same_upload_and_time_yield_the_same_query() {
        let signer = signer();
        assert_eq!(signer.sign(upload(), in_an_hour()), signer.sign(upload(), in_an_hour()));
    }

    #[test]
    fn a_query_is_refused_for_another_upload_or_expiry_even_when_expired() {
        let signer = signer();
        let (expires, kid, signature) = values(&signer.sign(upload(), now()));
        let other = UploadId::from_bytes([8; 16]);
        for (upload, expires) in [(other, expires), (upload(), expires + 1), (upload(), i64::MAX), (upload(), i64::MIN)]
        {
            assert_eq!(Err(SignatureError::Invalid), signer.verify(upload, expires, &kid, &signature, now()));
        }
        assert_eq!(Err(SignatureError::Expired), signer.verify(upload(), expires, &kid, &signature, now()));
    }

    #[test]
    fn a_query_for_one_thing_is_none_for_the_other() {
        let put = signer();
        let resume = UploadUrlSigner::resuming(put.keys.clone());
        for (signer, other) in [(&put, &resume), (&resume, &put)] {
            let (expires, kid, signature) = values(&signer.sign(upload(), in_an_hour()));
            assert_eq!(Ok(()), signer.verify(upload(), expires, &kid, &signature, now()));
            assert_eq!(Err(SignatureError::Invalid), other.verify(upload(), expires, &kid, &signature, now()));
        }
    }

    #[test]
    fn a_shortened_signature_is_refused() {
        let signer = signer();
        let (expires, kid, signature) = values(&signer.sign(upload(), in_an_hour()));
        for len in [0, 22, 42] {
            assert_eq!(Err(SignatureError::Invalid), signer.verify(upload(), expires, &kid, &signature[..len], now()));
        }
    }

    proptest! {
        #[test]
        fn any_changed_character_is_refused(at in 0_usize..51, with in proptest::char::range('!', '~')) {
            let signer = signer();
            let (expires, kid, signature) = values(&signer.sign(upload(), in_an_hour()));
            let mut text: Vec<char> = format!("{kid}{signature}").chars().collect();
            prop_assert_eq!(51, text.len());
            prop_assume!(text[at] != with);
            text[at] = with;
            let text: String = text.into_iter().collect();
            let verdict = signer.verify(upload(), expires, &text[..8], &text[8..], now());
            prop_assert_eq!(Err(SignatureError::Invalid), verdict);
        }

        #[test]
        fn any_text_is_refused_without_a_panic(expires: i64, kid in ".{0,12}", signature in ".{0,50}") {
            prop_assert_eq!(Err(SignatureError::Invalid), signer().verify(upload(), expires, &kid, &signature, now()));
        }
    }
}
