//! Rows that no rule changes: what they are compared as stands in how they are encoded, and only what rules ask is decoded.

use std::collections::BTreeSet;

use super::expect::Table;
use super::form::Cell;
use super::ruleset::Ruleset;
use super::table::TableRules;
use super::term::{Condition, Term};
use crate::event::{DecodeError, EncodedCell, EncodedRow};
use crate::target::TargetTable;

/// What rules ask of a row that is compared as it is: whether it is ours, and what it adds to invariants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// Nothing: it is ours, and no invariant is about it.
    Nothing,
    /// Something of every row, for which these columns have to be read. There may be none: whoever counts rows reads no column.
    Columns(Vec<usize>),
}

impl Ruleset {
    /// What is asked of every row of a table; `None` where rows are compared as anything but themselves, or are paired by anything
    /// but their keys.
    pub fn plain(&self, table: TargetTable) -> Option<Asked> {
        let rules = self.table(table);
        let TableRules { columns: _, key: _, item, scope, retention, normalise, ignore, tolerate, matching, waive } =
            rules;
        let as_they_are = normalise.is_empty() && ignore.is_empty() && tolerate.is_empty() && waive.is_empty();
        if !as_they_are || matching.is_some() || item.is_some() {
            return None;
        }
        if scope.is_empty() && retention.is_empty() && !self.asks(Table::Target(table)) {
            return Some(Asked::Nothing);
        }
        let mut asked = BTreeSet::new();
        scope.iter().for_each(|(_, condition)| condition.columns(&mut asked));
        retention.iter().for_each(|(_, time, _)| time.columns(&mut asked));
        self.asked_by_invariants(Table::Target(table), &mut asked);
        Some(Asked::Columns(asked.into_iter().collect()))
    }
}

impl TableRules {
    /// Cells of the key by which a row is paired, where they are in one writing; see [`key_as_it_is`](Self::key_as_it_is). Of
    /// tables of which [`Ruleset::plain`] tells the columns.
    pub fn plain_key<'r>(&self, row: &'r EncodedRow) -> Option<impl Iterator<Item = EncodedCell<'r>>> {
        let cells = || self.key.iter().map(|place| row.cell(place.column));
        let one_writing = |cell: EncodedCell<'_>| !cell.is_json() && !cell.is_float() && !cell.is_decimal();
        cells().all(one_writing).then(cells)
    }

    /// As [`strict`](Self::strict), for such tables. Answers whether that is the row as it is encoded.
    ///
    /// # Errors
    /// [`DecodeError`] when a document or a double does not read.
    pub fn put_plain(row: &EncodedRow, out: &mut Vec<u8>) -> Result<bool, DecodeError> {
        let made = |cell: EncodedCell<'_>| cell.is_json() || cell.is_float();
        if !row.cells().any(made) {
            out.extend_from_slice(row.bytes());
            return Ok(true);
        }
        for cell in row.cells() {
            if made(cell) {
                Cell::put_as_it_is(&cell.value()?, out);
            } else {
                out.extend_from_slice(cell.bytes());
            }
        }
        Ok(false)
    }
}

impl Term {
    /// Adds the columns that it reads.
    pub(super) fn columns(&self, out: &mut BTreeSet<usize>) {
        match self {
            Self::Place(column, _) => drop(out.insert(*column)),
            Self::Literal(_) => {}
            Self::First(terms) => terms.iter().for_each(|term| term.columns(out)),
            Self::Length(term)
            | Self::Entries(term)
            | Self::Epoch(term)
            | Self::Microseconds(term)
            | Self::Number(term)
            | Self::Capture(term, _) => term.columns(out),
        }
    }
}

impl Condition {
    /// Adds the columns that it reads.
    pub(super) fn columns(&self, out: &mut BTreeSet<usize>) {
        match self {
            Self::Is(term, _)
            | Self::StartsWith(term, _)
            | Self::Matches(term, _)
            | Self::Absent(term)
            | Self::Empty(term) => term.columns(out),
            Self::Same(one, other) => [one, other].iter().for_each(|term| term.columns(out)),
            Self::Not(condition) => condition.columns(out),
            Self::Every(conditions) | Self::Some(conditions) => {
                conditions.iter().for_each(|condition| condition.columns(out));
            }
        }
    }
}
