//! The rows of one unit, read from the state page by page.

use std::sync::Mutex;

use crate::event::encoding::ordered::key_from_bytes;
use crate::event::{Canonical, Row, Value};
use crate::mapping::{ReadError, RowRef, SourceRow, SourceTable, UnitRows};

use super::state::{Space, State};

/// One unit's rows in the state.
///
/// Rows are named by their place in the order they were first scanned in; the keys behind the places are all that is kept
/// in memory, so that a unit of half a million rows can be mapped.
pub struct StateRows<'a> {
    state: &'a State,
    unit: &'a [u8],
    keys: Mutex<Vec<Box<[u8]>>>,
}

impl<'a> StateRows<'a> {
    /// The rows of a unit, by its key in the state.
    pub fn new(state: &'a State, unit: &'a [u8]) -> Self {
        Self { state, unit, keys: Mutex::new(Vec::new()) }
    }

    fn row(&self, place: &[u8], bytes: &[u8]) -> Result<SourceRow, ReadError> {
        let key = place.get(self.unit.len() + 2..).and_then(|key| key_from_bytes(key).ok());
        let (Some(key), Ok(row)) = (key, Row::decode(bytes)) else {
            return Err(ReadError::new("a row of the state store does not read back"));
        };
        let values: Option<Vec<Value>> = row.0.into_iter().map(|cell| cell.value().cloned()).collect();
        let values = values.ok_or_else(|| ReadError::new("a row of the state store still has missing cells"))?;
        Ok(SourceRow { key, values })
    }
}

impl UnitRows for StateRows<'_> {
    fn scan(&self, table: SourceTable, visit: &mut dyn FnMut(RowRef, &SourceRow)) -> Result<(), ReadError> {
        let prefix = [self.unit, &table.0.to_be_bytes()].concat();
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
