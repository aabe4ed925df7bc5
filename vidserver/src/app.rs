//! One router out of four stacks.
//!
//! `api` takes JSON and answers within a time; `bytes` streams for as long as bytes move, and so does
//! `tus`; `ops` is for operators and documents. All stand in one envelope (id, log, metrics, headers,
//! problems), so nothing is served outside it.

use std::sync::Arc;

use axum::middleware::from_fn_with_state;
use axum::{Extension, Router};
use http::Uri;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::{OpenApi, Server};
use utoipa_axum::router::OpenApiRouter;
use vidcore::entropy::{Entropy, SystemEntropy};
use vidcore::platform::settings::UploadSettings;

use crate::config::HttpSettings;
use crate::middleware::envelope::{Envelope, envelope};
use crate::middleware::load;
use crate::middleware::tus::{MaxSize, tus};
use crate::middleware::{PanicProblem, api_stack, bytes_stack, compression, cors};
use crate::openapi::{self, Document};
use crate::problem::{Problem, code};

/// The routes of an application, by the layers they need.
#[derive(Clone)]
pub struct Stacks<S> {
    /// JSON in and out: bounded bodies, one time bound for the whole, compressed answers.
    pub api: OpenApiRouter<S>,
    /// Uploads and playback: bodies must keep moving; nothing is buffered or compressed.
    pub bytes: OpenApiRouter<S>,
    /// Uploads by the tus protocol, whose headers stand on every answer; otherwise like `bytes`.
    pub tus: OpenApiRouter<S>,
    /// Health and documents: small answers, no bodies.
    pub ops: OpenApiRouter<S>,
}

impl<S: Clone + Send + Sync + 'static> Default for Stacks<S> {
    /// Three empty stacks, without the title and version that each document would bring.
    fn default() -> Self {
        Self {
            api: OpenApiRouter::default(),
            bytes: OpenApiRouter::default(),
            tus: OpenApiRouter::default(),
            ops: OpenApiRouter::default(),
        }
    }
}

impl<S> std::fmt::Debug for Stacks<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stacks").finish_non_exhaustive()
    }
}

/// Where clients reach the server, as far as answers depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl {
    /// Whether they come over TLS.
    pub https: bool,
    /// The path before every URL in a body, without a slash at its end; often empty.
    pub base_path: String,
}

impl PublicUrl {
    /// Reads it from a URL such as `https://example.org/video`; `None` if it is not one.
    pub fn parse(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        uri.authority()?;
        let base_path = uri.path().trim_end_matches('/').to_owned();
        Some(Self { https: uri.scheme_str() == Some("https"), base_path })
    }
}

/// What stands between the socket and the routes.
#[derive(Debug, Clone)]
pub struct Edge {
    /// Bounds on requests, and who may call from other origins.
    pub http: HttpSettings,
    /// Where clients reach the server.
    pub public_url: PublicUrl,
    /// Where request ids come from.
    pub entropy: Arc<dyn Entropy>,
    /// The largest upload in bytes, as clients of the tus protocol are told.
    pub max_upload_bytes: u64,
}

impl Edge {
    /// An edge with the system's randomness.
    pub fn new(http: HttpSettings, public_url: PublicUrl) -> Self {
        let max_upload_bytes = UploadSettings::default().max_size_bytes;
        Self { http, public_url, entropy: Arc::new(SystemEntropy), max_upload_bytes }
    }

    /// With another largest upload. Default: that of [`UploadSettings`].
    #[must_use]
    pub fn max_upload_bytes(mut self, bytes: u64) -> Self {
        self.max_upload_bytes = bytes;
        self
    }
}

/// The finished router with the document of its routes.
#[derive(Clone)]
pub struct App {
    /// Serves every route of the stacks, `/api/v1/openapi.json`, `/docs` and problems for the rest.
    pub router: Router,
    /// OpenAPI 3.1.
    pub openapi: OpenApi,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("paths", &self.openapi.paths.paths.len()).finish_non_exhaustive()
    }
}

