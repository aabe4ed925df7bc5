//! What every route may reach.

use std::fmt;
use std::sync::Arc;

use axum::extract::FromRef;
use http::Method;
use vidcore::Platform;
use vidcore::keys::{KeyRing, Purpose};

use crate::extract::RequestFingerprint;
use crate::routes::in_progress::InProgress;

/// The platform and what the HTTP layer keeps beside it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ApiState {
    /// The services.
    pub platform: Platform,
    /// Idempotency keys that are being worked on in this process.
    pub in_progress: InProgress,
    fingerprint: Arc<dyn RequestFingerprint>,
}

impl ApiState {
    /// The state of an API over `platform`.
    pub fn new(platform: Platform) -> Self {
        let fingerprint = Arc::new(RingFingerprint(platform.keys().clone()));
        Self { platform, in_progress: InProgress::default(), fingerprint }
    }
}

impl FromRef<ApiState> for Arc<dyn RequestFingerprint> {
    fn from_ref(state: &ApiState) -> Self {
        Arc::clone(&state.fingerprint)
    }
}

/// Fingerprints under the key ring's own purpose.
///
/// The ring rotates, and a request is compared with one of up to 24 hours ago: the older of the live
/// keys is used as long as there are two, so that a rotation changes no fingerprint at once.
struct RingFingerprint(KeyRing);

impl fmt::Debug for RingFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RingFingerprint(***)")
    }
}

impl RequestFingerprint for RingFingerprint {
    fn fingerprint(&self, method: &Method, target: &str, body: &[u8]) -> [u8; 32] {
        // Lengths go first, so that no two requests run together to the same bytes.
        let lengths = [method.as_str().len(), target.len(), body.len()].map(|length| (length as u64).to_be_bytes());
        let parts: [&[u8]; 6] =
            [&lengths[0], method.as_str().as_bytes(), &lengths[1], target.as_bytes(), &lengths[2], body];
        self.0.mac(Purpose::Idempotency, &parts).1
    }
}
