//! Names of what the projection keeps in its state and reads from the log's marks.

use crate::event::{RelationName, SchemaHash, from_hex, to_hex};

use super::scope;

/// Offset of the next record to apply.
pub const CHECKPOINT: &[u8] = b"checkpoint";
/// Counts of events by table.
pub const COUNTERS: &[u8] = b"counters";
/// The log's mark of the source tables' shapes that the target was last projected by: a digest.
pub const PROJECTED_BY: &str = "project/projected-by";
/// What a halt for too many parked parts said: [`Halt`](super::run::Halt). It stands until a person does something about it.
pub const HALTED: &[u8] = b"halted";
/// Digest of the source tables' shapes that the state was built with.
pub const SHAPES: &[u8] = b"shapes";
/// Newest version that a unit was written to the target with: generation of the mapping, and offset; see [`written`].
pub const WRITTEN: &[u8] = b"written";
/// Number of writes that changed rows of a part under the version that it had: those of parts that were tried again.
pub const AGAIN: &[u8] = b"again";
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
/// As [`RETRY`], of a unit that nobody named: it takes no skipped unit in again; `retry-parked: reason`.
pub const RETRY_PARKED: &str = "retry-parked";
/// First word of a notice that a changed shape was accepted; `accept-schema: table`.
pub const ACCEPT: &str = "accept-schema";
/// First word of a notice that gives up what a changed shape held back, because the table is read again; `read-again: table`.
pub const READ_AGAIN: &str = "read-again";
/// First word of a notice that rows which are older than a version are gone from a table; `swept-below: version table`.
pub const SWEPT_BELOW: &str = "swept-below";
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
/// As [`SWEEP_TABLE`], of tables whose events are held: nobody waits for these.
pub const SWEEP_HELD: &str = "project/sweep-held/";
/// Marks of the log that say a sweep was done: followed by the epoch; the value is the number of rows.
pub const SWEPT: &str = "project/swept/";

/// Begins [`skipped`].
pub const SKIPPED: &[u8] = b"skip/";
/// Begins [`rewrite`].
pub const REWRITE: &[u8] = b"rewrite/";

/// Begins [`refused`].
pub const REFUSED: &[u8] = b"refused/";
/// Begins [`awaiting`].
pub const AWAITING: &[u8] = b"awaiting/";

/// Value of [`WRITTEN`].
pub fn written(mapping: u32, offset: u64) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&mapping.to_be_bytes());
    bytes[4..].copy_from_slice(&offset.to_be_bytes());
    bytes
}

/// Reads [`written`]; a value of an earlier version, which has the offset alone, is below every other.
pub fn read_written(bytes: &[u8]) -> (u32, u64) {
    let (mapping, offset) = bytes.split_first_chunk().unwrap_or((&[0; 4], &[]));
    offset.try_into().map_or((0, 0), |offset| (u32::from_be_bytes(*mapping), u64::from_be_bytes(offset)))
}

/// Under which is kept what tells a target table from another of its name, where the target keeps no record.
pub fn target_table(name: &str) -> Vec<u8> {
    [b"target-table/".as_slice(), name.as_bytes()].concat()
}

/// Present when the target did not take what a part was last written with: it may still hold what was written before.
pub fn refused(scope: &[u8]) -> Vec<u8> {
    [REFUSED, scope].concat()
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_compared_within_one_mapping() {
        assert_eq!(read_written(&written(2, 9)), (2, 9));
        assert!(read_written(&written(2, 1)) > read_written(&written(1, 9)));
        assert_eq!(read_written(&9_u64.to_be_bytes()), (0, 0), "an earlier version's");
    }
}
