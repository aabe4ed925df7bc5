//! `Upload-Metadata`: pairs of a key and a value in base64, separated by commas.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use vidcore::id::VideoId;
use vidcore::storage::resumable::UploadTarget;

use super::headers::{UPLOAD_METADATA, malformed};
use crate::problem::Problem;

/// The most characters a header of it may have.
const MAX_CHARS: usize = 4096;

/// What a draft is named after, the first that is there.
const NAMES: [&str; 3] = ["title", "filename", "name"];

/// The pairs of a header.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Metadata(Vec<(String, Vec<u8>)>);

impl Metadata {
    /// Reads a header.
    ///
    /// # Errors
    /// 400 for one that breaks the protocol's rules: an empty or repeated key, a value that is not base64.
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        if text.len() > MAX_CHARS {
            return Err(malformed(&UPLOAD_METADATA, "is too long"));
        }
        let mut pairs: Vec<(String, Vec<u8>)> = Vec::new();
        if text.trim().is_empty() {
            return Ok(Self(pairs));
        }
        for pair in text.split(',') {
            let pair = pair.trim();
            let (key, value) = pair.split_once(' ').unwrap_or((pair, ""));
            if key.is_empty() || pairs.iter().any(|(held, _)| held == key) {
                return Err(malformed(&UPLOAD_METADATA, "has an empty or a repeated key"));
            }
            let value = STANDARD.decode(value.trim());
            let value = value.map_err(|_| malformed(&UPLOAD_METADATA, "has a value that is not base64"))?;
            pairs.push((key.to_owned(), value));
        }
        Ok(Self(pairs))
    }

    /// The video that `video_id` names, or a new draft with a name from what is there.
    ///
    /// # Errors
    /// 404 for a `video_id` that is none.
    pub(super) fn target(&self) -> Result<UploadTarget, Problem> {
        if let Some(id) = self.text("video_id") {
            let video: VideoId = id.parse().map_err(|_| Problem::not_found())?;
            return Ok(UploadTarget::Video(video));
        }
        Ok(UploadTarget::NewDraft(NAMES.into_iter().find_map(|key| self.text(key))))
    }

    fn text(&self, key: &str) -> Option<String> {
        let (_, value) = self.0.iter().find(|(held, _)| held == key)?;
        Some(String::from_utf8_lossy(value).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Metadata> {
        Metadata::parse(text).ok()
    }

    #[test]
    fn pairs_are_read_and_a_value_may_be_missing() {
        let expected =
            Metadata(vec![("filename".to_owned(), b"a b.mp4".to_vec()), ("is_confidential".to_owned(), vec![])]);
        assert_eq!(Some(expected), parse("filename YSBiLm1wNA==,is_confidential"));
        assert_eq!(Some(Metadata::default()), parse(""));
    }

    #[test]
    fn what_breaks_the_rules_is_refused() {
        let long = format!("name {}", "QUFB".repeat(1024));
        for text in ["a !!!", "a YQ==,a YQ==", "a YQ==,", ",", " ,a YQ==", "a YQ== YQ==", &long] {
            assert_eq!(None, parse(text), "{text}");
        }
    }

    #[test]
    fn a_video_goes_before_a_name_and_a_title_before_a_file_name() {
        let target = |text| parse(text).expect("readable").target();
        let draft = |name: &str| UploadTarget::NewDraft(Some(name.to_owned()));
        assert_eq!(draft("T"), target("filename Rg==,title VA==").expect("a draft"));
        assert_eq!(draft("F"), target("filename Rg==").expect("a draft"));
        assert_eq!(UploadTarget::NewDraft(None), target("").expect("a draft"));
        assert!(target("video_id bm9uZQ==,title VA==").is_err());
    }
}
