//! Where objects are kept.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Secret;

/// The longest a request may be tried again: what was signed is sent once more as it is, and S3 refuses signatures
/// that are older than a quarter of an hour.
const LONGEST_RETRY_MS: u64 = 240_000;

/// Which back end keeps objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StorageChoice {
    /// Files in the folder `objects` of the data folder.
    #[default]
    Local,
    /// This process's memory: gone with it, for tests and demonstrations.
    Memory,
    /// A bucket of S3, or of what speaks it.
    S3,
}

/// A second place that is asked for what the first one lacks, while objects move from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FallbackChoice {
    /// There is none.
    #[default]
    None,
    /// Files in the folder `objects` of the data folder.
    Local,
    /// A bucket of S3, or of what speaks it.
    S3,
}

/// Objects: sources, renditions and what is on its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageSettings {
    /// `local`, `memory` or `s3`. Default `local`.
    pub back_end: StorageChoice,
    /// The bucket, where `back_end` is `s3`.
    pub s3: S3Settings,
    /// Where objects come from while they move.
    pub fallback: FallbackSettings,
    /// Whether an uploaded file is kept once its renditions are settled, unless it is itself what plays. Without it
    /// nothing can be made anew. Default true.
    pub keep_originals: bool,
    /// How long an original is kept that is not what plays, in seconds; 0 keeps it for ever. Default 0.
    pub originals_keep_s: u64,
}

impl Default for StorageSettings {
    fn default() -> Self {
        Self {
            back_end: StorageChoice::default(),
            s3: S3Settings::default(),
            fallback: FallbackSettings::default(),
            keep_originals: true,
            originals_keep_s: 0,
        }
    }
}

/// The place objects move from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FallbackSettings {
    /// `none`, `local` or `s3`. Default `none`.
    pub back_end: FallbackChoice,
    /// The bucket, where `back_end` is `s3`.
    pub s3: S3Settings,
}

/// A bucket and how it is reached. It may stay fully private: clients reach it by signed URLs alone, and only where
/// `uploads.direct` or `playback.delivery` sends them there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3Settings {
    /// The bucket's name. It is not made. Default empty.
    pub bucket: String,
    /// What every key begins with, for a bucket that is shared: segments of letters, digits, `-`, `_` and `.`,
    /// joined by `/`. Default empty.
    pub prefix: String,
    /// Where the service is, such as `https://s3.example.org`; empty means Amazon's for the region. Default empty.
    pub endpoint: String,
    /// The same as clients reach it, for the URLs that are signed for them; empty means the endpoint. Default empty.
    pub public_endpoint: String,
    /// The region that requests are signed for. Default `us-east-1`.
    pub region: String,
    /// The access key's id. Default empty.
    pub access_key_id: String,
    /// Its secret, shown as `***`. Default empty.
    pub secret_access_key: Secret,
    /// A token that goes with temporary keys, shown as `***`. Default empty.
    pub session_token: Secret,
    /// Whether the bucket is named in the path; else the endpoint names it in its host. Default true.
    pub path_style: bool,
    /// Whether an endpoint that is not this machine may be spoken to without TLS. Default false.
    pub allow_http: bool,
    /// The longest a connection may take to be made, in milliseconds; at least 1. Default 5000.
    pub connect_timeout_ms: u64,
    /// The longest wait for an answer or for the next of its bytes, in milliseconds; at least 1. A part of 5 MiB has
    /// to be sent and acknowledged within it. Default 30,000.
    pub request_timeout_ms: u64,
    /// How often a request is sent again after an error of the service or a broken line. Default 5.
    pub retries: u32,
    /// The longest delay before the first repetition, in milliseconds, at least 1; doubles with each. Default 200.
    pub retry_base_ms: u64,
    /// How long after its beginning a request is still sent again, in milliseconds; at most 240,000. Default 60,000.
    pub retry_for_ms: u64,
}

impl Default for S3Settings {
    fn default() -> Self {
        Self {
            bucket: String::new(),
            prefix: String::new(),
            endpoint: String::new(),
            public_endpoint: String::new(),
            region: "us-east-1".to_owned(),
            access_key_id: String::new(),
            secret_access_key: Secret::default(),
            session_token: Secret::default(),
            path_style: true,
            allow_http: false,
            connect_timeout_ms: 5000,
            request_timeout_ms: 30_000,
            retries: 5,
            retry_base_ms: 200,
            retry_for_ms: 60_000,
        }
    }
}

