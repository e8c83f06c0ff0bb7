//! A row whose values are held as they are encoded: what is copied and digested and not looked at is never decoded.

use super::value::tag;
use super::{Canonical as _, DecodeError, Reader};
use crate::event::Value;

/// What a buffer that serves one row after the other keeps of its memory: one huge row must not be paid for ever.
const KEPT_BYTES: usize = 1024 * 1024;

/// Empties a buffer that serves one row after the other.
pub(crate) fn empty(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.shrink_to(KEPT_BYTES);
}

/// Values of a row, each as [`Canonical::put`](super::Canonical::put) writes it, one behind the other; the memory serves one row
/// after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EncodedRow {
    bytes: Vec<u8>,
    /// Where each value ends.
    ends: Vec<usize>,
}

impl EncodedRow {
    /// Forgets all values.
    pub fn clear(&mut self) {
        empty(&mut self.bytes);
        self.ends.clear();
    }

    /// Adds a value.
    pub fn push(&mut self, value: &Value) {
        self.push_with(|out| value.put(out));
    }

    /// Adds a value, which `put` appends; nothing else may be done to the bytes.
    pub(crate) fn push_with<T>(&mut self, put: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let put = put(&mut self.bytes);
        self.ends.push(self.bytes.len());
        put
    }

    /// Adds a value of another row.
    pub fn push_cell(&mut self, cell: EncodedCell<'_>) {
        self.push_with(|out| out.extend_from_slice(cell.0));
    }

    /// All values, one behind the other.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The value at a place.
    ///
    /// # Panics
    /// When there is none.
    pub fn cell(&self, place: usize) -> EncodedCell<'_> {
        let from = if place == 0 { 0 } else { self.ends[place - 1] };
        EncodedCell(&self.bytes[from..self.ends[place]])
    }

    /// The values, in their order.
    pub fn cells(&self) -> impl DoubleEndedIterator<Item = EncodedCell<'_>> + ExactSizeIterator {
        (0..self.ends.len()).map(|place| self.cell(place))
    }

    /// Puts the values at some places in theirs; `values` are none, and then all others are NULL, or those of another row of as many
    /// at the same places.
    ///
    /// # Errors
    /// As [`values`](Self::values).
    pub fn values_at(&self, places: &[usize], values: &mut Vec<Value>) -> Result<(), DecodeError> {
        values.resize(self.ends.len(), Value::Null);
        for place in places {
            values[*place] = self.cell(*place).value()?;
        }
        Ok(())
    }

    /// Reads all values.
    ///
    /// # Errors
    /// [`DecodeError::Depth`] when one nests deeper than can be read.
    pub fn values(&self) -> Result<Vec<Value>, DecodeError> {
        self.cells().map(EncodedCell::value).collect()
    }
}

/// One value of an [`EncodedRow`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodedCell<'a>(&'a [u8]);

impl<'a> EncodedCell<'a> {
    /// SQL NULL.
    pub const NULL: EncodedCell<'static> = EncodedCell(&[tag::NULL]);

    /// The encoding.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// Whether it is a JSON document.
    pub fn is_json(self) -> bool {
        self.0.first() == Some(&tag::JSON)
    }

    /// Whether it is a double.
    pub fn is_float(self) -> bool {
        self.0.first() == Some(&tag::FLOAT)
    }

    /// Whether it is a decimal.
    pub fn is_decimal(self) -> bool {
        self.0.first() == Some(&tag::DECIMAL)
    }

    /// The bytes of the text, where it is one.
    pub fn text(self) -> Option<&'a [u8]> {
        let mut reader = Reader::new(self.0);
        if reader.byte().ok()? == tag::TEXT { reader.bytes().ok() } else { None }
    }

    /// Reads the value.
    ///
    /// # Errors
    /// [`DecodeError::Depth`] when it nests deeper than can be read.
    pub fn value(self) -> Result<Value, DecodeError> {
        let mut reader = Reader::new(self.0);
        let value = Value::take(&mut reader)?;
        reader.finish()?;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::strategies;

    proptest! {
        #[test]
        fn values_read_back_from_where_they_are_held(values in prop::collection::vec(strategies::value(), 0..5)) {
            let (mut row, mut other) = (EncodedRow::default(), EncodedRow::default());
            values.iter().for_each(|value| row.push(value));
            prop_assert_eq!(row.values().expect("they read"), values.clone());
            row.cells().rev().for_each(|cell| other.push_cell(cell));
            prop_assert_eq!(other.values().expect("they read"), values.iter().rev().cloned().collect::<Vec<_>>());
            for (cell, value) in row.cells().zip(&values) {
                prop_assert_eq!(cell.is_json(), matches!(value, Value::Json(_)));
                prop_assert_eq!(cell.is_float(), matches!(value, Value::Float(_)));
                prop_assert_eq!(cell.is_decimal(), matches!(value, Value::Decimal(_)));
                prop_assert_eq!(cell.text(), value.as_text().map(str::as_bytes));
            }
            let (mut last, place) = (Vec::new(), Vec::from_iter(values.len().checked_sub(1)));
            row.values_at(&place, &mut last).expect("it reads");
            row.values_at(&place, &mut last).expect("it reads again");
            prop_assert_eq!(last.len(), values.len());
            prop_assert_eq!(last.pop(), values.last().cloned());
            prop_assert!(last.iter().all(|value| *value == Value::Null));
            row.clear();
            prop_assert_eq!(row.values().expect("there are none"), Vec::new());
        }
    }

    #[test]
    fn null_is_null() {
        assert_eq!(EncodedCell::NULL.value(), Ok(Value::Null));
    }
}
