//! The target seam: where expected rows are written, once each.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::event::{Canonical as _, Key, Value};

/// Index of a target table in its migration's target schema.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetTable(pub u16);

/// A target table as its definition states it, and as every [`TargetRow`] of it is laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableShape {
    /// Schema; empty where the store has none.
    pub schema: Box<str>,
    /// Table.
    pub name: Box<str>,
    /// Columns in the order of rows.
    pub columns: Vec<ColumnShape>,
    /// Indexes into `columns` of the key, in its order.
    pub key: Vec<usize>,
}

/// A column of a target table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnShape {
    /// Name.
    pub name: Box<str>,
    /// The store's own name of the type, without modifiers: `jsonb`, `timestamptz`, `int8`.
    pub type_name: Box<str>,
}

impl TableShape {
    /// The key of a row of this table; numbers that the store would take for one are one.
    pub fn key_of(&self, row: &TargetRow) -> TargetKey {
        TargetKey::new(row.table, self.key.iter().map(|&index| row.values[index].clone()).collect())
    }

    /// Appends the key of a row, encoded as a [`Key`].
    pub fn put_key(&self, row: &TargetRow, out: &mut Vec<u8>) {
        let values = self.key.iter().map(|&index| &row.values[index]);
        if values.clone().any(|value| matches!(value, Value::Decimal(_))) {
            out.extend(Key(self.key_of(row).values).encode());
        } else {
            Key::put_of(values, out);
        }
    }
}

/// What to do when a row of someone else stands where one of a unit should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignScope {
    /// Leave that row, write the others.
    Row,
    /// Leave the whole unit: its rows make sense only together.
    Unit,
}

/// A row as the mapping wants it: one value for each column of the target table, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetRow {
    /// The table.
    pub table: TargetTable,
    /// One value for each column.
    pub values: Vec<Value>,
}

/// Names a target row.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetKey {
    /// The table.
    pub table: TargetTable,
    /// Values of the key's columns.
    pub values: Vec<Value>,
}

impl TargetKey {
    /// Names a row by the values of its key's columns. A store keeps one row for `1.10` and `1.1`: they name the same.
    pub fn new(table: TargetTable, values: Vec<Value>) -> Self {
        let one_writing = |value| match value {
            Value::Decimal(number) => Value::Decimal(number.normalised()),
            other => other,
        };
        Self { table, values: values.into_iter().map(one_writing).collect() }
    }
}

/// A read of one target table for a reader: by its key, by an index, or of all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The table.
    pub table: TargetTable,
    /// Index that is read instead of the table's key, where the store has readers name it.
    pub index: Option<Box<str>>,
    /// What columns or attributes must be, all of it.
    pub conditions: Vec<Condition>,
    /// Columns that order the rows, where the store has readers say it.
    pub along: Vec<Box<str>>,
    /// Which end of the order comes first.
    pub direction: Direction,
    /// Rows read, at most.
    pub limit: Option<usize>,
    /// Columns or attributes asked for; all when absent.
    pub columns: Option<Vec<Box<str>>>,
    /// Whether all of the table may be read.
    pub access: Access,
}

/// What a column or an attribute must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The column or attribute.
    pub column: Box<str>,
    /// How it is compared.
    pub test: Test,
    /// With what.
    pub value: Value,
}

/// How a column is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// It equals the value.
    Equals,
    /// Its text begins with the value's.
    StartsWith,
}

/// Which end of an order comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The smallest.
    Ascending,
    /// The greatest.
    Descending,
}

/// How much of a table a read may touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// What a key or an index leads to.
    Key,
    /// All of it.
    Scan,
}

/// Members of a row that was read, by name.
pub type Fields = Vec<(Box<str>, Value)>;

/// Takes a row that was read; `false` ends the reading.
pub type Take<'t> = &'t mut (dyn FnMut(Fields) -> bool + Send);

/// Orders the writes of one unit: `(log generation, mapping generation, partition, offset of the last record applied)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WriteVersion {
    /// [`EventLog::generation`](crate::log::EventLog::generation).
    pub log: u64,
    /// Counts the mappings that this log was projected with.
    pub mapping: u32,
    /// Partition of the unit stream.
    pub partition: u16,
    /// Offset of the last record applied to the unit.
    pub offset: u64,
}

impl WriteVersion {
    /// Fixed-width form; its byte order is the order of versions.
    pub fn to_bytes(self) -> [u8; 22] {
        let mut bytes = [0; 22];
        bytes[..8].copy_from_slice(&self.log.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.mapping.to_be_bytes());
        bytes[12..14].copy_from_slice(&self.partition.to_be_bytes());
        bytes[14..].copy_from_slice(&self.offset.to_be_bytes());
        bytes
    }

    /// Reads [`WriteVersion::to_bytes`]; `None` when the bytes are not a version.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (log, rest) = bytes.split_first_chunk::<8>()?;
        let (mapping, rest) = rest.split_first_chunk::<4>()?;
        let (partition, rest) = rest.split_first_chunk::<2>()?;
        Some(Self {
            log: u64::from_be_bytes(*log),
            mapping: u32::from_be_bytes(*mapping),
            partition: u16::from_be_bytes(*partition),
            offset: u64::from_be_bytes(rest.try_into().ok()?),
        })
    }
}

