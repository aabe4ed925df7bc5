//! `vidserver openapi`: the document, without starting anything.

use std::io::Write;

use super::CommandError;

pub(super) fn run() -> Result<(), CommandError> {
    let mut text = serde_json::to_string_pretty(&crate::document())?;
    text.push('\n');
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}
