//! `Upload-Concat`: whether an upload is a part, or of which parts it is joined.

use http::HeaderMap;

use super::headers::{UPLOAD_CONCAT, malformed, text};
use super::place::{PartUrl, Place};
use crate::problem::Problem;

/// What the header says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Concat {
    /// Nothing: it is absent.
    Whole,
    /// `partial`
    Part,
    /// `final;` and the URLs of parts, absolute or not.
    Final(Vec<PartUrl>),
}

impl Concat {
    /// Reads the header.
    ///
    /// # Errors
    /// 409 for an upload that is not below `place`, 400 for anything else.
    pub(super) fn of(headers: &HeaderMap, place: &Place) -> Result<Self, Problem> {
        let Some(text) = text(headers, UPLOAD_CONCAT)? else { return Ok(Self::Whole) };
        if text == "partial" {
            return Ok(Self::Part);
        }
        let urls =
            text.strip_prefix("final;").ok_or_else(|| malformed(&UPLOAD_CONCAT, "is neither partial nor final"))?;
        let no_upload = || malformed(&UPLOAD_CONCAT, "names something that is no upload");
        let urls = urls.split_ascii_whitespace().enumerate();
        let parts: Vec<_> = urls
            .map(|(position, url)| place.part(position, url)?.ok_or_else(no_upload))
            .collect::<Result<_, Problem>>()?;
        if parts.is_empty() { Err(no_upload()) } else { Ok(Self::Final(parts)) }
    }
}

#[cfg(test)]
mod tests {
    use vidcore::id::UploadId;

    use super::*;

    fn concat(text: &str) -> Option<Concat> {
        let mut headers = HeaderMap::new();
        headers.insert(UPLOAD_CONCAT, text.parse().expect("header text"));
        Concat::of(&headers, &Place::example()).ok()
    }

    #[test]
    fn parts_are_named_by_absolute_or_relative_urls() {
        let (a, b) = (UploadId::from_bytes([1; 16]), UploadId::from_bytes([2; 16]));
        let text = format!("final;/media/api/v1/uploads/tus/{a} https://example.org/media/api/v1/uploads/tus/{b}");
        assert_eq!(Some(Concat::Final([a, b].map(|id| PartUrl { id, signature: None }).to_vec())), concat(&text));
        assert_eq!(Some(Concat::Part), concat("partial"));
        assert_eq!(Concat::Whole, Concat::of(&HeaderMap::new(), &Place::example()).expect("absent"));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "final", "final;", "final; ", "Partial", "final;/etc/passwd", "final;/uploads/tus/../x"] {
            assert_eq!(None, concat(text), "{text}");
        }
    }
}