/// Everything a part of a unit should be at the target.
#[derive(Debug, Clone)]
pub struct UnitWrite {
    /// The unit.
    pub unit: Arc<str>,
    /// Tells the parts of a unit apart; opaque.
    pub part: Arc<[u8]>,
    /// Version of this write; the target ignores writes that are older than what it has.
    pub version: WriteVersion,
    /// The part's rows, all of them; none when it has gone or is parked.
    pub rows: Vec<TargetRow>,
    /// What may be taken for being at the target already.
    pub trust: Trust,
    /// What is to be done with rows that the part no longer has.
    pub deletes: Deletes,
    /// Keys that the part was written under before; only for a target that keeps no record of that itself.
    pub before: Vec<TargetKey>,
}

/// What a write does with rows that its part had before and has no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletes {
    /// They are deleted.
    Now,
    /// They stay, and stay owned: rows of other parts that refer to them are yet to be written.
    Later,
}

/// What a write may take for being at the target already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Nothing, because the part was never written as far as is known: a target may try without looking first.
    Fresh,
    /// Rows that the target's record says were written as they should be.
    Record,
    /// Nothing: every row is written again, because someone found that the record is not what is there.
    Nothing,
}

/// What became of a [`UnitWrite`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitOutcome {
    /// The target now holds exactly the unit's rows, but for foreign ones.
    Written {
        /// Rows inserted or changed.
        upserted: u64,
        /// Rows that were already as they should be.
        unchanged: u64,
        /// Rows deleted.
        deleted: u64,
        /// Rows of someone else that stand where ours should and differ; left alone.
        foreign: u64,
        /// Rows of someone else that equal ours; left alone.
        matched_foreign: u64,
    },
    /// The target already has this version: the write happened before, and its answer was lost.
    Repeated,
    /// The target has a newer version.
    Superseded {
        /// That version.
        by: WriteVersion,
    },
    /// Nothing was written for a reason that the unit's rows or the target's explain.
    Parked {
        /// Reason, in the manner of quarantine reasons: `foreign`, `foreign_children`, `unique`, `not_storable`, `constraint`, …
        reason: Box<str>,
        /// Which table or constraint, for people; never row contents.
        detail: Box<str>,
    },
}

/// What a target's calls have cost since it was opened, in the units that its store is paid in; rounded up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cost {
    /// Write units, those of indexes included.
    pub write_units: u64,
    /// Write units a second, lately.
    pub write_units_per_second: u64,
    /// Read units of looks before writes.
    pub read_units: u64,
    /// Calls that the store throttled, or left in part undone.
    pub throttled: u64,
}

/// Where expected rows are written.
///
/// **Exactly once.** `apply` makes a part's rows and its version visible together; a repeated call with the same version
/// and rows answers `Repeated` and changes nothing, one with an older version answers `Superseded`. The same version with
/// other rows is written: sums of a unit are written as they stand, several times at one offset.
/// **Ownership.** Rows not written by rehome are never changed or deleted.
/// **Isolation.** One part that cannot be written does not keep the others of its batch from being written.
/// **Cancellation.** A dropped call may or may not have written; the version makes repeating it safe.
/// **Retry.** The caller repeats the whole batch on a transient error.
#[async_trait]
pub trait Target: Send + Sync {
    /// Whether the target itself remembers which rows a part was written as; if not, [`UnitWrite::before`] says it.
    fn keeps_record(&self) -> bool {
        true
    }

    /// What the calls so far have cost, where the store counts it.
    fn cost(&self) -> Option<Cost> {
        None
    }

    /// Up to so many parts behind one, each after its unit, that the target's own record tells of, in order; none where it
    /// keeps no record.
    async fn recorded(
        &self,
        _after: Option<&(String, Vec<u8>)>,
        _limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, crate::target::Error> {
        Ok(Vec::new())
    }

    /// Writes a batch of parts and answers for each in order.
    async fn apply(&self, batch: &[UnitWrite]) -> Result<Vec<UnitOutcome>, crate::target::Error>;

    /// Reads rows by key, in the order of `keys`; `None` where there is none.
    async fn read(&self, keys: &[TargetKey]) -> Result<Vec<Option<TargetRow>>, crate::target::Error>;

    /// Keys of the rows that the target's own record says belong to a unit.
    async fn owned(&self, unit: &str) -> Result<Vec<TargetKey>, crate::target::Error>;
}

/// Errors of a target; never with row contents (I12).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server could not be reached, or went away; trying again may help.
    #[error("cannot reach the target while trying to {action}")]
    Unreachable {
        /// What was attempted, as a verb phrase.
        action: &'static str,
        /// The driver's error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server refused for a reason that trying again will not mend.
    #[error("the target refused to {action}: {code} {message}")]
    Refused {
        /// What was attempted, as a verb phrase.
        action: &'static str,
        /// The server's code.
        code: String,
        /// The server's message without its DETAIL and CONTEXT, which hold row contents.
        message: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_bytes_order_as_versions_do() {
        let old = WriteVersion { log: 1, mapping: 2, partition: 3, offset: 400 };
        let newer = [
            WriteVersion { offset: 401, ..old },
            WriteVersion { mapping: 3, offset: 0, ..old },
            WriteVersion { log: 256, mapping: 0, ..old },
        ];
        for newer in newer {
            assert!(old < newer && old.to_bytes() < newer.to_bytes());
            assert_eq!(WriteVersion::from_bytes(&newer.to_bytes()), Some(newer));
        }
        assert_eq!(WriteVersion::from_bytes(&old.to_bytes()[1..]), None);
    }
}
