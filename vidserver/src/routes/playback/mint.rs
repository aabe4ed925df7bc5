//! `POST /videos/{id}/playback-tokens`

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use garde::Validate;
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;
use vidcore::catalog::view::PlaybackLinks;
use vidcore::id::VideoId;
use vidcore::media::playback::MintLinks;
use vidcore::storage::{AddressPrefix, OriginRule};

use crate::extract::{Caller, Json, Path};
use crate::problem::{FieldError, Problem, ProblemBody, code};
use crate::routes::{ApiState, render};

/// How long the links are to work.
#[derive(Debug, Default, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewPlaybackToken {
    /// Seconds, at least 1; 6 hours by default, and at most what the server allows (7 days by default).
    #[garde(range(min = 1))]
    #[schema(minimum = 1)]
    pub ttl_s: Option<u64>,
    /// The network the viewer has to be in, such as `203.0.113.0/24` or `2001:db8::/64`; anywhere by default.
    #[garde(skip)]
    #[schema(max_length = 64)]
    pub address_prefix: Option<String>,
    /// The origin of the page the viewer has to be on, such as `https://example.org`; any by default.
    #[garde(length(max = 300))]
    #[schema(max_length = 300)]
    pub origin: Option<String>,
    /// Whether the original may be downloaded; not by default.
    #[garde(skip)]
    pub download: bool,
}

/// Makes links that play the caller's video
///
/// Anybody who has them may play, also a private video, until they expire or are revoked.
#[utoipa::path(
    post, path = "/videos/{id}/playback-tokens", tag = "playback", operation_id = "mint_playback_token",
    security(("bearer" = [])), request_body = NewPlaybackToken,
    params(("id" = VideoId, Path, description = "The video")),
    responses(
        (status = 201, description = "The links", body = PlaybackLinks),
        (status = 401, description = "`unauthenticated`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "`not_found`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "`wrong_state` while it is not playable", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_body`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn mint(
    State(state): State<ApiState>,
    Path(id): Path<VideoId>,
    Caller(actor): Caller,
    Json(asked): Json<NewPlaybackToken>,
) -> Result<Response, Problem> {
    let address = asked.address_prefix.map(|text| text.parse::<AddressPrefix>());
    let input = MintLinks {
        ttl: asked.ttl_s.map(Duration::from_secs),
        address: address.transpose().map_err(|error| wrong("/address_prefix", error.to_string()))?,
        origin: asked.origin.map(|text| origin(&text)).transpose()?,
        download: asked.download,
    };
    let links = state.platform.playback().mint(&actor, id, input).await?;
    Ok(render::secret(StatusCode::CREATED, &links))
}

fn origin(text: &str) -> Result<OriginRule, Problem> {
    OriginRule::parse(text).ok_or_else(|| wrong("/origin", "not an origin such as https://example.org".to_owned()))
}

fn wrong(pointer: &str, detail: String) -> Problem {
    Problem::new(code::INVALID_BODY).errors(vec![FieldError { pointer: pointer.to_owned(), detail }])
}
