//! `/playback` and playback tokens.
//!
//! The grant stands in the path, once as a token and once as `public/{video}/{epoch}`, so each file
//! has two routes over the same code; the original is downloaded by token alone.

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use vidcore::rate_limit::RouteClass;

use crate::middleware::admission::limited;
use crate::routes::ApiState;

mod disposition;
pub mod download;
pub mod file;
pub mod grant;
pub mod master;
pub mod mint;
pub mod poster;
pub mod range;
mod redirect;
pub mod rendition;
pub mod revoke;
pub mod send;
pub mod storyboard;
mod watch;

/// The JSON routes of this folder under `/api/v1`.
pub(crate) fn api_router() -> OpenApiRouter<ApiState> {
    let writes = OpenApiRouter::new().routes(routes!(mint::mint)).routes(routes!(revoke::revoke));
    limited(writes, RouteClass::Write)
}

/// The byte routes of this folder under `/api/v1`.
pub(crate) fn bytes_router() -> OpenApiRouter<ApiState> {
    let files = OpenApiRouter::new()
        .routes(routes!(master::by_token))
        .routes(routes!(master::public))
        .routes(routes!(rendition::by_token))
        .routes(routes!(rendition::public))
        .routes(routes!(file::by_token))
        .routes(routes!(file::public))
        .routes(routes!(download::by_token))
        .routes(routes!(poster::by_token))
        .routes(routes!(poster::public))
        .routes(routes!(storyboard::by_token))
        .routes(routes!(storyboard::public));
    limited(files, RouteClass::Read)
}
