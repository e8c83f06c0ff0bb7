//! The target's side: rows as they stream in, and who is recorded as their writer.

use std::sync::Arc;

use super::Error;
use super::context::Context;
use super::emit::{Emitter, SideOf, Spills, hash_of};
use super::join::Ownership;
use super::ledger::Came;
use super::record::Recorded;
use super::side::{Incoming, Sink};
use super::spill::{Spill, Tag, Writer};
use crate::event::{EncodedRow, Value};
use crate::target::{TargetKey, TargetRow, TargetTable};

/// Takes the marks off an item that tell who wrote it; answers with the part, as the state names it, where it was us.
pub type TakeOwner = Arc<dyn Fn(&mut Vec<Value>) -> Option<Vec<u8>> + Send + Sync>;

/// The part that a row of the target's record is about, as the state names it, and the keys of the part's rows.
pub type PartKeys = (Vec<u8>, Vec<TargetKey>);

/// Reads a row of the target's record; `None` for a row of another migration.
///
/// # Errors
/// [`Error::Ownership`] when it does not read: whose rows it is about is not known then.
pub type ReadRecord = Arc<dyn Fn(&[Value]) -> Result<Option<PartKeys>, Error> + Send + Sync>;

/// How it is known which rows rehome wrote.
#[derive(Clone)]
pub enum Owners {
    /// The rows say it.
    Marks(TakeOwner),
    /// A table behind the target's own says it.
    Record(ReadRecord),
    /// Nobody does.
    Unknown,
}

impl Owners {
    /// Whether that is known at all.
    pub fn ownership(&self) -> Ownership {
        if let Owners::Unknown = self { Ownership::Unknown } else { Ownership::Known }
    }
}

/// Takes the target's rows, and what is recorded of them.
pub struct TargetSink {
    context: Arc<Context>,
    owners: Owners,
    recorded: Writer,
    buffer: Vec<u8>,
    row: EncodedRow,
    emitter: Emitter,
}

impl TargetSink {
    /// A sink of one worker; `recorded` must be cut like the spill of the rows.
    pub fn new(context: &Arc<Context>, spills: &Spills, recorded: &Arc<Spill>, owners: Owners) -> Self {
        let emitter = Emitter::new(context, SideOf::Actual, spills);
        let (context, recorded) = (Arc::clone(context), recorded.writer());
        Self { context, owners, recorded, buffer: Vec::new(), row: EncodedRow::default(), emitter }
    }

    fn record(&mut self, scope: &[u8], keys: &[TargetKey]) -> Result<(), Error> {
        for key in keys {
            let TargetKey { table, values } = self.context.rules.table(key.table).key_alone(key);
            let key = self.context.own_key(table.0, &values, &mut self.buffer);
            let recorded = Recorded { table: table.0, key, scope };
            self.recorded.add(hash_of(&key), &[0; 32], |out| recorded.put(out))?;
        }
        Ok(())
    }
}

impl Sink for TargetSink {
    fn take(&mut self, table: usize, rows: &mut dyn Incoming) -> Result<(), Error> {
        let owners = self.owners.clone();
        if let (Owners::Record(read), true) = (&owners, table == self.context.shapes.len()) {
            for row in rows {
                if let Some((scope, keys)) = read(&row)? {
                    self.record(&scope, &keys)?;
                }
            }
            return Ok(());
        }
        let table = TargetTable(u16::try_from(table).unwrap_or(u16::MAX));
        let marked = matches!(owners, Owners::Marks(_));
        if !marked && self.emitter.takes_encoded(table) {
            while rows.encoded(&mut self.row) {
                self.emitter.encoded(table, &self.row, &[])?;
            }
            return Ok(());
        }
        for mut values in rows {
            let scope = match &owners {
                Owners::Marks(take) => take(&mut values).unwrap_or_default(),
                Owners::Record(_) | Owners::Unknown => Vec::new(),
            };
            self.emitter.row(&TargetRow { table, values }, &scope)?;
        }
        Ok(())
    }

    fn begin(&mut self, tag: Tag) -> Result<(), Error> {
        self.recorded.begin(tag)?;
        self.emitter.begin(tag)
    }

    fn end(&mut self) -> Result<Option<Came>, Error> {
        self.recorded.finish()?;
        let mut came = self.emitter.end()?;
        came.handed.insert(self.recorded.name().to_owned(), self.recorded.handed());
        Ok(Some(came))
    }
}
