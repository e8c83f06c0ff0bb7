//! What the spills hold: a row of one side by its digests, who owns a row, a source row on its way to its unit, and what a
//! row adds to an invariant. Fixed parts first, then lengths and bytes; read back without copies.

use std::cmp::Ordering;

use crate::event::encoding::put_bytes;
use crate::event::{Canonical as _, DecodeError, Key, Reader, Value};
use crate::rules::{Contribution, RuleId, Side};

/// First 16 bytes of a key's digest, with the table in front: 2^-64 odds of a chance collision in 2^32 rows.
pub type KeyDigest = [u8; 16];

/// A row of one side, as it is joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joined<'a> {
    /// Index of the target table.
    pub table: u16,
    /// Digest of its key.
    pub key: KeyDigest,
    /// Digest of all that is compared.
    pub strict: [u8; 32],
    /// Digest of what is compared without tolerance; as `strict` where nothing is tolerated.
    pub tolerant: [u8; 32],
    /// By a rule, the target may have let it go.
    pub transient: bool,
    /// How it is paired where the other side has no row of its key, by a rule.
    pub pairing: Option<Pairing<'a>>,
    /// The part of a unit that it belongs to, as the state names it; empty when nobody knows.
    pub scope: &'a [u8],
    /// Its key, encoded.
    pub locator: &'a [u8],
    /// The row itself, encoded, where rules want to see both; empty otherwise.
    pub row: &'a [u8],
}

/// How a row is paired by a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pairing<'a> {
    /// Digest of the group.
    pub group: KeyDigest,
    /// Place in the group; its byte order is the order.
    pub order: &'a [u8],
    /// Digest of all that is compared of rows so paired.
    pub strict: [u8; 32],
}

const TOLERATES: u8 = 1;
const PAIRS: u8 = 2;
const TRANSIENT: u8 = 4;

impl<'a> Joined<'a> {
    /// Appends the record.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.table.to_le_bytes());
        out.extend_from_slice(&self.key);
        out.extend_from_slice(&self.strict);
        let flag = |holds: bool, flag: u8| if holds { flag } else { 0 };
        let tolerates = self.strict != self.tolerant;
        let pairs = flag(self.pairing.is_some(), PAIRS);
        out.push(flag(tolerates, TOLERATES) | pairs | flag(self.transient, TRANSIENT));
        if tolerates {
            out.extend_from_slice(&self.tolerant);
        }
        if let Some(Pairing { group, order, strict }) = &self.pairing {
            out.extend_from_slice(group);
            put_bytes(order, out);
            out.extend_from_slice(strict);
        }
        [self.scope, self.locator, self.row].iter().for_each(|bytes| put_bytes(bytes, out));
    }

    /// Reads the record at the front.
    ///
    /// # Errors
    /// [`DecodeError`] when there is none.
    pub fn take(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let table = u16::from_le_bytes(fixed(reader)?);
        let (key, strict) = (fixed(reader)?, fixed(reader)?);
        let flags = reader.byte()?;
        let tolerant = if flags & TOLERATES == 0 { strict } else { fixed(reader)? };
        let pairing = if flags & PAIRS == 0 {
            None
        } else {
            Some(Pairing { group: fixed(reader)?, order: reader.bytes()?, strict: fixed(reader)? })
        };
        let transient = flags & TRANSIENT != 0;
        let (scope, locator, row) = (reader.bytes()?, reader.bytes()?, reader.bytes()?);
        Ok(Self { table, key, strict, tolerant, transient, pairing, scope, locator, row })
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

/// What one row adds to one sum of an invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added(pub Contribution, pub Standing);

/// Whether the group of a row is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is.
    Judged,
    /// It is not: the row belongs to a part that is parked.
    Aside,
}

impl Added {
    /// Appends the record.
    pub fn put(contribution: &Contribution, standing: Standing, group: &[u8], out: &mut Vec<u8>) {
        let Contribution { expect, side, once, amount, .. } = contribution;
        out.extend_from_slice(&expect.0.to_le_bytes());
        out.push(
            u8::from(*side == Side::Right) | u8::from(once.is_some()) << 1 | u8::from(standing == Standing::Aside) << 2,
        );
        put_bytes(group, out);
        if let Some(once) = once {
            put_bytes(&Key(once.clone()).encode(), out);
        }
        out.extend_from_slice(&amount.to_le_bytes());
    }

