//! Input that breaks a rule, field by field.

use serde::{Deserialize, Serialize};

/// One rule that one field of an input breaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FieldProblem {
    /// Which field, as a JSON Pointer (RFC 6901) into the input: `/email`, `/tags/0`.
    pub field: String,
    /// What is wrong with it, in words for the person who typed it; the value itself is not repeated.
    pub message: String,
}

impl FieldProblem {
    /// A problem with the field at `pointer`.
    pub fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: pointer.into(), message: message.into() }
    }
}

/// Every problem of a garde report, in the order of the fields.
pub(crate) fn problems(report: &garde::Report) -> Vec<FieldProblem> {
    report.iter().map(|(path, error)| FieldProblem::new(pointer(&path.to_string()), error.message())).collect()
}

/// garde writes `tags[0].name`; field names of ours need no escaping.
fn pointer(path: &str) -> String {
    let mut pointer = String::with_capacity(path.len() + 1);
    if !path.is_empty() {
        pointer.push('/');
    }
    for part in path.chars() {
        match part {
            '.' | '[' => pointer.push('/'),
            ']' => {}
            other => pointer.push(other),
        }
    }
    pointer
}

#[cfg(test)]
mod tests {
    use super::pointer;

    #[test]
    fn a_path_becomes_a_json_pointer() {
        for (path, expected) in [("", ""), ("email", "/email"), ("tags[0]", "/tags/0"), ("a.b[2].c", "/a/b/2/c")] {
            assert_eq!(expected, pointer(path));
        }
    }
}
