//! Target keys that a part was written under, kept here for targets that keep no record of it themselves.

use crate::event::{Canonical, Key, Reader, put_bytes, put_text};
use crate::target::{TableShape, TargetKey, TargetTable};

use super::Error;

/// Packs keys, tables by name: a changed definition cannot shift them.
pub fn pack<'a>(keys: impl Iterator<Item = &'a TargetKey>, tables: &[TableShape]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for key in keys {
        put_text(&tables[usize::from(key.table.0)].name, &mut bytes);
        put_bytes(&Key(key.values.clone()).encode(), &mut bytes);
    }
    bytes
}

/// Reads [`pack`]; keys of tables that the definition no longer names are left out, they are not ours to write any more.
pub fn unpack(bytes: &[u8], tables: &[TableShape]) -> Result<Vec<TargetKey>, Error> {
    let mut reader = Reader::new(bytes);
    let mut keys = Vec::new();
    let damaged = || Error::Damaged("owned keys");
    while !reader.at_end() {
        let name = reader.text().map_err(|_| damaged())?;
        let key = Key::decode(reader.bytes().map_err(|_| damaged())?).map_err(|_| damaged())?;
        if let Some(index) = tables.iter().position(|table| *table.name == *name) {
            let table = TargetTable(u16::try_from(index).map_err(|_| damaged())?);
            keys.push(TargetKey::new(table, key.0));
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Value;

    #[test]
    fn keys_read_back_by_the_name_of_their_table() {
        let shape =
            |name: &str| TableShape { schema: "".into(), name: name.into(), columns: Vec::new(), key: Vec::new() };
        let key = |table, text: &str| TargetKey { table: TargetTable(table), values: vec![Value::text(text)] };
        let bytes = pack([key(0, "x"), key(1, "y")].iter(), &[shape("a"), shape("b")]);
        assert_eq!(unpack(&bytes, &[shape("b"), shape("a")]).expect("keys"), [key(1, "x"), key(0, "y")]);
        assert_eq!(unpack(&bytes, &[shape("b")]).expect("keys"), [key(0, "y")]);
        assert!(unpack(&bytes[..bytes.len() - 1], &[shape("b")]).is_err());
    }
}
