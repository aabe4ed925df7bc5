//! Who goes on with an upload: its owner or, without a token, whoever has its URL.

use axum::extract::FromRequestParts;
use http::request::Parts;
use url::form_urlencoded;
use vidcore::auth::Actor;
use vidcore::id::UploadId;
use vidcore::storage::UploadSignature;
use vidcore::storage::resumable::Uploader;

use crate::extract::caller::Authentication;
use crate::extract::{MaybeCaller, Path};
use crate::problem::Problem;
use crate::routes::ApiState;

/// What `Authorization` says, for routes where a URL can stand for it. A token that is not valid is 401, whatever the URL says;
/// one that was good and has run out counts as none: clients send the headers they were started with, and uploads last
/// longer.
#[derive(Debug)]
pub(crate) struct Presented {
    pub(super) actor: Option<Actor>,
    /// The refusal where no URL stands for a token.
    pub(super) refusal: Problem,
}

impl<S: Send + Sync> FromRequestParts<S> for Presented {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let has_run_out = parts.extensions.get::<Authentication>().is_some_and(|it| it.has_run_out);
        match MaybeCaller::from_request_parts(parts, state).await {
            Ok(MaybeCaller(actor)) => Ok(Self { actor, refusal: Problem::unauthenticated() }),
            Err(refusal) if has_run_out => Ok(Self { actor: None, refusal }),
            Err(refusal) => Err(refusal),
        }
    }
}

/// Whoever may bring bytes to the upload in the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holder(pub(super) Uploader);

impl FromRequestParts<ApiState> for Holder {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        let Path(id) = Path::<UploadId>::from_request_parts(parts, state).await?;
        let Presented { actor, refusal } = Presented::from_request_parts(parts, state).await?;
        if let Some(actor) = actor {
            return Ok(Self(Uploader::from(&actor)));
        }
        let signature = parts.uri.query().and_then(signature).ok_or(refusal)?;
        Ok(Self(state.platform.uploads().holder(id, &signature).await?))
    }
}

/// The signature in the query of an upload's URL, if one is there.
pub(super) fn signature(query: &str) -> Option<UploadSignature> {
    let (mut expires, mut kid, mut signature) = (None, None, None);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "expires" => expires = value.parse().ok(),
            "kid" => kid = Some(value.into_owned()),
            "signature" => signature = Some(value.into_owned()),
            _ => {}
        }
    }
    Some(UploadSignature { expires: expires?, kid: kid?, signature: signature? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_has_three_values_among_others() {
        let (kid, text) = ("a".to_owned(), "b+c".to_owned());
        let expected = UploadSignature { expires: 7, kid, signature: text };
        assert_eq!(Some(expected), signature("x=1&kid=a&signature=b%2Bc&expires=7"));
        for none in ["", "expires=7", "expires=7&kid=a", "expires=x&kid=a&signature=b", "kid=a&signature=b"] {
            assert_eq!(None, signature(none), "{none}");
        }
    }
}
