//! A bucket whose clients talk to it themselves: signed URLs, parts, and what S3 says of them.
//!
//! Beginning, completing and giving up are `object_store`'s. It signs no URL with a length and asks for no lists of parts
//! or of unfinished uploads: URLs are signed by `rusty-s3`, and lists are asked for by such.

use std::fmt;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use http::StatusCode;
use object_store::aws::AmazonS3;
use object_store::client::{HttpClient, HttpRequestBody};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::signer::Url;
use serde::Deserialize;

use crate::clock::Timestamp;
use crate::platform::settings::S3Settings;
use crate::storage::objects::direct::{Answering, DirectStore, PartsOf, StoredPart, Unfinished};
use crate::storage::objects::failure::failure;
use crate::storage::objects::{ObjectError, path};
use crate::store::BoxError;

/// How long a URL is good that this program asks itself.
const OWN_URL: Duration = Duration::from_secs(300);

/// The longest that S3 lets a URL live: seven days.
const LONGEST_LIFE_S: u64 = 604_800;

/// The most that S3 lists at once.
const PAGE: &str = "1000";

/// One bucket, as this program and as its clients reach it.
#[derive(Debug)]
pub(super) struct S3Direct {
    pub(super) bucket: AmazonS3,
    pub(super) signer: UrlSigner,
    /// The same under the address that clients know.
    pub(super) public: UrlSigner,
    pub(super) http: HttpClient,
    /// What every key begins with, without a slash at its end; may be empty.
    pub(super) prefix: String,
    pub(super) retries: u32,
    pub(super) retry_for: Duration,
    pub(super) first_delay: Duration,
}

/// Signs URLs of one bucket (AWS Signature Version 4, in the query).
pub(super) struct UrlSigner {
    /// Ends with a slash.
    base: Url,
    settings: S3Settings,
}

impl fmt::Debug for UrlSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UrlSigner").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

impl UrlSigner {
    /// For a bucket at `endpoint`, where an empty one is Amazon's.
    pub(super) fn new(settings: &S3Settings, endpoint: &str) -> Result<Self, BoxError> {
        let S3Settings { bucket, region, path_style, .. } = settings;
        let base = match (endpoint.trim_end_matches('/'), path_style) {
            ("", true) => format!("https://s3.{region}.amazonaws.com/{bucket}/"),
            ("", false) => format!("https://{bucket}.s3.{region}.amazonaws.com/"),
            (endpoint, true) => format!("{endpoint}/{bucket}/"),
            (endpoint, false) => format!("{endpoint}/"),
        };
        Ok(Self { base: Url::parse(&base)?, settings: settings.clone() })
    }

    /// The query and the headers in the order of their names.
    fn sign(
        &self,
        method: rusty_s3::Method,
        key: &str,
        life: Duration,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Result<String, ObjectError> {
        debug_assert!(query.is_sorted() && headers.is_sorted());
        let url = self.base.join(key).map_err(|error| unavailable("sign a URL", error.into()))?;
        let S3Settings { region, access_key_id, secret_access_key, session_token, .. } = &self.settings;
        let signed = rusty_s3::signing::sign(
            &jiff::Timestamp::now(),
            method,
            url,
            access_key_id,
            secret_access_key.expose(),
            Some(session_token.expose()),
            region,
            life.as_secs().clamp(1, LONGEST_LIFE_S),
            query.iter().copied(),
            headers.iter().copied(),
        );
        Ok(signed.into())
    }
}

impl S3Direct {
    fn full(&self, key: &str) -> Result<Path, ObjectError> {
        if self.prefix.is_empty() { path(key) } else { path(&format!("{}/{key}", self.prefix)) }
    }

