//! Errors as clients see them: RFC 9457 `application/problem+json`, and nothing else.
//!
//! A [`Problem`] carries text that is safe to show and, apart from it, the error behind it, which
//! only the log sees. This folder is the one place where an outcome of `vidcore` becomes a status.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use utoipa::ToSchema;

use crate::logging::whole_story;

pub mod code;
mod from_core;

pub use code::Code;

/// The media type of every error body (RFC 9457 §3).
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Path under which each problem type is described; a `type` is this and the code's name.
pub const TYPE_PREFIX: &str = "/docs/problems/";

/// The most members `errors` names.
const MAX_ERRORS: usize = 32;

/// One member of the request that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// Where: a JSON Pointer (RFC 6901) into the body, or `?name` for a query parameter.
    #[schema(example = "/title")]
    pub pointer: String,
    /// What is wrong with it; never repeats what was sent.
    #[schema(example = "missing field")]
    pub detail: String,
}

/// The body of every error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ProblemBody {
    /// Names the kind of problem and leads to its description.
    #[serde(rename = "type")]
    #[schema(example = "/docs/problems/not_found", format = "uri-reference")]
    pub kind: String,
    /// A summary, the same for every problem of this kind.
    pub title: &'static str,
    /// The HTTP status.
    #[schema(example = 404)]
    pub status: u16,
    /// The stable name of the kind.
    #[schema(example = "not_found")]
    pub code: &'static str,
    /// What was wrong this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The route, as the pattern that matched; never a path with tokens in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "/api/v1/videos/{id}")]
    pub instance: Option<String>,
    /// The id under which the server's log speaks of this request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The members that are wrong, if single ones are; at most 32.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// With `rate_limited`: the policy that refused, as `/api/v1/limits` names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "write.user")]
    pub policy: Option<String>,
}

/// An error on its way to a client.
///
/// As a response it is complete by itself; the middleware adds the route, the request id and the
/// path the server is reached under.
#[derive(Clone)]
pub struct Problem(Box<Told>);

/// Boxed, because results that carry problems are everywhere and problems are rare.
#[derive(Clone)]
struct Told {
    code: Code,
    detail: Option<String>,
    errors: Vec<FieldError>,
    policy: Option<String>,
    headers: HeaderMap,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl Problem {
    /// A problem of this kind, with no more to say.
    pub fn new(code: Code) -> Self {
        Self(Box::new(Told {
            code,
            detail: None,
            errors: Vec::new(),
            policy: None,
            headers: HeaderMap::new(),
            source: None,
        }))
    }

    /// [`code::NOT_FOUND`]: the same body whether it is absent, private, or no id at all.
    pub fn not_found() -> Self {
        Self::new(code::NOT_FOUND)
    }

    /// [`code::UNAUTHENTICATED`] for a request without a token (RFC 6750 §3: no error code then).
    pub fn unauthenticated() -> Self {
        Self::new(code::UNAUTHENTICATED).header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    /// [`code::UNAUTHENTICATED`] for a token that is expired, revoked or not ours (RFC 6750 §3.1).
    pub fn invalid_token() -> Self {
        Self::new(code::UNAUTHENTICATED)
            .header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"invalid_token\""))
    }

    /// [`code::UNAVAILABLE`], worth trying again after `seconds`.
    pub fn unavailable(seconds: u32) -> Self {
        Self::new(code::UNAVAILABLE).retry_after(seconds)
    }

    /// [`code::INTERNAL`] with the error behind it, for the log alone.
    pub fn internal(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(code::INTERNAL).caused_by(source)
    }

    /// Says what was wrong this time. The text is shown to the client: it must hold nothing secret
    /// and nothing the client sent.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// Names members of the request that are wrong; those beyond the 32nd are left out.
    #[must_use]
    pub fn errors(mut self, errors: Vec<FieldError>) -> Self {
        self.0.errors = errors;
        self.0.errors.truncate(MAX_ERRORS);
        self
    }

    /// Names the policy that refused.
    #[must_use]
    pub fn policy(mut self, name: impl Into<String>) -> Self {
        self.0.policy = Some(name.into());
        self
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    /// Adds `Retry-After` in seconds, at least 1 (RFC 9110 §10.2.3).
    #[must_use]
    pub fn retry_after(self, seconds: u32) -> Self {
        self.header(RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }

    /// Keeps the error behind the problem for the log.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    /// What kind of problem it is.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The error behind it and its causes, outermost first, separated by `: `; for the log.
    pub fn source_chain(&self) -> Option<String> {
        let source: &(dyn Error + 'static) = self.0.source.as_deref()?;
        Some(whole_story(source))
    }

    /// The body, with what only the middleware knows.
    pub fn body(&self, base_path: &str, instance: Option<&str>, request_id: Option<&str>) -> ProblemBody {
        ProblemBody {
            kind: format!("{base_path}{TYPE_PREFIX}{}", self.0.code.name),
            title: self.0.code.title,
            status: self.0.code.status,
            code: self.0.code.name,
            detail: self.0.detail.clone(),
            instance: instance.map(str::to_owned),
            request_id: request_id.map(str::to_owned),
            errors: self.0.errors.clone(),
            policy: self.0.policy.clone(),
        }
    }

    /// The answer with a given body. The problem itself goes along as an extension, for the log.
    pub fn respond(self, body: &ProblemBody) -> Response {
        let bytes = serde_json::to_vec(body).expect("a problem holds nothing that JSON cannot");
        let mut response = Response::new(Body::from(bytes));
        *response.status_mut() = self.0.code.status_code();
        response.headers_mut().extend(self.0.headers.clone());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        // An error may name what another caller must not see, and is never worth keeping.
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response.extensions_mut().insert(self);
        response
    }
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Problem")
            .field("code", &self.0.code.name)
            .field("detail", &self.0.detail)
            .field("errors", &self.0.errors)
            .field("source", &self.source_chain())
            .finish()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = self.body("", None, None);
        self.respond(&body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_logged_and_never_shown() {
        let problem = Problem::internal(std::io::Error::other("secret path"));
        assert_eq!(Some("secret path".to_owned()), problem.source_chain());
        let body = serde_json::to_string(&problem.body("", None, None)).expect("json");
        assert!(!body.contains("secret"), "{body}");
    }

    #[test]
    fn empty_members_are_left_out() {
        let body = serde_json::to_value(Problem::not_found().body("/vid", Some("/x/{id}"), Some("r1"))).expect("json");
        assert_eq!(
            serde_json::json!({
                "type": "/vid/docs/problems/not_found",
                "title": "Nothing was found here",
                "status": 404,
                "code": "not_found",
                "instance": "/x/{id}",
                "request_id": "r1"
            }),
            body
        );
    }
}
