//! `/users`

use std::str::FromStr;

use serde::{Deserialize, Deserializer};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use vidcore::auth::Actor;
use vidcore::id::UserId;
use vidcore::rate_limit::RouteClass;

use crate::middleware::admission::limited;
use crate::problem::Problem;
use crate::routes::ApiState;

pub mod get;
pub mod me;
pub mod patch_me;
pub mod usage;
pub mod videos;

/// The routes of this folder under `/api/v1`.
pub(crate) fn router() -> OpenApiRouter<ApiState> {
    let reads = OpenApiRouter::new()
        .routes(routes!(me::me))
        .routes(routes!(usage::usage))
        .routes(routes!(get::get))
        .routes(routes!(videos::videos));
    let writes = OpenApiRouter::new().routes(routes!(patch_me::patch_me));
    limited(reads, RouteClass::Read).merge(limited(writes, RouteClass::Write))
}

/// An account in a path: its id, or `me` for the caller's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserRef {
    /// The caller.
    Me,
    /// The account with this id.
    Id(UserId),
}

impl UserRef {
    /// Whose account is meant.
    ///
    /// # Errors
    /// 401 for `me` without a caller.
    pub fn resolve(self, actor: Option<&Actor>) -> Result<UserId, Problem> {
        match self {
            Self::Me => actor.map(|actor| actor.user).ok_or_else(Problem::unauthenticated),
            Self::Id(id) => Ok(id),
        }
    }
}

impl<'de> Deserialize<'de> for UserRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "me" => Ok(Self::Me),
            text => UserId::from_str(text).map(Self::Id).map_err(serde::de::Error::custom),
        }
    }
}
