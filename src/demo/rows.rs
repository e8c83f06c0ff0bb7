//! Rows ready to be written: the text of COPY, or one INSERT.

use super::value::quote_literal;

/// Rows of one table, as text that the server turns into the columns' types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRows {
    /// The table.
    pub table: String,
    /// The columns that are given; others take their defaults.
    pub columns: Vec<String>,
    /// Values by row; `None` is NULL.
    pub rows: Vec<Vec<Option<String>>>,
}

impl TableRows {
    /// The statement that takes [`copy_text`](Self::copy_text).
    pub fn copy_statement(&self) -> String {
        format!("COPY {} ({}) FROM STDIN", quote_identifier(&self.table), self.column_list())
    }

    /// The rows in the text format of COPY.
    pub fn copy_text(&self) -> String {
        let mut text = String::new();
        for row in &self.rows {
            for (position, value) in row.iter().enumerate() {
                if position > 0 {
                    text.push('\t');
                }
                match value {
                    None => text.push_str("\\N"),
                    Some(value) => value.chars().for_each(|character| push_copy(&mut text, character)),
                }
            }
            text.push('\n');
        }
        text
    }

    /// One INSERT of all rows.
    pub fn insert_statement(&self) -> String {
        let tuple = |row: &Vec<Option<String>>| {
            let values: Vec<String> =
                row.iter().map(|value| value.as_deref().map_or_else(|| "NULL".to_owned(), quote_literal)).collect();
            format!("({})", values.join(", "))
        };
        let tuples: Vec<String> = self.rows.iter().map(tuple).collect();
        format!("INSERT INTO {} ({}) VALUES {}", quote_identifier(&self.table), self.column_list(), tuples.join(", "))
    }

    fn column_list(&self) -> String {
        self.columns.iter().map(|column| quote_identifier(column)).collect::<Vec<_>>().join(", ")
    }
}

/// A name as an identifier of SQL.
pub(super) fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Adds a character in COPY's text format.
fn push_copy(text: &mut String, character: char) {
    match character {
        '\\' => text.push_str("\\\\"),
        '\t' => text.push_str("\\t"),
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        other => text.push(other),
    }
}
