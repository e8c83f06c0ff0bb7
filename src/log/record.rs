//! Records as stored, and the partition that each goes to.

use crate::event::encoding::{Canonical, DecodeError, Reader, put_text};
use crate::event::{Event, Key, Op, RelationName};

use super::check::Shapes;
use super::{Erased, Notice, Partition, Record};

/// Tag of a stored event.
const EVENT: u8 = 0;
/// Tag of a stored notice.
const NOTICE: u8 = 1;
/// Tag of what is left of an erased event.
const ERASED: u8 = 2;

impl Canonical for Notice {
    fn put(&self, out: &mut Vec<u8>) {
        put_text(&self.unit, out);
        put_text(&self.reason, out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { unit: reader.text()?.into(), reason: reader.text()?.into() })
    }
}

impl Canonical for Record {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Record::Event(event) => put_event(event, out),
            Record::Notice(notice) => put_notice(notice, out),
            Record::Erased(Erased { relation, key }) => {
                out.push(ERASED);
                relation.put(out);
                out.extend_from_slice(key);
            }
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.byte()? {
            EVENT => Event::take(reader).map(Record::Event),
            NOTICE => Notice::take(reader).map(Record::Notice),
            ERASED => {
                let relation = RelationName::take(reader)?;
                let mut key = [0; 16];
                key.copy_from_slice(reader.raw(16)?);
                Ok(Record::Erased(Erased { relation, key }))
            }
            unknown => Err(DecodeError::Tag(unknown)),
        }
    }
}

/// Appends an event as a record, without a [`Record`] to be made for it first.
pub(super) fn put_event(event: &Event, out: &mut Vec<u8>) {
    out.push(EVENT);
    event.put(out);
}

/// Appends a notice as a record.
pub(super) fn put_notice(notice: &Notice, out: &mut Vec<u8>) {
    out.push(NOTICE);
    notice.put(out);
}

/// Where a record goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// To the partition of its key.
    One(Partition),
    /// To the partitions of its new key and of its old one, a copy each.
    Two(Partition, Partition),
    /// To every partition, a copy each.
    All,
}

impl Route {
    /// Where an event goes in a log of `partitions`; `shapes` has its shape.
    pub(super) fn of(event: &Event, shapes: &Shapes, partitions: u16) -> Self {
        if partitions == 1 {
            return Route::One(Partition(0));
        }
        let relation = &shapes[&event.relation].name;
        if matches!(event.op, Op::Truncate | Op::Schema) {
            return Route::All;
        }
        let new = partition_of(relation, &event.key, partitions);
        match event.old_key.as_ref().map(|key| partition_of(relation, key, partitions)) {
            Some(old) if old != new => Route::Two(new, old),
            _ => Route::One(new),
        }
    }

    /// Whether the route takes in a partition.
    pub(super) fn reaches(self, partition: Partition) -> bool {
        match self {
            Route::One(only) => only == partition,
            Route::Two(new, old) => partition == new || partition == old,
            Route::All => true,
        }
    }
}

/// The partition of a key: blake3 of relation and canonical key, modulo the number of partitions.
///
/// The same for ever, on every machine and in every implementation of the log; a client library's own default is not.
pub fn partition_of(relation: &RelationName, key: &Key, partitions: u16) -> Partition {
    if partitions <= 1 {
        return Partition(0);
    }
    let mut named = Vec::with_capacity(64);
    relation.put(&mut named);
    key.put(&mut named);
    let mut hasher = blake3::Hasher::new_derive_key("rehome partition v1");
    hasher.update(&named);
    let mut head = [0; 8];
    head.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    Partition((u64::from_be_bytes(head) % u64::from(partitions)) as u16)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::event::Value;
    use crate::event::strategies::small_relation;

    #[test]
    fn keys_spread_over_the_partitions_and_stay() {
        let relation = small_relation("spread");
        let of = |id: i64| partition_of(&relation.name, &Key(vec![Value::Int(id)]), 4);
        let all: BTreeSet<_> = (0..100).map(of).collect();
        assert_eq!(all.len(), 4);
        // Stored for ever: these may never change.
        assert_eq!((0..8).map(|id| of(id).0).collect::<Vec<_>>(), [0, 2, 1, 3, 2, 0, 3, 2]);
    }
}
