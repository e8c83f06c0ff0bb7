//! What rehome wrote for a unit, kept beside the rows in the target's own database.
//!
//! Keys are kept whole, not as digests, so that rows can be deleted after the loss of all local state; nothing that is not
//! already in the target's tables is added by that. Tables go by name, so a changed definition cannot shift them.

use std::collections::BTreeMap;

use crate::event::{Canonical, Key};
use crate::target::{TableShape, TargetKey, TargetRow, TargetTable};

/// First 16 bytes of a row's keyed digest: enough to see that a row changed, 2^-64 odds of a chance collision in 2^32 rows.
pub type RowDigest = [u8; 16];

/// Version byte of the packed form.
const FORMAT: u8 = 1;

/// The rows that belong to one unit, by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owned {
    /// Digest of each row as it was last written.
    pub rows: BTreeMap<TargetKey, RowDigest>,
    /// Entries of tables that the present target definition does not name; kept as they are.
    unknown: Vec<(Box<str>, Key, RowDigest)>,
}

impl Owned {
    /// What a unit owns after a write; entries of tables that are no longer named are kept from `before`.
    pub fn after_write(rows: BTreeMap<TargetKey, RowDigest>, before: &Owned) -> Self {
        Self { rows, unknown: before.unknown.clone() }
    }

    /// Packs the list, tables by name.
    pub fn pack(&self, tables: &[TableShape]) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        let known = self
            .rows
            .iter()
            .map(|(key, digest)| (&*tables[usize::from(key.table.0)].name, Key(key.values.clone()), digest));
        let unknown = self.unknown.iter().map(|(name, key, digest)| (&**name, key.clone(), digest));
        let mut name_before: Option<&str> = None;
        for (name, key, digest) in known.chain(unknown) {
            // An empty name stands for the name before it: one unit has few tables and many rows.
            let written = if name_before == Some(name) { "" } else { name };
            name_before = Some(name);
            put(&mut bytes, written.as_bytes());
            put(&mut bytes, &key.encode());
            bytes.extend_from_slice(digest);
        }
        bytes
    }

    /// Reads [`Owned::pack`]; `None` when the bytes are not such a list.
    pub fn unpack(bytes: &[u8], tables: &[TableShape]) -> Option<Self> {
        let mut owned = Self::default();
        let (&format, mut rest) = bytes.split_first()?;
        if format != FORMAT {
            return None;
        }
        let mut name: Box<str> = "".into();
        while !rest.is_empty() {
            let written = std::str::from_utf8(take(&mut rest)?).ok()?;
            if !written.is_empty() {
                name = written.into();
            }
            let key = Key::decode(take(&mut rest)?).ok()?;
            let (digest, tail) = rest.split_first_chunk::<16>()?;
            rest = tail;
            match tables.iter().position(|table| table.name == name) {
                Some(index) => {
                    let table = TargetTable(u16::try_from(index).ok()?);
                    owned.rows.insert(TargetKey::new(table, key.0), *digest);
                }
                None => owned.unknown.push((name.clone(), key, *digest)),
            }
        }
        Some(owned)
    }
}

/// Appends what [`Owned::pack`] makes of a single row.
pub fn put_one(shape: &TableShape, row: &TargetRow, digest: RowDigest, bytes: &mut Vec<u8>) {
    bytes.push(FORMAT);
    put(bytes, shape.name.as_bytes());
    put_with(bytes, |bytes| shape.put_key(row, bytes));
    bytes.extend_from_slice(&digest);
}

fn put(bytes: &mut Vec<u8>, part: &[u8]) {
    put_with(bytes, |bytes| bytes.extend_from_slice(part));
}

fn put_with(bytes: &mut Vec<u8>, part: impl FnOnce(&mut Vec<u8>)) {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    part(bytes);
    let length = u32::try_from(bytes.len() - start - 4).expect("a table's name or key is shorter than 4 GiB");
    bytes[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, tail) = rest.split_first_chunk::<4>()?;
    let (part, tail) = tail.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    *rest = tail;
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Decimal, Value};

    fn shape(name: &str) -> TableShape {
        TableShape { schema: "public".into(), name: name.into(), columns: Vec::new(), key: Vec::new() }
    }

    fn decimal(text: &str) -> Value {
        Value::Decimal(Decimal::parse(text).expect("a number"))
    }

    fn key(table: u16, text: &str) -> TargetKey {
        TargetKey { table: TargetTable(table), values: vec![Value::text(text)] }
    }

    #[test]
    fn the_list_reads_back_and_outlives_a_reordered_definition() {
        let tables = [shape("a"), shape("b")];
        let rows = [(key(0, "x"), [1; 16]), (key(0, "y"), [2; 16]), (key(1, ""), [3; 16])];
        let owned = Owned { rows: rows.into_iter().collect(), unknown: Vec::new() };
        let packed = owned.pack(&tables);
        assert_eq!(Owned::unpack(&packed, &tables).as_ref(), Some(&owned));

        let keyed = TableShape { key: vec![0], ..shape("b") };
        for (value, as_key) in [(Value::text("x"), Value::text("x")), (decimal("1.10"), decimal("1.1"))] {
            let one = TargetKey { table: TargetTable(1), values: vec![as_key] };
            let one = Owned { rows: [(one, [4; 16])].into(), unknown: Vec::new() };
            let row = TargetRow { table: TargetTable(1), values: vec![value, Value::Int(7)] };
            let mut put = Vec::new();
            put_one(&keyed, &row, [4; 16], &mut put);
            assert_eq!(put, one.pack(&tables));
        }

        let swapped = [shape("b"), shape("a")];
        let moved = Owned::unpack(&packed, &swapped).expect("a list");
        assert_eq!(moved.rows.get(&key(1, "x")), Some(&[1; 16]));

        let fewer = [shape("b")];
        let partly = Owned::unpack(&packed, &fewer).expect("a list");
        assert_eq!(partly.rows.len(), 1);
        assert_eq!(Owned::unpack(&partly.pack(&fewer), &tables).as_ref(), Some(&owned), "unknown tables are kept");
    }

    #[test]
    fn damaged_lists_are_refused() {
        let tables = [shape("a")];
        let owned = Owned { rows: [(key(0, "x"), [1; 16])].into_iter().collect(), unknown: Vec::new() };
        let packed = owned.pack(&tables);
        for length in [0, 2, packed.len() - 1] {
            assert_eq!(Owned::unpack(&packed[..length], &tables), None);
        }
    }
}
