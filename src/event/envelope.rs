//! The envelope: one change of one row, with everything needed to order, trace and replay it.

use super::{Key, Lsn, Row, SchemaHash, Timestamp, Version};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// A snapshot read the row.
    Read,
    /// The row was inserted.
    Insert,
    /// The row was updated; with `old_key` set its key changed.
    Update,
    /// The row was deleted.
    Delete,
    /// Every row of the relation was removed at once.
    Truncate,
    /// The relation's shape changed: the schema hash names the new one.
    Schema,
    /// A synthetic delete: the row was not there when its epoch's snapshot closed.
    Sweep,
}

/// Where an event came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A snapshot's range, by its number in the ledger of ranges.
    Snapshot {
        /// Number of the range.
        range: u32,
    },
    /// The change stream.
    Stream,
    /// The sweep at an epoch's close.
    Sweep,
    /// An operator's repair.
    Repair,
}

/// The source transaction of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Transaction {
    /// 32-bit Postgres transaction id.
    pub xid: u32,
    /// LSN of the commit record.
    pub commit: Lsn,
    /// Time of the commit, for information only.
    pub commit_time: Timestamp,
    /// Whether this is the transaction's last change.
    pub last: bool,
}

/// Facts about an event that a projection may want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags {
    /// Deleted by DynamoDB's time to live.
    pub ttl_delete: bool,
}

/// One event.
///
/// Its id is derived (see the encoding), never stored beside what it is derived from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Shape of `before` and `after`, registered in the log before its first use.
    pub relation: SchemaHash,
    /// What happened.
    pub op: Op,
    /// Key of the row after the event; empty for `Truncate` and `Schema`.
    pub key: Key,
    /// Key before, where the event changed it.
    pub old_key: Option<Key>,
    /// The row before, as far as the source tells it.
    pub before: Option<Row>,
    /// The row after; `None` for deletes.
    pub after: Option<Row>,
    /// Order among the events of this row.
    pub version: Version,
    /// Source transaction; `None` for snapshot rows.
    pub transaction: Option<Transaction>,
    /// Where the event came from.
    pub origin: Origin,
    /// Marks.
    pub flags: Flags,
}
