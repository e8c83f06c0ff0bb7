//! From the stream's messages to batches for the log: transactions, versions, old and new rows. Pure: no I/O.
//!
//! A change's version is its transaction's commit position and its place in it (P14): positions of single changes are not
//! in order across transactions, commits are. The position mark moves only in the batch that ends a transaction, so that a
//! transaction cut by a crash comes again whole, with the same versions (I2, I3).

use std::collections::HashMap;
use std::sync::Arc;

use super::catalog::Shape;
use super::codec::Kind;
use super::pgoutput::{Message, Old, Tuple, TupleCell};
use crate::event::{
    Cell, Epoch, Event, Flags, Key, Lsn, Op, Origin, Relation, RelationName, Row, SchemaHash, Timestamp, Transaction,
    Value, Version,
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
    pub shapes: HashMap<RelationName, Arc<Relation>>,
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
    /// There is no key, or a part of it is in neither the new nor the old row.
    #[error(
        "the stream told a change of {0} without the row's key: give the table, and each of its partitions, a primary key that \
         is not deferrable, or a replica identity that tells the key"
    )]
    NoKey(RelationName),
    /// The rows of a relation are told apart by other columns than before.
    #[error("rows of {relation} are told apart by another key now: {now} (was {before})")]
    OtherKey {
        /// The relation.
        relation: RelationName,
        /// The key's columns that the log knows.
        before: String,
        /// Those of the stream.
        now: String,
    },
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
    /// A row has one key for as long as its epoch: under a second one it would be a second row (I3).
    ///
    /// # Errors
    /// [`Inconsistent::NoTransaction`]: the stream describes relations inside transactions only;
    /// [`Inconsistent::OtherKey`].
    pub fn define(&mut self, oid: u32, shape: Shape) -> Result<(), Inconsistent> {
        let name = shape.relation.name.clone();
        let known = self.start.shapes.get(&name).cloned();
        if let Some(known) = known.as_ref().filter(|known| key_parts(known) != key_parts(&shape.relation)) {
            let (before, now) = (key_words(known), key_words(&shape.relation));
            return Err(Inconsistent::OtherKey { relation: name, before, now });
        }
        if known.as_ref().is_none_or(|known| *known != shape.relation) {
            self.batch.relations.push(Arc::clone(&shape.relation));
            let mark = format!("{}{name}", self.start.shape_mark_prefix);
            self.batch.marks.insert(mark, Some(shape.hash.0.to_vec()));
            self.start.shapes.insert(name, Arc::clone(&shape.relation));
            if known.is_some() {
                self.push(shape.hash, Op::Schema, Key(Vec::new()), None, None, None)?;
            }
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
        // The mark of a new shape may be durable before its transaction is. When that comes again, no change of shape is told:
        // so it takes no place, or all after it would have other versions than before.
        if op != Op::Schema {
            open.ordinal = open.ordinal.saturating_add(1);
        }
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
///
/// A part of a key is never NULL: where it reads as one, the server did not tell it.
fn key_of(shape: &Shape, row: &Row, old: Option<&Row>) -> Result<Key, Inconsistent> {
    let no_key = || Inconsistent::NoKey(shape.relation.name.clone());
    let part = |index: &usize| {
        let told = row.0.get(*index).and_then(Cell::value);
        let told = told.or_else(|| old.and_then(|old| old.0.get(*index)).and_then(Cell::value));
        told.filter(|value| **value != Value::Null).cloned().ok_or_else(no_key)
    };
    if shape.key.is_empty() {
        return Err(no_key());
    }
    shape.key.iter().map(part).collect::<Result<_, _>>().map(Key)
}

/// What a relation's keys are made of: names, and how their values read. Integers of all widths read alike.
fn key_parts(relation: &Relation) -> Vec<(&str, Kind)> {
    let part = |index: usize| {
        let column = &relation.columns[index];
        let kind = match Kind::named(&column.type_name) {
            Kind::Int2 | Kind::Int4 => Kind::Int8,
            other => other,
        };
        (&*column.name, kind)
    };
    relation.key_columns().into_iter().map(part).collect()
}

/// A key's columns and their types, for people.
fn key_words(relation: &Relation) -> String {
    let part = |index: usize| {
        let column = &relation.columns[index];
        format!("{} {}", column.name, column.type_name)
    };
    let parts: Vec<String> = relation.key_columns().into_iter().map(part).collect();
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Column;
    use crate::postgres::catalog::TypeFacts;

    const OID: u32 = 1;

    /// The table `t`, of texts, with a key.
    fn shape(columns: &[&str], key: &[&str]) -> Shape {
        let part = |name: &str| key.iter().position(|part| *part == name).and_then(|part| u16::try_from(part).ok());
        let column = |name: &&str| Column { name: (*name).into(), type_name: "text".into(), key_part: part(name) };
        let name = RelationName { schema: "public".into(), table: "t".into() };
        let relation = Relation { name, columns: columns.iter().map(column).collect() };
        let facts = TypeFacts { name: "text".into(), kind: Kind::Text, own_cast: false };
        let key = relation.key_columns().into();
        let types = vec![facts; columns.len()].into();
        Shape { hash: relation.schema_hash(), relation: Arc::new(relation), types, key }
    }

    /// An assembler, inside a transaction, of a log that knows the table by this shape.
    fn knowing(shape: &Shape) -> Assembler {
        let mut assembler = Assembler::new(Start {
            epoch: Epoch(1),
            position: Lsn(0),
            position_mark: "position".into(),
            shape_mark_prefix: "shape/".into(),
            moved_mark: "moved".into(),
            shapes: [(shape.relation.name.clone(), Arc::clone(&shape.relation))].into(),
        });
        assembler.begin(7, Lsn(100), Timestamp(0));
        assembler
    }

    fn tuple<'a>(cells: &[Option<&'a str>]) -> Tuple<'a> {
        Tuple(cells.iter().map(|cell| cell.map_or(TupleCell::Null, |text| TupleCell::Text(text.as_bytes()))).collect())
    }

    fn events(assembler: &mut Assembler) -> Vec<Event> {
        assembler.commit(Lsn(101));
        assembler.take().batch.events
    }

    #[test]
    fn a_transaction_told_again_has_the_same_versions_though_its_new_shape_is_known_by_then() {
        let (old, new) = (shape(&["id"], &["id"]), shape(&["id", "extra"], &["id"]));
        let told = |known: &Shape| {
            let mut assembler = knowing(known);
            assembler.define(OID, new.clone()).expect("a new column");
            for value in ["a", "b"] {
                let insert = Message::Insert { relation: OID, new: tuple(&[Some("1"), Some(value)]) };
                assembler.change(insert, 1).expect("a change");
            }
            let events = events(&mut assembler);
            let changes = events.into_iter().filter(|event| event.op == Op::Insert);
            changes.map(|event| event.version).collect::<Vec<_>>()
        };
        assert_eq!(told(&old), told(&new), "before and after a crash between two of its batches");
    }

    #[test]
    fn a_row_never_comes_under_another_key_within_an_epoch() {
        let known = shape(&["id", "n"], &["id"]);
        for other in [shape(&["id", "n"], &[]), shape(&["id", "n"], &["n"]), shape(&["id", "n"], &["id", "n"])] {
            let refused = knowing(&known).define(OID, other).expect_err("another key");
            assert!(refused.to_string().contains("public.t"), "{refused}");
        }
        knowing(&known).define(OID, shape(&["n", "id", "extra"], &["id"])).expect("the same key");
    }

    #[test]
    fn a_change_that_does_not_tell_its_rows_key_is_refused() {
        for (shape, cells) in [(shape(&["id"], &["id"]), [None]), (shape(&["id"], &[]), [Some("1")])] {
            let mut assembler = knowing(&shape);
            assembler.define(OID, shape.clone()).expect("it is known");
            let delete = Message::Delete { relation: OID, old: Old::Key(tuple(&cells)) };
            assert_eq!(assembler.change(delete, 1), Err(Inconsistent::NoKey(shape.relation.name.clone())));
            let insert = Message::Insert { relation: OID, new: tuple(&cells) };
            assert_eq!(assembler.change(insert, 1), Err(Inconsistent::NoKey(shape.relation.name.clone())));
        }
    }
}
