//! Why an input was refused, field by field.

use serde::{Deserialize, Serialize};

/// One rule that one field of an input breaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldProblem {
    /// Which field, as a JSON Pointer (RFC 6901) such as `/tags/2`.
    pub field: String,
    /// What it should be, for a person.
    pub message: String,
}

impl FieldProblem {
    /// The field at `field` breaks the rule `message`.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}
