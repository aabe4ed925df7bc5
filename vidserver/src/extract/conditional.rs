//! Entity tags and the conditions built from them (RFC 9110 §8.8.3, §13).
//!
//! A single resource has the strong tag `"{version}-{digest}"`. `If-None-Match` compares the whole
//! tag; `If-Match` guards against lost updates and so compares the version alone: counters move the
//! digest, not the version.

use std::fmt;

use axum::extract::FromRequestParts;
use http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};

use crate::problem::{Problem, code};

/// The most tags one header may list.
const MAX_TAGS: usize = 64;

/// How many characters of a digest a tag carries: 64 bits in hex.
const DIGEST_LEN: usize = 16;

/// One entity tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityTag {
    weak: bool,
    opaque: String,
}

impl EntityTag {
    /// The strong tag of a single resource; of the digest, lower-case hex, the first 16 characters count.
    pub fn of_version(version: i64, digest: &str) -> Self {
        Self { weak: false, opaque: format!("{version}-{}", &digest[..digest.len().min(DIGEST_LEN)]) }
    }

    /// The weak tag of a list, from the digest of its bytes.
    pub fn of_list(digest: &str) -> Self {
        Self { weak: true, opaque: digest[..digest.len().min(DIGEST_LEN)].to_owned() }
    }

    /// The version inside a strong tag made by [`of_version`](Self::of_version).
    pub fn version(&self) -> Option<i64> {
        let (version, _) = self.opaque.split_once('-').filter(|_| !self.weak)?;
        version.parse().ok()
    }

    /// The tag as a header value.
    pub fn header_value(&self) -> HeaderValue {
        HeaderValue::from_str(&self.to_string()).expect("a tag holds only what a header may")
    }

    /// Weak comparison (RFC 9110 §8.8.3.2): the opaque parts are equal.
    fn matches_weakly(&self, other: &Self) -> bool {
        self.opaque == other.opaque
    }
}

impl fmt::Display for EntityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weak = if self.weak { "W/" } else { "" };
        write!(f, "{weak}\"{}\"", self.opaque)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Tags {
    Absent,
    Any,
    Listed(Vec<EntityTag>),
}

/// `If-Match`: do it only if the resource is still what the caller read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IfMatch(Tags);

impl IfMatch {
    /// Whether the header was sent.
    pub fn is_present(&self) -> bool {
        self.0 != Tags::Absent
    }

    /// The versions the caller accepts; `None` if it accepts any, empty if no tag can ever match.
    /// Weak tags never match (RFC 9110 §13.1.1).
    pub fn versions(&self) -> Option<Vec<i64>> {
        match &self.0 {
            Tags::Absent | Tags::Any => None,
            Tags::Listed(tags) => Some(tags.iter().filter_map(EntityTag::version).collect()),
        }
    }

    /// The version a command is to expect, given the one just read: `None` where any will do.
    ///
    /// # Errors
    /// 412 if none of the tags names `current`.
    pub fn expected(&self, current: i64) -> Result<Option<i64>, Problem> {
        match self.versions() {
            None => Ok(None),
            Some(versions) if versions.contains(&current) => Ok(Some(current)),
            Some(_) => Err(Problem::new(code::VERSION_MISMATCH)),
        }
    }

    /// The one version a command is to expect, without reading first: `None` where any will do.
    ///
    /// # Errors
    /// 412 if no tag can match; 400 for several tags.
    pub fn single(&self) -> Result<Option<i64>, Problem> {
        match self.versions().as_deref() {
            None => Ok(None),
            Some([version]) => Ok(Some(*version)),
            Some([]) => Err(Problem::new(code::VERSION_MISMATCH)),
            Some(_) => Err(Problem::new(code::BAD_REQUEST).detail("If-Match takes one entity tag here")),
        }
    }

    /// The same, where the header is demanded: `None` means `*`.
    ///
    /// # Errors
    /// 428 if it is absent; else as [`single`](Self::single).
    pub fn required(&self) -> Result<Option<i64>, Problem> {
        if !self.is_present() {
            return Err(Problem::new(code::PRECONDITION_REQUIRED));
        }
        self.single()
    }
}

/// `If-None-Match`: send it only if the caller does not hold it yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IfNoneMatch(Tags);