    /// The key without what all of them begin with; `None` for somebody else's.
    fn own<'k>(&self, full: &'k str) -> Option<&'k str> {
        if self.prefix.is_empty() { Some(full) } else { full.strip_prefix(&self.prefix)?.strip_prefix('/') }
    }

    /// Asks for a list, again after errors of the service and broken lines.
    async fn list(&self, operation: &'static str, at: &str, query: &[(&str, &str)]) -> Result<String, ObjectError> {
        let (mut delay, begun) = (self.first_delay, Instant::now());
        for left in (0..=self.retries).rev() {
            let left = if begun.elapsed() < self.retry_for { left } else { 0 };
            let url = self.signer.sign(rusty_s3::Method::Get, at, OWN_URL, query, &[])?;
            match self.ask(&url).await {
                Ok((status, text)) if status.is_success() => return Ok(text),
                Ok((StatusCode::NOT_FOUND, text)) if !text.contains("NoSuchBucket") => {
                    return Err(ObjectError::NotFound);
                }
                Ok((status, text)) if left == 0 || !is_passing(status) => {
                    return Err(unavailable(operation, format!("{status}: {}", code_of(&text)).into()));
                }
                Err(error) if left == 0 => return Err(unavailable(operation, error)),
                _ => {}
            }
            tokio::time::sleep(delay).await;
            delay = delay.saturating_mul(2).min(self.first_delay.saturating_mul(super::LONGEST_DELAY));
        }
        Err(unavailable(operation, "no try was left".into()))
    }

    async fn ask(&self, url: &str) -> Result<(StatusCode, String), BoxError> {
        let request = http::Request::get(url).body(HttpRequestBody::empty())?;
        let response = self.http.execute(request).await?;
        let (status, body) = (response.status(), response.into_body().bytes().await?);
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }
}

/// What S3 calls an error. The rest of its words may repeat what was signed.
fn code_of(xml: &str) -> &str {
    xml.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map_or("no code", |(code, _)| code)
}

fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

fn unavailable(operation: &'static str, source: BoxError) -> ObjectError {
    ObjectError::Unavailable { operation, source }
}

fn parsed<'a, T: Deserialize<'a>>(operation: &'static str, xml: &'a str) -> Result<T, ObjectError> {
    quick_xml::de::from_str(xml).map_err(|error| unavailable(operation, error.into()))
}

#[async_trait]
impl DirectStore for S3Direct {
    async fn begin(&self, key: &str) -> Result<String, ObjectError> {
        let begun = self.bucket.create_multipart(&self.full(key)?).await;
        begun.map_err(|error| failure("begin an object in parts", error))
    }

    async fn part_url(
        &self,
        parts: &PartsOf,
        number: u32,
        size_bytes: u64,
        life: Duration,
    ) -> Result<String, ObjectError> {
        // The length is part of what is signed: another one is refused by the service.
        let (number, length) = (number.to_string(), size_bytes.to_string());
        let query = [("partNumber", &*number), ("uploadId", &*parts.id)];
        let key = self.full(&parts.key)?;
        self.public.sign(rusty_s3::Method::Put, key.as_ref(), life, &query, &[("content-length", &*length)])
    }

    async fn parts(&self, parts: &PartsOf, after: u32) -> Result<Vec<StoredPart>, ObjectError> {
        const OPERATION: &str = "list parts";
        let (key, marker) = (self.full(&parts.key)?, after.to_string());
        let query = [("max-parts", PAGE), ("part-number-marker", &*marker), ("uploadId", &*parts.id)];
        let xml = self.list(OPERATION, key.as_ref(), &query).await?;
        let listed: ListPartsResult = parsed(OPERATION, &xml)?;
        Ok(listed.parts.into_iter().map(StoredPart::from).collect())
    }

    async fn complete(&self, parts: &PartsOf, stored: &[StoredPart]) -> Result<(), ObjectError> {
        let ids = stored.iter().map(|part| PartId { content_id: part.tag.clone() }).collect();
        match self.bucket.complete_multipart(&self.full(&parts.key)?, &parts.id, ids).await {
            Ok(_) => Ok(()),
            Err(error) if is_no_such_upload(&error) => Err(ObjectError::NotFound),
            Err(error) => Err(failure("join parts", error)),
        }
    }

    async fn abort(&self, parts: &PartsOf) -> Result<(), ObjectError> {
        match self.bucket.abort_multipart(&self.full(&parts.key)?, &parts.id).await {
            Err(error) if !is_no_such_upload(&error) => match failure("give parts up", error) {
                ObjectError::NotFound => Ok(()),
                error => Err(error),
            },
            _ => Ok(()),
        }
    }

