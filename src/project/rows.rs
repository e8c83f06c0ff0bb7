//! The rows of one part: in memory where they are few, read from the state page by page where they are many.

use std::sync::Mutex;

use crate::event::encoding::ordered::key_from_bytes;
use crate::event::{Canonical, Cell, Row, Value};
use crate::mapping::{ReadError, RowRef, SourceRow, SourceTable, UnitRows};

use super::state::{Space, State};

/// One part's rows in the state.
///
/// Rows are named by their place in the order they were first scanned in; the keys behind the places are all that is kept
/// in memory, so that a unit of half a million rows can be mapped.
pub struct StateRows<'a> {
    state: &'a State,
    scope: &'a [u8],
    keys: Mutex<Vec<Box<[u8]>>>,
}

impl<'a> StateRows<'a> {
    /// The rows of a part, by its key.
    pub fn new(state: &'a State, scope: &'a [u8]) -> Self {
        Self { state, scope, keys: Mutex::new(Vec::new()) }
    }

    fn row(&self, place: &[u8], bytes: &[u8]) -> Result<SourceRow, ReadError> {
        read(place.get(self.scope.len() + 2..), bytes)
    }
}

impl UnitRows for StateRows<'_> {
    fn scan(&self, table: SourceTable, visit: &mut dyn FnMut(RowRef, &SourceRow)) -> Result<(), ReadError> {
        let prefix = [self.scope, &table.0.to_be_bytes()].concat();
        let mut failure = None;
        let scanned = self.state.scan(Space::Rows, &prefix, |place, bytes| match self.row(place, bytes) {
            Ok(row) => {
                let mut keys = self.keys.lock().expect("no holder of this lock panics");
                keys.push(place.into());
                let handle = keys.len() as u64 - 1;
                drop(keys);
                visit(RowRef(u32::from(table.0), handle), &row);
                Ok(true)
            }
            Err(error) => {
                failure = Some(error);
                Ok(false)
            }
        });
        scanned.map_err(ReadError::new)?;
        failure.map_or(Ok(()), Err)
    }

    fn fetch(&self, refs: &[RowRef], visit: &mut dyn FnMut(RowRef, &SourceRow)) -> Result<(), ReadError> {
        for &reference in refs {
            let place = {
                let keys = self.keys.lock().expect("no holder of this lock panics");
                usize::try_from(reference.1).ok().and_then(|at| keys.get(at).cloned())
            };
            let place = place.ok_or_else(|| ReadError::new("a row was asked for that was never scanned"))?;
            let bytes = self.state.get(Space::Rows, &place).map_err(ReadError::new)?;
            let bytes =
                bytes.ok_or_else(|| ReadError::new("a row vanished from the state while its unit was mapped"))?;
            visit(reference, &self.row(&place, &bytes)?);
        }
        Ok(())
    }
}

const UNREADABLE: &str = "a row of the state store does not read back";

/// Reads a row from its key and its cells.
fn read(key: Option<&[u8]>, bytes: &[u8]) -> Result<SourceRow, ReadError> {
    let key = key.and_then(|key| key_from_bytes(key).ok()).ok_or_else(|| ReadError::new(UNREADABLE))?;
    Ok(SourceRow { key, values: read_values(bytes)? })
}

/// Reads a row's cells, none of which is missing.
pub(super) fn read_values(bytes: &[u8]) -> Result<Vec<Value>, ReadError> {
    let row = Row::decode(bytes).map_err(|_| ReadError::new(UNREADABLE))?;
    let value = |cell| match cell {
        Cell::Value(value) => Some(value),
        Cell::Missing => None,
    };
    let values: Option<Vec<Value>> = row.0.into_iter().map(value).collect();
    values.ok_or_else(|| ReadError::new("a row of the state store still has missing cells"))
}

/// The few rows of a part, in order of table and key.
#[derive(Debug, Clone, Default)]
pub struct FewRows(Vec<(SourceTable, SourceRow)>);

/// A row as the state has it: what stands behind the part in its key, which is its table and its own key, and its cells.
pub type StoredRow = (Box<[u8]>, Box<[u8]>);

impl FewRows {
    /// Reads rows.
    pub fn read(rows: &[StoredRow]) -> Result<Self, ReadError> {
        let row = |(place, bytes): &StoredRow| {
            let key = place.split_first_chunk().ok_or_else(|| ReadError::new("a row of the state store has no key"));
            let (table, key) = key?;
            Ok((SourceTable(u16::from_be_bytes(*table)), read(Some(key), bytes)?))
        };
        rows.iter().map(row).collect::<Result<_, _>>().map(Self)
    }
}

impl UnitRows for FewRows {
    fn scan(&self, table: SourceTable, visit: &mut dyn FnMut(RowRef, &SourceRow)) -> Result<(), ReadError> {
        for (place, (_, row)) in self.0.iter().enumerate().filter(|(_, (of, _))| *of == table) {
            visit(RowRef(u32::from(table.0), place as u64), row);
        }
        Ok(())
    }

    fn fetch(&self, refs: &[RowRef], visit: &mut dyn FnMut(RowRef, &SourceRow)) -> Result<(), ReadError> {
        for &reference in refs {
            let place = usize::try_from(reference.1).unwrap_or(usize::MAX);
            let (_, row) =
                self.0.get(place).ok_or_else(|| ReadError::new("a row was asked for that was never scanned"))?;
            visit(reference, row);
        }
        Ok(())
    }
}
