//! One folder per noun, one file per verb. A route takes what it needs by extractors, calls one
//! service and renders the answer.

pub mod admin;
pub mod auth;
pub mod in_progress;
pub mod jobs;
pub mod ops;
pub mod paging;
pub mod playback;
pub mod queues;
pub mod render;
pub mod state;
pub mod tus;
pub mod uploads;
pub mod users;
pub mod videos;

pub use state::ApiState;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::Stacks;

/// Every route, by stack.
pub fn stacks() -> Stacks<ApiState> {
    let api = OpenApiRouter::new()
        .merge(auth::router())
        .merge(users::router())
        .merge(videos::router())
        .merge(uploads::api_router())
        .merge(playback::api_router())
        .merge(jobs::router())
        .merge(queues::router())
        .merge(admin::router())
        .merge(ops::api_router());
    let bytes = OpenApiRouter::new().merge(uploads::bytes_router()).merge(playback::bytes_router());
    Stacks {
        api: OpenApiRouter::new().nest("/api/v1", api).routes(routes!(auth::jwks::jwks)),
        bytes: OpenApiRouter::new().nest("/api/v1", bytes),
        tus: OpenApiRouter::new().nest("/api/v1", tus::router()),
        ops: OpenApiRouter::new().routes(routes!(ops::healthz)).routes(routes!(ops::readyz::readyz)),
    }
}