/// A setting that cannot be used: its key below `storage`, and what was expected.
pub type StorageProblem = (&'static str, &'static str);

impl StorageSettings {
    /// Every rule that is broken, with the whole key.
    pub fn problems(&self) -> Vec<StorageProblem> {
        let mut problems = Vec::new();
        if self.back_end == StorageChoice::S3 {
            problems.extend(self.s3.problems(&S3_KEYS));
        }
        if self.fallback.back_end == FallbackChoice::S3 {
            problems.extend(self.fallback.s3.problems(&FALLBACK_KEYS));
        }
        let own = match self.fallback.back_end {
            FallbackChoice::None => false,
            FallbackChoice::Local => self.back_end == StorageChoice::Local,
            FallbackChoice::S3 => self.back_end == StorageChoice::S3 && self.fallback.s3.is_same_place(&self.s3),
        };
        if own {
            problems.push(("storage.fallback.back_end", "expected another place than storage itself"));
        }
        problems
    }
}

/// Where each checked setting of a bucket stands.
struct Keys {
    bucket: &'static str,
    prefix: &'static str,
    endpoint: &'static str,
    public_endpoint: &'static str,
    region: &'static str,
    access_key_id: &'static str,
    secret_access_key: &'static str,
    connect_timeout_ms: &'static str,
    request_timeout_ms: &'static str,
    retry_base_ms: &'static str,
    retry_for_ms: &'static str,
}

macro_rules! keys_under {
    ($section:literal) => {
        Keys {
            bucket: concat!($section, ".bucket"),
            prefix: concat!($section, ".prefix"),
            endpoint: concat!($section, ".endpoint"),
            public_endpoint: concat!($section, ".public_endpoint"),
            region: concat!($section, ".region"),
            access_key_id: concat!($section, ".access_key_id"),
            secret_access_key: concat!($section, ".secret_access_key"),
            connect_timeout_ms: concat!($section, ".connect_timeout_ms"),
            request_timeout_ms: concat!($section, ".request_timeout_ms"),
            retry_base_ms: concat!($section, ".retry_base_ms"),
            retry_for_ms: concat!($section, ".retry_for_ms"),
        }
    };
}

const S3_KEYS: Keys = keys_under!("storage.s3");
const FALLBACK_KEYS: Keys = keys_under!("storage.fallback.s3");

impl S3Settings {
    fn problems(&self, keys: &Keys) -> Vec<StorageProblem> {
        let judge = |text: &str| match endpoint(text) {
            None => (true, "expected https:// or http:// with a host, without a user, a query or a path"),
            Some(Endpoint::Plain) => (!self.allow_http, "expected https://, or allow_http = true beside it"),
            Some(Endpoint::Protected) => (false, ""),
        };
        let (endpoint_is_bad, wrong_endpoint) = judge(&self.endpoint);
        let (public_is_bad, wrong_public) = judge(&self.public_endpoint);
        let rules = [
            (!is_bucket(&self.bucket), keys.bucket, "expected 3 to 63 lower-case letters, digits, `-` and `.`"),
            (!is_prefix(&self.prefix), keys.prefix, "expected segments of letters, digits, `-`, `_` and `.`"),
            (endpoint_is_bad, keys.endpoint, wrong_endpoint),
            (public_is_bad, keys.public_endpoint, wrong_public),
            (self.region.is_empty(), keys.region, "expected a region"),
            (self.access_key_id.is_empty(), keys.access_key_id, "expected the id of an access key"),
            (self.secret_access_key.is_empty(), keys.secret_access_key, "expected the secret of the access key"),
            (self.connect_timeout_ms == 0, keys.connect_timeout_ms, "expected at least 1"),
            (self.request_timeout_ms == 0, keys.request_timeout_ms, "expected at least 1"),
            (self.retry_base_ms == 0, keys.retry_base_ms, "expected at least 1"),
            (self.retry_for_ms > LONGEST_RETRY_MS, keys.retry_for_ms, "expected at most 240000"),
        ];
        rules.into_iter().filter(|(wrong, ..)| *wrong).map(|(_, key, message)| (key, message)).collect()
    }

    /// Whether both lead to the same objects.
    fn is_same_place(&self, other: &Self) -> bool {
        (&self.endpoint, &self.bucket, &self.prefix) == (&other.endpoint, &other.bucket, &other.prefix)
    }
}