    /// Reads the record at the front.
    ///
    /// # Errors
    /// [`DecodeError`] when there is none.
    pub fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (expect, flags) = (RuleId(u16::from_le_bytes(fixed(reader)?)), reader.byte()?);
        let side = if flags & 1 == 0 { Side::Left } else { Side::Right };
        let group = Key::decode(reader.bytes()?)?.0;
        let once = if flags & 2 == 0 { None } else { Some(Key::decode(reader.bytes()?)?.0) };
        let standing = if flags & 4 == 0 { Standing::Judged } else { Standing::Aside };
        Ok(Self(Contribution { expect, side, group, once, amount: i128::from_le_bytes(fixed(reader)?) }, standing))
    }
}

/// A record counts as so long at least, when room is made for those that follow it.
const RECORD_BYTES_MIN: usize = 32;

/// Reads all records of a partition.
///
/// # Errors
/// [`DecodeError`] when the bytes are not records.
pub fn all<'a, T>(
    bytes: &'a [u8],
    take: impl Fn(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    all_into(Vec::new(), bytes, take)
}

/// As [`all`], in the memory of other records.
///
/// # Errors
/// As there.
pub fn all_into<'a, T>(
    mut records: Vec<T>,
    bytes: &'a [u8],
    take: impl Fn(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    records.clear();
    let mut reader = Reader::new(bytes);
    while !reader.at_end() {
        let record = take(&mut reader)?;
        if records.is_empty() {
            // Records of one kind are about as long as the first; a few more cost less than to move all of them.
            let first = bytes.len() - reader.remaining();
            let about = bytes.len().div_ceil(first.max(RECORD_BYTES_MIN));
            records.reserve(about + about / 8);
        }
        records.push(record);
    }
    Ok(records)
}

/// Records in an order, in which the fronts of most differ; equal ones as they came. Numbers are sorted in the stead of records,
/// which are large.
pub fn in_order<T, F: Ord + Copy>(
    records: &[T],
    front: impl Fn(&T) -> F,
    order: impl Fn(&T, &T) -> Ordering,
) -> Vec<&T> {
    let mut numbers: Vec<(F, u32)> = (0..).zip(records).map(|(index, record)| (front(record), index)).collect();
    numbers.sort_unstable_by(|(a, one), (b, other)| {
        let whole = || order(&records[*one as usize], &records[*other as usize]);
        a.cmp(b).then_with(whole).then(one.cmp(other))
    });
    numbers.into_iter().map(|(_, index)| &records[index as usize]).collect()
}

/// The memory of records, for others.
pub fn emptied<'b>(mut records: Vec<Joined<'_>>) -> Vec<Joined<'b>> {
    records.clear();
    records.into_iter().map(|_| unreachable!("there are none")).collect()
}

/// Reads so many bytes.
pub(super) fn fixed<const N: usize>(reader: &mut Reader<'_>) -> Result<[u8; N], DecodeError> {
    reader.raw(N)?.try_into().map_err(|_| DecodeError::End)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_back_one_behind_the_other() {
        let pairing = Pairing { group: [8; 16], order: b"1", strict: [9; 32] };
        let row = Joined {
            table: 3,
            key: [1; 16],
            strict: [2; 32],
            tolerant: [3; 32],
            transient: true,
            pairing: Some(pairing),
            scope: b"s",
            locator: b"key",
            row: b"row",
        };
        let plain = Joined { tolerant: row.strict, transient: false, scope: b"", pairing: None, ..row };
        let mut bytes = Vec::new();
        [row, plain].iter().for_each(|row| row.put(&mut bytes));
        assert_eq!(all(&bytes, Joined::take).expect("records"), [row, plain]);
        assert!(all(&bytes[..bytes.len() - 1], Joined::take).is_err(), "cut short");

        let mut bytes = Vec::new();
        Row::put(b"u", 2, vec![Value::Int(4), Value::Null], &mut bytes);
        let expected = Row { scope: b"u", table: 2, values: vec![Value::Int(4), Value::Null] };
        assert_eq!(all(&bytes, Row::take).expect("records"), [expected]);

        let group = vec![Value::text("g")];
        let once = Some(vec![Value::Int(1)]);
        let added = Contribution { expect: RuleId(1), side: Side::Right, group: group.clone(), once, amount: -5 };
        let mut bytes = Vec::new();
        Added::put(&added, Standing::Aside, &Key(group).encode(), &mut bytes);
        assert_eq!(all(&bytes, Added::take).expect("records"), [Added(added, Standing::Aside)]);
        let recorded = Recorded { table: 9, key: [7; 16], scope: b"part" };
        let mut bytes = Vec::new();
        recorded.put(&mut bytes);
        assert_eq!(all(&bytes, Recorded::take).expect("records"), [recorded]);
    }
}
