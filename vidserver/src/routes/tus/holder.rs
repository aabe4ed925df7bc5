//! Who goes on with an upload: its owner or, without a token, whoever has its URL.

use axum::extract::FromRequestParts;
use http::request::Parts;
use url::form_urlencoded;
use vidcore::id::UploadId;
use vidcore::storage::UploadSignature;
use vidcore::storage::resumable::Uploader;

use crate::extract::{MaybeCaller, Path};
use crate::problem::Problem;
use crate::routes::ApiState;

/// Taken from `Authorization` where that is sent, whatever the URL says: a token that is not valid is 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holder(pub(super) Uploader);

impl FromRequestParts<ApiState> for Holder {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        let Path(id) = Path::<UploadId>::from_request_parts(parts, state).await?;
        let MaybeCaller(actor) = MaybeCaller::from_request_parts(parts, state).await?;
        if let Some(actor) = actor {
            return Ok(Self(Uploader::from(&actor)));
        }
        let signature = parts.uri.query().and_then(signature).ok_or_else(Problem::unauthenticated)?;
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