    async fn unfinished(&self, after: Option<&PartsOf>) -> Result<Vec<Unfinished>, ObjectError> {
        const OPERATION: &str = "list unfinished parts";
        let prefix = if self.prefix.is_empty() { String::new() } else { format!("{}/", self.prefix) };
        let mut query = vec![("uploads", ""), ("prefix", &*prefix), ("max-uploads", PAGE)];
        // It may be anybody's, and need be no key that this program would make.
        let key = after.map(|after| format!("{prefix}{}", after.key));
        if let (Some(key), Some(after)) = (&key, after) {
            query.extend([("key-marker", key.as_str()), ("upload-id-marker", &*after.id)]);
        }
        query.sort_unstable();
        let xml = self.list(OPERATION, "", &query).await?;
        let listed: ListMultipartUploadsResult = parsed(OPERATION, &xml)?;
        let own = |upload: ListedUpload| {
            let parts = PartsOf { key: self.own(&upload.key)?.to_owned(), id: upload.upload_id };
            Some(Unfinished { parts, begun: upload.initiated })
        };
        Ok(listed.uploads.into_iter().filter_map(own).collect())
    }

    async fn object_url(&self, key: &str, answering: Answering<'_>, life: Duration) -> Result<String, ObjectError> {
        let query = [
            ("response-cache-control", answering.cache_control),
            ("response-content-disposition", answering.disposition),
            ("response-content-type", answering.content_type),
        ];
        self.public.sign(rusty_s3::Method::Get, self.full(key)?.as_ref(), life, &query, &[])
    }
}

/// Some services say so with a status of their own; all of them with this word.
fn is_no_such_upload(error: &object_store::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.to_string().contains("NoSuchUpload") {
            return true;
        }
        cause = error.source();
    }
    false
}

#[derive(Debug, Deserialize)]
struct ListPartsResult {
    #[serde(rename = "Part", default)]
    parts: Vec<ListedPart>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListedPart {
    part_number: u32,
    size: u64,
    #[serde(rename = "ETag")]
    tag: String,
}

impl From<ListedPart> for StoredPart {
    fn from(part: ListedPart) -> Self {
        Self { number: part.part_number, size_bytes: part.size, tag: part.tag }
    }
}

#[derive(Debug, Deserialize)]
struct ListMultipartUploadsResult {
    #[serde(rename = "Upload", default)]
    uploads: Vec<ListedUpload>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListedUpload {
    key: String,
    upload_id: String,
    initiated: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Amazon's documentation shows it.
    #[test]
    fn lists_are_read_whatever_else_they_say() {
        let xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>
            <ListPartsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Bucket>b</Bucket><Key>k</Key>
            <UploadId>u</UploadId><Initiator><ID>arn:aws:iam::1:user/x</ID></Initiator><MaxParts>2</MaxParts>
            <Part><PartNumber>2</PartNumber><LastModified>2010-11-10T20:48:34.000Z</LastModified>
            <ETag>\"7778aef83f66abc1fa1e8477f296d394\"</ETag><Size>10485760</Size></Part></ListPartsResult>";
        let listed: ListPartsResult = parsed("test", xml).expect("it is a list");
        let tag = "\"7778aef83f66abc1fa1e8477f296d394\"".to_owned();
        assert_eq!(
            [StoredPart { number: 2, size_bytes: 10_485_760, tag }],
            *listed.parts.into_iter().map(StoredPart::from).collect::<Vec<_>>()
        );
        let xml = "<ListMultipartUploadsResult><Bucket>b</Bucket><Prefix>p/</Prefix><IsTruncated>false</IsTruncated>
            <Upload><Key>p/my-movie.m2ts</Key><UploadId>XMg</UploadId><StorageClass>STANDARD</StorageClass>
            <Initiated>2010-11-10T20:48:33.000Z</Initiated></Upload>
            <CommonPrefixes><Prefix>p/x/</Prefix></CommonPrefixes></ListMultipartUploadsResult>";
        let listed: ListMultipartUploadsResult = parsed("test", xml).expect("it is a list");
        assert_eq!(("p/my-movie.m2ts", "XMg"), (&*listed.uploads[0].key, &*listed.uploads[0].upload_id));
        assert_eq!(1_289_422_113_000, listed.uploads[0].initiated.as_millis());
        let none: ListMultipartUploadsResult =
            parsed("test", "<ListMultipartUploadsResult/>").expect("it is an empty list");
        assert!(none.uploads.is_empty());
    }
}
