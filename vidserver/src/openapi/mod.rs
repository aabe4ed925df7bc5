//! The document of the API, made from the routes themselves, and its pages.

mod complete;

use std::sync::Arc;

use axum::Extension;
use axum::response::{Html, IntoResponse, Response};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, LOCATION};
use http::{HeaderValue, StatusCode};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::Config;

pub(crate) use complete::complete;

use crate::app::Stacks;
use crate::extract::{EntityTag, IfNoneMatch, Path};
use crate::problem::{Code, Problem, ProblemBody};

/// Name of the security scheme: an access token in `Authorization`.
pub const BEARER: &str = "bearer";

/// The page runs its own scripts and styles and calls this server; it loads nothing else.
const DOCS_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                           img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'";

/// How long browsers keep the page's files, which change only with the program.
const DOCS_CACHE: &str = "public, max-age=3600";

/// Adds the routes that show the document.
pub(crate) fn add_routes<S: Clone + Send + Sync + 'static>(stacks: Stacks<S>) -> Stacks<S> {
    Stacks {
        api: stacks.api.merge(OpenApiRouter::default().nest("/api/v1", OpenApiRouter::default().routes(routes!(show)))),
        ops: stacks.ops.routes(routes!(problem_type)).merge(pages()),
        ..stacks
    }
}

/// The document as bytes, rendered once, with its tag.
#[derive(Debug, Clone)]
pub(crate) struct Document(Arc<(Bytes, EntityTag)>);

impl Document {
    pub(crate) fn new(document: &OpenApi) -> Self {
        let bytes = Bytes::from(serde_json::to_vec(document).expect("a document is plain data"));
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
        let digest: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Self(Arc::new((bytes, EntityTag::of_list(&digest))))
    }
}

/// This document
///
/// OpenAPI 3.1, made from the running server's routes.
#[utoipa::path(get, path = "/openapi.json", tag = "ops", operation_id = "openapi", responses(
    (status = 200, description = "The document", content_type = "application/json"),
    (status = 304, description = "The caller holds it already"),
))]
async fn show(Extension(Document(document)): Extension<Document>, if_none_match: IfNoneMatch) -> Response {
    let (bytes, tag) = &*document;
    let headers =
        [(ETAG, tag.header_value()), (CACHE_CONTROL, HeaderValue::from_static("public, max-age=0, must-revalidate"))];
    if if_none_match.holds(tag) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    let json = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    (headers, json, bytes.clone()).into_response()
}

/// What a problem type means
///
/// The page each problem's `type` leads to.
#[utoipa::path(get, path = "/docs/problems/{code}", tag = "ops", operation_id = "problem_type",
    params(("code" = String, Path, description = "A problem's `code`")),
    responses(
        (status = 200, description = "The description", content_type = "text/html"),
        (status = 404, description = "No such code", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
async fn problem_type(Path(name): Path<String>) -> Result<Response, Problem> {
    // Only text of the table reaches the page, never the path.
    let Code { name, status, title, advice } = Code::named(&name).ok_or_else(Problem::not_found)?;
    let (title, advice) = (escape(title), escape(advice));
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{name}</title>\
         <h1>{title}</h1><p><code>{name}</code>, status {status}.</p><p>{advice}</p></html>\n"
    );
    Ok(docs_headers(Html(page).into_response()))
}

/// Swagger UI from the binary. Not part of the document: pages are no API.
fn pages<S: Clone + Send + Sync + 'static>() -> OpenApiRouter<S> {
    OpenApiRouter::default()
        .route("/docs", axum::routing::get(to_index))
        .route("/docs/", axum::routing::get(|| async { page("") }))
        .route("/docs/{*file}", axum::routing::get(|Path(file): Path<String>| async move { page(&file) }))
}

/// Relative, so that it holds under any path the router is nested at.
async fn to_index(uri: axum::extract::OriginalUri) -> Response {
    let last = uri.path().rsplit('/').next().unwrap_or("docs");
    let location = HeaderValue::from_str(&format!("{last}/")).unwrap_or(HeaderValue::from_static("docs/"));
    (StatusCode::PERMANENT_REDIRECT, [(LOCATION, location)]).into_response()
}

fn page(file: &str) -> Result<Response, Problem> {
    let config = Config::from("../api/v1/openapi.json");
    let file = utoipa_swagger_ui::serve(file, Arc::new(config))
        .map_err(|error| Problem::internal(error.to_string()))?
        .ok_or_else(Problem::not_found)?;
    let content_type =
        HeaderValue::from_str(&file.content_type).unwrap_or(HeaderValue::from_static("application/octet-stream"));
    let mut response = ([(CONTENT_TYPE, content_type)], file.bytes.into_owned()).into_response();
    if file.gzpipped {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(docs_headers(response))
}

fn docs_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(DOCS_POLICY));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(DOCS_CACHE));
    response
}

/// The table's backquotes become `<code>`.
fn escape(text: &str) -> String {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;");
    let parts = escaped.split('`').enumerate();
    parts.map(|(i, part)| if i % 2 == 1 { format!("<code>{part}</code>") } else { part.to_owned() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backquotes_become_code() {
        assert_eq!("send <code>If-Match</code> &lt;now", escape("send `If-Match` <now"));
    }

    #[test]
    fn the_page_asks_for_the_document_relative_to_itself() {
        let file = utoipa_swagger_ui::serve("swagger-initializer.js", Arc::new(Config::from("../api/v1/openapi.json")))
            .expect("readable")
            .expect("present");
        assert!(String::from_utf8_lossy(&file.bytes).contains("../api/v1/openapi.json"));
    }
}
