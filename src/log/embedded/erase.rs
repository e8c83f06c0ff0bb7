//! Erasing events for good, as the law may ask for a person's rows.
//!
//! The whole store is written anew, without the events, and takes the old one's place: an overwritten value would lie on the
//! disk for as long as the store's journals and tables keep it, which nobody can tell. Each event leaves an
//! [`Erased`] record, so that offsets stay dense, and its block keeps its link, so that the chain still closes.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::block::rewrite;
use super::directory::Directory;
use super::store::{Store, read_block};
use super::{EmbeddedLog, Options};
use crate::event::{Event, Relation, SchemaHash};
use crate::log::{Erased, Error, Offset, Partition, Record};

/// Bytes that are written to the new store at once.
const COPY_BYTES: usize = 4 * 1024 * 1024;

impl EmbeddedLog {
    /// Erases every event for which `choose` answers with what is to be left of it; answers how many.
    ///
    /// The log must not be open. It needs as much room on the disk again as the log has. After a death in the middle the log
    /// is as it was, or everything is erased.
    ///
    /// # Errors
    /// [`Error::Locked`] when the log is open, [`Error::Damaged`] when it does not read back whole.
    pub fn erase(
        path: &Path,
        options: Options,
        mut choose: impl FnMut(&Event, &Relation) -> Option<Erased>,
    ) -> Result<u64, Error> {
        // Opened first: a log that has lost something is not to be written anew as if it had not.
        drop(Self::open(path, options)?);
        let directory = Directory::lock(path)?;
        let Some(header) = directory.header()? else { return Ok(0) };
        let old = Store::open(&directory.store())?;
        let found = old.load(header)?;
        let shapes: HashMap<SchemaHash, &Arc<Relation>> =
            found.change.relations.iter().map(|relation| (relation.schema_hash(), relation)).collect();
        let new = Store::open(&directory.begin_replacement()?)?;
        let batches = found.testimony.batches;
        let mut write = new.write();
        for relation in &found.change.relations {
            write.relation(relation.schema_hash(), relation);
        }
        for (name, value) in &found.change.marks {
            write.mark(name, value.as_deref());
        }
        let (mut erased, mut bytes) = (0, 0);
        for (partition, (end, _)) in (0..).map(Partition).zip(&found.testimony.tails) {
            for entry in old.blocks_from(partition, Offset(0), *end) {
                let (key, stored) = entry?;
                let block = read_block(partition, &key, &stored)?;
                let damaged = |detail| Error::Damaged { partition, offset: block.first, detail };
                let mut records = Vec::new();
                block.records(block.first, &mut records).map_err(damaged)?;
                let before = erased;
                for (_, record) in &mut records {
                    let Record::Event(event) = record else { continue };
                    let relation = shapes.get(&event.relation).ok_or_else(|| damaged("a shape is missing"))?;
                    if let Some(left) = choose(event, relation) {
                        *record = Record::Erased(left);
                        erased += 1;
                    }
                }
                let stored = if erased > before { rewrite(&stored, &records) } else { stored.to_vec() };
                bytes += stored.len();
                write.block(partition, block.first, stored);
                if bytes >= COPY_BYTES {
                    write.commit(batches)?;
                    new.wait_for_room()?;
                    (write, bytes) = (new.write(), 0);
                }
            }
        }
        write.commit(batches)?;
        new.sync()?;
        drop((new, old));
        if erased == 0 {
            directory.begin_replacement()?;
            return Ok(0);
        }
        directory.replace_store()?;
        drop(directory);
        // What takes the old one's place must open as it did.
        drop(Self::open(path, options)?);
        Ok(erased)
    }
}
