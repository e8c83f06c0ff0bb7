//! What rows just read say to other rows: routes, context and lookups, resolved apart from the projector's own index.
//!
//! Held in memory, and refused beyond a limit: references are for parents and lookups, which are few beside the rows that
//! refer to them.

use std::collections::{BTreeMap, HashMap};

use super::Error;
use crate::event::encoding::ordered::key_bytes;
use crate::event::{Key, Row, Value};
use crate::mapping::{Look, Migration, ReadError, ReferenceId, SourceTable};

/// Bytes of memory for what rows say to others; counted as their encoded length, about a third of what they take.
pub const BYTES_MAX: u64 = 128 << 20;

/// The rows found under one key, by their own keys, with what they show.
type Found = BTreeMap<Box<[u8]>, Vec<Value>>;

/// What references find.
#[derive(Debug, Default)]
pub struct References {
    found: HashMap<(ReferenceId, Box<[u8]>), Found>,
    bytes: u64,
}

impl References {
    /// Takes what a row of a table says.
    ///
    /// # Errors
    /// [`Error::References`] when there is too much of it.
    pub fn add(&mut self, migration: &Migration, table: SourceTable, key: &Key, row: &Row) -> Result<(), Error> {
        for (reference, _) in migration.references().filter(|(_, found)| *found == table) {
            let Some((asked, shown)) = migration.entry(reference, row) else { continue };
            let (asked, own) = (key_bytes(&Key(asked)), key_bytes(key));
            self.bytes += (asked.len() + own.len()) as u64 + 32 * shown.len() as u64;
            self.found.entry((reference, asked.into())).or_default().insert(own.into(), shown);
        }
        if self.bytes > BYTES_MAX { Err(Error::References { limit: BYTES_MAX }) } else { Ok(()) }
    }

    /// Tables whose rows others refer to.
    pub fn tables(migration: &Migration) -> Vec<SourceTable> {
        let mut tables: Vec<SourceTable> = migration.references().map(|(_, table)| table).collect();
        tables.sort_unstable();
        tables.dedup();
        tables
    }
}

impl Look for References {
    fn find(&self, reference: ReferenceId, key: &[Value]) -> Result<Vec<Vec<Value>>, ReadError> {
        let asked: Box<[u8]> = key_bytes(&Key(key.to_vec())).into();
        Ok(self.found.get(&(reference, asked)).into_iter().flat_map(BTreeMap::values).cloned().collect())
    }
}
