//! Encoding of relations.

use super::reader::{put_text, put_varint};
use super::{Canonical, DecodeError, Reader};
use crate::event::{Column, Relation, RelationName};

/// Room reserved before columns are read; a greater count grows as it is proven.
const RESERVED_MAX: usize = 128;

impl Canonical for RelationName {
    fn put(&self, out: &mut Vec<u8>) {
        put_text(&self.schema, out);
        put_text(&self.table, out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { schema: reader.text()?.into(), table: reader.text()?.into() })
    }
}

impl Canonical for Column {
    fn put(&self, out: &mut Vec<u8>) {
        put_text(&self.name, out);
        put_text(&self.type_name, out);
        // Zero says that the column is outside the key.
        put_varint(self.key_part.map_or(0, |part| u64::from(part) + 1), out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let name = reader.text()?.into();
        let type_name = reader.text()?.into();
        let key_part = match reader.varint()? {
            0 => None,
            part => Some(u16::try_from(part - 1).map_err(|_| DecodeError::Integer)?),
        };
        Ok(Self { name, type_name, key_part })
    }
}

impl Canonical for Relation {
    fn put(&self, out: &mut Vec<u8>) {
        self.name.put(out);
        put_varint(self.columns.len() as u64, out);
        self.columns.iter().for_each(|column| column.put(out));
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let name = RelationName::take(reader)?;
        let count = reader.count()?;
        let mut columns = Vec::with_capacity(count.min(RESERVED_MAX));
        for _ in 0..count {
            columns.push(Column::take(reader)?);
        }
        Ok(Self { name, columns })
    }
}
