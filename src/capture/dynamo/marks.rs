//! Names of the marks that a DynamoDB capture keeps in the log, beside the events that they speak of (I2).
//!
//! The request for a sweep has the same name for every kind of source: [`sweep`](crate::capture::marks::sweep).

use crate::event::RelationName;
use crate::source::RangeId;

/// The epoch, a number.
pub const EPOCH: &str = "dynamo/epoch";
/// Why continuity was lost, when it was and the next epoch has not been opened yet.
pub const LOST: &str = "dynamo/lost";
/// Prefix of the epoch's streams, followed by the table; the value is the stream's ARN.
pub const STREAM: &str = "dynamo/stream/";
/// Prefix of the shards, followed by table, `/` and shard.
pub const SHARD: &str = "dynamo/shard/";
/// Prefix of the times at which a table's stream was last described: microseconds since 2000, as text.
pub const DESCRIBED: &str = "dynamo/described/";
/// Prefix of the ledger of segments.
pub const SEGMENT: &str = "dynamo/segment/";
/// Prefix of the number of items that a completed scan read of each table.
pub const COPIED: &str = "dynamo/copied/";
/// Set when every segment was read and the streams have passed that time; the value is the time, as [`DESCRIBED`].
pub const SNAPSHOT_COMPLETE: &str = "dynamo/snapshot-complete";

/// Name of a segment's mark; six digits keep the names in order of number for a million segments.
pub fn segment(id: RangeId) -> String {
    format!("{SEGMENT}{:06}", id.0)
}

/// Name of the mark that counts a table's items.
pub fn copied(table: &RelationName) -> String {
    format!("{COPIED}{table}")
}
