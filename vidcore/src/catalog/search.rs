//! What a person typed into the search box, as terms that cannot be mistaken for query grammar.

/// The most terms that count; the rest of the text is ignored.
pub const MAX_TERMS: usize = 12;

/// Words to be found, all of them, the last one as a prefix.
///
/// Built from any text: only runs of letters and digits count, so no operator, quote, column
/// filter or wildcard of a full-text engine survives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchTerms(Vec<String>);

impl SearchTerms {
    /// The words of `text`, lower case, at most [`MAX_TERMS`]; `None` if it holds none.
    pub fn parse(text: &str) -> Option<Self> {
        let words: Vec<String> = text
            .split(|c: char| !c.is_alphanumeric() && !is_combining(c))
            .filter(|word| word.contains(char::is_alphanumeric))
            .take(MAX_TERMS)
            .map(str::to_lowercase)
            .collect();
        (!words.is_empty()).then_some(Self(words))
    }

    /// The words, lower case, never empty.
    pub fn words(&self) -> &[String] {
        &self.0
    }
}

/// A diacritic typed as a character of its own: part of its word, which the index folds away.
fn is_combining(c: char) -> bool {
    ('\u{300}'..='\u{36f}').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_grammar_is_reduced_to_words() {
        let terms = SearchTerms::parse("title:\"big* OR (bunny) NEAR/3 -x^2").expect("words");
        assert_eq!(["title", "big", "or", "bunny", "near", "3", "x", "2"], terms.words());
    }

    #[test]
    fn a_text_without_words_is_no_search() {
        assert_eq!(None, SearchTerms::parse(" \"*()- "));
    }
}
