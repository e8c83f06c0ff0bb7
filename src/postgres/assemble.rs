//! From the stream's messages to batches for the log: transactions, versions, old and new rows. Pure: no I/O.
//!
//! A change's version is its transaction's commit position and its place in it (P14): positions of single changes are not
//! in order across transactions, commits are. The position mark moves only in the batch that ends a transaction, so that a
//! transaction cut by a crash comes again whole, with the same versions (I2, I3).

use std::collections::HashMap;
use std::sync::Arc;

use super::catalog::Shape;
use super::pgoutput::{Message, Old, Tuple, TupleCell};
use crate::event::{
    Cell, Epoch, Event, Flags, Key, Lsn, Op, Origin, RelationName, Row, SchemaHash, Timestamp, Transaction, Value,
    Version,
};
use crate::log::Batch;
use crate::source::{Delivery, Receipt};

/// A batch is handed over at this size on the wire. Decoded it takes a few times that; with the two that wait for the log
/// and the one being made it stays well under the feed's 64 MiB, and it is large enough that a sync per batch is cheap.
pub const BATCH_BYTES_MAX: usize = 1 << 20;

/// Bytes that an event costs beside its values.
const EVENT_OVERHEAD_BYTES: usize = 64;

/// What the assembler is told at its start.
#[derive(Debug, Clone)]
pub struct Start {
    /// The epoch of every version it gives.
    pub epoch: Epoch,
    /// Everything before is in the log already.
    pub position: Lsn,
    /// Name of the mark that holds the position.
    pub position_mark: String,
    /// Prefix of the marks that hold each relation's latest shape, by its hash.
    pub shape_mark_prefix: String,
    /// Name of the mark that is set once a key changed in an update that left a TOAST value out.
    pub moved_mark: String,
    /// The latest shape of each relation that the log knows.
    pub shapes: HashMap<RelationName, SchemaHash>,
}

/// The stream does not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Inconsistent {
    /// A change came outside a transaction.
    #[error("a change outside a transaction")]
    NoTransaction,
    /// A change of a relation that was not described before.
    #[error("a change of relation {0} before its description")]
    UnknownRelation(u32),
    /// A row with another count of columns than its relation.
    #[error("a row of {found} columns for {relation}, which has {expected}")]
    Columns {
        /// The relation.
        relation: RelationName,
        /// Columns of the relation.
        expected: usize,
        /// Columns of the row.
        found: usize,
    },
    /// A column of the key is in neither the new nor the old row.
    #[error("a change of {0} that does not tell the row's key")]
    NoKey(RelationName),
}

/// A transaction that is being received.
#[derive(Debug)]
struct Open {
    xid: u32,
    commit: Lsn,
    commit_time: Timestamp,
    ordinal: u32,
}

/// Makes batches of messages.
#[derive(Debug)]
pub struct Assembler {
    start: Start,
    shapes: HashMap<u32, Arc<Shape>>,
    open: Option<Open>,
    /// The newest change, held back until it is known whether it is its transaction's last.
    held: Option<Event>,
    batch: Batch,
    bytes: usize,
    /// Everything before has been received.
    position: Lsn,
    /// The position of the last batch handed over.
    delivered: Lsn,
    /// Whether the mark of a moved row was set.
    moved: bool,
}

impl Assembler {
    /// An assembler that continues where the log ends.
    pub fn new(start: Start) -> Self {
        let position = start.position;
        Self {
            start,
            shapes: HashMap::new(),
            open: None,
            held: None,
            batch: Batch::default(),
            bytes: 0,
            position,
            delivered: position,
            moved: false,
        }
    }

    /// A transaction begins; its messages follow without those of any other.
    pub fn begin(&mut self, xid: u32, commit: Lsn, commit_time: Timestamp) {
        self.open = Some(Open { xid, commit, commit_time, ordinal: 0 });
    }

    /// The transaction ends; the stream goes on at `end`.
    pub fn commit(&mut self, end: Lsn) {
        self.open = None;
        if let Some(mut event) = self.held.take() {
            if let Some(transaction) = &mut event.transaction {
                transaction.last = true;
            }
            self.batch.events.push(event);
        }
        self.advance(end);
    }

    /// The server says that it has sent everything before `position`. Inside a transaction that proves nothing.
    pub fn idle(&mut self, position: Lsn) {
        if self.open.is_none() {
            self.advance(position);
        }
    }

    /// Learns a relation's shape, and tells of a change of it.
    ///
    /// # Errors
    /// [`Inconsistent::NoTransaction`]: the stream describes relations inside transactions only.
    pub fn define(&mut self, oid: u32, shape: Shape) -> Result<(), Inconsistent> {
        let name = shape.relation.name.clone();
        let known = self.start.shapes.insert(name.clone(), shape.hash);
        if known != Some(shape.hash) {
            self.batch.relations.push(Arc::clone(&shape.relation));
            let mark = format!("{}{name}", self.start.shape_mark_prefix);
            self.batch.marks.insert(mark, Some(shape.hash.0.to_vec()));
        }
        if known.is_some_and(|known| known != shape.hash) {
            self.push(shape.hash, Op::Schema, Key(Vec::new()), None, None, None)?;
        }
        self.shapes.insert(oid, Arc::new(shape));
        Ok(())
    }

