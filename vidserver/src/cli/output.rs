//! How rows are written: a table for a person, plain rows for a pipe, JSON for a program.

use std::io::IsTerminal;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width};
use serde::Serialize;
use vidcore::clock::Timestamp;

use super::{CommandError, printable};

/// The least width of the last column of a table, however narrow the terminal.
const LAST_WIDTH: u16 = 26;

/// What the reader of standard output wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// One JSON value a line.
    Json,
    /// A table as wide as the terminal.
    Table,
    /// One row a line, its cells parted by tabs, no heading.
    Plain,
}

impl Form {
    /// What suits standard output.
    pub(super) fn of_stdout(json: bool) -> Self {
        match (json, std::io::stdout().is_terminal()) {
            (true, _) => Self::Json,
            (false, true) => Self::Table,
            (false, false) => Self::Plain,
        }
    }
}

/// What is written of an item: a heading and how to fill the cell under it.
pub(super) type Column<T> = (&'static str, fn(&T) -> String);

/// The items, without a line break at the end; empty if there is none and no heading to show.
///
/// # Errors
/// Those of JSON.
pub(super) fn rows<T: Serialize>(form: Form, items: &[T], columns: &[Column<T>]) -> Result<String, CommandError> {
    let cells = |item: &T| columns.iter().map(|(_, cell)| printable(&cell(item))).collect::<Vec<_>>();
    match form {
        Form::Json => {
            let lines: Result<Vec<_>, _> = items.iter().map(serde_json::to_string).collect();
            Ok(lines?.join("\n"))
        }
        Form::Plain => Ok(items.iter().map(|item| cells(item).join("\t")).collect::<Vec<_>>().join("\n")),
        Form::Table => {
            let mut table = Table::new();
            table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
            table.set_header(columns.iter().map(|(heading, _)| *heading));
            table.add_rows(items.iter().map(cells));
            // An id that is broken over lines cannot be copied: only the last column gives way.
            let last = columns.len().saturating_sub(1);
            for (index, column) in table.column_iter_mut().enumerate() {
                column.set_constraint(if index < last {
                    ColumnConstraint::ContentWidth
                } else {
                    ColumnConstraint::LowerBoundary(Width::Fixed(LAST_WIDTH))
                });
            }
            Ok(table.to_string())
        }
    }
}

/// A moment that may not be known.
pub(super) fn moment(moment: Option<Timestamp>) -> String {
    moment.map_or_else(|| "-".to_owned(), |moment| moment.to_string())
}

/// A text that may be absent.
pub(super) fn text(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column<String>; 2] = [("TEXT", String::clone), ("LENGTH", |text| text.len().to_string())];

    fn written(form: Form) -> String {
        rows(form, &["one".to_owned(), "a\u{1b}[2J\tb".to_owned()], &COLUMNS).expect("text is JSON")
    }

    #[test]
    fn rows_are_written_without_control_characters() {
        assert_eq!("one\t3\na [2J b\t7", written(Form::Plain));
        assert_eq!("\"one\"\n\"a\\u001b[2J\\tb\"", written(Form::Json));
        let table = written(Form::Table);
        assert!(table.contains("TEXT") && table.contains("one") && !table.contains('\u{1b}'), "{table}");
    }
}
