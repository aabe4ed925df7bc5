//! The vidcore platform over HTTP.
//!
//! hyper owns connections ([`server`]), axum routes ([`app`]), and everything a client can see of an
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
pub mod server;

use app::Stacks;

/// Every route, by stack.
pub fn stacks<S: Clone + Send + Sync + 'static>() -> Stacks<S> {
    let mut stacks = Stacks::default();
    stacks.ops = stacks.ops.routes(utoipa_axum::routes!(routes::ops::healthz));
    stacks
}

/// The OpenAPI 3.1 document of every route.
pub fn document() -> utoipa::openapi::OpenApi {
    let edge =
        app::Edge::new(config::HttpSettings::default(), app::PublicUrl { https: false, base_path: String::new() });
    app::assemble(stacks(), (), &edge).openapi
}