enum Endpoint {
    /// Amazon's own, over TLS, or on this very machine.
    Protected,
    /// Another machine without TLS: keys are not sent, but bytes can be read on the way.
    Plain,
}

fn endpoint(text: &str) -> Option<Endpoint> {
    if text.is_empty() {
        return Some(Endpoint::Protected);
    }
    let (scheme, rest) = text.split_once("://")?;
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let host = authority.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
    let host = host.map_or(authority, |(host, _)| host);
    if host.is_empty() || authority.contains(['/', '@', '?', '#']) {
        return None;
    }
    match scheme {
        "https" => Some(Endpoint::Protected),
        "http" if is_this_machine(host) => Some(Endpoint::Protected),
        "http" => Some(Endpoint::Plain),
        _ => None,
    }
}

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_bucket(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    (3..=63).contains(&name.len()) && name.bytes().all(allowed) && !name.contains("..")
}

fn is_prefix(prefix: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let is_segment = |segment: &str| !segment.is_empty() && segment.bytes().all(allowed) && !segment.starts_with('.');
    prefix.is_empty() || prefix.split('/').all(is_segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usable() -> StorageSettings {
        let s3 = S3Settings {
            bucket: "videos".into(),
            endpoint: "http://127.0.0.1:9000".into(),
            access_key_id: "id".into(),
            secret_access_key: Secret::new("secret"),
            ..S3Settings::default()
        };
        StorageSettings { back_end: StorageChoice::S3, s3, ..StorageSettings::default() }
    }

    fn keys(change: impl FnOnce(&mut StorageSettings)) -> Vec<&'static str> {
        let mut settings = usable();
        change(&mut settings);
        settings.problems().into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn a_bucket_that_is_not_used_need_not_be_named() {
        assert!(StorageSettings::default().problems().is_empty());
        assert!(usable().problems().is_empty());
    }

    #[test]
    fn everything_that_is_missing_is_said_at_once() {
        let missing = keys(|it| it.s3 = S3Settings { retry_for_ms: 240_001, ..S3Settings::default() });
        let expected = [
            "storage.s3.bucket",
            "storage.s3.access_key_id",
            "storage.s3.secret_access_key",
            "storage.s3.retry_for_ms",
        ];
        assert_eq!(expected, *missing);
        assert_eq!(["storage.s3.prefix"], *keys(|it| it.s3.prefix = "a//b".into()));
        assert_eq!(["storage.s3.prefix"], *keys(|it| it.s3.prefix = "../b".into()));
        assert_eq!(["storage.s3.bucket"], *keys(|it| it.s3.bucket = "No/Bucket".into()));
    }

    #[test]
    fn another_machine_is_not_spoken_to_in_clear_unless_that_is_said() {
        for mine in ["http://localhost:9000", "http://[::1]:9000/", "http://127.0.0.1", "https://s3.example", ""] {
            assert!(keys(|it| it.s3.endpoint = mine.into()).is_empty(), "{mine}");
        }
        for bad in ["http://s3.example", "http://127.0.0.1.example:9000", "ftp://s3", "https://", "s3.example"] {
            assert_eq!(["storage.s3.endpoint"], *keys(|it| it.s3.endpoint = bad.into()), "{bad}");
        }
        for bad in ["https://me@s3.example", "https://s3.example/path", "https://s3.example?x"] {
            assert_eq!(["storage.s3.endpoint"], *keys(|it| it.s3.endpoint = bad.into()), "{bad}");
        }
        let said = |it: &mut StorageSettings| {
            it.s3.endpoint = "http://s3.example".into();
            it.s3.allow_http = true;
        };
        assert!(keys(said).is_empty());
    }

    #[test]
    fn objects_do_not_move_to_where_they_are() {
        let key = "storage.fallback.back_end";
        let bucket = usable().s3;
        assert_eq!(
            [key],
            *keys(|it| it.fallback = FallbackSettings { back_end: FallbackChoice::S3, s3: bucket.clone() })
        );
        let other = S3Settings { prefix: "old".into(), ..bucket };
        assert!(keys(|it| it.fallback = FallbackSettings { back_end: FallbackChoice::S3, s3: other }).is_empty());
        assert!(keys(|it| it.fallback.back_end = FallbackChoice::Local).is_empty());
        let local = |it: &mut StorageSettings| {
            it.back_end = StorageChoice::Local;
            it.fallback.back_end = FallbackChoice::Local;
        };
        assert_eq!([key], *keys(local));
    }
}
