//! From bytes to a checked value: syntax is 400, shape and rules are 422 with pointers.
//!
//! Messages of the parser quote what was sent; what goes back is cut down to what was expected.

use garde::Validate;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::error::Category;
use serde_path_to_error::{Path, Segment};

use crate::problem::{FieldError, Problem, code};

/// The longest member name that is repeated in a pointer, in characters.
const MAX_NAME: usize = 64;

/// Parses and validates a body.
pub(super) fn parse<T: DeserializeOwned + Validate<Context = ()>>(bytes: &[u8]) -> Result<T, Problem> {
    demand_object(bytes)?;
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value: T = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| refuse(&error))?;
    deserializer.end().map_err(|_| malformed("there is text after the JSON value"))?;
    validate(&value)?;
    Ok(value)
}

/// Refuses arrays: serde would take one for a struct, member by member, which nothing documents.
fn demand_object(bytes: &[u8]) -> Result<(), Problem> {
    if bytes.trim_ascii_start().first() != Some(&b'[') {
        return Ok(());
    }
    serde_json::from_slice::<IgnoredAny>(bytes).map_err(|_| malformed("the array is not well-formed"))?;
    let detail = "expected an object".to_owned();
    Err(Problem::new(code::INVALID_BODY).errors(vec![FieldError { pointer: String::new(), detail }]))
}

/// Checks the rules a type states about its members.
pub(super) fn validate<T: Validate<Context = ()>>(value: &T) -> Result<(), Problem> {
    value.validate().map_err(|report| {
        let mut errors: Vec<_> = report
            .iter()
            .map(|(path, error)| FieldError { pointer: garde_pointer(path), detail: error.message().to_owned() })
            .collect();
        // The report's own order is that of a tree walk, and no promise of garde's.
        errors.sort_by(|a, b| a.pointer.cmp(&b.pointer));
        Problem::new(code::INVALID_BODY).errors(errors)
    })
}

/// What of a deserializer's message may go back: what was expected, never what was found.
pub(super) fn safe_detail(message: &str) -> String {
    // serde_json appends its position; the pointer says where.
    let message = message.rfind(" at line ").map_or(message, |end| &message[..end]);
    for (start, detail) in
        [("missing field", "missing field"), ("unknown field", "unknown field"), ("duplicate field", "duplicate field")]
    {
        if message.starts_with(start) {
            return detail.to_owned();
        }
    }
    // What was sent stands before the last "expected"; what follows is our own text.
    if let Some((_, expected)) = message.rsplit_once(", expected ") {
        return format!("expected {expected}");
    }
    if message.starts_with("not a ") && message.len() < 80 {
        return message.to_owned();
    }
    "not an acceptable value".to_owned()
}

fn refuse(error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let message = error.inner().to_string();
    match error.inner().classify() {
        Category::Data => {
            let pointer = pointer(error.path(), missing_or_unknown(&message));
            Problem::new(code::INVALID_BODY).errors(vec![FieldError { pointer, detail: safe_detail(&message) }])
        }
        Category::Eof => malformed("the body ends before the JSON value does"),
        Category::Syntax if message.starts_with("recursion limit") => malformed("the JSON is nested too deeply"),
        Category::Syntax | Category::Io => {
            malformed(&format!("line {}, column {}", error.inner().line(), error.inner().column()))
        }
    }
}

fn malformed(detail: &str) -> Problem {
    Problem::new(code::MALFORMED_JSON).detail(detail)
}

/// The member a message is about when the path ends at its parent.
fn missing_or_unknown(message: &str) -> Option<&str> {
    let rest = message
        .strip_prefix("missing field `")
        .or_else(|| message.strip_prefix("unknown field `"))
        .or_else(|| message.strip_prefix("duplicate field `"))?;
    // Names of our own fields hold no backtick; one a client invents ends at its first.
    rest.split_once('`').map(|(name, _)| name)
}

