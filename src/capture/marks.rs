//! Names and forms of the marks that a Postgres capture keeps in the log, beside the events that they speak of (I2).

use serde::{Deserialize, Serialize};

use crate::event::{Epoch, RelationName};
use crate::source::RangeId;

/// The epoch, a number.
pub const EPOCH: &str = "pg/epoch";
/// Why continuity was lost, when it was and the next epoch has not been opened yet.
pub const LOST: &str = "pg/lost";
/// A slot that is being made: after a crash it may be there although no epoch uses it.
pub const OPENING: &str = "pg/opening";
/// The epoch's slot.
pub const SLOT: &str = "pg/slot";
/// The server: its system identifier and timeline, a line each.
pub const SERVER: &str = "pg/server";
/// The captured tables, a line each, in order.
pub const TABLES: &str = "pg/tables";
/// What the epoch's stream rests on.
pub const FOOTING: &str = "pg/footing";
/// The position at which the epoch's stream began.
pub const CONSISTENT: &str = "pg/consistent";
/// The position up to which the log holds everything.
pub const CONFIRMED: &str = "pg/confirmed";
/// Set when every range was read and the stream has passed that point; the value is the position.
pub const SNAPSHOT_COMPLETE: &str = "pg/snapshot-complete";
/// Set once the stream told of a changed key without the row's TOAST values.
pub const MOVED: &str = "pg/moved";
/// Set once ranges are read under another snapshot than the one exported with the slot.
pub const LATER_SNAPSHOT: &str = "pg/later-snapshot";
/// Prefix of the ledger of ranges.
pub const RANGE: &str = "pg/range/";
/// Prefix of the latest shape of each relation; the value is its hash.
pub const SHAPE: &str = "pg/shape/";
/// Prefix of the number of rows that a completed snapshot read of each relation.
pub const COPIED: &str = "pg/copied/";
/// Optional tables that the source lacked when it was last looked over, a line each; the name is the same for every kind of
/// source.
pub const SKIPPED: &str = "capture/skipped";
/// Prefix of the request to delete what an epoch's snapshot did not find; followed by the epoch.
pub const SWEEP: &str = "capture/sweep/";

/// Prefix of the request to delete the rows of one table that are older than the last reading of the file that stands for it;
/// followed by the relation, the value is that reading's version.
pub const SWEEP_TABLE: &str = "capture/sweep/table/";
/// Prefix of what is remembered of each file that stands for a table, followed by the relation.
pub const FILE: &str = "capture/file/";

/// Version of the stored form of [`Range`].
const RANGE_FORMAT: u32 = 1;

/// Name of a range's mark; six digits keep the names in order of number for a million ranges.
pub fn range(id: RangeId) -> String {
    format!("{RANGE}{:06}", id.0)
}

/// Name of the mark that asks for an epoch's sweep; ten digits keep the names in order.
pub fn sweep(epoch: Epoch) -> String {
    format!("{SWEEP}{:010}", epoch.0)
}

/// Name of the mark that holds a relation's latest shape.
pub fn shape(relation: &RelationName) -> String {
    format!("{SHAPE}{relation}")
}

/// Name of the mark that counts a relation's copied rows.
pub fn copied(relation: &RelationName) -> String {
    format!("{COPIED}{relation}")
}

/// A line of the ledger of ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The table that the rows' events carry.
    pub table: RelationName,
    /// The leaf that the rows lie in.
    pub leaf: RelationName,
    /// The leaf's OID.
    pub leaf_oid: u32,
    /// The file that the places mean.
    pub filenode: u32,
    /// First block.
    pub from: u32,
    /// Block after the last; `None` for the last range of a leaf.
    pub to: Option<u32>,
    /// How it was read; `None` while it was not.
    pub done: Option<Done>,
}

/// How a range was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Done {
    /// Number of the pass: all ranges read in one pass were read under one snapshot.
    pub pass: u32,
    /// Oldest transaction that the pass's snapshot may not see.
    pub xmin: u32,
    /// Rows handed over, in all passes.
    pub rows: u64,
    /// Bytes of those rows as the source sent them.
    pub bytes: u64,
}

/// The stored form of [`Range`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    table: (Box<str>, Box<str>),
    leaf: (Box<str>, Box<str>),
    leaf_oid: u32,
    filenode: u32,
    from: u32,
    to: Option<u32>,
    done: Option<Done>,
}

impl Range {
    /// The mark's value.
    pub fn to_bytes(&self) -> Vec<u8> {
        let name = |name: &RelationName| (name.schema.clone(), name.table.clone());
        let stored = Stored {
            format: RANGE_FORMAT,
            table: name(&self.table),
            leaf: name(&self.leaf),
            leaf_oid: self.leaf_oid,
            filenode: self.filenode,
            from: self.from,
            to: self.to,
            done: self.done,
        };
        serde_json::to_vec(&stored).unwrap_or_default()
    }

    /// Reads [`Range::to_bytes`]; `None` when it is not of this form.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let stored: Stored = serde_json::from_slice(bytes).ok()?;
        let name = |(schema, table): (Box<str>, Box<str>)| RelationName { schema, table };
        (stored.format == RANGE_FORMAT).then(|| Self {
            table: name(stored.table),
            leaf: name(stored.leaf),
            leaf_oid: stored.leaf_oid,
            filenode: stored.filenode,
            from: stored.from,
            to: stored.to,
            done: stored.done,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_reads_as_it_was_written() {
        let name = |table: &str| RelationName { schema: "s".into(), table: table.into() };
        let mut range =
            Range { table: name("t"), leaf: name("t_1"), leaf_oid: 7, filenode: 8, from: 0, to: None, done: None };
        assert_eq!(Range::from_bytes(&range.to_bytes()), Some(range.clone()));
        (range.to, range.done) = (Some(9), Some(Done { pass: 1, xmin: 2, rows: 3, bytes: 4 }));
        assert_eq!(Range::from_bytes(&range.to_bytes()), Some(range));
        assert_eq!(Range::from_bytes(b"{}"), None);
    }

    #[test]
    fn names_sort_as_their_numbers() {
        assert!(super::range(RangeId(9)) < super::range(RangeId(10)));
        assert!(sweep(Epoch(9)) < sweep(Epoch(10)));
    }
}
