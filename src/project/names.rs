//! Names of what the projection keeps in its state and reads from the log's marks.

use crate::event::{RelationName, SchemaHash, from_hex, to_hex};

use super::scope;

/// Offset of the next record to apply.
pub const CHECKPOINT: &[u8] = b"checkpoint";
/// Counts of events by table.
pub const COUNTERS: &[u8] = b"counters";
/// Digest of the source tables' shapes that the state was built with.
pub const SHAPES: &[u8] = b"shapes";
/// Highest offset of a unit that was written to the target.
pub const WRITTEN: &[u8] = b"written";
/// Number of parts that are parked.
pub const PARKED: &[u8] = b"parked";
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
/// First word of a notice that gives up what a changed shape held back, because the table is read again; `read-again: table`.
pub const READ_AGAIN: &str = "read-again";
/// First word of a notice that evaluates one part again because of another's claims; `take-back: part`.
pub const TAKE_BACK: &str = "take-back";
/// Present when parts to be projected are marked one by one; else the next projection looks at every part.
pub const MARKED: &[u8] = b"marked";
/// Present when the next projection evaluates every part, whether it changed or not.
pub const FORCED: &[u8] = b"forced";
/// Tables whose held events are to be released: followed by the table's index.
pub const RELEASE: &[u8] = b"release/";
/// Marks of the log that ask for a sweep: followed by the epoch.
pub const SWEEP: &str = "capture/sweep/";
/// Marks of the log that ask for a sweep of one table: followed by the relation; the value is the version that its rows must
/// have at least.
pub const SWEEP_TABLE: &str = "capture/sweep/table/";
/// Marks of the log that say a sweep was done: followed by the epoch; the value is the number of rows.
pub const SWEPT: &str = "project/swept/";

/// Begins [`skipped`].
pub const SKIPPED: &[u8] = b"skip/";
/// Begins [`rewrite`].
pub const REWRITE: &[u8] = b"rewrite/";

/// Begins [`awaiting`].
pub const AWAITING: &[u8] = b"awaiting/";

/// Under which is kept that rows at the target hold a part back, or that rows which its own refer to are not there.
pub fn awaiting(scope: &[u8]) -> Vec<u8> {
    [AWAITING, scope].concat()
}

/// Under which the operator's reason for skipping a unit is kept.
pub fn skipped(unit: &[u8]) -> Vec<u8> {
    [SKIPPED, unit].concat()
}

/// Under which is kept that every row of a part is to be written again.
pub fn rewrite(scope: &[u8]) -> Vec<u8> {
    [REWRITE, scope].concat()
}

/// Under which the version of a table's last truncate is kept.
pub fn truncated(table: u16) -> Vec<u8> {
    [b"truncated/".as_slice(), &table.to_be_bytes()].concat()
}

/// The log's mark that says a person accepted a changed shape.
pub fn accepted(relation: &RelationName, hash: SchemaHash) -> String {
    format!("schema/accepted/{relation}/{}", to_hex(&hash.0))
}

/// What names a part in a notice: the hex of its key without the unit.
pub fn call_back(scope: &[u8]) -> String {
    to_hex(part_of(scope))
}

/// Key of the part that [`call_back`] names in a notice about a unit; `None` when it names none.
pub fn called_back(unit: &str, part: &str) -> Option<Vec<u8>> {
    scope_of(unit, &from_hex(part)?)
}

/// What a target's record calls a part: its key without the unit.
pub fn part_of(scope: &[u8]) -> &[u8] {
    &scope[scope::unit_of(scope).len()..]
}

/// Key of the part of a unit that a target's record calls so; `None` when it names none.
pub fn scope_of(unit: &str, part: &[u8]) -> Option<Vec<u8>> {
    let key = [scope::unit_key(unit), part.to_vec()].concat();
    let known = scope::Scope::of(&key).is_ok();
    known.then_some(key)
}