fn pointer(path: &Path, member: Option<&str>) -> String {
    let mut pointer = String::new();
    let mut last = None;
    for segment in path {
        match segment {
            Segment::Seq { index } => push(&mut pointer, &index.to_string()),
            Segment::Map { key } => {
                push(&mut pointer, key);
                last = Some(key.as_str());
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    if let Some(member) = member
        && last != Some(member)
    {
        push(&mut pointer, member);
    }
    pointer
}

/// Appends one reference token, escaped (RFC 6901 §3) and cut.
fn push(pointer: &mut String, token: &str) {
    pointer.push('/');
    for c in token.chars().take(MAX_NAME) {
        match c {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            c => pointer.push(c),
        }
    }
}

/// `a.b[0]` as `/a/b/0`: garde shows its paths only as text, and our fields hold neither sign.
fn garde_pointer(path: &garde::Path) -> String {
    let text = path.to_string();
    let mut pointer = String::new();
    for token in text.split(['.', '[', ']']).filter(|token| !token.is_empty()) {
        push(&mut pointer, token);
    }
    pointer
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, Validate)]
    #[serde(deny_unknown_fields)]
    struct Draft {
        #[garde(length(chars, min = 1, max = 5))]
        title: String,
        #[garde(dive)]
        #[serde(default)]
        parts: Vec<Part>,
    }

    #[derive(Debug, Deserialize, Validate)]
    #[serde(deny_unknown_fields)]
    struct Part {
        #[garde(range(max = 10))]
        #[serde(rename = "no")]
        no: u8,
    }

    fn refusal(body: &str) -> (&'static str, Vec<(String, String)>) {
        let problem = parse::<Draft>(body.as_bytes()).expect_err("refused");
        let body = problem.body("", None, None);
        (body.code, body.errors.into_iter().map(|error| (error.pointer, error.detail)).collect())
    }

    fn one(pointer: &str, detail: &str) -> (&'static str, Vec<(String, String)>) {
        ("invalid_body", vec![(pointer.to_owned(), detail.to_owned())])
    }

    #[test]
    fn syntax_is_told_apart_from_shape() {
        for body in ["", "{", "{\"title\":}", "{\"title\":\"a\"} x", "{\"title\":\"\u{1}\"}"] {
            assert_eq!("malformed_json", refusal(body).0, "{body}");
        }
    }

    #[test]
    fn a_pointer_leads_to_the_member() {
        assert_eq!(one("/title", "missing field"), refusal("{}"));
        assert_eq!(one("/a~1b", "unknown field"), refusal(r#"{"title":"a","a/b":1}"#));
        assert_eq!(one("/title", "duplicate field"), refusal(r#"{"title":"a","title":"b"}"#));
        assert_eq!(one("/parts/1/no", "expected u8"), refusal(r#"{"title":"a","parts":[{"no":1},{"no":"x"}]}"#));
        assert_eq!(one("/parts/0/no", "missing field"), refusal(r#"{"title":"a","parts":[{}]}"#));
    }

    #[test]
    fn rules_are_checked_after_the_shape() {
        let (code, errors) = refusal(r#"{"title":"toolong","parts":[{"no":11}]}"#);
        assert_eq!("invalid_body", code);
        let pointers: Vec<_> = errors.iter().map(|(pointer, _)| pointer.as_str()).collect();
        assert_eq!(vec!["/parts/0/no", "/title"], pointers);
    }

    #[test]
    fn an_array_is_no_struct() {
        assert_eq!(one("", "expected an object"), refusal(r#" ["a", []]"#));
        assert_eq!("malformed_json", refusal("[").0);
    }

    #[test]
    fn what_was_sent_never_comes_back() {
        let (_, errors) = refusal(r#"{"title":"a","parts":"hunter2, expected by nobody"}"#);
        assert_eq!(vec![("/parts".to_owned(), "expected a sequence".to_owned())], errors);
    }

    #[test]
    fn nesting_has_a_bound() {
        let deep = format!("{{\"a\":{}", "[".repeat(200));
        let problem = parse::<Loose>(deep.as_bytes()).expect_err("too deep");
        assert_eq!(Some("the JSON is nested too deeply"), problem.body("", None, None).detail.as_deref());
    }

    #[derive(Debug, Deserialize, Validate)]
    #[serde(transparent)]
    struct Loose(
        #[garde(skip)]
        #[allow(dead_code, reason = "only parsed")]
        serde_json::Value,
    );
}
