//! A bucket of S3, or of what speaks it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{HttpConnector, ReqwestConnector};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, Error, ObjectStore, RetryConfig};

mod direct;

use self::direct::{S3Direct, UrlSigner};
use super::failure::{failure, is_lasting};
use super::{ObjectError, Objects, PART_SIZE, PartSizes};
use crate::platform::settings::S3Settings;

/// The most that S3 copies by itself, with one request.
const COPY_LIMIT: u64 = 5 << 30;

/// The most parts an object may have.
const MOST_PARTS: u64 = 10_000;

/// How much longer than the first delay the longest one is.
const LONGEST_DELAY: u32 = 50;

impl Objects {
    /// Objects in a bucket, which has to be there. Nothing is asked of it yet.
    ///
    /// Requests are sent again after errors of the service and broken lines, within the bounds of the settings;
    /// a body that breaks off is read on from where it broke.
    ///
    /// # Errors
    /// [`ObjectError::Unavailable`] if no client can be made of the settings.
    pub fn s3(settings: &S3Settings) -> Result<Self, ObjectError> {
        let unusable = |error| failure("prepare requests to S3", error);
        let store = client(settings, settings.retries).map_err(unusable)?;
        let direct = direct(settings).map_err(unusable)?;
        Ok(Self {
            direct: Some(Arc::new(direct)),
            parts: PartSizes { least: PART_SIZE, most: Some(MOST_PARTS) },
            copy_limit: Some(COPY_LIMIT),
            holds_small: true,
            ..Self::new(store)
        })
    }

    /// Asks the bucket once whether it is there and takes these keys. That nobody answers is no reason to refuse:
    /// it may be there in a moment.
    ///
    /// # Errors
    /// [`ObjectError::Unavailable`] if there is no such bucket, or the keys are refused.
    pub async fn check_s3(settings: &S3Settings) -> Result<(), ObjectError> {
        const OPERATION: &str = "look into the bucket";
        let store = client(settings, 0).map_err(|error| failure(OPERATION, error))?;
        let first = store.list(Some(&Path::from("staging"))).next().await;
        let error = match first {
            None | Some(Ok(_)) => return Ok(()),
            Some(Err(error)) => failure(OPERATION, error),
        };
        if is_lasting(&error) {
            return Err(error);
        }
        tracing::warn!(bucket = settings.bucket, ?error, "the bucket does not answer yet");
        Ok(())
    }
}

fn options(settings: &S3Settings) -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(settings.endpoint.starts_with("http://"))
        // It would end the reading of a long object to a slow viewer; what is bounded is each wait for bytes.
        .with_timeout_disabled()
        .with_connect_timeout(Duration::from_millis(settings.connect_timeout_ms))
        .with_read_timeout(Duration::from_millis(settings.request_timeout_ms))
}

/// What every key begins with goes before each by a wrapper.
fn client(settings: &S3Settings, retries: u32) -> Result<Arc<dyn ObjectStore>, Error> {
    let bucket = bucket(settings, retries)?;
    if settings.prefix.is_empty() {
        return Ok(Arc::new(bucket));
    }
    Ok(Arc::new(PrefixStore::new(bucket, settings.prefix.as_str())))
}

fn direct(settings: &S3Settings) -> Result<S3Direct, Error> {
    let public = if settings.public_endpoint.is_empty() { &settings.endpoint } else { &settings.public_endpoint };
    let signer = |endpoint| UrlSigner::new(settings, endpoint).map_err(|source| Error::Generic { store: "S3", source });
    Ok(S3Direct {
        bucket: bucket(settings, settings.retries)?,
        signer: signer(&settings.endpoint)?,
        public: signer(public)?,
        http: ReqwestConnector::default().connect(&options(settings))?,
        prefix: settings.prefix.clone(),
        retries: settings.retries,
        retry_for: Duration::from_millis(settings.retry_for_ms),
        first_delay: Duration::from_millis(settings.retry_base_ms),
    })
}

fn bucket(settings: &S3Settings, retries: u32) -> Result<AmazonS3, Error> {
    let first = Duration::from_millis(settings.retry_base_ms);
    let retry = RetryConfig {
        backoff: BackoffConfig { init_backoff: first, max_backoff: first * LONGEST_DELAY, base: 2.0 },
        max_retries: retries as usize,
        retry_timeout: Duration::from_millis(settings.retry_for_ms),
    };
    let mut builder = AmazonS3Builder::new()
        .with_client_options(options(settings))
        .with_retry(retry)
        .with_region(&settings.region)
        .with_bucket_name(&settings.bucket)
        .with_access_key_id(&settings.access_key_id)
        .with_secret_access_key(settings.secret_access_key.expose())
        .with_virtual_hosted_style_request(!settings.path_style)
        // One request for each key is what every service understands.
        .with_disable_bulk_delete(true);
    if !settings.endpoint.is_empty() {
        builder = builder.with_endpoint(settings.endpoint.trim_end_matches('/'));
    }
    if !settings.session_token.is_empty() {
        builder = builder.with_token(settings.session_token.expose());
    }
    builder.build()
}
