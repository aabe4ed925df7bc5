//! `/auth` and the key set.

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use vidcore::rate_limit::RouteClass;

use crate::middleware::admission::limited;
use crate::middleware::load::{Costly, gated};
use crate::routes::ApiState;

pub mod jwks;
pub mod login;
pub mod logout;
pub mod refresh;
pub mod register;

/// The routes of this folder under `/api/v1`.
pub(crate) fn router() -> OpenApiRouter<ApiState> {
    let hashing = |router| gated(router, Costly::Password);
    let sign_up = hashing(OpenApiRouter::new().routes(routes!(register::register)));
    let sign_in = hashing(OpenApiRouter::new().routes(routes!(login::login)));
    let cheap = OpenApiRouter::new().routes(routes!(refresh::refresh)).routes(routes!(logout::logout));
    limited(sign_up, RouteClass::Register)
        .merge(limited(sign_in, RouteClass::Login))
        .merge(limited(cheap, RouteClass::Read))
}