    /// Takes a change of `bytes` bytes.
    ///
    /// # Errors
    /// [`Inconsistent`] when the stream contradicts itself.
    pub fn change(&mut self, message: Message<'_>, bytes: usize) -> Result<(), Inconsistent> {
        self.bytes += bytes + EVENT_OVERHEAD_BYTES;
        match message {
            Message::Insert { relation, new } => {
                let shape = self.shape(relation)?;
                let after = row(&shape, &new)?;
                let key = key_of(&shape, &after, None)?;
                self.push(shape.hash, Op::Insert, key, None, None, Some(after))
            }
            Message::Update { relation, old, new } => self.update(relation, old, &new),
            Message::Delete { relation, old } => {
                let shape = self.shape(relation)?;
                let (Old::Key(tuple) | Old::Full(tuple)) = &old;
                let told = row(&shape, tuple)?;
                let key = key_of(&shape, &told, None)?;
                // Under the default identity all but the key read as null and mean nothing (P4): the row is not known.
                let before = matches!(old, Old::Full(_)).then_some(told);
                self.push(shape.hash, Op::Delete, key, None, before, None)
            }
            Message::Truncate { relations } => {
                for relation in relations {
                    let shape = self.shape(relation)?;
                    self.push(shape.hash, Op::Truncate, Key(Vec::new()), None, None, None)?;
                }
                Ok(())
            }
            Message::Relation(_) | Message::Type(_) | Message::Origin => Ok(()),
        }
    }

    /// Whether the batch must be handed over before more is taken.
    pub fn full(&self) -> bool {
        self.bytes >= BATCH_BYTES_MAX
    }

    /// Whether there is something worth handing over now: a full batch, or a position that moved.
    pub fn ready(&self) -> bool {
        self.full() || self.position > self.delivered
    }

    /// Hands over what there is.
    pub fn take(&mut self) -> Delivery {
        let mut batch = std::mem::take(&mut self.batch);
        self.bytes = 0;
        if self.position > self.delivered {
            self.delivered = self.position;
            batch.marks.insert(self.start.position_mark.clone(), Some(self.position.to_string().into_bytes()));
        }
        Delivery { batch, receipt: Receipt(self.delivered.0) }
    }

    fn advance(&mut self, position: Lsn) {
        self.position = self.position.max(position);
    }

    fn shape(&self, relation: u32) -> Result<Arc<Shape>, Inconsistent> {
        self.shapes.get(&relation).cloned().ok_or(Inconsistent::UnknownRelation(relation))
    }

    fn update(&mut self, relation: u32, old: Option<Old<'_>>, new: &Tuple<'_>) -> Result<(), Inconsistent> {
        let shape = self.shape(relation)?;
        let mut after = row(&shape, new)?;
        let (told, full) = match &old {
            Some(Old::Key(tuple)) => (Some(row(&shape, tuple)?), false),
            Some(Old::Full(tuple)) => (Some(row(&shape, tuple)?), true),
            None => (None, false),
        };
        if let (Some(before), true) = (&told, full) {
            // The new row leaves unchanged TOAST out even under FULL; the old row has it (P3).
            after.fill_from(before);
        }
        let key = key_of(&shape, &after, told.as_ref())?;
        let old_key = told.as_ref().map(|before| key_of(&shape, before, None)).transpose()?.filter(|old| *old != key);
        let before = told.filter(|_| full);
        if old_key.is_some() && !after.complete() && !self.moved {
            self.moved = true;
            self.batch.marks.insert(self.start.moved_mark.clone(), Some(Vec::new()));
        }
        self.push(shape.hash, Op::Update, key, old_key, before, Some(after))
    }

    fn push(
        &mut self,
        relation: SchemaHash,
        op: Op,
        key: Key,
        old_key: Option<Key>,
        before: Option<Row>,
        after: Option<Row>,
    ) -> Result<(), Inconsistent> {
        let open = self.open.as_mut().ok_or(Inconsistent::NoTransaction)?;
        let version = Version::postgres(self.start.epoch, open.commit, open.ordinal);
        open.ordinal = open.ordinal.saturating_add(1);
        let transaction =
            Transaction { xid: open.xid, commit: open.commit, commit_time: open.commit_time, last: false };
        let event = Event {
            relation,
            op,
            key,
            old_key,
            before,
            after,
            version,
            transaction: Some(transaction),
            origin: Origin::Stream,
            flags: Flags::default(),
        };
        self.batch.events.extend(self.held.replace(event));
        Ok(())
    }
}

/// Reads a row. A value that its type does not explain is kept as the text it is: the capture never stops for a value.
fn row(shape: &Shape, tuple: &Tuple<'_>) -> Result<Row, Inconsistent> {
    if tuple.0.len() != shape.types.len() {
        return Err(Inconsistent::Columns {
            relation: shape.relation.name.clone(),
            expected: shape.types.len(),
            found: tuple.0.len(),
        });
    }
    let cell = |(cell, facts): (&TupleCell<'_>, &super::catalog::TypeFacts)| match cell {
        TupleCell::Null => Cell::Value(Value::Null),
        TupleCell::Unchanged => Cell::Missing,
        TupleCell::Text(text) => Cell::Value(facts.kind.from_text(text).unwrap_or_else(|_| super::codec::text(text))),
    };
    Ok(Row(tuple.0.iter().zip(&*shape.types).map(cell).collect()))
}

/// The key of a row, with parts that it leaves out (a TOASTed key that did not change) from the old row.
fn key_of(shape: &Shape, row: &Row, old: Option<&Row>) -> Result<Key, Inconsistent> {
    let part = |index: &usize| {
        let told = row.0.get(*index).and_then(Cell::value);
        told.or_else(|| old.and_then(|old| old.0.get(*index)).and_then(Cell::value))
            .cloned()
            .ok_or_else(|| Inconsistent::NoKey(shape.relation.name.clone()))
    };
    shape.key.iter().map(part).collect::<Result<_, _>>().map(Key)
}
