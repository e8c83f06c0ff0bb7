//! Names of what the projection keeps in its state and reads from the log's marks.

use std::fmt::Write as _;

use crate::event::{RelationName, SchemaHash};

/// Offset of the next record to apply.
pub const CHECKPOINT: &[u8] = b"checkpoint";
/// Counts of events by table.
pub const COUNTERS: &[u8] = b"counters";
/// Digest of the source tables' shapes that the state was built with.
pub const SHAPES: &[u8] = b"shapes";
/// Highest offset of a unit that was written to the target.
pub const WRITTEN: &[u8] = b"written";
/// The log's mark that says which source it was begun with.
pub const SOURCE: &str = "engine/source";
/// Generation of the mapping and its digest.
pub const MAPPING: &[u8] = b"mapping";
/// Marks of the log that count the mappings it was projected with: followed by the number; the value is the digest.
pub const MAPPINGS: &str = "project/mapping/";
/// First word of a notice that takes a unit out of the migration; `skip: reason`.
pub const SKIP: &str = "skip";
/// First word of a notice that evaluates a unit again; `retry: reason`.
pub const RETRY: &str = "retry";
/// First word of a notice that a changed shape was accepted; `accept-schema: table`.
pub const ACCEPT: &str = "accept-schema";
/// Tables whose held events are to be released: followed by the table's index.
pub const RELEASE: &[u8] = b"release/";
/// Marks of the log that ask for a sweep: followed by the epoch.
pub const SWEEP: &str = "capture/sweep/";
/// Marks of the log that say a sweep was done: followed by the epoch; the value is the number of rows.
pub const SWEPT: &str = "project/swept/";

/// Under which the operator's reason for skipping a unit is kept.
pub fn skipped(unit: &[u8]) -> Vec<u8> {
    [b"skip/".as_slice(), unit].concat()
}

/// Under which is kept that every row of a unit is to be written again.
pub fn rewrite(unit: &[u8]) -> Vec<u8> {
    [b"rewrite/".as_slice(), unit].concat()
}

/// Under which the version of a table's last truncate is kept.
pub fn truncated(table: u16) -> Vec<u8> {
    [b"truncated/".as_slice(), &table.to_be_bytes()].concat()
}

/// The log's mark that says a person accepted a changed shape.
pub fn accepted(relation: &RelationName, hash: SchemaHash) -> String {
    let mut name = format!("schema/accepted/{relation}/");
    for byte in hash.0 {
        write!(name, "{byte:02x}").expect("writing to a string does not fail");
    }
    name
}
