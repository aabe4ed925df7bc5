//! `/videos` and `/search`

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use vidcore::rate_limit::{CostlyCall, RouteClass};

use crate::middleware::admission::{limited, limited_by_cost};
use crate::middleware::load::{Costly, gated};
use crate::routes::ApiState;

pub mod create;
pub mod drop_rendition;
pub mod get;
pub mod list;
pub mod patch;
pub mod popular;
pub mod process;
pub mod renditions;
pub mod restore;
pub mod search;
pub mod status;
pub mod trash;
pub mod trending;
pub mod view;

/// The routes of this folder under `/api/v1`.
pub(crate) fn router() -> OpenApiRouter<ApiState> {
    let reads = OpenApiRouter::new()
        .routes(routes!(list::list))
        .routes(routes!(popular::popular))
        .routes(routes!(trending::trending))
        .routes(routes!(get::get))
        .routes(routes!(status::status))
        .routes(routes!(renditions::renditions))
        // Anybody who plays a video counts a view: an anonymous call, far from a command on a resource.
        .routes(routes!(view::view));
    let writes = OpenApiRouter::new()
        .routes(routes!(create::create))
        .routes(routes!(patch::patch))
        .routes(routes!(trash::trash))
        .routes(routes!(drop_rendition::drop_rendition))
        .routes(routes!(restore::restore));
    let process = OpenApiRouter::new().routes(routes!(process::process));
    let search = gated(OpenApiRouter::new().routes(routes!(search::search)), Costly::Search);
    limited(reads, RouteClass::Read)
        .merge(limited(writes, RouteClass::Write))
        .merge(limited_by_cost(process, RouteClass::Write, |_| Some(CostlyCall::ProcessVideo)))
        .merge(limited_by_cost(search, RouteClass::Search, search::cost))
}
