//! What of a stranger's text may be written to the operator's terminal.

/// The text on one line. Errors quote what programs said about files of strangers, and keys may be theirs:
/// characters that steer a terminal, or that hide or turn round what is beside them, become spaces.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || is_invisible(c) { ' ' } else { c }).collect()
}

/// Whether the character breaks a line, shows nothing, or sets the direction of what follows.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_hides_or_turns_text_becomes_a_space() {
        let marks = ['\u{1b}', '\n', '\u{9b}', '\u{61c}', '\u{200b}', '\u{200f}', '\u{2028}', '\u{202a}', '\u{202e}'];
        for mark in marks.into_iter().chain(['\u{2060}', '\u{2066}', '\u{2069}', '\u{feff}']) {
            assert_eq!("a b", printable(&format!("a{mark}b")), "{}", mark.escape_unicode());
        }
    }

    #[test]
    fn every_other_text_is_left_as_it_is() {
        let text = "Ωmega – “naïve” \u{2010}\u{2027}\u{202f} 日本 עברית";
        assert_eq!(text, printable(text));
    }
}