impl IfNoneMatch {
    /// Whether the caller holds what `current` names, so that 304 is due.
    pub fn holds(&self, current: &EntityTag) -> bool {
        match &self.0 {
            Tags::Absent => false,
            Tags::Any => true,
            Tags::Listed(tags) => tags.iter().any(|tag| tag.matches_weakly(current)),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        tags(&parts.headers, &IF_MATCH).map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfNoneMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        tags(&parts.headers, &IF_NONE_MATCH).map(Self)
    }
}

fn tags(headers: &HeaderMap, name: &HeaderName) -> Result<Tags, Problem> {
    let malformed = || Problem::new(code::BAD_REQUEST).detail(format!("{name} is not a list of entity tags"));
    let mut listed = Vec::new();
    let mut any = false;
    for value in headers.get_all(name) {
        let text = value.to_str().map_err(|_| malformed())?;
        if text.trim() == "*" {
            any = true;
            continue;
        }
        parse_list(text, &mut listed).ok_or_else(malformed)?;
    }
    match (any, listed.is_empty()) {
        (true, true) => Ok(Tags::Any),
        (true, false) => Err(malformed()),
        (false, true) if headers.contains_key(name) => Err(malformed()),
        (false, true) => Ok(Tags::Absent),
        (false, false) => Ok(Tags::Listed(listed)),
    }
}

/// Appends the tags of one header line; `None` if it is not a list of them. Commas may stand inside
/// a tag, so the line is read from the front and never split at them.
fn parse_list(mut text: &str, tags: &mut Vec<EntityTag>) -> Option<()> {
    loop {
        text = text.trim_start_matches([' ', '\t', ',']);
        if text.is_empty() {
            return Some(());
        }
        let weak = text.starts_with("W/");
        let rest = text.strip_prefix("W/").unwrap_or(text).strip_prefix('"')?;
        let (opaque, after) = rest.split_once('"')?;
        let acceptable = opaque.bytes().all(|byte| byte == b'!' || (0x23..=0x7e).contains(&byte));
        if !acceptable || tags.len() == MAX_TAGS {
            return None;
        }
        tags.push(EntityTag { weak, opaque: opaque.to_owned() });
        text = after.trim_start_matches([' ', '\t']);
        if !(text.is_empty() || text.starts_with(',')) {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn if_match(lines: &[&str]) -> Result<IfMatch, Problem> {
        tags(&headers(&IF_MATCH, lines), &IF_MATCH).map(IfMatch)
    }

    fn if_none_match(lines: &[&str]) -> IfNoneMatch {
        IfNoneMatch(tags(&headers(&IF_NONE_MATCH, lines), &IF_NONE_MATCH).expect("well-formed"))
    }

    fn headers(name: &HeaderName, lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, HeaderValue::from_str(line).expect("a header value"));
        }
        headers
    }

    #[test]
    fn if_match_compares_versions_and_never_weak_tags() {
        let header = if_match(&["\"7-aaaa\", \"9-b,b\"", "W/\"8-cc\""]).expect("well-formed");
        assert_eq!(Some(vec![7, 9]), header.versions());
        assert_eq!(Some(9), header.expected(9).expect("listed"));
        assert_eq!(code::VERSION_MISMATCH, header.expected(8).expect_err("weak").code());
        assert_eq!(
            code::VERSION_MISMATCH,
            if_match(&["W/\"8-cc\""]).expect("a list").single().expect_err("weak").code()
        );
    }

    #[test]
    fn a_demanded_if_match_that_is_absent_is_428() {
        assert_eq!(code::PRECONDITION_REQUIRED, if_match(&[]).expect("absent").required().expect_err("absent").code());
        assert_eq!(None, if_match(&["*"]).expect("any").required().expect("any version"));
        assert_eq!(Some(3), if_match(&["\"3-x\""]).expect("one").required().expect("one version"));
    }

    #[test]
    fn if_none_match_compares_whole_tags_weakly() {
        let current = EntityTag::of_version(7, "0123456789abcdef0123");
        assert_eq!("\"7-0123456789abcdef\"", current.to_string());
        assert!(if_none_match(&["\"7-0123456789abcdef\""]).holds(&current));
        assert!(if_none_match(&["\"x\", W/\"7-0123456789abcdef\""]).holds(&current));
        assert!(if_none_match(&["*"]).holds(&current));
        assert!(!if_none_match(&["\"7-ffff\""]).holds(&current));
        assert!(!if_none_match(&[]).holds(&current));
    }

    #[test]
    fn what_is_not_a_list_of_tags_is_refused() {
        for bad in ["7", "\"7", "\"a\" \"b\"", "*, \"a\"", "w/\"a\"", "\"a b\"", ","] {
            assert!(if_match(&[bad]).is_err(), "{bad}");
        }
        let many = vec!["\"a\""; MAX_TAGS + 1].join(",");
        assert!(if_match(&[&many]).is_err());
    }
}
