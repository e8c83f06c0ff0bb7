//! Where a row belongs: its unit, and within it the part that is evaluated, parked and written together.
//!
//! Placing reads the row and what *references* find in other tables; it has no state of its own. Whoever implements
//! [`Look`] records what was asked, so that a change of an answer places again just the rows that had asked.

use super::error::ReadError;
use super::plan::Migration;
use super::schema::SourceTable;
use crate::event::{Cell, Key, Row, Value};
use crate::target::TargetTable;

/// Longest unit id in bytes: a store's key of 64 KiB has to hold a unit and the key of a row of it.
pub const UNIT_BYTES_MAX: usize = 16 * 1024;

/// Reason for which a row is quarantined that names no unit: its unit is NULL, not text, or too long.
pub const NO_UNIT: &str = "no_unit";

/// Which rows are evaluated and written together within a unit. Ordered with `Whole` last.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// One row, or the rows of one group, of a table that declares parts; the bytes tell parts of one unit apart.
    Of(Box<[u8]>),
    /// The rows of all tables that declare none.
    Whole,
}

/// Where a row belongs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The unit.
    pub unit: Box<str>,
    /// The part of it.
    pub part: Part,
}

/// What comes of placing a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Routed {
    /// It belongs here.
    Placed(Place),
    /// A cell that the route or the part needs is not known yet, or the route says `wait`.
    Waiting,
    /// By the route's policy, or for what the row is ([`NO_UNIT`]).
    Quarantined(Box<str>),
    /// The row's table is a lookup: its rows have no unit.
    Lookup,
}

/// Index of a reference in its migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReferenceId(pub u16);

/// Reads through references.
///
/// **Recorded.** An implementation notes each (reference, key) asked, also those that find nothing.
/// **Ordered.** What is found comes in the order of the keys of the rows that say it.
pub trait Look {
    /// The selected values of every row that a reference finds under a key; nothing when there is none.
    ///
    /// # Errors
    /// [`ReadError`] when the store fails.
    fn find(&self, reference: ReferenceId, key: &[Value]) -> Result<Vec<Vec<Value>>, ReadError>;
}

/// Finds nothing: for migrations without references.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoLook;

impl Look for NoLook {
    fn find(&self, _: ReferenceId, _: &[Value]) -> Result<Vec<Vec<Value>>, ReadError> {
        Ok(Vec::new())
    }
}

impl Migration {
    /// Every reference, with the table whose rows it finds.
    pub fn references(&self) -> impl Iterator<Item = (ReferenceId, SourceTable)> + '_ {
        std::iter::empty()
    }

    /// Under which key a row is found through a reference, and what it says there.
    ///
    /// `row` holds the cells in the order of `legacy.toml`. `None` when a part of the key is NULL, or a cell that the
    /// reference reads is missing.
    pub fn entry(&self, _reference: ReferenceId, _row: &Row) -> Option<(Vec<Value>, Vec<Value>)> {
        None
    }

    /// Places a row; `row` holds the cells in the order of `legacy.toml`.
    ///
    /// Counts that depend on the way a row took belong to the evaluation of its part, not to this.
    ///
    /// # Errors
    /// [`ReadError`] when `look` fails.
    pub fn place(&self, table: SourceTable, _key: &Key, row: &Row, _look: &dyn Look) -> Result<Routed, ReadError> {
        let column = self.sources.get(usize::from(table.0)).and_then(|table| table.unit);
        let unit: Box<str> = match column.and_then(|column| row.0.get(column)) {
            None | Some(Cell::Missing) => return Ok(Routed::Waiting),
            Some(Cell::Value(Value::Text(text))) => text.clone(),
            Some(Cell::Value(Value::Int(number))) => number.to_string().into(),
            Some(Cell::Value(Value::Uuid(uuid))) => uuid.to_string().into(),
            Some(Cell::Value(_)) => return Ok(Routed::Quarantined(NO_UNIT.into())),
        };
        if unit.len() > UNIT_BYTES_MAX {
            return Ok(Routed::Quarantined(NO_UNIT.into()));
        }
        Ok(Routed::Placed(Place { unit, part: Part::Whole }))
    }

    /// How many sums each unit has; see [`Evaluation::totals`](super::Evaluation::totals).
    pub fn totals(&self) -> usize {
        0
    }

    /// Whether no two parts can yield the same key of a target table, so that nobody need look for collisions.
    ///
    /// True only where one shape writes the table, one row each, and the whole source key is in the target key, carried
    /// or as a part of a version 5 UUID.
    pub fn keys_disjoint(&self, _table: TargetTable) -> bool {
        false
    }
}
