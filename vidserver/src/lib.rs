//! The vidcore platform over HTTP.
//!
//! hyper owns connections ([`server`]), axum routes ([`mod@app`]), and everything a client can see of an
//! error is a [`problem`]. A route takes what it needs by the extractors of [`extract`], calls one
//! service and renders the answer; it decides nothing.

pub mod app;
pub mod cli;
pub mod config;
pub mod extract;
pub mod logging;
pub mod metrics;
pub mod middleware;
pub mod openapi;
pub mod problem;
pub mod routes;
pub mod running;
pub mod server;

use app::{App, Edge, PublicUrl};
use config::HttpSettings;
use routes::ApiState;
use vidcore::Platform;

/// The whole API over `platform`, to serve alone or to nest in any axum application.
///
/// URLs in bodies stand under the path of the platform's `public_url`; nest the router at that path.
/// Rate limits count addresses by `ConnectInfo<SocketAddr>`; where the application provides none, all
/// anonymous callers share one address, which is logged once.
pub fn router(platform: Platform) -> axum::Router {
    app(platform, HttpSettings::default()).router
}

/// The API over `platform` with bounds and origins of your own, and its document.
pub fn app(platform: Platform, http: HttpSettings) -> App {
    let nowhere = PublicUrl { https: false, base_path: String::new() };
    let public_url = PublicUrl::parse(&platform.settings().public_url).unwrap_or(nowhere);
    let max_upload_bytes = platform.settings().uploads.max_size_bytes;
    let state = ApiState::new(platform, &http);
    let edge = Edge::new(http, public_url).max_upload_bytes(max_upload_bytes);
    let App { router, openapi } = app::assemble(routes::stacks(), state.clone(), &edge);
    // Admission stands on routes that are built before there is a platform; it finds it here.
    App { router: router.layer(axum::Extension(state)), openapi }
}

/// The OpenAPI 3.1 document of every route.
pub fn document() -> utoipa::openapi::OpenApi {
    let edge = Edge::new(HttpSettings::default(), PublicUrl { https: false, base_path: String::new() });
    app::document(routes::stacks(), &edge)
}
