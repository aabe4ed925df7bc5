//! `PATCH /videos/{id}`

use axum::extract::State;
use axum::response::Response;
use garde::Validate;
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};
use vidcore::catalog::view::VideoView;
use vidcore::catalog::{VideoPatch, Visibility};
use vidcore::id::VideoId;

use crate::extract::{Caller, IfMatch, Keyed, MergePatch, Path, present};
use crate::problem::{FieldError, Problem, ProblemBody, code};
use crate::routes::videos::create::tags_schema;
use crate::routes::{ApiState, render};

/// What of a video its owner may change (RFC 7396): absent leaves it, `null` takes it away where that
/// is possible.
#[derive(Debug, Default, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VideoMergePatch {
    /// 1 to 120 characters. It cannot be taken away.
    #[garde(skip)]
    #[serde(deserialize_with = "present")]
    #[schema(value_type = String, required = false, min_length = 1, max_length = 120,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$")]
    pub title: Option<Option<String>>,
    /// At most 5,000 characters; `null` is empty.
    #[garde(skip)]
    #[serde(deserialize_with = "present")]
    #[schema(value_type = Option<String>, max_length = 5000,
        pattern = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*$")]
    pub description: Option<Option<String>>,
    /// All tags; `null` is none.
    #[garde(skip)]
    #[serde(deserialize_with = "present")]
    #[schema(schema_with = nullable_tags_schema)]
    pub tags: Option<Option<Vec<String>>>,
    /// Who may see it. It cannot be taken away.
    #[garde(skip)]
    #[serde(deserialize_with = "present")]
    #[schema(value_type = Visibility, required = false)]
    pub visibility: Option<Option<Visibility>>,
}

fn nullable_tags_schema() -> Schema {
    let null = ObjectBuilder::new().schema_type(Type::Null);
    OneOfBuilder::new().item(tags_schema()).item(null).description(Some("All tags; `null` is none.")).into()
}

impl VideoMergePatch {
    fn into_patch(self) -> Result<VideoPatch, Problem> {
        Ok(VideoPatch {
            title: demanded("/title", self.title)?,
            description: self.description.map(Option::unwrap_or_default),
            tags: self.tags.map(Option::unwrap_or_default),
            visibility: demanded("/visibility", self.visibility)?,
        })
    }
}

/// A member that may be absent and must not be `null`.
fn demanded<T>(pointer: &str, member: Option<Option<T>>) -> Result<Option<T>, Problem> {
    match member {
        Some(None) => {
            let error = FieldError { pointer: pointer.to_owned(), detail: "cannot be taken away".to_owned() };
            Err(Problem::new(code::INVALID_BODY).errors(vec![error]))
        }
        Some(Some(value)) => Ok(Some(value)),
        None => Ok(None),
    }
}

/// Changes a video
///
/// `If-Match` is demanded: the version part of the tag must be the current one. Making a video
/// private kills every playback link given out before.
#[utoipa::path(
    patch, path = "/videos/{id}", tag = "videos", operation_id = "patch_video", security(("bearer" = [])),
    request_body(content = VideoMergePatch, content_type = "application/merge-patch+json"),
    params(
        ("id" = VideoId, Path, description = "The video"),
        ("If-Match" = String, Header, description = "The `ETag` that was read"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repeated request one"),
    ),
    responses(
        (status = 200, description = "The changed video", body = VideoView),
        (status = 401, description = "`unauthenticated`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "`not_found`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 412, description = "`version_mismatch`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_body`, `idempotency_key_reused`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 428, description = "`precondition_required`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn patch(
    State(state): State<ApiState>,
    Path(id): Path<VideoId>,
    Caller(actor): Caller,
    condition: IfMatch,
    keyed: Keyed<MergePatch<VideoMergePatch>>,
) -> Result<Response, Problem> {
    let running = state.in_progress.begin(keyed.key, &actor.user.to_string())?;
    let patch = keyed.body.0.into_patch()?;
    let catalog = state.platform.catalog();
    let expected = match condition.required()? {
        Some(version) => version,
        // `*`: any version, as long as there is one.
        None => catalog.read(Some(&actor), id).await?.value.version,
    };
    let video = catalog.patch(&actor, id, expected, patch, running.key()).await?.into_inner();
    Ok(render::changed(StatusCode::OK, video))
}
