//! The rows of one unit, as `evaluate` reads them: twice, and never all at once.

use super::error::ReadError;
use super::schema::SourceTable;
use crate::event::{Key, Value};

/// Names a row while its unit is evaluated: index of its source table, and a handle that only its store understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowRef(pub u32, pub u64);

/// A complete row of the legacy store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRow {
    /// Key.
    pub key: Key,
    /// One value for each column of the table, in the order of `legacy.toml`.
    pub values: Vec<Value>,
}

/// The rows of one unit.
///
/// **Stable.** While one evaluation lasts, every read sees the same rows.
/// **Bounded.** An implementation may hold a page of rows, never all of a unit's.
pub trait UnitRows {
    /// Visits every row of a table, in any order.
    ///
    /// # Errors
    /// [`ReadError`] when the store fails.
    fn scan(&self, table: SourceTable, visit: &mut dyn FnMut(RowRef, &SourceRow)) -> Result<(), ReadError>;

    /// Visits rows by handle, in the order of `refs`.
    ///
    /// # Errors
    /// [`ReadError`] when the store fails, or a row is gone.
    fn fetch(&self, refs: &[RowRef], visit: &mut dyn FnMut(RowRef, &SourceRow)) -> Result<(), ReadError>;
}

/// Rows in memory: for cases, tests and small units.
#[derive(Debug, Clone, Default)]
pub struct MemoryRows {
    /// Few enough to be looked through.
    tables: Vec<(SourceTable, Vec<SourceRow>)>,
}

/// The only row of a part.
#[derive(Debug, Clone)]
pub struct LoneRow(pub SourceTable, pub SourceRow);

impl UnitRows for LoneRow {
    fn scan(&self, table: SourceTable, visit: &mut dyn FnMut(RowRef, &SourceRow)) -> Result<(), ReadError> {
        if table == self.0 {
            visit(RowRef(u32::from(table.0), 0), &self.1);
        }
        Ok(())
    }

    fn fetch(&self, refs: &[RowRef], visit: &mut dyn FnMut(RowRef, &SourceRow)) -> Result<(), ReadError> {
        refs.iter().for_each(|handle| visit(*handle, &self.1));
        Ok(())
    }
}

/// A handle that does not name a row of these.
#[derive(Debug, thiserror::Error)]
#[error("no row {0} in memory")]
struct NoSuchRow(u64);

impl MemoryRows {
    /// No rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a row.
    pub fn push(&mut self, table: SourceTable, row: SourceRow) {
        match self.tables.iter_mut().find(|(known, _)| *known == table) {
            Some((_, rows)) => rows.push(row),
            None => self.tables.push((table, vec![row])),
        }
    }

    fn of(&self, table: SourceTable) -> &[SourceRow] {
        self.tables.iter().find(|(known, _)| *known == table).map_or(&[], |(_, rows)| rows)
    }
}

impl UnitRows for MemoryRows {
    fn scan(&self, table: SourceTable, visit: &mut dyn FnMut(RowRef, &SourceRow)) -> Result<(), ReadError> {
        for (index, row) in self.of(table).iter().enumerate() {
            visit(RowRef(u32::from(table.0), index as u64), row);
        }
        Ok(())
    }

    fn fetch(&self, refs: &[RowRef], visit: &mut dyn FnMut(RowRef, &SourceRow)) -> Result<(), ReadError> {
        for handle in refs {
            let rows = u16::try_from(handle.0).map_or(&[][..], |table| self.of(SourceTable(table)));
            let index = usize::try_from(handle.1).unwrap_or(usize::MAX);
            let row = rows.get(index).ok_or_else(|| ReadError::new(NoSuchRow(handle.1)))?;
            visit(*handle, row);
        }
        Ok(())
    }
}
