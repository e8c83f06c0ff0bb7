//! The target's side: rows as they stream in, and who is recorded as their writer.

use std::sync::Arc;

use super::Error;
use super::emit::{Context, Emitter, SideOf, Spills, hash_of};
use super::record::Recorded;
use super::side::Sink;
use super::spill::{Spill, Writer};
use crate::event::Value;
use crate::target::{TargetKey, TargetRow, TargetTable};

/// Takes the marks off an item that tell who wrote it; answers with the part, as the state names it, where it was us.
pub type TakeOwner = Arc<dyn Fn(&mut Vec<Value>) -> Option<Vec<u8>> + Send + Sync>;

/// Takes the target's rows.
pub struct TargetSink {
    owner: Option<TakeOwner>,
    /// What it emits.
    pub emitter: Emitter,
}

impl TargetSink {
    /// A sink of one worker; `owner` where the rows themselves say who wrote them.
    pub fn new(context: &Arc<Context>, spills: &Spills, owner: Option<TakeOwner>) -> Self {
        Self { owner, emitter: Emitter::new(context, SideOf::Actual, spills) }
    }
}

impl Sink for TargetSink {
    fn take(&mut self, table: usize, rows: Vec<Vec<Value>>) -> Result<(), Error> {
        let table = TargetTable(u16::try_from(table).unwrap_or(u16::MAX));
        for mut values in rows {
            let scope = self.owner.as_ref().and_then(|take| take(&mut values)).unwrap_or_default();
            self.emitter.row(&TargetRow { table, values }, &scope)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.emitter.finish()
    }
}

/// Takes the target's record of what was written for which part.
pub struct RecordSink {
    context: Arc<Context>,
    writer: Writer,
    buffer: Vec<u8>,
}

impl RecordSink {
    /// A sink into a spill that is cut like that of the rows.
    pub fn new(context: &Arc<Context>, recorded: &Arc<Spill>) -> Self {
        Self { context: Arc::clone(context), writer: recorded.writer(), buffer: Vec::new() }
    }

    /// Takes the keys that belong to a part.
    ///
    /// # Errors
    /// [`Error::Spill`] when the disk does not take it.
    pub fn part(&mut self, scope: &[u8], keys: &[TargetKey]) -> Result<(), Error> {
        for TargetKey { table, values } in keys {
            let key = self.context.own_key(table.0, values, &mut self.buffer);
            let recorded = Recorded { table: table.0, key, scope };
            self.writer.add(hash_of(&key), &[0; 32], |out| recorded.put(out))?;
        }
        Ok(())
    }

    /// Hands everything over.
    ///
    /// # Errors
    /// [`Error::Spill`] when the disk does not take it.
    pub fn finish(&mut self) -> Result<(), Error> {
        self.writer.finish()
    }
}
