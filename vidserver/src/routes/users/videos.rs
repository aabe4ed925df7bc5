//! `GET /users/{id}/videos`

use axum::extract::State;
use axum::response::Response;
use garde::Validate;
use http::Uri;
use serde::Deserialize;
use utoipa::IntoParams;
use vidcore::catalog::view::VideoView;
use vidcore::page::Page;

use crate::extract::{IfNoneMatch, MaybeCaller, Path, Query};
use crate::problem::{Problem, ProblemBody};
use crate::routes::render::Audience;
use crate::routes::users::UserRef;
use crate::routes::{ApiState, paging, render};

/// Which of an owner's videos.
#[derive(Debug, Deserialize, Validate, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OwnerListing {
    /// Items per page, 1 to 100; 20 by default.
    #[garde(range(min = 1, max = 100))]
    #[param(minimum = 1, maximum = 100, default = 20)]
    pub limit: Option<u16>,
    /// `next_cursor` of the page before.
    #[garde(length(max = 200))]
    #[param(max_length = 200)]
    pub cursor: Option<String>,
    /// `true` lists the trash; it is empty for everybody but the owner and moderators.
    #[garde(skip)]
    #[serde(default)]
    pub trash: bool,
}

/// One owner's videos, newest first
///
/// All of them for the owner and moderators, the public ones for everybody else.
#[utoipa::path(
    get, path = "/users/{id}/videos", tag = "users", operation_id = "list_user_videos",
    security((), ("bearer" = [])),
    params(("id" = String, Path, description = "The account's id, or `me`"), OwnerListing),
    responses(
        (status = 200, description = "A page", body = Page<VideoView>),
        (status = 304, description = "The caller holds it already"),
        (status = 400, description = "`bad_cursor`, `invalid_query`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "`unauthenticated`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "`not_found`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn videos(
    State(state): State<ApiState>,
    Path(user): Path<UserRef>,
    MaybeCaller(actor): MaybeCaller,
    Query(listing): Query<OwnerListing>,
    uri: Uri,
    held: IfNoneMatch,
) -> Result<Response, Problem> {
    let owner = user.resolve(actor.as_ref())?;
    let limit = paging::limit(listing.limit);
    let catalog = state.platform.catalog();
    let page = catalog.of_owner(actor.as_ref(), owner, listing.trash, listing.cursor.as_deref(), limit).await?;
    Ok(render::page(page, state.platform.links(), &uri, &held, Audience::of(actor.as_ref())))
}