/// Puts the stacks into their layers and the whole into the envelope.
pub fn assemble<S>(stacks: Stacks<S>, state: S, edge: &Edge) -> App
where
    S: Clone + Send + Sync + 'static,
{
    let (routers, document) = split(stacks, edge);
    let settings = Arc::new(edge.http.clone());
    // The layers of a stack are one value, the outermost first. The router would box each of them by
    // itself, and clone every box below it once more at each level on each request.
    let api = with_fallback(routers.api).layer((
        Extension(Document::new(&document)),
        compression(),
        from_fn_with_state(load::everything(&edge.http), load::shed),
        from_fn_with_state(settings.clone(), api_stack),
        catch_panics(),
    ));
    let tus_layers = (from_fn_with_state(settings.clone(), bytes_stack), catch_panics());
    let resumable = across_origins(with_fallback(routers.tus).layer(tus_layers), edge)
        .layer(from_fn_with_state(MaxSize(edge.max_upload_bytes), tus));
    let bytes = with_fallback(routers.bytes).layer((from_fn_with_state(settings, bytes_stack), catch_panics()));
    let ops = with_fallback(routers.ops).layer(catch_panics());
    let router = across_origins(api, edge)
        .merge(across_origins(bytes, edge))
        .merge(resumable)
        .merge(ops)
        .fallback(no_route)
        .layer(from_fn_with_state(outer(edge), envelope))
        .with_state(state);
    App { router, openapi: document }
}

/// The document of the stacks alone, for which no platform is needed.
pub fn document<S>(stacks: Stacks<S>, edge: &Edge) -> OpenApi
where
    S: Clone + Send + Sync + 'static,
{
    split(stacks, edge).1
}

struct Routers<S> {
    api: Router<S>,
    bytes: Router<S>,
    tus: Router<S>,
    ops: Router<S>,
}

fn split<S>(stacks: Stacks<S>, edge: &Edge) -> (Routers<S>, OpenApi)
where
    S: Clone + Send + Sync + 'static,
{
    let stacks = openapi::add_routes(stacks);
    let (api, mut document) = stacks.api.split_for_parts();
    let (bytes, bytes_document) = stacks.bytes.split_for_parts();
    let (tus, tus_document) = stacks.tus.split_for_parts();
    let (ops, ops_document) = stacks.ops.split_for_parts();
    document.merge(bytes_document);
    document.merge(tus_document);
    document.merge(ops_document);
    openapi::complete(&mut document);
    if !edge.public_url.base_path.is_empty() {
        document.servers = Some(vec![Server::new(&edge.public_url.base_path)]);
    }
    (Routers { api, bytes, tus, ops }, document)
}

fn outer(edge: &Edge) -> Envelope {
    let PublicUrl { https, base_path } = edge.public_url.clone();
    Envelope::new(base_path, https, edge.entropy.clone())
}

/// Layers come after it: those added before would leave the fallback outside.
fn with_fallback<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router.method_not_allowed_fallback(no_method)
}

/// What every stack has closest to its routes.
fn catch_panics() -> CatchPanicLayer<PanicProblem> {
    CatchPanicLayer::custom(PanicProblem)
}

fn across_origins<S: Clone + Send + Sync + 'static>(router: Router<S>, edge: &Edge) -> Router<S> {
    match cors(&edge.http.cors_origins) {
        Some(cors) => router.layer(cors),
        None => router,
    }
}

async fn no_route() -> Problem {
    Problem::not_found()
}

/// The router adds `Allow`.
async fn no_method() -> Problem {
    Problem::new(code::METHOD_NOT_ALLOWED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_url_gives_scheme_and_path() {
        let parsed = |url| PublicUrl::parse(url).map(|url| (url.https, url.base_path));
        assert_eq!(Some((true, "/video".to_owned())), parsed("https://example.org/video/"));
        assert_eq!(Some((false, String::new())), parsed("http://127.0.0.1:8080"));
        assert_eq!(None, parsed("/video"));
    }
}
