//! What every route may reach.

use std::fmt;
use std::sync::Arc;

use axum::extract::FromRef;
use http::Method;
use vidcore::Platform;
use vidcore::keys::{KeyRing, Purpose};

use crate::config::HttpSettings;
use crate::extract::RequestFingerprint;
use crate::middleware::load::Gates;
use crate::routes::in_progress::InProgress;

/// The platform and what the HTTP layer keeps beside it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ApiState {
    /// The services.
    pub platform: Platform,
    /// Idempotency keys that are being worked on in this process.
    pub in_progress: InProgress,
    /// Bounds on costly requests.
    pub gates: Gates,
    fingerprint: Arc<dyn RequestFingerprint>,
}

impl ApiState {
    /// The state of an API over `platform`, with the bounds of `http`.
    pub fn new(platform: Platform, http: &HttpSettings) -> Self {
        let fingerprint = Arc::new(RingFingerprint(platform.keys().clone()));
        let gates = Gates::new(http, platform.settings());
        Self { platform, in_progress: InProgress::default(), gates, fingerprint }
    }
}

impl FromRef<ApiState> for Arc<dyn RequestFingerprint> {
    fn from_ref(state: &ApiState) -> Self {
        Arc::clone(&state.fingerprint)
    }
}

/// Fingerprints under the key ring's own purpose: a request is compared with one of up to 24 hours
/// ago, so a rotation must not change them.
struct RingFingerprint(KeyRing);

impl fmt::Debug for RingFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RingFingerprint(***)")
    }
}

impl RequestFingerprint for RingFingerprint {
    fn fingerprint(&self, method: &Method, target: &str, body: &[u8]) -> [u8; 32] {
        self.0.fingerprint(Purpose::Idempotency, &[method.as_str().as_bytes(), target.as_bytes(), body])
    }
}
