//! Rows and keys.

use super::Value;
use std::fmt::Write as _;

/// One cell of a row as an event tells it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Cell {
    /// The source did not say (an unchanged TOAST value): neither NULL nor absent, to be filled from what is known (I3).
    Missing,
    /// What the source said; NULL is [`Value::Null`].
    Value(Value),
}

impl Cell {
    /// The value, unless it is missing.
    pub fn value(&self) -> Option<&Value> {
        match self {
            Cell::Missing => None,
            Cell::Value(value) => Some(value),
        }
    }

    /// The value itself, unless it is missing.
    pub fn into_value(self) -> Option<Value> {
        match self {
            Cell::Missing => None,
            Cell::Value(value) => Some(value),
        }
    }
}

/// The cells of one row, one for each column of its [`Relation`](super::Relation), in its order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Row(pub Vec<Cell>);

impl Row {
    /// Whether every cell is known.
    pub fn complete(&self) -> bool {
        self.0.iter().all(|cell| *cell != Cell::Missing)
    }

    /// Fills missing cells from an older row of the same shape.
    pub fn fill_from(&mut self, older: &Row) {
        for (cell, old) in self.0.iter_mut().zip(&older.0) {
            if *cell == Cell::Missing {
                cell.clone_from(old);
            }
        }
    }
}

impl FromIterator<Value> for Row {
    fn from_iter<I: IntoIterator<Item = Value>>(values: I) -> Self {
        Row(values.into_iter().map(Cell::Value).collect())
    }
}

/// The values of a row's key columns, in the order of the key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub Vec<Value>);

/// A key as text for people: its parts, comma-separated.
pub fn key_text(values: &[Value]) -> String {
    let mut shown = String::new();
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            shown.push_str(", ");
        }
        // Writing to a text does not fail.
        let _ = match value {
            Value::Text(text) | Value::Json(text) => shown.write_str(text),
            Value::Int(number) => write!(shown, "{number}"),
            Value::Decimal(number) => write!(shown, "{number}"),
            Value::Uuid(uuid) => write!(shown, "{uuid}"),
            Value::Timestamp(timestamp) => write!(shown, "{timestamp}"),
            Value::Null => shown.write_str("NULL"),
            other => write!(shown, "{other:?}"),
        };
    }
    shown
}
