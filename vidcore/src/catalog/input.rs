//! What a title, a description, tags and a search text may be.

use crate::catalog::service::CreateVideo;
use crate::catalog::{CatalogError, SearchTerms, VideoPatch};
use crate::invalid::FieldProblem;

const MAX_TITLE: usize = 120;
const MAX_DESCRIPTION: usize = 5000;
const MAX_TAGS: usize = 20;
const MAX_TAG: usize = 40;
const MAX_SEARCH: usize = 200;

/// The input with its text trimmed, or every problem of it.
pub(super) fn check_new(input: CreateVideo) -> Result<CreateVideo, CatalogError> {
    let patch = VideoPatch {
        title: Some(input.title),
        description: Some(input.description),
        tags: Some(input.tags),
        visibility: Some(input.visibility),
    };
    let patch = check_patch(patch)?;
    Ok(CreateVideo {
        title: patch.title.unwrap_or_default(),
        description: patch.description.unwrap_or_default(),
        tags: patch.tags.unwrap_or_default(),
        visibility: input.visibility,
    })
}

/// The patch with its text trimmed, or every problem of it.
pub(super) fn check_patch(mut patch: VideoPatch) -> Result<VideoPatch, CatalogError> {
    let mut problems = Vec::new();
    if let Some(title) = &mut patch.title {
        *title = title.trim().to_owned();
        check_line("/title", title, MAX_TITLE, &mut problems);
    }
    if let Some(description) = &mut patch.description {
        *description = description.trim().to_owned();
        if description.chars().count() > MAX_DESCRIPTION {
            problems.push(FieldProblem::new("/description", format!("at most {MAX_DESCRIPTION} characters")));
        }
        if description.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            problems.push(FieldProblem::new("/description", "no control characters but line breaks and tabs"));
        }
    }
    if let Some(tags) = &mut patch.tags {
        check_tags(tags, &mut problems);
    }
    if problems.is_empty() { Ok(patch) } else { Err(CatalogError::Invalid(problems)) }
}

/// The words of a search text.
pub(super) fn check_search(text: &str) -> Result<SearchTerms, CatalogError> {
    let problem = |message: String| CatalogError::Invalid(vec![FieldProblem::new("/q", message)]);
    if text.chars().count() > MAX_SEARCH {
        return Err(problem(format!("at most {MAX_SEARCH} characters")));
    }
    SearchTerms::parse(text).ok_or_else(|| problem("at least one letter or digit".to_owned()))
}

/// A title made of a name that was never meant to be one, such as a file's; `None` if nothing is left of it.
///
/// What a person could not type into a title is left out, and the marks that only help to lay a line out as well.
pub(crate) fn title_of(name: &str) -> Option<String> {
    let seen = name.chars().filter(|c| !is_hidden(*c) && !is_mark(*c));
    let title: String = seen.map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TITLE).collect();
    let title = title.trim();
    (!title.is_empty()).then(|| title.to_owned())
}

fn check_tags(tags: &mut [String], problems: &mut Vec<FieldProblem>) {
    if tags.len() > MAX_TAGS {
        problems.push(FieldProblem::new("/tags", format!("at most {MAX_TAGS} tags")));
    }
    for (index, tag) in tags.iter_mut().enumerate().take(MAX_TAGS) {
        *tag = tag.trim().to_owned();
        check_line(&format!("/tags/{index}"), tag, MAX_TAG, problems);
    }
}

/// One line of 1 to `most` characters.
fn check_line(field: &str, text: &str, most: usize, problems: &mut Vec<FieldProblem>) {
    let length = text.chars().count();
    if length == 0 || length > most {
        problems.push(FieldProblem::new(field, format!("between 1 and {most} characters")));
    }
    if text.chars().any(|c| c.is_control() || is_hidden(c)) {
        problems.push(FieldProblem::new(field, "no control characters"));
    }
}

/// Characters that end a line, turn its order or are not seen, so that one title looks like another (categories Zl, Zp
/// and Cf; UAX #9 §2, UTS #39 §5.4). Joiners and tags are none of them: emoji and several scripts are written with those.
fn is_hidden(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{180e}' | '\u{200b}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0001}')
}

/// Marks of direction (UAX #9 §2.6), with which a person sets the order of a line right that has both.
fn is_mark(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Visibility;

    fn video(title: String, tags: Vec<String>) -> CreateVideo {
        CreateVideo { title, description: String::new(), tags, visibility: Visibility::Public }
    }

    fn fields(result: Result<CreateVideo, CatalogError>) -> Vec<String> {
        match result {
            Err(CatalogError::Invalid(problems)) => problems.into_iter().map(|problem| problem.field).collect(),
            other => panic!("expected problems, got {other:?}"),
        }
    }

    #[test]
    fn the_longest_allowed_title_passes_and_one_more_is_refused() {
        assert!(check_new(video("ü".repeat(MAX_TITLE), Vec::new())).is_ok());
        assert_eq!(["/title"], *fields(check_new(video("ü".repeat(MAX_TITLE + 1), Vec::new()))));
    }

    #[test]
    fn a_title_made_of_a_name_is_one() {
        assert_eq!(Some("a b.mp4".to_owned()), title_of(" a\nb.mp4 "));
        assert_eq!(None, title_of("\u{7} "));
        assert_eq!(Some("exe.mp4".to_owned()), title_of("\u{200f}exe\u{202e}.\u{2067}mp4\u{2069}\u{feff}"));
        assert_eq!(None, title_of("\u{202e}\u{200b} \u{200e}"));
        let family = "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}.mp4";
        assert_eq!(Some(family.to_owned()), title_of(family));
        let long = title_of(&"ü".repeat(MAX_TITLE + 1)).expect("much is left of it");
        assert!(check_new(video(long, Vec::new())).is_ok());
    }

    #[test]
    fn what_turns_or_hides_text_is_refused_and_what_scripts_need_is_not() {
        for bad in ["gpj.\u{202e}exe", "a\u{2066}b", "a\u{200b}b", "\u{feff}a", "so\u{ad}ft"] {
            assert_eq!(["/title"], *fields(check_new(video(bad.to_owned(), Vec::new()))), "{bad:?}");
            assert_eq!(["/tags/0"], *fields(check_new(video("ok".to_owned(), vec![bad.to_owned()]))), "{bad:?}");
        }
        for good in ["\u{200f}שלום!", "می\u{200c}خواهم", "\u{1f468}\u{200d}\u{1f469}"] {
            assert!(check_new(video(good.to_owned(), Vec::new())).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let tags = vec!["ok".to_owned(), "  ".to_owned(), "a\u{0}b".to_owned()];
        assert_eq!(["/title", "/tags/1", "/tags/2"], *fields(check_new(video(" ".to_owned(), tags))));
    }
}
