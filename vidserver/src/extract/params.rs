//! Parameters of the path and the query.

use axum::extract::{FromRequestParts, rejection::QueryRejection};
use garde::Validate;
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::json::{safe_detail, validate};
use crate::problem::{FieldError, Problem, code};

/// Parameters of the path. Text that is no id is answered like an id nobody has, with 404.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path<T>(pub T);

impl<T, S> FromRequestParts<S> for Path<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        axum::extract::Path::<T>::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Path(value)| Self(value))
            .map_err(|_| Problem::not_found())
    }
}

/// Parameters of the query that have passed their rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query<T>(pub T);

impl<T, S> FromRequestParts<S> for Query<T>
where
    T: DeserializeOwned + Validate<Context = ()>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let axum::extract::Query(value) =
            axum::extract::Query::<T>::try_from_uri(&parts.uri).map_err(|rejection| refuse(&rejection))?;
        validate(&value).map_err(|problem| {
            let errors = problem.body("", None, None).errors.into_iter().map(|error| FieldError {
                pointer: format!("?{}", error.pointer.trim_start_matches('/')),
                detail: error.detail,
            });
            Problem::new(code::INVALID_QUERY).errors(errors.collect())
        })?;
        Ok(Self(value))
    }
}

/// The rejection's text is `…: name: message`, or `…: message` where no parameter is to blame.
fn refuse(rejection: &QueryRejection) -> Problem {
    let text = rejection.body_text();
    let message = text.split_once(": ").map_or(text.as_str(), |(_, rest)| rest);
    let (name, message) = match message.split_once(": ") {
        Some((name, rest)) if is_name(name) => (Some(name), rest),
        _ => (backquoted(message), message),
    };
    match name {
        Some(name) => Problem::new(code::INVALID_QUERY)
            .errors(vec![FieldError { pointer: format!("?{name}"), detail: safe_detail(message) }]),
        None => Problem::new(code::INVALID_QUERY),
    }
}

fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn backquoted(message: &str) -> Option<&str> {
    message.split('`').nth(1).filter(|name| is_name(name))
}

#[cfg(test)]
mod tests {
    use axum::extract::FromRequestParts;
    use http::Request;
    use serde::Deserialize;
    use vidcore::id::VideoId;

    use super::*;

    #[derive(Debug, Deserialize, Validate)]
    #[serde(deny_unknown_fields)]
    struct Listing {
        #[garde(range(min = 1, max = 100))]
        limit: Option<u16>,
        #[garde(skip)]
        #[allow(dead_code, reason = "only parsed")]
        owner: Option<VideoId>,
    }

    async fn refusal(uri: &str) -> Vec<(String, String)> {
        let (mut parts, ()) = Request::get(uri).body(()).expect("a request").into_parts();
        let problem = Query::<Listing>::from_request_parts(&mut parts, &()).await.expect_err("refused");
        assert_eq!(code::INVALID_QUERY, problem.code());
        problem.body("", None, None).errors.into_iter().map(|error| (error.pointer, error.detail)).collect()
    }

    fn one(pointer: &str, detail: &str) -> Vec<(String, String)> {
        vec![(pointer.to_owned(), detail.to_owned())]
    }

    #[tokio::test]
    async fn a_bad_parameter_is_named_and_not_repeated() {
        assert_eq!(one("?limit", "not an acceptable value"), refusal("/?limit=ten").await);
        assert_eq!(one("?limit", "greater than 100"), refusal("/?limit=101").await);
        assert_eq!(one("?page", "unknown field"), refusal("/?page=2").await);
        assert_eq!(one("?limit", "duplicate field"), refusal("/?limit=2&limit=3").await);
        assert_eq!(one("?owner", "not a valid video id"), refusal("/?owner=x").await);
    }
}
