//! `POST /videos`

use axum::extract::State;
use axum::response::Response;
use garde::Validate;
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, Type};
use vidcore::catalog::view::VideoView;
use vidcore::catalog::{CreateVideo, Visibility};

use crate::extract::{Caller, Json, Keyed};
use crate::problem::{Problem, ProblemBody};
use crate::routes::{ApiState, render};

/// A video to be created. The library checks the rules.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewVideo {
    /// 1 to 120 characters without control characters.
    #[garde(skip)]
    #[schema(
        min_length = 1,
        max_length = 120,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
    )]
    pub title: String,
    /// At most 5,000 characters.
    #[garde(skip)]
    #[serde(default)]
    #[schema(max_length = 5000, pattern = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*$")]
    pub description: String,
    /// At most 20, each 1 to 40 characters.
    #[garde(skip)]
    #[serde(default)]
    #[schema(schema_with = tags_schema)]
    pub tags: Vec<String>,
    /// Who may see it once it is playable; `private` by default.
    #[garde(skip)]
    #[serde(default)]
    pub visibility: Visibility,
}

/// At most 20 lines of 1 to 40 characters.
pub(crate) fn tags_schema() -> Schema {
    let line = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$";
    let tag =
        ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(40)).pattern(Some(line));
    let description = "At most 20, each 1 to 40 characters without control characters.";
    ArrayBuilder::new().items(tag).max_items(Some(20)).description(Some(description)).into()
}

/// Creates a draft
#[utoipa::path(
    post, path = "/videos", tag = "videos", operation_id = "create_video", security(("bearer" = [])),
    request_body = NewVideo,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repeated request one")),
    responses(
        (status = 201, description = "The draft", body = VideoView),
        (status = 401, description = "`unauthenticated`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "`request_in_progress`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_body`, `idempotency_key_reused`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn create(
    State(state): State<ApiState>,
    Caller(actor): Caller,
    keyed: Keyed<Json<NewVideo>>,
) -> Result<Response, Problem> {
    let Json(NewVideo { title, description, tags, visibility }) = keyed.body;
    let running = state.in_progress.begin(keyed.key, &actor.user.to_string())?;
    let input = CreateVideo { title, description, tags, visibility };
    let video = state.platform.catalog().create(&actor, input, running.key()).await?.into_inner();
    let location = state.platform.links().video(video.id);
    Ok(render::located(render::changed(StatusCode::CREATED, video), &location))
}
