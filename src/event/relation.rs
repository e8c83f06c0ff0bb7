//! Relations: the shape of a source table at one time.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A source table's schema and name; DynamoDB tables have an empty schema.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RelationName {
    /// Postgres schema; empty for DynamoDB.
    pub schema: Box<str>,
    /// Table.
    pub table: Box<str>,
}

impl fmt::Display for RelationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.schema.is_empty() { f.write_str(&self.table) } else { write!(f, "{}.{}", self.schema, self.table) }
    }
}

/// Digest of a relation's canonical description.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SchemaHash(pub [u8; 16]);

/// A column of a relation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Column {
    /// Name as the source spells it.
    pub name: Box<str>,
    /// The source's own name of the type, without modifiers: `int8`, `timestamptz`, `_text` for an array of text.
    pub type_name: Box<str>,
    /// Position in the key, from 0; `None` for columns outside it.
    pub key_part: Option<u16>,
}

/// A source table as one run of events describes it: every [`Row`](super::Row) of theirs has its columns, in its order.
///
/// Generated columns are left out: the stream never carries them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Relation {
    /// Schema and table.
    pub name: RelationName,
    /// Columns in the order of rows.
    pub columns: Vec<Column>,
}

impl Relation {
    /// Indexes into `columns` of the key's columns, in the order of the key.
    pub fn key_columns(&self) -> Vec<usize> {
        let mut parts: Vec<_> = self
            .columns
            .iter()
            .enumerate()
            .filter_map(|(index, column)| column.key_part.map(|part| (part, index)))
            .collect();
        parts.sort_unstable();
        parts.into_iter().map(|(_, index)| index).collect()
    }

    /// Digest of name, columns, types and key (I10: length-prefixed, so no two descriptions share one).
    pub fn schema_hash(&self) -> SchemaHash {
        let mut hasher = blake3::Hasher::new_derive_key("rehome relation v1");
        let mut put = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_be_bytes());
            hasher.update(bytes);
        };
        put(self.name.schema.as_bytes());
        put(self.name.table.as_bytes());
        for column in &self.columns {
            put(column.name.as_bytes());
            put(column.type_name.as_bytes());
            put(&column.key_part.map_or(-1, i32::from).to_be_bytes());
        }
        let mut hash = [0; 16];
        hash.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        SchemaHash(hash)
    }
}
