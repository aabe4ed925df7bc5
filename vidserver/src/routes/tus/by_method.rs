//! Which route answers, by the method that is meant.
//!
//! `X-HTTP-Method-Override` may name another method than the router has seen. So both paths have one handler for every
//! method, and it is here that the method counts.

use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::ALLOW;
use http::{HeaderValue, Method, StatusCode};

use super::{append, create, over, status, terminate};
use crate::problem::{Problem, code};
use crate::routes::ApiState;

/// `/uploads/tus`
pub(super) async fn all(State(state): State<ApiState>, request: Request) -> Response {
    match *request.method() {
        Method::POST => create::create.call(request, state).await,
        _ => not_allowed("POST,OPTIONS"),
    }
}

/// `/uploads/tus/{id}`
pub(super) async fn one(State(state): State<ApiState>, request: Request) -> Response {
    match *request.method() {
        Method::PATCH => append::append.call(request, state).await,
        Method::HEAD => status::status.call(request, state).await,
        Method::DELETE => terminate::terminate.call(request, state).await,
        Method::POST => over::over.call(request, state).await,
        _ => not_allowed("DELETE,HEAD,OPTIONS,PATCH,POST"),
    }
}

/// Answers `OPTIONS`, which is open to everybody and counts in no limit, before admission.
pub(super) async fn describe(request: Request, next: Next) -> Response {
    match *request.method() {
        Method::OPTIONS => StatusCode::OK.into_response(),
        _ => next.run(request).await,
    }
}

fn not_allowed(methods: &'static str) -> Response {
    Problem::new(code::METHOD_NOT_ALLOWED).header(ALLOW, HeaderValue::from_static(methods)).into_response()
}
