//! What the spills hold: a row of one side by its digests, who owns a row, a source row on its way to its unit, and what a
//! row adds to an invariant. Fixed parts first, then lengths and bytes; read back without copies.

use crate::event::encoding::put_bytes;
use crate::event::{Canonical as _, DecodeError, Key, Reader, Value};

/// First 16 bytes of a key's digest, with the table in front: 2^-64 odds of a chance collision in 2^32 rows.
pub type KeyDigest = [u8; 16];

/// A row of one side, as it is joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joined<'a> {
    /// Index of the target table.
    pub table: u16,
    /// Digest of its own key.
    pub key: KeyDigest,
    /// Digest of what it is paired by, where a rule pairs rows by something else than their key.
    pub pair: Option<KeyDigest>,
    /// Digest of all that is compared.
    pub strict: [u8; 32],
    /// Digest of what is compared without tolerance; as `strict` where nothing is tolerated.
    pub tolerant: [u8; 32],
    /// The part of a unit that it belongs to, as the state names it; empty when nobody knows.
    pub scope: &'a [u8],
    /// Its own key, encoded.
    pub locator: &'a [u8],
}

impl<'a> Joined<'a> {
    /// Appends the record.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.table.to_le_bytes());
        out.extend_from_slice(&self.key);
        out.extend_from_slice(&self.strict);
        let tolerated = self.strict != self.tolerant;
        out.push(u8::from(tolerated) | u8::from(self.pair.is_some()) << 1);
        if tolerated {
            out.extend_from_slice(&self.tolerant);
        }
        if let Some(pair) = &self.pair {
            out.extend_from_slice(pair);
        }
        put_bytes(self.scope, out);
        put_bytes(self.locator, out);
    }

    /// Reads the record at the front.
    ///
    /// # Errors
    /// [`DecodeError`] when there is none.
    pub fn take(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let table = u16::from_le_bytes(fixed(reader)?);
        let (key, strict) = (fixed(reader)?, fixed(reader)?);
        let flags = reader.byte()?;
        let tolerant = if flags & 1 == 0 { strict } else { fixed(reader)? };
        let pair = if flags & 2 == 0 { None } else { Some(fixed(reader)?) };
        Ok(Self { table, key, pair, strict, tolerant, scope: reader.bytes()?, locator: reader.bytes()? })
    }
}

/// Says that a row is recorded as written by rehome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded<'a> {
    /// Index of the target table.
    pub table: u16,
    /// Digest of the row's own key.
    pub key: KeyDigest,
    /// The part that owns it.
    pub scope: &'a [u8],
}

impl<'a> Recorded<'a> {
    /// Appends the record.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.table.to_le_bytes());
        out.extend_from_slice(&self.key);
        put_bytes(self.scope, out);
    }

    /// Reads the record at the front.
    ///
    /// # Errors
    /// [`DecodeError`] when there is none.
    pub fn take(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let (table, key) = (u16::from_le_bytes(fixed(reader)?), fixed(reader)?);
        Ok(Self { table, key, scope: reader.bytes()? })
    }
}

/// A source row, with the part that it belongs to where that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row<'a> {
    /// The part; empty before the row is placed.
    pub scope: &'a [u8],
    /// Index of the source table.
    pub table: u16,
    /// Its cells.
    pub values: Vec<Value>,
}

impl<'a> Row<'a> {
    /// Appends a record.
    pub fn put(scope: &[u8], table: u16, values: Vec<Value>, out: &mut Vec<u8>) {
        put_bytes(scope, out);
        out.extend_from_slice(&table.to_le_bytes());
        put_bytes(&Key(values).encode(), out);
    }

    /// Reads the record at the front.
    ///
    /// # Errors
    /// [`DecodeError`] when there is none.
    pub fn take(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let (scope, table) = (reader.bytes()?, u16::from_le_bytes(fixed(reader)?));
        Ok(Self { scope, table, values: Key::decode(reader.bytes()?)?.0 })
    }
}

/// What one row adds to one side of an invariant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Added<'a> {
    /// Index of the invariant.
    pub invariant: u16,
    /// Whether it is a row of the target.
    pub of_target: bool,
    /// The group that it is summed up in, encoded.
    pub group: &'a [u8],
    /// What it adds.
    pub amount: i128,
}

impl<'a> Added<'a> {
    /// Appends the record.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.invariant.to_le_bytes());
        out.push(u8::from(self.of_target));
        put_bytes(self.group, out);
        out.extend_from_slice(&self.amount.to_le_bytes());
    }

    /// Reads the record at the front.
    ///
    /// # Errors
    /// [`DecodeError`] when there is none.
    pub fn take(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let (invariant, of_target) = (u16::from_le_bytes(fixed(reader)?), reader.byte()? == 1);
        let group = reader.bytes()?;
        Ok(Self { invariant, of_target, group, amount: i128::from_le_bytes(fixed(reader)?) })
    }
}

/// Reads all records of a partition.
///
/// # Errors
/// [`DecodeError`] when the bytes are not records.
pub fn all<'a, T>(
    bytes: &'a [u8],
    take: impl Fn(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let mut records = Vec::new();
    while !reader.at_end() {
        records.push(take(&mut reader)?);
    }
    Ok(records)
}

fn fixed<const N: usize>(reader: &mut Reader<'_>) -> Result<[u8; N], DecodeError> {
    reader.raw(N)?.try_into().map_err(|_| DecodeError::End)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_back_one_behind_the_other() {
        let row = Joined { table: 3, key: [1; 16], pair: Some([8; 16]), strict: [2; 32], tolerant: [3; 32], scope: b"s", locator: b"key" };
        let plain = Joined { tolerant: row.strict, scope: b"", pair: None, ..row };
        let mut bytes = Vec::new();
        [row, plain].iter().for_each(|row| row.put(&mut bytes));
        assert_eq!(all(&bytes, Joined::take).expect("records"), [row, plain]);
        assert!(all(&bytes[..bytes.len() - 1], Joined::take).is_err(), "cut short");

        let mut bytes = Vec::new();
        Row::put(b"u", 2, vec![Value::Int(4), Value::Null], &mut bytes);
        let expected = Row { scope: b"u", table: 2, values: vec![Value::Int(4), Value::Null] };
        assert_eq!(all(&bytes, Row::take).expect("records"), [expected]);

        let added = Added { invariant: 1, of_target: true, group: b"g", amount: -5 };
        let mut bytes = Vec::new();
        added.put(&mut bytes);
        assert_eq!(all(&bytes, Added::take).expect("records"), [added]);
        let recorded = Recorded { table: 9, key: [7; 16], scope: b"part" };
        let mut bytes = Vec::new();
        recorded.put(&mut bytes);
        assert_eq!(all(&bytes, Recorded::take).expect("records"), [recorded]);
    }
}
